//! The `rpg` command: arguments, terminal, exit codes, and what it alone needs (the hub, plots).

pub mod args;
mod beat;
mod commands;
mod console;
mod curve;
pub mod eval_args;
pub mod exit;
mod hub;
mod launch;
mod policy;
mod problems;
mod report;
pub mod say;
mod signals;

use crate::failure::Failure;
use args::Args;

/// Runs a command.
pub fn run(args: Args) -> Result<(), Failure> {
    commands::run(args.command)
}
