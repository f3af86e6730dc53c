//! Training with KL-regularized policy gradients.
//!
//! [`train::Trainer`] is the loop of the paper's Algorithm 2; [`config::TrainConfig`] says what it does, a
//! [`run_folder::RunFolder`] holds what comes of it. What a run is made of can be exchanged, each part through
//! one trait: [`rpg_rollout::rollouts::Rollouts`] samples, [`rpg_reward::Reward`] scores,
//! [`optim::Optimizer`] updates, [`train::Ranks`] shares the work, [`train::report::Reporter`] is told.
//!
//! The library prints nothing and ends no process. The `rpg` command is the module `cli`, behind the feature of
//! that name.

pub mod backend;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod failure;
pub mod interrupt;
pub mod models;
pub mod optim;
pub mod run_folder;
pub mod train;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
