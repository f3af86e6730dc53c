//! The losses that RPG is compared with.

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    clip::{ClipBounds, dual_clip, ppo_clip},
    divergence::{k2, k3},
    ratios::Ratios,
};

/// PPO, `-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`: see [`ppo_clip`]. Shapes: `[B, U]`.
pub fn ppo<B: Backend>(
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    ppo_clip(ratios.w.clone(), advantages, bounds)
}

/// GRPO and Dr. GRPO, `ppo + beta*k3(exp(-u))`.
///
/// The gradient of the KL term, `beta*(1 - exp(-u))`, lacks the importance weight: off policy it is
/// that of no divergence between `pi` and the reference. Shapes: `[B, U]`. Minimised.
pub fn grpo<B: Backend>(
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    ppo(ratios, advantages, bounds) + k3(ratios) * beta
}

/// GRPO with the importance weight restored, `ppo + beta*w*k3(exp(-u))`.
///
/// Section 2.2 of the paper. `w*k3` has the gradient `w*u*grad lp`, that of `urkl`.
/// Shapes: `[B, U]`. Minimised.
pub fn grpo_corrected<B: Backend>(
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    // The product rule gives `w*k3 + w*(1 - exp(-u)) = w*u` as well, in a sum whose large terms cancel.
    let constant = ratios.clone().detach(); // The slope stands in the last factor alone.
    let slope = constant.w.clone() * constant.u.clone();
    let kl = constant.w.clone() * k3(&constant) + slope * (ratios.lp.clone() - constant.lp);
    ppo(ratios, advantages, bounds) + kl * beta
}

/// DAPO: dual clip with `eps_high > eps_low` and no KL term. Shapes: `[B, U]`. Minimised.
pub fn dapo<B: Backend>(
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    dual_clip(ratios.w.clone(), advantages, bounds)
}

/// REINFORCE++-baseline, `ppo + beta*k2`; the KL term has gradient `beta*u*grad lp`.
///
/// Shapes: `[B, U]`. Minimised.
pub fn reinforce_pp_baseline<B: Backend>(
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    beta: f64,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    ppo(ratios, advantages, bounds) + k2(ratios) * beta
}

/// CISPO, `-SG(clip(w, 1-eps_low, 1+eps_high))*A*lp`: the weight is truncated, the gradient kept.
///
/// Shapes: `[B, U]`. Minimised.
pub fn cispo<B: Backend>(
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    // SG: the weight only scales the policy gradient.
    let weight = ratios.w.clone().detach().clamp(bounds.low, bounds.high);
    -(weight * advantages * ratios.lp.clone())
}
