//! Benchmarks against what users would run otherwise, both sides in one run.

mod process;
mod reward;
mod train;

use crate::{root, target_dir};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use xshell::{Shell, cmd};

const HELP: &str = "\
cargo xtask bench NAME [OPTIONS]

  losses             forward and backward of Algorithm 2 over 2M tokens, against PyTorch eager
  rollout            sampling and training passes of a model, against transformers; needs --model
  int8               sampling with products of 8-bit integers, against the exact sampler; needs --model
  reward             answers graded per second, against Math-Verify; needs --cases
  train              whole steps of training, against TRL's GRPOTrainer; needs --model, an hour
  scorer             log-probs over a vocabulary of 151,936: some logits at a time, against all at once

  --model DIR        a Hugging Face model folder
  --cases FILE       JSONL of cases to grade: {\"id\", \"gold\", \"pred\", \"expect\", \"source\"} per line; those
                     whose source begins with `adversarial` are timed separately
  --python PYTHON    a Python that has the packages of the other side (numpy, torch, transformers,
                     math-verify, trl)
  --venv             install these packages into a virtual environment in the target folder; later runs use it
  --rounds N         rounds; each runs every side once (default 3)
  --pass N           train: completions per forward and backward pass of both sides (default: all 64 of a step, which
                     takes TRL about 24 GB)
  --smoke            train: steps of a few tokens, to see that both sides run
";

/// `cargo xtask bench`.
pub(crate) fn run(shell: &Shell, args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        bail!("which benchmark?\n\n{HELP}");
    };
    let options = Options::parse(rest)?;
    match name.as_str() {
        "losses" => losses(shell, &options),
        "rollout" => rollout(shell, &options),
        "int8" => int8(shell, &options),
        "reward" => reward::run(shell, &options),
        "train" => train::run(shell, &options),
        "scorer" => scorer(shell, &options),
        "--help" | "-h" | "help" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("no benchmark is called `{other}`\n\n{HELP}"),
    }
}

struct Options {
    model: Option<PathBuf>,
    cases: Option<PathBuf>,
    python: Option<PathBuf>,
    venv: bool,
    rounds: usize,
    pass: Option<usize>,
    smoke: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            model: None,
            cases: None,
            python: None,
            venv: false,
            rounds: 3,
            pass: None,
            smoke: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .with_context(|| format!("{arg}: expected a value"))
            };
            match arg.as_str() {
                "--model" => options.model = Some(value()?.into()),
                "--cases" => options.cases = Some(value()?.into()),
                "--python" => options.python = Some(value()?.into()),
                "--venv" => options.venv = true,
                "--smoke" => options.smoke = true,
                "--rounds" => options.rounds = count(arg, value()?)?,
                "--pass" => options.pass = Some(count(arg, value()?)?),
                other => bail!("unknown option `{other}`\n\n{HELP}"),
            }
        }
        Ok(options)
    }

    /// A Python with these packages: the one given, or that of the virtual environment.
    fn python(&self, shell: &Shell, packages: &[&str]) -> Result<PathBuf> {
        if let Some(python) = &self.python {
            return Ok(python.clone());
        }
        let venv = target_dir().join("bench-venv");
        let python = if cfg!(windows) {
            venv.join("Scripts").join("python.exe")
        } else {
            venv.join("bin").join("python")
        };
        if self.venv {
            if !python.exists() {
                cmd!(shell, "python3 -m venv {venv}").run()?;
            }
            cmd!(shell, "{python} -m pip install --quiet {packages...}").run()?;
        }
        ensure!(
            python.exists(),
            "the other side needs Python with {}: name a Python that has them (--python PYTHON), or install them \
             into {}, which takes some GB (--venv)",
            packages.join(", "),
            venv.display()
        );
        Ok(python)
    }
}

fn count(option: &str, text: &str) -> Result<usize> {
    let n = text.parse().ok().filter(|&n: &usize| n > 0);
    n.with_context(|| format!("{option}: found `{text}`; expected a number of at least 1"))
}

/// One line of JSON from a process.
fn measured(command: &mut Command) -> Result<Value> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        command.get_program().to_string_lossy(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.trim().lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("expected one line of JSON, found `{line}`"))
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key]
        .as_f64()
        .with_context(|| format!("`{key}` is missing in {value}"))
}

