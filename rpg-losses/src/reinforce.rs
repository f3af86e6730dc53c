//! The REINFORCE-style estimator: a constant coefficient times the log-probability.

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    Divergence,
    clip::{ClipBounds, hard_clip, rpg_style_clip},
    divergence::kl_component,
    ratios::Ratios,
};

/// The unclipped loss, `-SG(z*(w*A + beta*K))*lp`.
///
/// Table 4 of the paper. Shapes: `[B, U]`. Minimised. Its gradient is
/// `-z*(w*A + beta*K)*grad lp`, the one of [`crate::rpg::differentiable`].
pub fn reinforce<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
) -> Tensor<B, 2> {
    // The coefficient stands under SG: the gradient of this estimator flows through `lp` alone.
    let constants = ratios.clone().detach();
    coefficient_loss(
        divergence,
        constants,
        ratios.lp.clone(),
        advantages,
        beta,
        z,
    )
}

/// The loss under RPG-Style Clip (Algorithm 2), `z` times [`rpg_style_clip`].
///
/// Shapes: `[B, U]`. Minimised.
pub fn reinforce_rpg_clip<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    rpg_style_clip(divergence, ratios.clone(), advantages, beta, bounds) * z
}

/// The loss with truncated importance weights: `w` in the coefficient is clamped, and `log w` in `K`.
///
/// Shapes: `[B, U]`. Minimised. Every unit keeps a gradient.
pub fn reinforce_hard_clip<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let constants = hard_clip(ratios.clone(), bounds);
    coefficient_loss(
        divergence,
        constants,
        ratios.lp.clone(),
        advantages,
        beta,
        z,
    )
}

/// `-z*(w*A + beta*K)*lp` for ratios that are constants.
fn coefficient_loss<B: Backend>(
    divergence: Divergence,
    constants: Ratios<B>,
    lp: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
) -> Tensor<B, 2> {
    let kl = kl_component(divergence, &constants);
    -((constants.w * advantages + kl * beta) * z * lp)
}
