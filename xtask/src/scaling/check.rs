//! Runs of several processes on one machine against what the run of one process predicts.

use super::constants::{Constants, Name};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest error of a step's time that the model is allowed.
pub(super) const BOUND: f64 = 0.25;

/// The machine that the processes of a run share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Threads of each process.
    pub(super) threads: usize,
}

/// A run folder, and the number of processes that trained it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) processes: usize,
    pub(super) folder: PathBuf,
}

impl Run {
    /// `PROCESSES:RUN`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let parts = text.split_once(':').and_then(|(processes, folder)| {
            let processes = processes.parse().ok().filter(|&n| n > 0)?;
            Some(Self {
                processes,
                folder: folder.into(),
            })
        });
        parts.with_context(|| {
            format!("--check: found `{text}`; expected PROCESSES:RUN, as in 2:runs/two")
        })
    }
}

/// What the steps of a run did and how long they took, in the mean.
#[derive(Debug, Clone, Copy, Default)]
struct Steps {
    sampled_tokens: f64,
    all_tokens: f64,
    completions: f64,
    updates: f64,
    parameters: f64,
    times: Times,
}

/// Seconds of a step. Evaluations and checkpoints are left out.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    sample: f64,
    grade: f64,
    score: f64,
    /// With the exchange between processes.
    update: f64,
    /// What is none of these.
    other: f64,
}

impl Times {
    fn total(&self) -> f64 {
        self.sample + self.grade + self.score + self.update + self.other
    }
}

/// Fits the run of one process, predicts the others, and returns the table of both; fails if one is off by more than the bound.
pub(super) fn run(runs: &[Run], machine: Machine) -> Result<String> {
    let one = runs.iter().find(|run| run.processes == 1);
    let one = one.context("--check: a run of one process is missing: its times are what the others are predicted from")?;
    let base = read(&one.folder)?;
    let mut out = "| processes | sampling, s | predicted | update, s | predicted | step, s | predicted | error |\n\
                   | ---: |"
        .to_owned()
        + &" ---: |".repeat(7)
        + "\n";
    let mut worst: f64 = 0.0;
    for run in runs {
        let steps = read(&run.folder)?;
        let predicted = predict(&base, &steps, run.processes, machine);
        let (measured, total) = (steps.times, predicted.total());
        let error = total / measured.total() - 1.0;
        worst = worst.max(error.abs());
        writeln!(
            out,
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {total:.3} | {:+.0}% |",
            run.processes,
            measured.sample,
            predicted.sample,
            measured.update,
            predicted.update,
            measured.total(),
            100.0 * error,
        )?;
    }
    if worst > BOUND {
        bail!(
            "{out}\na step is predicted with an error of {:.0}%, more than {:.0}%",
            100.0 * worst,
            100.0 * BOUND
        );
    }
    Ok(out)
}

/// The times of the steps of another run on the same machine.
fn predict(base: &Steps, steps: &Steps, processes: usize, machine: Machine) -> Times {
    let busy = |processes: usize| (processes * machine.threads).min(machine.cores) as f64;
    // Work that the processes divide goes as fast as there are cores for their threads.
    let share = busy(1) / busy(processes);
    // Work that each of them does takes longer only if there are more of them than cores.
    let crowd = (processes as f64 / machine.cores as f64).max(1.0);
    let scaled = |seconds: f64, had: f64, has: f64| {
        if had > 0.0 { seconds * has / had } else { 0.0 }
    };
    let others = (processes - 1) as f64 / processes as f64;
    let exchange = 2.0 * 4.0 * steps.parameters * others * steps.updates
        / Constants::of_the_table()[Name::HostExchange];
    let times = &base.times;
    Times {
        sample: share * scaled(times.sample, base.sampled_tokens, steps.sampled_tokens),
        grade: share * scaled(times.grade, base.completions, steps.completions),
        score: share * scaled(times.score, base.all_tokens, steps.all_tokens),
        update: share * scaled(times.update, base.all_tokens, steps.all_tokens) + crowd * exchange,
        other: crowd * times.other,
    }
}

/// The means over all steps of reinforcement learning but the first, which warms caches.
fn read(folder: &Path) -> Result<Steps> {
    let path = folder.join("metrics.jsonl");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line: Value = serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), i + 1))?;
        if line["phase"] == "train" {
            lines.push(line);
        }
    }
    ensure!(
        lines.len() > 1,
        "{}: found {} lines of the phase `train`; expected at least 2, the first of which is left out",
        path.display(),
        lines.len()
    );
    let lines = &lines[1..];
    let mean = |name: &str| {
        let sum: f64 = lines.iter().filter_map(|line| line[name].as_f64()).sum();
        sum / lines.len() as f64
    };
    let all_tokens = mean("perf/total_num_tokens");
    let (prompt, response) = (mean("prompt_length/mean"), mean("response_length/mean"));
    ensure!(
        all_tokens > 0.0 && response > 0.0,
        "{}: no step has `perf/total_num_tokens` and `response_length/mean`",
        path.display()
    );
    let completions = all_tokens / (prompt + response);
    let [sample, grade, score, update] =
        ["gen", "reward", "ref", "update_actor"].map(|part| mean(&format!("timing_s/{part}")));
    let left_out = mean("timing_s/testing") + mean("timing_s/save_checkpoint");
    let step = mean("timing_s/step") - left_out;
    Ok(Steps {
        sampled_tokens: completions * response,
        all_tokens,
        completions,
        updates: mean("train/num_updates"),
        parameters: parameters(folder)?,
        times: Times {
            sample,
            grade,
            score,
            update,
            other: (step - sample - grade - score - update).max(0.0),
        },
    })
}

