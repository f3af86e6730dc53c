//! `rpg loss`: a loss and its gradient, for those who check their own.

use super::input;
use crate::args::LossArgs;
use crate::failure::Failure;
use rpg_losses::reference::{LossRequest, compute};

pub(super) fn run(args: &LossArgs) -> Result<(), Failure> {
    let name = args.input.display();
    let hint = "the form is documented in docs/rpg-loss.md";
    let request: LossRequest = serde_json::from_str(&input::text(&args.input)?)
        .map_err(|e| Failure::input(format!("{name}: {e}")).hint(hint))?;
    for warning in request.objective.warnings() {
        eprintln!("warning: {warning}");
    }
    let response =
        compute(&request).map_err(|e| Failure::input(format!("{name}: {e}")).hint(hint))?;
    println!("{}", serde_json::to_string(&response).map_err(Failure::internal)?);
    Ok(())
}
