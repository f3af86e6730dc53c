//! From the flags of `rpg eval` to a config, as if a run were to be evaluated.

use crate::cli::eval_args::EvalArgs;
use crate::cli::policy;
use crate::config::{Count, Recipe, TrainConfig};
use crate::failure::{AtPath, Failure};
use std::fs;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The keys that an evaluation reads; sections end with a dot.
const READ: [&str; 8] = [
    "data.",
    "reward.",
    "evaluate.samples",
    "evaluate.temperature",
    "rollout.max_new_tokens",
    "rollout.max_slots",
    "rollout.ignore_eos",
    "model.long_context",
];

/// The recipe whose settings are those of a model without a run.
const RECIPE: &str = "finetune";

/// What is evaluated, and how.
#[derive(Debug)]
pub(super) struct Settings {
    /// The folder, file or name of the model.
    pub(super) model: PathBuf,
    /// The config, with the run's seed, by which its problems are held out.
    pub(super) config: TrainConfig,
    /// The seed of the draws.
    pub(super) seed: u64,
    /// Where the config comes from.
    pub(super) origin: String,
}

impl Settings {
    /// Refuses flags that do not go together.
    pub(super) fn new(args: &EvalArgs, given: &Path) -> Result<Self, Failure> {
        check_flags(args)?;
        let model = policy::of_run(given)?;
        let run = policy::run_of(given);
        let (text, origin) = base(args.config.as_deref(), run.as_deref())?;
        if args.data.is_empty() && run.is_none() && args.config.is_none() {
            return Err(Failure::input("--data is missing: on which problems?").hint(
                "--data FILE (may be given more than once); a run folder as --model has held-out problems of its own",
            ));
        }
        let mut table: Table = text
            .parse()
            .map_err(|e| Failure::input(format!("{origin}: {e}")).hint("the file must be TOML"))?;
        name_model(&mut table, &model);
        name_data(&mut table, args);
        let mut config = TrainConfig::from_toml(&table.to_string(), &origin, &sets(args)?)?;
        // All samples of a problem are then the same.
        let is_greedy = config.evaluate.temperature.get() == 0.0;
        match args.samples {
            Some(found) if is_greedy && found > 1 => {
                return Err(Failure::input(format!(
                    "--samples: found {found}; expected 1, as at temperature 0 all samples of a problem are the same"
                ))
                .hint("leave out --samples, or give a --temperature above 0"));
            }
            None if is_greedy => config.evaluate.samples = Count::of(1),
            _ => {}
        }
        Ok(Self {
            model,
            seed: args.seed.unwrap_or(config.seed),
            config,
            origin,
        })
    }
}

fn check_flags(args: &EvalArgs) -> Result<(), Failure> {
    for (flag, value) in [
        ("--samples", args.samples),
        ("--max-new-tokens", args.max_new_tokens),
        ("--problems", args.problems),
    ] {
        if value == Some(0) {
            return Err(Failure::input(format!(
                "{flag}: found 0; expected at least 1"
            )));
        }
    }
    if let Some(found) = args.temperature.filter(|t| !(t.is_finite() && *t >= 0.0)) {
        return Err(Failure::input(format!(
            "--temperature: found {found}; expected a number of at least 0"
        )));
    }
    if let Some(found) = args.seed.filter(|&seed| i64::try_from(seed).is_err()) {
        return Err(Failure::input(format!(
            "--seed: found {found}; expected at most {}",
            i64::MAX
        )));
    }
    Ok(())
}

/// The text of the config that the others change, and its name.
pub(super) fn base(config: Option<&Path>, run: Option<&Path>) -> Result<(String, String), Failure> {
    let file = config
        .map(Path::to_owned)
        .or_else(|| run.map(|run| run.join("config.toml")));
    if let Some(path) = file {
        let text = fs::read_to_string(&path).at(&path)?;
        return Ok((text, path.display().to_string()));
    }
    let text = Recipe::find(RECIPE)?.to_toml()?;
    Ok((text, format!("the recipe {RECIPE}")))
}

fn section<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    let entry = table
        .entry(name.to_owned())
        .or_insert_with(|| Table::new().into());
    entry.as_table_mut()
}

/// The config's own model, and what only its training needs, gives way.
fn name_model(table: &mut Table, model: &Path) {
    table.remove("warm_start");
    if let Some(section) = section(table, "model") {
        section.remove("scratch");
        section.insert("path".into(), path_value(model));
    }
}

fn name_data(table: &mut Table, args: &EvalArgs) {
    let Some(first) = args.data.first() else {
        return;
    };
    if let Some(section) = section(table, "data") {
        section.remove("task");
        section.remove("eval");
        section.insert("train".into(), path_value(first));
        if args.config.is_none() {
            // What training leaves out is part of a benchmark.
            section.insert("max_prompt_tokens".into(), Value::Integer(1 << 20));
        }
    }
}

fn path_value(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

/// `--set` and the flags that stand for keys.
fn sets(args: &EvalArgs) -> Result<Vec<String>, Failure> {
    for set in &args.set {
        check_set(set)?;
    }
    let mut sets = args.set.clone();
    let temperature = if args.greedy {
        Some(0.0)
    } else {
        args.temperature
    };
    sets.extend(temperature.map(|t| format!("evaluate.temperature={t:?}")));
    sets.extend(args.samples.map(|k| format!("evaluate.samples={k}")));
    sets.extend(
        args.max_new_tokens
            .map(|n| format!("rollout.max_new_tokens={n}")),
    );
    Ok(sets)
}

/// Refuses keys that an evaluation does not read.
fn check_set(set: &str) -> Result<(), Failure> {
    let key = set.split('=').next().unwrap_or_default().trim();
    let refused = |why: &str| Err(Failure::input(format!("--set {key}: {why}")));
    match key {
        "data.train" | "data.eval" | "data.task" => refused("the problems are named with --data"),
        "seed" | "backend" => refused(&format!("give --{key}")),
        "model.path" => refused("the model is named with --model"),
        "evaluate.problems" => refused("--problems N takes the first ones of each set"),
        _ if !set.contains('=') => Ok(()),
        _ if READ
            .iter()
            .any(|read| key == *read || (read.ends_with('.') && key.starts_with(read))) =>
        {
            Ok(())
        }
        _ => refused("an evaluation does not read this key").map_err(|failure| {
            let keys = READ.map(|key| match key.strip_suffix('.') {
                Some(section) => format!("{section}.*"),
                None => key.to_owned(),
            });
            failure.hint(format!("it reads {}", keys.join(", ")))
        }),
    }
}

/// Refuses keys that grading samples again does not read.
pub(super) fn check_grade_set(set: &str) -> Result<(), Failure> {
    let key = set.split('=').next().unwrap_or_default().trim();
    if !set.contains('=') || key == "reward.grade" || key.starts_with("reward.grade.") {
        return Ok(());
    }
    Err(Failure::input(format!(
        "--set {key}: grading samples again does not read this key"
    ))
    .hint("it reads reward.grade.*, as in --set reward.grade.last_expression=false"))
}
