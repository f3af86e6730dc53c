//! Training: the loop of the paper's Algorithm 2, and what it needs.

mod batch;
pub mod grading;
mod log;
pub mod rollout;
mod start;
pub mod step;
mod trainer;
pub mod warm_start;

pub use start::{Outcome, Start, check_context, finish, newest_checkpoint};
pub use trainer::train;
