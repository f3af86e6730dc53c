//! The grader against Math-Verify: speed, agreement with what the cases expect, the slowest case.

use super::{Options, example, measured, number, with_arg};
use crate::root;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;
use xshell::Shell;

const PACKAGE: &str = "math-verify[antlr4-13-2]==0.9.0";

/// What one side measured over the rounds: the best of each figure, since noise only slows down.
struct Side {
    name: &'static str,
    /// Cases per second for cases that it has seen before, and for new ones.
    rates: [f64; 2],
    peak_mib: Option<f64>,
    ordinary: Group,
    hostile: Option<Group>,
}

/// The results for one group of cases.
struct Group {
    cases: f64,
    judged: f64,
    agree: f64,
    false_positives: f64,
    false_negatives: f64,
    slowest_ms: f64,
    slowest: String,
}

impl Group {
    fn read(value: &Value) -> Result<Self> {
        Ok(Self {
            cases: number(value, "cases")?,
            judged: number(value, "judged")?,
            agree: number(value, "agree")?,
            false_positives: number(value, "false_positives")?,
            false_negatives: number(value, "false_negatives")?,
            slowest_ms: number(value, "slowest_ms")?,
            slowest: value["slowest"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

impl Side {
    fn read(name: &'static str, value: &Value) -> Result<Self> {
        let hostile = value.get("hostile").map(Group::read).transpose()?;
        Ok(Self {
            name,
            rates: [
                number(value, "cases_per_second")?,
                number(value, "first_cases_per_second")?,
            ],
            peak_mib: value["peak_mib"].as_f64(),
            ordinary: Group::read(&value["ordinary"])?,
            hostile,
        })
    }

    fn add(&mut self, other: Self) {
        for (best, rate) in self.rates.iter_mut().zip(other.rates) {
            *best = best.max(rate);
        }
        if other.ordinary.slowest_ms < self.ordinary.slowest_ms {
            self.ordinary = other.ordinary;
        }
    }
}

pub(super) fn run(shell: &Shell, options: &Options) -> Result<()> {
    let cases = options.cases.as_deref().context(
        "--cases: name a JSONL file of cases, {\"id\", \"gold\", \"pred\", \"expect\", \"source\"} per line",
    )?;
    ensure!(
        cases.is_file(),
        "--cases: {} is not a file",
        cases.display()
    );
    let python = options.python(shell, &[PACKAGE])?;
    let binary = example(shell, "rpg-reward", "bench_reward", "parallel,suite")?;
    let script = root().join("rpg-reward/examples/bench_reward.py");
    let start = |name: &str, round: usize| -> Command {
        if name == OURS {
            return with_arg(&binary, cases);
        }
        let mut command = with_arg(&python, &script);
        command.arg(cases);
        if round == 1 {
            // Many of these reach its time limit of five seconds: one round is enough.
            command.arg("--hostile");
        }
        command
    };
    let mut sides: Vec<Side> = Vec::new();
    let mut threads = Vec::new();
    for round in 1..=options.rounds {
        for name in [OURS, THEIRS] {
            eprintln!("round {round}/{}: {name}", options.rounds);
            let value = measured(&mut start(name, round))?;
            for (i, entry) in value["threads"]
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
            {
                let (n, rate) = (
                    number(entry, "threads")?,
                    number(entry, "cases_per_second")?,
                );
                match threads.get_mut(i) {
                    Some((_, best)) => *best = rate.max(*best),
                    None => threads.push((n, rate)),
                }
            }
            let side = Side::read(name, &value)?;
            match sides.iter_mut().find(|side| side.name == name) {
                Some(best) => best.add(side),
                None => sides.push(side),
            }
        }
    }
    print(&sides, &threads);
    Ok(())
}

const OURS: &str = "rpg-reward";
const THEIRS: &str = "Math-Verify 0.9.0";

fn print(sides: &[Side], threads: &[(f64, f64)]) {
    let rates = |name: &str| {
        let side = sides.iter().find(|side| side.name == name);
        side.map_or([f64::NAN; 2], |side| side.rates)
    };
    let (ours, theirs) = (rates(OURS), rates(THEIRS));
    println!("| one thread | {OURS}, cases/s | {THEIRS}, cases/s | ratio |");
    println!("| --- | ---: | ---: | ---: |");
    for (i, what) in ["repeated cases", "new cases"].iter().enumerate() {
        let ratio = ours[i] / theirs[i];
        println!(
            "| {what} | {:.0} | {:.1} | {ratio:.0} |",
            ours[i], theirs[i]
        );
    }
    println!(
        "\n| cases | grader | as expected | false positives | false negatives | slowest, ms |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for side in sides {
        row("ordinary", side.name, &side.ordinary);
    }
    for side in sides {
        if let Some(group) = &side.hostile {
            row("adversarial", side.name, group);
        }
    }
    println!("\n| threads | {OURS}, cases/s | against one |");
    println!("| ---: | ---: | ---: |");
    for (n, rate) in threads {
        let single = threads.first().map_or(f64::NAN, |(_, rate)| *rate);
        println!("| {n:.0} | {rate:.0} | {:.2} |", rate / single);
    }
    let peaks: Vec<String> = sides
        .iter()
        .filter_map(|side| Some(format!("{} {:.0} MiB", side.name, side.peak_mib?)))
        .collect();
    println!(
        "\nPeak memory over the ordinary cases: {}.",
        peaks.join(", ")
    );
}

fn row(cases: &str, name: &str, group: &Group) {
    println!(
        "| {cases} ({:.0}) | {name} | {:.0} of {:.0} | {:.0} | {:.0} | {:.2} ({}) |",
        group.cases,
        group.agree,
        group.judged,
        group.false_positives,
        group.false_negatives,
        group.slowest_ms,
        group.slowest,
    );
}
