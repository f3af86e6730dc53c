//! `cargo xtask scaling`: what training would be like on H100 nodes, by a model of time and memory.

mod check;
mod constants;
mod model;
mod published;
mod tables;

use anyhow::{Context, Result, bail, ensure};
use check::{Machine, Run};
use std::thread::available_parallelism;

const HELP: &str = "\
cargo xtask scaling [OPTIONS]

Prints the tables of docs/scaling.md: tokens per second of Qwen3-4B and Qwen2.5-7B on 1 to 64 H100 GPUs, as a model of a
step's time and memory predicts them. With --check it predicts runs of several processes on this machine from the one of a
single process, and fails if a step is off by more than 25%.

  --check N:RUN ...  the folders of runs, each with the number of its processes, as in 1:runs/one 2:runs/two
  --cores N          the cores that the processes share (default: those of this machine)
  --threads N        the threads of each process (RAYON_NUM_THREADS; default 1)
";

/// `cargo xtask scaling`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some(options) = Options::parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    if options.runs.is_empty() {
        for (name, title) in tables::TABLES {
            let table = tables::table(name).context("a table has a name of its own")?;
            print!("{title}\n{table}");
        }
    } else {
        print!("{}", check::run(&options.runs, options.machine)?);
    }
    Ok(())
}

struct Options {
    runs: Vec<Run>,
    machine: Machine,
}

impl Options {
    /// `None` if help was asked for.
    fn parse(args: &[String]) -> Result<Option<Self>> {
        let mut options = Self {
            runs: Vec::new(),
            machine: Machine {
                cores: available_parallelism().map_or(1, usize::from),
                threads: 1,
            },
        };
        let mut args = args.iter().map(String::as_str).peekable();
        while let Some(arg) = args.next() {
            match arg {
                "--check" => {
                    while let Some(run) = args.next_if(|arg| !arg.starts_with("--")) {
                        options.runs.push(Run::parse(run)?);
                    }
                    ensure!(!options.runs.is_empty(), "--check: expected runs\n\n{HELP}");
                }
                "--cores" => options.machine.cores = number(arg, args.next())?,
                "--threads" => options.machine.threads = number(arg, args.next())?,
                "--help" | "-h" | "help" => return Ok(None),
                other => bail!("unknown option `{other}`\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}

fn number(arg: &str, value: Option<&str>) -> Result<usize> {
    let n = value.and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    n.with_context(|| format!("{arg}: expected a number of at least 1"))
}
