//! Optimizers: AdamW over a model's parameters, the gradient's global norm, the learning rate.

mod adamw;
mod norm;
mod schedule;

pub use adamw::{AdamW, AdamWConfig, StateError};
pub use norm::global_norm;
pub use schedule::{Schedule, constant_with_warmup, cosine, stable_decay};
