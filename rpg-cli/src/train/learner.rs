//! The one who learns: the policy and its optimizer.

use super::ranks::Ranks;
use crate::failure::Failure;
use crate::optim::{Optimizer, global_norm};
use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use rpg_core::model::{CausalLm, ModelConfig};
use rpg_core::ops::DecodeBackend;

/// Owns the policy and the optimizer; the only place where the policy is taken apart and put together again.
pub struct Learner<B: DecodeBackend> {
    // `None` only while the optimizer consumes it.
    policy: Option<CausalLm<Autodiff<B>>>,
    optimizer: Box<dyn Optimizer<B>>,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The norm of the gradient before it was scaled down.
    pub grad_norm: f64,
    /// Whether the update was left out, as the gradient was not finite: it would have destroyed the weights
    /// and the moments for good.
    pub skipped: bool,
}

impl<B: DecodeBackend> Learner<B> {
    /// Learns from `policy` on.
    pub fn new(policy: CausalLm<B>, optimizer: Box<dyn Optimizer<B>>) -> Self {
        Self {
            policy: Some(policy.into_trainable()),
            optimizer,
        }
    }

    /// The policy as it is now, without its graph.
    pub fn policy(&self) -> CausalLm<B> {
        self.trainable().valid()
    }

    /// The shape of the policy.
    pub fn model_config(&self) -> &ModelConfig {
        self.trainable().config()
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &dyn Optimizer<B> {
        self.optimizer.as_ref()
    }

    /// Forgets what the optimizer has gathered.
    pub fn reset_optimizer(&mut self) {
        self.optimizer.reset();
    }

    /// One update: the gradients of `loss` of every part, added up over the parts and the ranks, scaled
    /// down to `max_grad_norm` and given to the optimizer.
    pub fn step<T>(
        &mut self,
        parts: impl IntoIterator<Item = T>,
        mut loss: impl FnMut(&CausalLm<Autodiff<B>>, T) -> Tensor<Autodiff<B>, 1>,
        lr: f64,
        max_grad_norm: f64,
        ranks: &dyn Ranks<B>,
    ) -> Result<StepReport, Failure> {
        let policy = self.trainable();
        let mut accumulator = GradientsAccumulator::new();
        for part in parts {
            let grads = loss(policy, part).backward();
            accumulator.accumulate(policy, GradientsParams::from_grads(grads, policy));
        }
        let grads = ranks.sum_gradients(policy, accumulator.grads())?;
        let grad_norm = global_norm(policy, &grads);
        let skipped = !grad_norm.is_finite();
        if !skipped {
            let scale = (max_grad_norm / grad_norm).min(1.0);
            let policy = self.policy.take().expect(TAKEN);
            self.policy = Some(self.optimizer.step(policy, grads, lr, scale));
        }
        Ok(StepReport { grad_norm, skipped })
    }

    fn trainable(&self) -> &CausalLm<Autodiff<B>> {
        self.policy.as_ref().expect(TAKEN)
    }
}

const TAKEN: &str = "the policy is there between updates";
