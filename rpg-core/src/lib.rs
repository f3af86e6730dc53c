//! The plain records that travel between the crates of the RPG workspace.
//!
//! A [`Problem`] is read from a data set, a rollout turns it into a [`Group`] of [`Completion`]s, a
//! grader turns those into rewards. Nothing here computes: the crate holds names for what the others
//! exchange, the rule by which random [`seed`]s are derived, and the user's [`DeviceChoice`].

mod completion;
mod device;
mod problem;
pub mod seed;

pub use completion::{Completion, Group, StopReason};
pub use device::{DeviceChoice, UnknownDevice};
pub use problem::{Message, Problem, Prompt, Role};
