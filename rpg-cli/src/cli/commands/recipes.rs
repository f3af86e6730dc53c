//! `rpg recipes`: lists the built-in recipes.

use super::output;
use crate::cli::args::RecipesArgs;
use crate::config::{METHODS, MODELS, recipes};
use crate::failure::Failure;
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) fn run(args: &RecipesArgs) -> Result<(), Failure> {
    if args.json {
        let all: Vec<Value> = recipes()
            .map(|recipe| json!({"name": recipe.name, "about": recipe.about}))
            .collect();
        return output::line(format_args!("{:#}", Value::from(all)));
    }
    let n_own = recipes().count() - METHODS.len() * MODELS.len();
    let mut text = String::new();
    for recipe in recipes().take(n_own) {
        let _ = writeln!(text, "{:<22} {}", recipe.name, recipe.about);
    }
    let _ = writeln!(
        text,
        "\nThe paper's comparison, with its settings: METHOD-MODEL, such as {}-{}\n",
        METHODS[7].0, MODELS[0].0
    );
    for (heading, parts) in [("METHOD", METHODS), ("MODEL", MODELS)] {
        let _ = writeln!(text, "{heading}");
        for (name, about, _) in parts {
            let _ = writeln!(text, "  {name:<21} {about}");
        }
    }
    let _ = write!(
        text,
        "\nrpg train --recipe NAME starts a run; with --print-config it shows the config instead"
    );
    output::line(text)
}
