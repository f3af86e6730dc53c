//! Optimizers: the trait, AdamW, the gradient's global norm, the learning rate.

mod adamw;
mod norm;
mod schedule;

pub use adamw::{AdamW, AdamWConfig};
pub use norm::global_norm;
pub use schedule::{Schedule, constant_with_warmup, cosine, stable_decay};

use burn::backend::Autodiff;
use burn::optim::GradientsParams;
use burn::tensor::TensorData;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use std::collections::BTreeMap;

/// Turns gradients into a new policy.
pub trait Optimizer<B: DecodeBackend> {
    /// One update with learning rate `lr`. The gradients are multiplied by `grad_scale` first.
    ///
    /// # Panics
    /// If no parameter has a gradient: the policy was not tracked.
    fn step(
        &mut self,
        policy: CausalLm<Autodiff<B>>,
        grads: GradientsParams,
        lr: f64,
        grad_scale: f64,
    ) -> CausalLm<Autodiff<B>>;

    /// Updates so far.
    fn n_updates(&self) -> u64;

    /// Everything that another process needs to continue bit for bit.
    fn state(&self) -> OptimizerState;

    /// Replaces the state with a saved one, which must fit the parameters of `policy`.
    fn load_state(
        &mut self,
        policy: &CausalLm<B>,
        state: &OptimizerState,
    ) -> Result<(), StateError>;

    /// Returns to the state before the first update.
    fn reset(&mut self);
}

/// The state of an optimizer as named tensors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// Updates so far.
    pub n_updates: u64,
    /// By names that stay the same from process to process, such as those of the parameters.
    pub tensors: BTreeMap<String, TensorData>,
}

/// Why a saved state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file is damaged.
    #[error("not a usable safetensors file: {0}")]
    Format(String),
    /// A tensor is missing or differs in size from its parameter.
    #[error("does not fit the model: {0}")]
    Mismatch(String),
}
