//! Training: the loop of the paper's Algorithm 2, and its parts.

mod ahead;
mod begin;
mod changes;
mod collect;
mod collector;
mod commands;
pub mod evaluation;
mod grading;
mod keep;
mod learner;
mod length;
mod loss;
mod memory;
mod old_policy;
mod origin;
mod prepare;
mod ranks;
mod reference;
pub mod report;
mod sample;
#[cfg(feature = "server")]
pub(crate) mod servers;
mod setup;
mod shards;
mod stops;
mod trainer;
mod updates;
mod versions;
mod warm_start;

pub use changes::ConfigChange;
pub use commands::StartedCommands;
pub use evaluation::{Best, Evaluation};
pub use grading::{Grade, Grader, OwnError};
pub use learner::{Learner, StepReport, TapedLoss};
pub use loss::{TrainedResponse, UpdateReport};
pub use memory::{MemoryPart, MemoryPlan, RunSizes, advice};
pub use origin::Origin;
pub use prepare::Place;
pub(crate) use ranks::{Equipment, hindrance};
#[cfg(feature = "cuda")]
pub(crate) use ranks::{Nccl, Wired, equipment};
pub use ranks::{OneRank, Ranks, Team, ThreadRanks, Transport};
pub use reference::{ReferenceRule, ReferenceState};
pub use sample::{GradedGroup, GroupFilter, Rollout, Sample};
#[cfg(feature = "cli")]
pub(crate) use setup::check_context;
pub use setup::{Outcome, Parts, Start};
pub use trainer::Trainer;
pub use updates::UpdateCounts;
