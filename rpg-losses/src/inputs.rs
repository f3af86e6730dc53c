//! What a loss is computed from, and what comes out.

use crate::diagnostics::Diagnostics;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

/// The tokens of one micro-batch; every tensor is `[B, T]`.
///
/// Only `logp` carries gradient. Values at masked positions are never read, not even if they are
/// NaN.
#[derive(Debug, Clone)]
pub struct LossInputs<B: Backend> {
    /// Log-probabilities of the sampled tokens under the policy being trained.
    pub logp: Tensor<B, 2>,
    /// The same under the policy that sampled them.
    pub logp_old: Tensor<B, 2>,
    /// The same under the reference policy; absent where that is the sampling policy.
    pub logp_ref: Option<Tensor<B, 2>>,
    /// Advantages per token, constants. At the sequence levels a response's advantage is the mean
    /// over its unmasked tokens, which usually carry the same value.
    pub advantages: Tensor<B, 2>,
    /// What the loss of each token is multiplied by, constants ([`crate::rollout`]); absent: 1. At the sequence
    /// levels a response's weight is the mean over its unmasked tokens.
    pub weights: Option<Tensor<B, 2>>,
    /// True where a token belongs to the response and counts.
    pub mask: Tensor<B, 2, Bool>,
}

/// A loss and what there is to report about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LossOutput<B: Backend> {
    /// The micro-batch's share of the step's loss, `[1]`; to be minimised.
    pub loss: Tensor<B, 1>,
    /// Sums for the step's metrics, without gradient.
    pub diagnostics: Diagnostics<B>,
}

impl<B: Backend> LossInputs<B> {
    pub(crate) fn assert_shapes(&self) {
        let shape = self.logp.dims();
        let check = |name: &str, other: [usize; 2]| {
            assert_eq!(
                shape, other,
                "policy_loss: `logp` is {shape:?}, but `{name}` is {other:?}"
            );
        };
        check("logp_old", self.logp_old.dims());
        check("advantages", self.advantages.dims());
        check("mask", self.mask.dims());
        if let Some(logp_ref) = &self.logp_ref {
            check("logp_ref", logp_ref.dims());
        }
        if let Some(weights) = &self.weights {
            check("weights", weights.dims());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.logp.dims().contains(&0)
    }

    /// Puts 0 at every masked position, before any arithmetic.
    pub(crate) fn without_masked(self) -> Self {
        // `mask_fill` has gradient 0 where it fills, whatever the value was.
        let is_masked = self.mask.clone().bool_not();
        let fill = |tensor: Tensor<B, 2>| tensor.mask_fill(is_masked.clone(), 0.0);
        Self {
            logp: fill(self.logp),
            logp_old: fill(self.logp_old),
            logp_ref: self.logp_ref.map(fill),
            // Advantages are constants of the objective.
            advantages: fill(self.advantages.detach()),
            // So are the weights.
            weights: self.weights.map(|weights| fill(weights.detach())),
            mask: self.mask,
        }
    }
}
