//! What it costs to sample ahead: the built-in recipe with `rollout.max_staleness` 0 and 1, over three seeds.
//!
//! `cargo run --release -p rpg-cli --example staleness -- [KEY=VALUE ...]`
//!
//! It samples in this process, which `rpg train` refuses to do ahead: what is compared are accuracies, not times. Prints Mean@k on
//! the held-out problems after the last step, by seed and on average.

use burn::backend::Flex;
use rpg_cli::config::TrainConfig;
use rpg_cli::failure::Failure;
use rpg_cli::run_folder::RunFolder;
use rpg_cli::train::{Outcome, Parts, Start, Trainer};

const SEEDS: [u64; 3] = [0, 1, 2];

fn main() -> Result<(), Failure> {
    let sets: Vec<String> = std::env::args().skip(1).collect();
    let mut means = [0.0; 2];
    println!("seed  before  n = 0  n = 1  seconds");
    for seed in SEEDS {
        let outcomes = [run(seed, 0, &sets)?, run(seed, 1, &sets)?];
        let [on_policy, ahead] = &outcomes;
        println!(
            "{seed:>4}  {:.3}   {:.3}  {:.3}  {:.0}, {:.0}",
            on_policy.before, on_policy.after, ahead.after, on_policy.seconds, ahead.seconds
        );
        for (mean, outcome) in means.iter_mut().zip(outcomes) {
            *mean += outcome.after / SEEDS.len() as f64;
        }
    }
    let [on_policy, ahead] = means;
    println!(
        "mean          {on_policy:.3}  {ahead:.3}  difference {:+.3}",
        ahead - on_policy
    );
    Ok(())
}

fn run(seed: u64, max_staleness: usize, sets: &[String]) -> Result<Outcome, Failure> {
    let own = [
        format!("seed={seed}"),
        format!("rollout.max_staleness={max_staleness}"),
    ];
    let config = TrainConfig::recipe("arithmetic", &[sets, &own].concat())?;
    let shape = config.model.scratch.as_ref();
    let shape = shape.ok_or_else(|| Failure::input("model.scratch is missing"))?;
    let (policy, tokenizer) = shape.init::<Flex>(config.seed, &Default::default())?;
    let dir = tempfile::tempdir().map_err(Failure::internal)?;
    let folder = RunFolder::create(&dir.path().join("run"), &config.to_toml())?;
    let start = Start::new(&config, policy, tokenizer)?;
    let parts = Parts::new(&config, &start, &folder, Vec::new())?;
    Trainer::new(&config, &folder, start, parts)?.run()
}
