//! Policy-gradient objectives for language models, with gradients that are verified.
//!
//! The reference implementation of "On the Design of KL-Regularized Policy Gradient Algorithms for
//! LLM Reasoning" (RPG) and of the losses it is compared with, over Burn tensors `[B, T]` of any
//! backend: responses by tokens.
//!
//! The objective is `J = E_pi[R] - beta*D`, where `D` is a divergence between the policy and a
//! reference. From responses of an older policy its gradient is
//!
//! ```text
//! grad J = z * E_old[ (w*A + beta*K) * grad lp ]
//! ```
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `lp`, `lp_old`, `lp_ref` | log-probability of the sampled token under the policy being trained, the one that sampled it, the reference; only `lp` carries gradient |
//! | `w = exp(lp - lp_old)` | importance weight |
//! | `r = exp(lp_ref - lp_old)` | reference weight; 1 where the reference is the sampling policy |
//! | `u = lp - lp_ref` | log-ratio to the reference |
//! | `A` | advantage, a constant ([`advantage`]) |
//! | `K` | what the KL term adds to the reward weight ([`divergence`]) |
//! | `beta` | KL coefficient |
//! | `z` | total mass of the measure whose logarithm `lp_old` is; 1 for the normalized divergences |
//! | `SG` | stop-gradient |
//!
//! [`policy_loss`] is the entry point: an [`ObjectiveConfig`], the tokens of a micro-batch and the
//! [`StepTotals`] of the whole optimizer step give a loss whose gradient adds up over micro-batches.
//! The formulas are free functions in [`objectives`], one file per kind; what several share is in
//! [`clip`] (trust regions) and [`divergence`]. A kind that has no page there has the loss of another
//! kind, on other advantages.
//!
//! [`mod@reference`] is the same in plain f64 with closed-form gradients.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `request`: a loss as JSON in and out (`compute_json`).
//! - `verify`: the proof of all of it by calculation, and a study of the estimators' bias and variance.
//!
//! ```
//! use burn::backend::{Autodiff, Flex};
//! use burn::tensor::{Bool, Tensor};
//! use rpg_losses::{LossInputs, ObjectiveConfig, StepTotals, policy_loss};
//!
//! type B = Autodiff<Flex>;
//! let device = Default::default();
//! let logp = Tensor::<B, 2>::from_floats([[-0.5, -1.0], [-0.3, -2.0]], &device).require_grad();
//! let inputs = LossInputs {
//!     logp: logp.clone(),
//!     logp_old: Tensor::from_floats([[-0.6, -0.9], [-0.3, -2.0]], &device),
//!     logp_ref: None, // the policy that sampled
//!     advantages: Tensor::from_floats([[0.5, 0.5], [-0.5, -0.5]], &device),
//!     weights: None, // the sampler is the policy of `logp_old`
//!     mask: Tensor::<B, 2, Bool>::from_bool([[true, true], [true, false]].into(), &device),
//! };
//! let totals = StepTotals { n_tokens: 3, n_responses: 2, max_length: 2 };
//! let output = policy_loss(&ObjectiveConfig::default(), inputs, &totals);
//! let gradient = logp.grad(&output.loss.backward()).unwrap();
//! assert_eq!(gradient.dims(), [2, 2]);
//! assert_eq!(output.diagnostics.read()["actor/pg_clipfrac"], 0.0);
//! ```
//!
//! # Numbers
//!
//! Log-ratios are clamped to `[-20, 20]` before `exp` ([`ratios::MAX_LOG_RATIO`]), so that finite
//! log-probabilities give finite losses and gradients; the metric `actor/log_ratio_clamped` counts
//! how often. The clamp bounds weights; it does not switch gradients off: the derivative of `w` is
//! still its own value. Masked positions have gradient exactly 0, whatever their values are.

// A new kind, clip or divergence is a decision wherever one is matched.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod advantage;
pub mod aggregate;
mod choices;
pub mod clip;
mod config;
pub mod diagnostics;
pub mod divergence;
mod formula;
mod fused;
mod inputs;
mod loss;
pub mod objectives;
pub mod ratios;
pub mod reference;
#[cfg(feature = "request")]
pub mod request;
mod response;
pub mod rollout;
pub mod tables;
pub mod terms;
#[cfg(feature = "verify")]
pub mod verify;

pub use crate::advantage::{
    Advantages, TokenLogProbs, advantages, advantages_with_lengths, step_advantages,
    token_advantages,
};
pub use crate::aggregate::StepTotals;
pub use crate::choices::{
    AdvantageKind, Aggregation, Clip, Divergence, Estimator, KlEstimator, KlPlacement, KlWeight,
    Level,
};
pub use crate::config::{ObjectiveConfig, ObjectiveError};
pub use crate::diagnostics::Diagnostics;
pub use crate::inputs::{LossInputs, LossOutput};
pub use crate::loss::{policy_loss, policy_loss_from_operations, unaggregated_loss};
pub use crate::objectives::Kind;
#[cfg(feature = "request")]
pub use crate::request::{LossInputError, LossRequest, LossResponse, compute, compute_json};
pub use crate::rollout::{RolloutCorrection, RolloutWeights, rollout_weights};

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
