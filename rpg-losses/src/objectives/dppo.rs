//! DPPO (divergence proximal policy optimization, arXiv 2602.04879): a trust region of a divergence, not of a ratio.
//!
//! The divergence between two policies is estimated from the sampled token alone, as that of two coins, which show it
//! with the probabilities `p = exp(lp)` and `q = exp(lp_old)`: the paper's *binary* form. (Its top-k form needs
//! logits.)

use crate::choices::{AdvantageKind, Aggregation};
use crate::objectives::kl_term;
use crate::objectives::spec::{Defaults, Spec};
use crate::terms::{ClipEvent, ClipFlags, ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// What the probability of all other tokens is at least, inside a logarithm.
///
/// A log-probability in f32 does not tell `1 - p` from 0 below it.
pub const MIN_OTHERS: f64 = 1e-8;

pub(crate) const DEFAULTS: Defaults = Defaults {
    token_aggregation: Aggregation::Constant,
    advantage: AdvantageKind::GroupMean,
    ..Defaults::BASELINE
};

pub(crate) const SPEC: Spec = Spec::BASELINE;

/// A divergence of two coins, from the logarithms of `p` and `q`: over tensors `[B, U]`.
pub type Binary<B> = fn(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2>;

/// `-M*w*A` with the mask `M = 0` where the policy has moved beyond the threshold in the direction of the advantage.
///
/// That is where `A > 0`, `p > q` and `D > eps_high`, and where `A < 0`, `p < q` and `D > eps_low`. With a `c`, `w` is
/// bounded by it and the gradient kept: `-M*min(w, c)*A*grad lp`. Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>, divergence: Binary<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    let ratios = &terms.ratios;
    // Mask and bound are constants of the objective.
    let (lp, w) = (ratios.lp.clone().detach(), ratios.w.clone().detach());
    let lp_old = ratios.lp_old.clone();
    let moved = lp.clone() - lp_old.clone();
    let divergence = divergence(at_most_0(lp), at_most_0(lp_old));
    let advantages = terms.advantages.clone();
    let low = (divergence.clone().greater_elem(coefficients.eps_low))
        .bool_and(moved.clone().lower_elem(0.0))
        .bool_and(advantages.clone().lower_elem(0.0));
    let high = (divergence.greater_elem(coefficients.eps_high))
        .bool_and(moved.greater_elem(0.0))
        .bool_and(advantages.clone().greater_elem(0.0));
    let masked = low.clone().bool_or(high.clone());
    let c = coefficients.bounds.dual;
    let dual = (w.clone().greater_elem(c)).bool_and(masked.clone().bool_not());
    let mut losses = -(ratios.w.clone() * advantages);
    if c.is_finite() {
        losses = losses * (w.clone().recip() * c).clamp_max(1.0);
    }
    let losses = UnitLosses {
        losses: losses.mask_fill(masked, 0.0),
        clipped: ClipFlags {
            low,
            high,
            dual,
            ..ClipFlags::none(&w)
        },
    };
    kl_term::added(losses, terms)
}

/// A log-probability; the measures of a request need not be distributions.
fn at_most_0<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.clamp_max(0.0)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms, divergence: fn(f64, f64) -> f64) -> ClosedForm {
    let UnitTerms {
        lp, lp_old, w, a, ..
    } = *terms;
    let coefficients = terms.coefficients;
    let divergence = divergence(lp.min(0.0), lp_old.min(0.0));
    let bounded = w.min(coefficients.bounds.dual);
    let clip = if a < 0.0 && lp < lp_old && divergence > coefficients.eps_low {
        ClipEvent::Low
    } else if a > 0.0 && lp > lp_old && divergence > coefficients.eps_high {
        ClipEvent::High
    } else if bounded < w {
        ClipEvent::Dual
    } else {
        ClipEvent::Unclipped
    };
    let loss = match clip {
        ClipEvent::Low | ClipEvent::High => 0.0,
        ClipEvent::Dual | ClipEvent::Unclipped => -bounded * a,
    };
    let masked = ClosedForm {
        loss,
        grad: loss,
        clip,
    };
    kl_term::added_unit(masked, terms)
}
