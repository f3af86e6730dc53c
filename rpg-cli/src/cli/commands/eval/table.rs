//! Scores as a table.

use crate::train::evaluation::Scores;
use crate::train::evaluation::statistics::Estimate;

/// A line per score, with its interval.
pub(super) fn table(all: &[Scores]) -> String {
    let width = all.iter().map(|scores| scores.source.chars().count());
    let width = width.max().unwrap_or(0).max("source".len());
    let mut lines = vec![format!(
        "{:<width$}  {:>8}  {:<10}  {:>7}  {:>16}",
        "source", "problems", "metric", "value", "95% interval"
    )];
    // What is about all problems comes last, as a sum does.
    let (first, rest) = all.split_at(all.len().min(1));
    for scores in rest.iter().chain(first) {
        for (i, (name, cells)) in rows(scores).into_iter().enumerate() {
            let (source, problems) = if i == 0 {
                (scores.source.as_str(), scores.problems.to_string())
            } else {
                ("", String::new())
            };
            let line = format!("{source:<width$}  {problems:>8}  {name:<10}  {cells}");
            lines.push(line.trim_end().to_owned());
        }
    }
    lines.join("\n")
}

fn rows(scores: &Scores) -> Vec<(String, String)> {
    let k = scores.k;
    let estimate = |estimate: &Estimate| {
        let interval = format!("{:.3} .. {:.3}", estimate.low, estimate.high);
        format!("{:>7.3}  {interval:>16}", estimate.value)
    };
    let mut rows = Vec::new();
    if let Some(mean) = &scores.mean {
        rows.push((format!("mean@{k}"), estimate(mean)));
    }
    for pass in scores.pass.iter().filter(|pass| pass.n > 1) {
        rows.push((format!("pass@{}", pass.n), estimate(&pass.estimate)));
    }
    if let Some(majority) = scores.majority.as_ref().filter(|_| k > 1) {
        rows.push((format!("maj@{k}"), estimate(majority)));
    }
    rows.push(("tokens".into(), format!("{:>7.1}", scores.length)));
    rows.push(("cut off".into(), format!("{:>7.3}", scores.cut)));
    if scores.errors > 0 {
        rows.push(("no score".into(), format!("{:>7}", scores.errors)));
    }
    rows
}
