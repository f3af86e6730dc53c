//! What it costs to sample ahead: the built-in recipe with `rollout.max_staleness` 0 and 1, and 1 with
//! `objective.rollout_correction`, over three seeds.
//!
//! `cargo run --release -p rpg-cli --example staleness -- OUT_DIR [KEY=VALUE ...]`
//!
//! It samples in this process, which `rpg train` refuses to do ahead: what is compared are accuracies, not times. Prints Mean@k on
//! the held-out problems after the last step, by seed and on average; the runs' folders are `OUT_DIR/SEED-COLUMN`. A run that is there
//! is read, so that the command can be given again after it was stopped.

use burn::backend::Flex;
use rpg_cli::config::TrainConfig;
use rpg_cli::failure::Failure;
use rpg_cli::run_folder::{METRICS, RunFolder};
use rpg_cli::train::{Parts, Start, Trainer};
use std::path::Path;

const SEEDS: [u64; 3] = [0, 1, 2];

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
    let mut means = [0.0; COLUMNS.len()];
    let row = |name: &str, cells: [String; COLUMNS.len()]| {
        let cells = cells.map(|cell| format!("{cell:>15}")).concat();
        println!("{name:<6}{cells}");
    };
    row("seed", COLUMNS.map(|(name, _)| name.to_owned()));
    for seed in SEEDS {
        let mut scores = [0.0; COLUMNS.len()];
        for (i, (name, own)) in COLUMNS.iter().enumerate() {
            let dir = Path::new(&out).join(format!("{seed}-{name}"));
            let own = own.iter().map(|set| (*set).to_owned());
            let own = own.chain([format!("seed={seed}")]);
            scores[i] = score(&dir, &[&sets[..], &own.collect::<Vec<_>>()].concat())?;
            means[i] += scores[i] / SEEDS.len() as f64;
        }
        row(&seed.to_string(), scores.map(|score| format!("{score:.3}")));
    }
    row("mean", means.map(|mean| format!("{mean:.3}")));
    row("", means.map(|mean| format!("{:+.3}", mean - means[0])));
    Ok(())
}

/// Mean@k after the last step of a run, which is trained unless it is there.
fn score(dir: &Path, sets: &[String]) -> Result<f64, Failure> {
    if let Some(score) = RunFolder::open(dir).ok().and_then(|run| last(&run)) {
        return Ok(score);
    }
    let config = TrainConfig::recipe("arithmetic", sets)?;
    let shape = config.model.scratch.as_ref();
    let shape = shape.ok_or_else(|| Failure::input("model.scratch is missing"))?;
    let (policy, tokenizer) = shape.init::<Flex>(config.seed, &Default::default())?;
    let folder = RunFolder::create(dir, &config.to_toml())?;
    let start = Start::new(&config, policy, tokenizer)?;
    let parts = Parts::new(&config, &start, &folder, Vec::new())?;
    Ok(Trainer::new(&config, &folder, start, parts)?.run()?.after)
}

/// Mean@k after the last step, if the run has got there.
fn last(run: &RunFolder) -> Option<f64> {
    let lines = run.lines(METRICS).ok()?;
    let line = lines.iter().find(|line| line["phase"] == "final")?;
    let is_mean = |name: &str| name.starts_with("val-core/") && name.contains("/acc/mean@");
    line.iter().find(|(name, _)| is_mean(name))?.1.as_f64()
}
