//! `rpg completions`: scripts that complete the command in a shell.

use super::output;
use crate::cli::args::{Args, CompletionsArgs};
use crate::failure::Failure;
use clap::CommandFactory;

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "rpg", &mut script);
    let script = String::from_utf8(script).map_err(Failure::internal)?;
    output::line(script.trim_end())
}
