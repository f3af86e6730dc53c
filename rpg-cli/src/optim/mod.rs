//! Optimizers: the trait, AdamW, with f32 or 8-bit moments, and its schedule-free form, the gradient's global norm, the learning rate.

mod adamw;
mod adamw_8bit;
mod norm;
mod schedule;
mod schedule_free;
mod slots;
mod state;

pub use adamw::{AdamW, AdamWConfig};
pub use adamw_8bit::AdamW8bit;
pub use norm::global_norm;
pub(crate) use norm::square_sum;
pub use schedule::{Place, Schedule, constant_with_warmup, cosine, linear_warmup, stable_decay};
pub use schedule_free::{AdamWScheduleFree, ScheduleFreeConfig};
pub use state::{OptimizerState, StateError, StateTensor};

use burn::backend::Autodiff;
use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::TensorMetadata;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// [`AdamW`].
    #[default]
    Adamw,
    /// [`AdamW8bit`].
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
    /// [`AdamWScheduleFree`].
    AdamwScheduleFree,
}

/// Turns gradients into a new policy.
///
/// Gradients are taken at a point that need not be the policy: [`policy`](Self::policy) says which policy belongs to
/// it. That is the one that samples, is evaluated, saved and exported.
pub trait Optimizer<B: DecodeBackend> {
    /// One update of the point at which `grads` were taken, with learning rate `lr`. The gradients are multiplied by
    /// `grad_scale` first.
    ///
    /// # Panics
    /// If no parameter has a gradient, and it is not restricted to some: the policy was not tracked.
    fn step(
        &mut self,
        point: CausalLm<Autodiff<B>>,
        grads: GradientsParams,
        lr: f64,
        grad_scale: f64,
    ) -> CausalLm<Autodiff<B>>;

    /// Whether the policy is an average, in general another one than the point that is trained.
    fn averages(&self) -> bool {
        false
    }

    /// The policy that belongs to the point that is trained: that point, unless the optimizer averages.
    fn policy(&self, point: CausalLm<B>) -> CausalLm<B> {
        point
    }

    /// Updates so far.
    fn n_updates(&self) -> u64;

    /// From here on it has the state of these parameters alone, also in what it saves and loads, and is given their
    /// gradients alone: the others are updated by other processes.
    fn restrict(&mut self, own: HashSet<ParamId>);

    /// Everything that another process needs beside the policy to continue bit for bit. `point` is the one that is
    /// trained.
    fn state(&self, point: &CausalLm<B>) -> OptimizerState;

    /// Replaces the state with a saved one, which must fit the parameters of `policy`, and returns the point to train.
    fn load_state(
        &mut self,
        policy: CausalLm<B>,
        state: &OptimizerState,
    ) -> Result<CausalLm<B>, StateError>;

    /// Returns to the state before the first update, in which the point that is trained is the policy.
    fn reset(&mut self);
}

/// The number of updates in a state.
fn n_updates(state: &OptimizerState) -> Result<u32, StateError> {
    u32::try_from(state.n_updates)
        .map_err(|_| StateError::Mismatch(format!("{} updates", state.n_updates)))
}

/// Zeros of a tensor's shape and type.
fn zeros<B: DecodeBackend>(like: &slots::Primitive<B>) -> slots::Primitive<B> {
    let device = B::float_device(like);
    B::float_zeros(like.shape(), &device, like.dtype().into())
}
