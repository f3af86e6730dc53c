//! The fully differentiable estimator of the regularized policy gradient.

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    Divergence,
    clip::{ClipBounds, dual_clip},
    divergence::{kl_component_over_weight, kl_surrogate},
    ratios::Ratios,
};

/// The unclipped surrogate, `z*(-w*A + beta*S)` with `S` of [`kl_surrogate`].
///
/// Tables 1 and 2 of the paper. Shapes: `[B, U]`. Minimised. Its gradient is
/// `-z*(w*A + beta*K)*grad lp`, so that its expectation under the sampling policy has the gradient
/// of `-J`.
pub fn differentiable<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
) -> Tensor<B, 2> {
    let reward = -(ratios.w.clone() * advantages);
    (reward + kl_surrogate(divergence, ratios) * beta) * z
}

/// The surrogate under dual clip with the KL term inside (Algorithm 1): `z*dual_clip(w, A')`.
///
/// `A' = SG(A + beta*K/w)`. Inside the region its gradient is that of [`differentiable`]. The
/// stop-gradient is not in the printed algorithm, which without it has another gradient than its
/// objective: `log w + 2` in place of `log w + 1` for reverse KL.
/// Shapes: `[B, U]`. Minimised.
pub fn differentiable_dual_clip<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let regularized = regularized_advantage(divergence, ratios, advantages, beta);
    dual_clip(ratios.w.clone(), regularized, bounds) * z
}

/// The surrogate with only the reward under dual clip: `z*(dual_clip(w, A) + beta*S)`.
///
/// The KL term keeps its gradient wherever `w` is. Shapes: `[B, U]`. Minimised.
pub fn differentiable_dual_clip_reward<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    z: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let reward = dual_clip(ratios.w.clone(), advantages, bounds);
    (reward + kl_surrogate(divergence, ratios) * beta) * z
}

/// `A' = SG(A + beta*K/w)`, the advantage with the KL term in it. Shapes: `[B, U]`.
pub fn regularized_advantage<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
) -> Tensor<B, 2> {
    // With gradient through `A'` the derivative of `w*A'` would count the KL term twice.
    (advantages + kl_component_over_weight(divergence, ratios) * beta).detach()
}
