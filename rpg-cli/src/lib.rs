//! Training with KL-regularized policy gradients.
//!
//! [`train::Trainer`] is the loop of the paper's Algorithm 2, [`config::TrainConfig`] describes a run, and a
//! [`run_folder::RunFolder`] holds its results. Every part of a run can be replaced through one trait:
//! [`rpg_rollout::rollouts::Rollouts`] samples, [`rpg_reward::Reward`] scores, [`optim::Optimizer`] updates the
//! policy, [`train::Ranks`] shares the work and [`train::report::Reporter`] is told what happens.
//!
//! The library prints nothing and never exits the process. The `rpg` command is the module `cli`, behind the
//! feature of that name.

pub mod backend;
pub mod best;
pub mod checkpoint;
mod checksums;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
mod durable;
pub mod failure;
pub mod interrupt;
pub mod models;
pub mod optim;
pub mod run_folder;
pub mod train;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
