//! The policy and its optimizer.

use super::ranks::Team;
use super::shards::Shards;
use crate::failure::Failure;
use crate::optim::{Optimizer, OptimizerState, square_sum};
use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rpg_core::model::{CausalLm, ModelConfig, Tape};
use rpg_core::ops::DecodeBackend;

/// A loss, and the tape of the scores that it is made of.
pub type TapedLoss<B> = (Tensor<Autodiff<B>, 1>, Tape<B>);

/// Owns the policy and its optimizer. Nothing else replaces the policy. Over several ranks, each has the whole policy and the
/// optimizer's state of its shard; every method that can fail is then called by all of them.
pub struct Learner<B: DecodeBackend> {
    // Where gradients are taken: the policy, unless the optimizer averages. `None` only while it consumes it.
    point: Option<CausalLm<Autodiff<B>>>,
    optimizer: Box<dyn Optimizer<B>>,
    shards: Shards,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The norm of the gradient before it was scaled down.
    pub grad_norm: f64,
    /// Whether the update was skipped because the gradient was not finite: it would have ruined the weights and
    /// the moments for good.
    pub skipped: bool,
}

impl<B: DecodeBackend> Learner<B> {
    /// A learner that trains `point`: a new policy, or what [`Optimizer::load_state`] returned.
    pub fn new(point: CausalLm<B>, optimizer: Box<dyn Optimizer<B>>) -> Self {
        Self {
            point: Some(point.into_trainable()),
            optimizer,
            shards: Shards::one(),
        }
    }

    /// A learner over ranks. `load` may read a saved state into the optimizer, which is that of this rank's shard, and returns
    /// the point to train.
    pub fn over(
        team: &Team,
        policy: CausalLm<B>,
        mut optimizer: Box<dyn Optimizer<B>>,
        load: impl FnOnce(CausalLm<B>, &mut dyn Optimizer<B>) -> Result<CausalLm<B>, Failure>,
    ) -> Result<Self, Failure> {
        let shards = Shards::new(team.clone(), &policy);
        shards.restrict(optimizer.as_mut());
        let mut point = load(policy, optimizer.as_mut())?;
        if optimizer.averages() {
            // Where policy and point differ, each rank has read its shard of the point.
            point = shards.complete(point)?;
        }
        Ok(Self {
            shards,
            ..Self::new(point, optimizer)
        })
    }

    /// The current policy, without gradient tracking: it samples, is evaluated, saved and exported. An optimizer that
    /// averages computes it; otherwise it is what is trained, and no copy is made.
    pub fn policy(&self) -> Result<CausalLm<B>, Failure> {
        let policy = self.optimizer.policy(self.trainable().valid());
        if self.optimizer.averages() {
            self.shards.complete(policy)
        } else {
            Ok(policy)
        }
    }

    /// The shape of the policy.
    pub fn model_config(&self) -> &ModelConfig {
        self.trainable().config()
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &dyn Optimizer<B> {
        self.optimizer.as_ref()
    }

    /// The state of the optimizer: on the first rank that of all shards, on the others that of their own.
    pub fn optimizer_state(&self) -> Result<OptimizerState, Failure> {
        let own = self.optimizer.state(&self.trainable().valid());
        self.shards.gather_state(own)
    }

    /// Returns the optimizer to its state before the first update. Training goes on from the policy.
    pub fn reset_optimizer(&mut self) -> Result<(), Failure> {
        let policy = self.policy()?;
        self.optimizer.reset();
        self.point = Some(policy.into_trainable());
        Ok(())
    }

    /// One update: adds up the gradients of every part's `loss` over the parts and the ranks, scales the sum down
    /// to `max_grad_norm` and gives it to the optimizer. A failure of `loss` leaves policy and optimizer as they were.
    ///
    /// `loss` returns the loss and the tape of the scores that it is made of.
    pub fn step<T>(
        &mut self,
        parts: impl IntoIterator<Item = T>,
        mut loss: impl FnMut(&CausalLm<Autodiff<B>>, T) -> Result<TapedLoss<B>, Failure>,
        lr: f64,
        max_grad_norm: f64,
    ) -> Result<StepReport, Failure> {
        let point = self.trainable();
        let mut sums = GradientsParams::new();
        for part in parts {
            let (loss, tape) = loss(point, part)?;
            tape.backward(point, loss, &mut sums);
        }
        let grads = self.shards.sum(point, sums)?;
        let squares = self.shards.team().sum(vec![square_sum(point, &grads)])?;
        let grad_norm = squares[0].sqrt();
        let skipped = !grad_norm.is_finite();
        if !skipped {
            let scale = (max_grad_norm / grad_norm).min(1.0);
            let point = self.point.take().expect(TAKEN);
            let point = self.optimizer.step(point, grads, lr, scale);
            self.point = Some(self.shards.complete(point)?);
        }
        Ok(StepReport { grad_norm, skipped })
    }

    fn trainable(&self) -> &CausalLm<Autodiff<B>> {
        self.point.as_ref().expect(TAKEN)
    }
}

const TAKEN: &str = "what is trained is absent only during an update";