fn example(shell: &Shell, package: &str, name: &str, features: &str) -> Result<PathBuf> {
    let manifest = root().join("Cargo.toml");
    cmd!(
        shell,
        "cargo build --quiet --release --locked --manifest-path {manifest} -p {package} --example {name} --features={features}"
    )
    .run()?;
    Ok(target_dir().join("release").join("examples").join(name))
}

/// What one side measured over the rounds: the least of each figure, since noise only adds.
struct Side {
    name: &'static str,
    seconds: f64,
    peak_mib: f64,
    loss: f64,
    grad_norm: f64,
}

fn losses(shell: &Shell, options: &Options) -> Result<()> {
    let python = options.python(shell, &["numpy", "torch"])?;
    let binary = example(shell, "rpg-losses", "bench_losses", "")?;
    let script = root().join("rpg-losses/examples/bench_losses.py");
    let start = |side: &str| -> Command {
        match side {
            "pytorch" => with_arg(&python, &script),
            path => with_arg(&binary, Path::new(path)),
        }
    };
    let mut sides: Vec<Side> = Vec::new();
    for round in 1..=options.rounds {
        for name in ["fused", "operations", "pytorch"] {
            eprintln!("round {round}/{}: {name}", options.rounds);
            let value = measured(&mut start(name))?;
            let side = Side {
                name,
                seconds: number(&value, "median_seconds")?,
                peak_mib: number(&value, "peak_mib")?,
                loss: number(&value, "loss")?,
                grad_norm: number(&value, "grad_norm")?,
            };
            match sides.iter_mut().find(|side| side.name == name) {
                Some(best) => {
                    best.seconds = best.seconds.min(side.seconds);
                    best.peak_mib = best.peak_mib.min(side.peak_mib);
                }
                None => sides.push(side),
            }
        }
    }
    let Some(torch) = sides.iter().find(|side| side.name == "pytorch") else {
        bail!("PyTorch was not measured");
    };
    println!(
        "| side | ms | peak memory, MiB | PyTorch's time over this | PyTorch's memory over this |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for side in &sides {
        println!(
            "| {} | {:.1} | {:.0} | {:.2} | {:.2} |",
            side.name,
            1e3 * side.seconds,
            side.peak_mib,
            torch.seconds / side.seconds,
            torch.peak_mib / side.peak_mib,
        );
        let same = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
        ensure!(
            same(side.loss, torch.loss) && same(side.grad_norm, torch.grad_norm),
            "{} and PyTorch differ: loss {} and {}, norm of the gradient {} and {}",
            side.name,
            side.loss,
            torch.loss,
            side.grad_norm,
            torch.grad_norm
        );
    }
    Ok(())
}

/// The best rate of each side over the rounds, as the machine's noise only takes away.
fn rollout(shell: &Shell, options: &Options) -> Result<()> {
    let model = options
        .model
        .as_deref()
        .context("--model: name a Hugging Face model folder")?;
    let python = options.python(shell, &["torch", "transformers"])?;
    let binary = example(shell, "rpg-rollout", "bench_rollout", "")?;
    let script = root().join("rpg-rollout/examples/bench_rollout.py");
    let ours = |what: &str| {
        let mut command = with_arg(&binary, model);
        // As `rpg` sets it for itself.
        command.arg(what).env("MIMALLOC_PURGE_DELAY", "-1");
        command
    };
    let theirs = |what: &str| {
        let mut command = with_arg(&python, &script);
        command.arg(model).arg(what);
        command
    };
    println!("| work | rpg, tokens/s | transformers, tokens/s | ratio |");
    println!("| --- | ---: | ---: | ---: |");
    for (what, name) in [
        ("batch", "sampling, 32 sequences of 64 from 4 prompts"),
        ("batch-f32", "the same, weights kept as f32"),
        ("single", "sampling, one sequence of 64"),
        ("single-f32", "the same, weights kept as f32"),
        ("train", "forward and backward, 8 x 128"),
    ] {
        let (mut rpg, mut transformers) = (0f64, 0f64);
        for round in 1..=options.rounds {
            eprintln!("round {round}/{}: {name}", options.rounds);
            let (a, b) = (measured(&mut ours(what))?, measured(&mut theirs(what))?);
            rpg = rpg.max(number(&a, "tokens_per_second")?);
            transformers = transformers.max(number(&b, "tokens_per_second")?);
            if what == "train" {
                let (a, b) = (number(&a, "loss")?, number(&b, "loss")?);
                ensure!((a - b).abs() < 1e-3 * b.abs(), "losses differ: {a} and {b}");
            }
        }
        let ratio = rpg / transformers;
        println!("| {name} | {rpg:.1} | {transformers:.1} | {ratio:.2} |");
    }
    let curve = measured(&mut ours("curve"))?;
    println!("\n| length of the sequence | ms per new token |\n| ---: | ---: |");
    for stretch in curve["stretches"].as_array().into_iter().flatten() {
        let (length, ms) = (number(stretch, "length")?, number(stretch, "ms")?);
        println!("| {length:.0} | {ms:.1} |");
    }
    Ok(())
}

