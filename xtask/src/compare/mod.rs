//! `cargo xtask compare`: the paper's experiments, small, on the built-in task.
//!
//! Every method starts from the same warm start (one per seed) and has the same budget of completions. Runs that are
//! there are not made again, and runs that were stopped are resumed.

mod page;
mod plan;
mod plot;
mod record;
mod trainings;

use crate::root;
use anyhow::{Context, Result, bail};
use record::Record;
use std::path::PathBuf;
use std::thread::available_parallelism;
use trainings::{Trainings, run_name};
use xshell::Shell;

const HELP: &str = "\
cargo xtask compare [OPTIONS]

Trains RPG, GRPO, DAPO and REINFORCE++ on the built-in task from the same warm starts, with ablations of the clip, of
the KL term and of the updates per rollout, and writes docs/comparison.md. Takes hours; stop it and start it again as
you like: what is there is not computed again.

  --dir DIR          the folder of the runs (default: runs/compare)
  --seeds N          runs per method (default 3)
  --jobs N           runs at a time, each with its share of the cores (default: the number of cores)
  --report           train nothing: write the page from the runs that are there
";

/// `cargo xtask compare`.
pub(crate) fn run(shell: &Shell, args: &[String]) -> Result<()> {
    let Some(options) = Options::parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let entries = plan::entries();
    if !options.report {
        Trainings::new(shell, &options)?.run(&entries)?;
    }
    let mut results = Vec::new();
    for entry in entries {
        let mut records = Vec::new();
        for seed in 0..options.seeds {
            let folder = options.dir.join(run_name(&entry, seed));
            records.extend(Record::read(&folder, seed)?);
        }
        results.push((entry, records));
    }
    page::write(&root().join("docs"), &results)
}

struct Options {
    dir: PathBuf,
    seeds: u64,
    jobs: usize,
    report: bool,
}

impl Options {
    /// `None` if help was asked for.
    fn parse(args: &[String]) -> Result<Option<Self>> {
        let mut options = Self {
            dir: root().join("runs/compare"),
            seeds: 3,
            jobs: available_parallelism().map_or(1, usize::from),
            report: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .with_context(|| format!("{arg}: expected a value"))
            };
            let number = |text: &str| {
                let n = text.parse().ok().filter(|&n: &u64| n > 0);
                n.with_context(|| format!("{arg}: found `{text}`; expected a number of at least 1"))
            };
            match arg.as_str() {
                "--dir" => options.dir = std::path::absolute(value()?)?,
                "--seeds" => options.seeds = number(value()?)?,
                "--jobs" => options.jobs = number(value()?)? as usize,
                "--report" => options.report = true,
                "--help" | "-h" | "help" => return Ok(None),
                other => bail!("unknown option `{other}`\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}