/// The number of weights of the newest checkpoint, which has them in f32.
fn parameters(folder: &Path) -> Result<f64> {
    let checkpoints = folder.join("checkpoints");
    let entries = fs::read_dir(&checkpoints)
        .with_context(|| format!("cannot read {}", checkpoints.display()))?;
    let sizes = entries.flatten().filter_map(|entry| {
        let weights = entry.path().join("model.safetensors");
        fs::metadata(weights).ok().map(|file| file.len())
    });
    let bytes = sizes
        .max()
        .with_context(|| format!("{} has no checkpoint", checkpoints.display()))?;
    Ok(bytes as f64 / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_CORES: Machine = Machine {
        cores: 2,
        threads: 1,
    };

    fn steps() -> Steps {
        Steps {
            sampled_tokens: 1000.0,
            all_tokens: 1500.0,
            completions: 32.0,
            updates: 4.0,
            parameters: 0.0,
            times: Times {
                sample: 4.0,
                grade: 0.5,
                score: 1.0,
                update: 8.0,
                other: 0.25,
            },
        }
    }

    #[test]
    fn processes_that_share_cores_are_no_faster_than_the_cores() {
        for (processes, threads, share, crowd) in [
            (1, 1, 1.0, 1.0),
            (2, 1, 0.5, 1.0),
            (4, 1, 0.5, 2.0),
            // One process has both cores already.
            (2, 2, 1.0, 1.0),
        ] {
            let machine = Machine { cores: 2, threads };
            let base = steps();
            let times = predict(&base, &base, processes, machine);
            assert_eq!(times.sample, 4.0 * share, "{processes} x {threads}");
            assert_eq!(times.update, 8.0 * share, "{processes} x {threads}");
            assert_eq!(times.other, 0.25 * crowd, "{processes} x {threads}");
        }
    }

    #[test]
    fn times_go_by_the_tokens_and_gradients_are_exchanged_in_each_update() {
        let base = steps();
        let longer = Steps {
            sampled_tokens: 2000.0,
            all_tokens: 3000.0,
            parameters: 1e6,
            ..base
        };
        let times = predict(&base, &longer, 2, TWO_CORES);
        assert_eq!(times.sample, 4.0);
        // Half of 4 MB there and half back, four times.
        let exchange = 4.0 * 4e6 / Constants::of_the_table()[Name::HostExchange];
        assert!((times.update - 8.0 - exchange).abs() < 1e-12);
    }

    /// A run folder whose steps take so long.
    fn folder(name: &str, seconds: f64) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("rpg-scaling-{}-{name}", std::process::id()));
        let checkpoint = folder.join("checkpoints/step-000001");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::write(checkpoint.join("model.safetensors"), [0; 400]).unwrap();
        let line = |step: u64, seconds: f64| {
            serde_json::json!({
                "step": step, "phase": "train", "perf/total_num_tokens": 1500,
                "prompt_length/mean": 10.0, "response_length/mean": 20.0, "train/num_updates": 2,
                "timing_s/gen": 0.25 * seconds, "timing_s/update_actor": 0.5 * seconds,
                "timing_s/testing": 7.0, "timing_s/step": seconds + 7.0,
            })
        };
        // The first step is slow, and counts for nothing.
        let lines = [line(1, 100.0), line(2, seconds), line(3, seconds)];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(folder.join("metrics.jsonl"), text).unwrap();
        folder
    }

    #[test]
    fn runs_are_read_and_compared_with_the_prediction() {
        let of = |processes, name, seconds| Run {
            processes,
            folder: folder(name, seconds),
        };
        // All but the quarter that is no part is divided by two.
        let runs = [of(1, "one", 8.0), of(2, "two", 5.0), of(4, "four", 7.2)];
        let table = run(&runs, TWO_CORES).unwrap();
        assert!(
            table.contains("| 1 | 2.000 | 2.000 | 4.000 | 4.000 | 8.000 | 8.000 | +0% |"),
            "{table}"
        );
        assert!(
            table.contains("| 2 | 1.250 | 1.000 | 2.500 | 2.000 | 5.000 | 5.000 | +0% |"),
            "{table}"
        );
        let slow = [runs[0].clone(), of(2, "slow", 8.0)];
        let error = run(&slow, TWO_CORES).unwrap_err().to_string();
        assert!(
            error.contains("an error of 37%, more than 25%")
                || error.contains("an error of 38%, more than 25%"),
            "{error}"
        );
        let error = run(&runs[1..], TWO_CORES).unwrap_err().to_string();
        assert!(error.contains("a run of one process is missing"), "{error}");
        for run in runs.iter().chain(&slow) {
            let _ = fs::remove_dir_all(&run.folder);
        }
    }

    #[test]
    fn a_run_is_given_with_its_processes() {
        let run = Run::parse("2:runs/two").unwrap();
        assert_eq!(run.processes, 2);
        assert_eq!(run.folder, Path::new("runs/two"));
        for text in ["runs/two", "0:runs/two", "two:runs"] {
            let error = Run::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected PROCESSES:RUN"), "{error}");
        }
    }
}