/// The best rate of each side over the rounds.
fn int8(shell: &Shell, options: &Options) -> Result<()> {
    let model = options
        .model
        .as_deref()
        .context("--model: name a Hugging Face model folder")?;
    let binary = example(shell, "rpg-rollout", "bench_rollout", "")?;
    println!("| work | exact, tokens/s | 8-bit, tokens/s | ratio |");
    println!("| --- | ---: | ---: | ---: |");
    for (what, name) in [
        ("batch", "sampling, 32 sequences of 64 from 4 prompts"),
        ("single", "sampling, one sequence of 64"),
    ] {
        let mut rates = [0f64; 2];
        for round in 1..=options.rounds {
            eprintln!("round {round}/{}: {name}", options.rounds);
            for (rate, work) in rates.iter_mut().zip([what, &format!("{what}-int8")]) {
                let mut command = with_arg(&binary, model);
                command.arg(work).env("MIMALLOC_PURGE_DELAY", "-1");
                *rate = rate.max(number(&measured(&mut command)?, "tokens_per_second")?);
            }
        }
        let [exact, int8] = rates;
        println!("| {name} | {exact:.1} | {int8:.1} | {:.2} |", int8 / exact);
    }
    Ok(())
}

/// The least time and memory of each side over the rounds.
fn scorer(shell: &Shell, options: &Options) -> Result<()> {
    let binary = example(shell, "rpg-core", "bench_scorer", "")?;
    let names = ["chunked", "whole"];
    let mut best: [Option<[f64; 4]>; 2] = [None, None];
    for round in 1..=options.rounds {
        for (name, best) in names.iter().zip(&mut best) {
            eprintln!("round {round}/{}: {name}", options.rounds);
            // Freed memory goes back to the system at once, so that the peak is what was in use.
            let mut command = with_arg(&binary, Path::new(name));
            let value = measured(command.env("MIMALLOC_PURGE_DELAY", "0"))?;
            let [seconds, peak] = [number(&value, "seconds")?, number(&value, "peak_mib")?];
            let [loss, norm] = [number(&value, "loss")?, number(&value, "grad_norm")?];
            let [s, p, ..] = best.unwrap_or([f64::INFINITY; 4]);
            *best = Some([seconds.min(s), peak.min(p), loss, norm]);
        }
    }
    let [Some(chunked), Some(whole)] = best else {
        bail!("nothing was measured");
    };
    println!("| logits | seconds | peak memory, MiB | time over whole | memory over whole |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, [seconds, peak, loss, norm]) in names.iter().zip([chunked, whole]) {
        let (time, memory) = (seconds / whole[0], peak / whole[1]);
        println!("| {name} | {seconds:.1} | {peak:.0} | {time:.2} | {memory:.2} |");
        let same = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs();
        ensure!(
            same(loss, whole[2]) && same(norm, whole[3]),
            "{name} and whole differ: loss {loss} and {}, norm of the gradient {norm} and {}",
            whole[2],
            whole[3]
        );
    }
    Ok(())
}

fn with_arg(program: &Path, arg: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(arg);
    command
}
