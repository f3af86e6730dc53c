//! Training: the loop of the paper's Algorithm 2, and what it needs.

mod log;
pub mod rollout;
pub mod step;
mod trainer;
pub mod warm_start;

pub use trainer::{Outcome, Start, finish, load_model, newest_checkpoint, train};
