//! Policy-gradient objectives for language models.

pub mod advantage;
pub mod aggregate;
pub mod baselines;
pub mod clip;
mod config;
pub mod diagnostics;
pub mod divergence;
mod fused;
mod kinds;
mod objective;
pub mod ratios;
pub mod reference;
pub mod reinforce;
pub mod request;
pub mod rpg;
pub mod verify;

pub use advantage::{Advantages, TokenLogProbs, advantages, step_advantages, token_advantages};
pub use aggregate::StepTotals;
pub use config::{ObjectiveConfig, ObjectiveError};
pub use diagnostics::Diagnostics;
pub use kinds::{AdvantageKind, Aggregation, Clip, Divergence, Estimator, Kind, Level};
pub use objective::{
    LossInputs, LossOutput, policy_loss, policy_loss_from_operations, unaggregated_loss,
};
pub use request::{LossInputError, LossRequest, LossResponse, compute, compute_json};
