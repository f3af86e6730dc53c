//! `rpg verify`: grades answers from JSONL.

use super::input;
use crate::args::VerifyArgs;
use crate::failure::{Failure, exit};
use rpg_reward::{GradeOptions, grade};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    id: Value,
    gold: String,
    pred: String,
    #[serde(default)]
    expect: Option<bool>,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Default)]
struct Tally {
    n: usize,
    agree: usize,
    false_positives: usize,
    false_negatives: usize,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let options = GradeOptions::default();
    let mut out = std::io::stdout().lock();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut n_bad, mut n_graded, mut seconds) = (0, 0, 0.0);
    for line in input::lines(&args.input)? {
        let (number, line) = line?;
        let case: Case = match serde_json::from_str(&line) {
            Ok(case) => case,
            Err(e) => {
                n_bad += 1;
                eprintln!("warning: {}, line {number}: {e}", args.input.display());
                continue;
            }
        };
        let start = Instant::now();
        let verdict = grade(&case.pred, &case.gold, &options);
        seconds += start.elapsed().as_secs_f64();
        n_graded += 1;
        if let Some(expect) = case.expect {
            let tally = tallies.entry(case.source.unwrap_or_default()).or_default();
            tally.n += 1;
            tally.agree += usize::from(verdict.correct == expect);
            tally.false_positives += usize::from(verdict.correct && !expect);
            tally.false_negatives += usize::from(!verdict.correct && expect);
        }
        if !args.summary {
            let line = json!({
                "id": case.id,
                "correct": verdict.correct,
                "extracted": verdict.extracted,
                "reason": verdict.reason.to_string(),
            });
            writeln!(out, "{line}").map_err(Failure::internal)?;
        }
    }
    if args.summary {
        print_summary(&mut out, tallies, n_graded, seconds).map_err(Failure::internal)?;
    }
    match n_bad {
        0 => Ok(()),
        n => Err(Failure {
            message: format!("{}: {n} lines could not be read", args.input.display()),
            hint: Some("each line must be an object with \"gold\" and \"pred\"".into()),
            code: exit::BAD_INPUT,
        }),
    }
}

fn print_summary(
    out: &mut impl Write,
    tallies: BTreeMap<String, Tally>,
    n_graded: usize,
    seconds: f64,
) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<24} {:>6} {:>9} {:>9} {:>9}",
        "source", "cases", "agree", "false +", "false -"
    )?;
    let mut all = Tally::default();
    for (source, tally) in &tallies {
        all.n += tally.n;
        all.agree += tally.agree;
        all.false_positives += tally.false_positives;
        all.false_negatives += tally.false_negatives;
        row(out, source, tally)?;
    }
    row(out, "all", &all)?;
    writeln!(
        out,
        "{n_graded} cases, {:.0} cases/s",
        n_graded as f64 / seconds.max(1e-9)
    )
}

fn row(out: &mut impl Write, source: &str, tally: &Tally) -> std::io::Result<()> {
    let share = 100.0 * tally.agree as f64 / tally.n.max(1) as f64;
    writeln!(
        out,
        "{source:<24} {:>6} {share:>8.2}% {:>9} {:>9}",
        tally.n, tally.false_positives, tally.false_negatives
    )
}
