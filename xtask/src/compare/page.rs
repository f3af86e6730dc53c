//! docs/comparison.md: the tables and pictures between its markers; the words around them are written by hand.

use super::plan::{BASE, Entry, Part, SAMPLES, UPDATES, stressed};
use super::plot::{Curve, draw};
use super::record::{Record, interval};
use crate::generated::with_tables;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The accuracy that "steps to" counts to.
const LEVEL: f64 = 0.8;

type Results = [(Entry, Vec<Record>)];

/// Rewrites the tables of the page, its pictures and the list of runs.
pub(super) fn write(docs: &Path, results: &Results) -> Result<()> {
    let page = docs.join("comparison.md");
    let text =
        fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let pictures = docs.join("comparison");
    fs::create_dir_all(&pictures)?;
    let is_rpg = |entry: &Entry| entry.name.starts_with("rpg-");
    let is_baseline = |entry: &Entry| !is_rpg(entry) || entry.name == BASE;
    for (name, title, curves) in [
        ("rpg.svg", "RPG and RPG-REINFORCE", curves(results, is_rpg)),
        (
            "baselines.svg",
            "RPG-REINFORCE-URKL and the baselines",
            curves(results, is_baseline),
        ),
    ] {
        let title = format!("{title}: Mean@{SAMPLES}");
        fs::write(pictures.join(name), draw(&title, &curves)?)?;
    }
    fs::write(pictures.join("runs.csv"), runs_csv(results))?;
    fs::write(&page, with_tables(&text, |name| table(name, results))?)?;
    eprintln!("{}", page.display());
    Ok(())
}

fn table(name: &str, results: &Results) -> Option<String> {
    Some(match name {
        "methods" => part_table(results, Part::Methods),
        "clip" => part_table(results, Part::Clip),
        "kl" => part_table(results, Part::Kl),
        "int8" => part_table(results, Part::Int8),
        "stress" => stress_table(results),
        _ => return None,
    })
}

/// A row per entry of a part; variants come after the method that they vary.
fn part_table(results: &Results, part: Part) -> String {
    let mut out = format!(
        "\n| | seeds | Mean@{SAMPLES}, Last | difference | Best | steps to {LEVEL} | entropy | response length \
         | reward variance | gradient norm | clipped |\n| --- |{}\n",
        " ---: |".repeat(10)
    );
    let base = results.iter().find(|(entry, _)| entry.name == BASE);
    let base = base.map_or(&[][..], |(_, records)| records);
    for (entry, records) in results.iter().filter(|(entry, _)| entry.part == part) {
        out += &row(&entry.label, records, base);
    }
    out + "\n"
}

/// How much more Mean@k each run has at the end than the run of [`BASE`] with its seed.
fn differences(records: &[Record], base: &[Record]) -> Vec<f64> {
    let of = |record: &Record| {
        let base = base.iter().find(|base| base.seed == record.seed)?;
        Some(record.last() - base.last())
    };
    records.iter().filter_map(of).collect()
}

fn row(label: &str, records: &[Record], base: &[Record]) -> String {
    let cell = |value: fn(&Record) -> f64, digits| {
        spread(&records.iter().map(value).collect::<Vec<_>>(), digits)
    };
    let steps: Vec<f64> = records
        .iter()
        .filter_map(|record| record.steps_to(LEVEL))
        .collect();
    let steps = if steps.len() == records.len() {
        spread(&steps, 0)
    } else {
        format!("reached by {} of {}", steps.len(), records.len())
    };
    format!(
        "| {label} | {} | {} | {} | {} | {steps} | {} | {} | {} | {} | {} |\n",
        records.len(),
        cell(Record::last, 3),
        spread(&differences(records, base), 3),
        cell(Record::best, 3),
        cell(|r| r.entropy, 3),
        cell(|r| r.response_length, 1),
        cell(|r| r.reward_variance, 3),
        cell(|r| r.grad_norm, 3),
        cell(|r| r.clipped, 5),
    )
}

/// Mean and 95% interval over the seeds.
fn spread(values: &[f64], digits: usize) -> String {
    match (values, interval(values)) {
        ([], _) => "-".to_owned(),
        (_, (mean, None)) => format!("{mean:.digits$}"),
        (_, (mean, Some(half))) => format!("{mean:.digits$} ± {half:.digits$}"),
    }
}

/// Mean@k at the end, by updates per rollout.
fn stress_table(results: &Results) -> String {
    let mut out = "\n| |".to_owned();
    for n in UPDATES {
        let noun = if n == 1 { "update" } else { "updates" };
        let _ = write!(out, " {n} {noun} |");
    }
    out += &format!("\n| --- |{}\n", " ---: |".repeat(UPDATES.len()));
    for names in stressed() {
        let found = names.map(|name| results.iter().find(|(entry, _)| entry.name == name));
        let [Some(first), ..] = found else { continue };
        let cells = found.map(|found| {
            let last = |(_, records): &(Entry, Vec<Record>)| {
                spread(&records.iter().map(Record::last).collect::<Vec<_>>(), 3)
            };
            found.map_or("-".to_owned(), last)
        });
        let _ = writeln!(out, "| {} | {} |", first.0.label, cells.join(" | "));
    }
    out + "\n"
}

/// The mean curves over the seeds of some methods.
fn curves(results: &Results, is_drawn: impl Fn(&Entry) -> bool) -> Vec<Curve> {
    results
        .iter()
        .filter(|(entry, records)| {
            entry.part == Part::Methods && is_drawn(entry) && !records.is_empty()
        })
        .map(|(entry, records)| (entry.label.clone(), mean_curve(records)))
        .collect()
}

fn mean_curve(records: &[Record]) -> Vec<(u64, f64)> {
    let first = &records[0].curve;
    let n = records.len() as f64;
    (0..first.len())
        .map(|i| {
            let sum: f64 = records
                .iter()
                .filter_map(|r| r.curve.get(i))
                .map(|point| point.1)
                .sum();
            (first[i].0, sum / n)
        })
        .collect()
}

/// Every run on a line.
fn runs_csv(results: &Results) -> String {
    let mut out =
        "run,seed,last,best,steps_to,entropy,response_length,reward_variance,grad_norm,clipped\n"
            .to_owned();
    for (entry, records) in results {
        for r in records {
            let steps = r
                .steps_to(LEVEL)
                .map_or(String::new(), |steps| format!("{steps:.1}"));
            let _ = writeln!(
                out,
                "{},{},{:.4},{:.4},{steps},{:.4},{:.2},{:.4},{:.4},{:.6}",
                entry.name,
                r.seed,
                r.last(),
                r.best(),
                r.entropy,
                r.response_length,
                r.reward_variance,
                r.grad_norm,
                r.clipped,
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seed: u64, last: f64) -> Record {
        Record {
            seed,
            curve: vec![(0, 0.25), (10, last)],
            entropy: 0.0,
            response_length: 0.0,
            reward_variance: 0.0,
            grad_norm: 0.0,
            clipped: 0.0,
        }
    }

    #[test]
    fn runs_are_compared_with_those_of_their_seed() {
        let base = [record(0, 0.5), record(1, 0.75)];
        let records = [record(1, 0.5), record(2, 1.0), record(0, 1.0)];
        assert_eq!(differences(&records, &base), [-0.25, 0.5]);
        assert!(differences(&records, &[]).is_empty());
    }
}
