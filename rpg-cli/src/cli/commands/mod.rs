//! The commands, each a thin file over the library.

mod completions;
mod dry_run;
mod eval;
mod export;
mod generate;
mod input;
mod loss;
mod new_folder;
mod output;
mod recipes;
mod report;
mod score;
mod train;
mod verify;
mod verify_gradients;

use crate::cli::args::Command;
use crate::failure::Failure;

/// Runs a command.
pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Score(args) => score::run(args),
        Command::Verify(args) => verify::run(&args),
        Command::Loss(args) => loss::run(&args),
        Command::VerifyGradients(args) => verify_gradients::run(args),
        Command::Export(args) => export::run(&args),
        Command::Recipes(args) => recipes::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
