//! Training with KL-regularized policy gradients: the library behind the `rpg` command.
//!
//! [`train::train`] is the loop of the paper's Algorithm 2; [`config::TrainConfig`] says what it does,
//! a [`run_folder::RunFolder`] holds what comes of it. The commands are thin files over the library.

pub mod args;
pub mod backend;
pub mod checkpoint;
pub mod commands;
pub mod config;
pub mod console;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod failure;
pub mod interrupt;
pub mod models;
pub mod optim;
pub mod report;
pub mod run_folder;
pub mod train;
