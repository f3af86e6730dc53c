//! `rpg loss`: a loss and its gradient, to check other implementations.

use super::{input, output};
use crate::cli::args::LossArgs;
use crate::cli::say::say;
use crate::failure::Failure;
use rpg_losses::compute_json;

pub(super) fn run(args: &LossArgs) -> Result<(), Failure> {
    let name = input::name(&args.input);
    let hint = "`rpg loss --help` describes the format";
    let response = compute_json(&input::text(&args.input)?)
        .map_err(|e| Failure::input(format!("{name}: {e}")).hint(hint))?;
    for warning in &response.warnings {
        say!("warning: {warning}");
    }
    output::line(serde_json::to_string(&response).map_err(Failure::internal)?)
}
