//! Trust regions: what happens to units whose importance weight has moved too far.

use burn::tensor::{Bool, Tensor, backend::Backend};

use crate::{Divergence, divergence::kl_component, ratios::Ratios};

/// The bounds of a trust region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipBounds {
    /// `1 - eps_low`, the lower bound of the weight.
    pub low: f64,
    /// `1 + eps_high`, the upper bound of the weight.
    pub high: f64,
    /// `c`, the bound on the weight of units with negative advantage.
    pub dual: f64,
}

impl ClipBounds {
    /// Bounds `[1 - eps_low, 1 + eps_high]` with dual bound `c`.
    pub fn new(eps_low: f64, eps_high: f64, c: f64) -> Self {
        Self {
            low: 1.0 - eps_low,
            high: 1.0 + eps_high,
            dual: c,
        }
    }
}

/// Which units a trust region has acted on, as booleans `[B, U]`; no unit is in two of them.
#[derive(Debug, Clone)]
pub struct ClipFlags<B: Backend> {
    /// Clipped at `1 - eps_low`.
    pub low: Tensor<B, 2, Bool>,
    /// Clipped at `1 + eps_high`.
    pub high: Tensor<B, 2, Bool>,
    /// Clipped at `c`.
    pub dual: Tensor<B, 2, Bool>,
}

/// The clipped surrogate of PPO, `max(-w*A, -clip(w, 1-eps_low, 1+eps_high)*A)`.
///
/// Shapes: `[B, U]` each. Minimised. Gradient `-w*A` inside the region, bounds included, and where
/// clipping would make the loss smaller; 0 elsewhere.
pub fn ppo_clip<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let unclipped = -(w.clone() * advantages.clone());
    let clipped = -(w.clamp(bounds.low, bounds.high) * advantages);
    // On a tie `max_pair` keeps its first argument, and with it the gradient.
    unclipped.max_pair(clipped)
}

/// Dual clip (Algorithm 1): [`ppo_clip`], and where `A' < 0` no more than `-c*A'`.
///
/// `advantages` is `A' = SG(A + beta*K/w)` where the KL term is clipped along, else `A`.
/// Shapes: `[B, U]` each. Minimised. Gradient `-w*A'` for `A' >= 0` and `w <= 1+eps_high`, and for
/// `A' < 0` and `1-eps_low <= w <= c`; 0 elsewhere.
pub fn dual_clip<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let loss = ppo_clip(w, advantages.clone(), bounds);
    let bound = -(advantages.clone() * bounds.dual);
    let is_negative = advantages.lower_elem(0.0);
    let bounded = loss.clone().min_pair(bound);
    loss.mask_where(is_negative, bounded)
}

/// Which units [`dual_clip`] acts on; without a dual bound pass `f64::INFINITY` for it.
pub fn dual_clip_flags<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> ClipFlags<B> {
    let is_negative = advantages.clone().lower_elem(0.0);
    ClipFlags {
        low: w
            .clone()
            .lower_elem(bounds.low)
            .bool_and(is_negative.clone()),
        high: w
            .clone()
            .greater_elem(bounds.high)
            .bool_and(advantages.greater_elem(0.0)),
        dual: w.greater_elem(bounds.dual).bool_and(is_negative),
    }
}

/// RPG-Style Clip (Algorithm 2), for the REINFORCE estimator.
///
/// With `l = -lp` and `A' = A + beta*K/w`, all coefficients under `SG`:
///
/// | case | where | loss | gradient |
/// | --- | --- | --- | --- |
/// | `A'*l >= 0` | `w < 1+eps_high` | `SG(w*A')*l` | yes |
/// |             | else | `SG((A*(1+eps_high) + beta*K)*l)` | 0 |
/// | `A'*l < 0`  | `w <= 1-eps_low` | `SG((A*(1-eps_low) + beta*K)*l)` | 0 |
/// |             | `1-eps_low < w < c` | `SG(w*A')*l` | yes |
/// |             | `w >= c` | `SG((A*c + beta*K)*l)` | 0 |
///
/// Shapes: `[B, U]`. Minimised.
pub fn rpg_style_clip<B: Backend>(
    divergence: Divergence,
    ratios: Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let l = -ratios.lp.clone();
    // The coefficients and the choice of the case stand under SG in Algorithm 2.
    let ratios = ratios.detach();
    let advantages = advantages.detach();
    let kl = kl_component(divergence, &ratios) * beta;
    let flags = rpg_style_flags(divergence, &ratios, advantages.clone(), beta, bounds);

    let kept = (ratios.w.clone() * advantages.clone() + kl.clone()) * l.clone();
    // A clipped unit has a loss but no gradient: the weight in front of `A` is the bound.
    let at_bound = |bound: f64| (advantages.clone() * bound + kl.clone()) * l.clone().detach();
    kept.mask_where(flags.high, at_bound(bounds.high))
        .mask_where(flags.low, at_bound(bounds.low))
        .mask_where(flags.dual, at_bound(bounds.dual))
}

/// Which units [`rpg_style_clip`] acts on.
pub fn rpg_style_flags<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    bounds: ClipBounds,
) -> ClipFlags<B> {
    // `w > 0`, so `A'*l` has the sign of `(w*A + beta*K)*l`, which needs no division by `w`.
    let regularized = ratios.w.clone() * advantages + kl_component(divergence, ratios) * beta;
    let is_negative = (regularized * -ratios.lp.clone()).lower_elem(0.0);
    let w = ratios.w.clone();
    ClipFlags {
        low: w
            .clone()
            .lower_equal_elem(bounds.low)
            .bool_and(is_negative.clone()),
        high: w
            .clone()
            .greater_equal_elem(bounds.high)
            .bool_and(is_negative.clone().bool_not()),
        dual: w.greater_equal_elem(bounds.dual).bool_and(is_negative),
    }
}

/// The ratios with `w` clamped to `[1-eps_low, 1+eps_high]` and `log w` and `u` moved along with it.
///
/// Truncated importance sampling: the coefficient of a REINFORCE loss is bounded, its gradient kept.
/// Everything is a constant, as it stands under `SG`.
pub fn hard_clip<B: Backend>(ratios: Ratios<B>, bounds: ClipBounds) -> Ratios<B> {
    let ratios = ratios.detach(); // Truncated weights are used as coefficients only.
    // Outside the region `log w` is the logarithm of the bound; inside it is left as it was.
    let is_low = ratios.w.clone().lower_elem(bounds.low);
    let is_high = ratios.w.clone().greater_elem(bounds.high);
    let log_w = ratios
        .log_w
        .mask_fill(is_low, bounds.low.ln())
        .mask_fill(is_high, bounds.high.ln());
    Ratios {
        u: log_w.clone() - ratios.log_r.clone(),
        w: ratios.w.clamp(bounds.low, bounds.high),
        log_w,
        ..ratios
    }
}

/// Which units [`hard_clip`] acts on.
pub fn hard_clip_flags<B: Backend>(w: Tensor<B, 2>, bounds: ClipBounds) -> ClipFlags<B> {
    let low = w.clone().lower_elem(bounds.low);
    ClipFlags {
        dual: low.clone().bool_and(low.clone().bool_not()),
        low,
        high: w.greater_elem(bounds.high),
    }
}
