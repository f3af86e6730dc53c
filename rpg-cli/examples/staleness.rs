//! What it costs to sample ahead: the built-in recipe with `rollout.max_staleness` 0 and 1, and 1 with
//! `objective.rollout_correction`, over three seeds.
//!
//! `cargo run --release -p rpg-cli --example staleness -- OUT_DIR [KEY=VALUE ...]`
//!
//! It samples in this process, which `rpg train` refuses to do ahead: what is compared are accuracies, not times. Prints Mean@8 on
//! the held-out problems after the last step, by seed and on average, and the means of what shows why they differ. The runs' folders
//! are `OUT_DIR/SEED-COLUMN`; a run that is there is read, so that the command can be given again after it was stopped.

use burn::backend::Flex;
use rpg_cli::config::TrainConfig;
use rpg_cli::failure::Failure;
use rpg_cli::run_folder::{METRICS, RunFolder};
use rpg_cli::train::{Parts, Start, Trainer};
use serde_json::{Map, Value};
use std::path::Path;

const SEEDS: [u64; 3] = [0, 1, 2];

/// The step whose evaluation shows how a run got on.
const HALFWAY: u64 = 50;

/// The columns of the table: a name, and the settings.
const COLUMNS: [(&str, &[&str]); 3] = [
    ("n=0", &["rollout.max_staleness=0"]),
    ("n=1", &["rollout.max_staleness=1"]),
    (
        "n=1-corrected",
        &["rollout.max_staleness=1", "objective.rollout_correction={}"],
    ),
];

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or_else(|| {
        Failure::input("the folder for the runs is missing: staleness OUT_DIR [KEY=VALUE ...]")
    })?;
    let sets: Vec<String> = args.collect();
    let row = |name: &str, cells: [f64; COLUMNS.len()]| {
        let cells = cells.map(|cell| format!("{cell:>15.4}")).concat();
        println!("{name:<30}{cells}");
    };
    let mean = |cells: &[f64]| cells.iter().sum::<f64>() / cells.len() as f64;
    let names = COLUMNS.map(|(name, _)| format!("{name:>15}")).concat();
    println!("{:<30}{names}", "seed");
    let mut runs: [Vec<Lines>; COLUMNS.len()] = Default::default();
    for (i, seed) in SEEDS.iter().enumerate() {
        for ((name, own), runs) in COLUMNS.iter().zip(&mut runs) {
            let dir = Path::new(&out).join(format!("{seed}-{name}"));
            let own = own.iter().map(|set| (*set).to_owned());
            let own: Vec<String> = own.chain([format!("seed={seed}")]).collect();
            runs.push(trained(&dir, &[&sets[..], &own].concat())?);
        }
        row(
            &seed.to_string(),
            runs.each_ref().map(|runs| after(&runs[i])),
        );
    }
    let means = |of: &dyn Fn(&Lines) -> f64| {
        runs.each_ref()
            .map(|runs| mean(&runs.iter().map(of).collect::<Vec<_>>()))
    };
    let scores = means(&|run| after(run));
    row("mean", scores);
    row("difference", scores.map(|score| score - scores[0]));
    row(
        &format!("after {HALFWAY} steps"),
        means(&|run| {
            let is_there = |line: &&Map<_, _>| line["phase"] == "train" && line["step"] == HALFWAY;
            let score = run.iter().find(is_there);
            score
                .and_then(|line| line.get("evaluate/score")?.as_f64())
                .unwrap_or(f64::NAN)
        }),
    );
    for name in [
        "actor/pg_clipfrac",
        "actor/eff_sample_size",
        "rollout/staleness/weight_max",
    ] {
        row(name, means(&|run| mean(&values(run, "train", name))));
    }
    Ok(())
}

/// The lines of a run's metrics.
type Lines = Vec<Map<String, Value>>;

/// The metrics of a run, which is trained unless it is there.
fn trained(dir: &Path, sets: &[String]) -> Result<Lines, Failure> {
    if let Ok(run) = RunFolder::open(dir) {
        let lines = run.lines(METRICS)?;
        if !after(&lines).is_nan() {
            return Ok(lines);
        }
    }
    let config = TrainConfig::recipe("arithmetic", sets)?;
    let shape = config.model.scratch.as_ref();
    let shape = shape.ok_or_else(|| Failure::input("model.scratch is missing"))?;
    let (policy, tokenizer) = shape.init::<Flex>(config.seed, &Default::default())?;
    let folder = RunFolder::create(dir, &config.to_toml())?;
    let start = Start::new(&config, policy, tokenizer)?;
    let parts = Parts::new(&config, &start, &folder, Vec::new())?;
    Trainer::new(&config, &folder, start, parts)?.run()?;
    folder.lines(METRICS)
}

/// The values of a metric in a phase.
fn values(run: &Lines, phase: &str, name: &str) -> Vec<f64> {
    let lines = run.iter().filter(|line| line["phase"] == phase);
    lines.filter_map(|line| line.get(name)?.as_f64()).collect()
}

/// Mean@8 on the held-out problems after the last step.
fn after(run: &Lines) -> f64 {
    let found = values(run, "final", "val-core/column_addition/acc/mean@8");
    found.first().copied().unwrap_or(f64::NAN)
}
