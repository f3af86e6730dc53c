//! The page: one file with everything in it.

use super::alarms::{Alarm, alarms};
use super::differences::{Difference, differences, flat};
use super::run::{Line, Run, Status, number, phase, step};
use super::samples::{self, Samples};
use crate::failure::Failure;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPTS: [&str; 5] = [
    include_str!("base.js"),
    include_str!("plot.js"),
    include_str!("curves.js"),
    include_str!("samples.js"),
    include_str!("main.js"),
];

/// What all samples of a page may take, in bytes of samples.jsonl.
pub(super) const MAX_SAMPLES: u64 = 10 << 20;

/// The page of these runs. With `reload`, it loads itself again after that time.
pub(super) fn page(runs: &[Run], reload: Option<Duration>) -> Result<String, Failure> {
    let budget = MAX_SAMPLES / runs.len().max(1) as u64;
    let shown = runs
        .iter()
        .map(|run| shown(run, budget))
        .collect::<Result<Vec<_>, _>>()?;
    let configs: Vec<&toml::Table> = runs.iter().map(|run| &run.config).collect();
    let data = Data {
        version: env!("CARGO_PKG_VERSION"),
        reload: reload.map(|time| time.as_secs()),
        runs: shown,
        differences: differences(&configs),
    };
    let data = serde_json::to_string(&data).map_err(Failure::internal)?;
    Ok(PAGE
        .replacen("{{style}}", STYLE, 1)
        .replacen("{{script}}", &SCRIPTS.concat(), 1)
        .replacen("{{data}}", &inside_script(&data), 1))
}

/// JSON that stands in a `script` element: `<` is only in texts, and no text can end the element or begin a comment.
fn inside_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[derive(Serialize)]
struct Data {
    version: &'static str,
    reload: Option<u64>,
    runs: Vec<Shown>,
    differences: Vec<Difference>,
}

/// A run as the page has it.
#[derive(Serialize)]
struct Shown {
    label: String,
    path: String,
    status: Status,
    n_steps: Option<i64>,
    /// The steps of the warm start, and all others.
    tables: BTreeMap<&'static str, Columns>,
    alarms: Vec<Alarm>,
    config: Vec<(String, String)>,
    samples: Vec<Map<String, Value>>,
    n_samples: usize,
    /// What is left out of the samples, as a sentence.
    samples_note: Option<String>,
}

/// Metrics by step.
#[derive(Default, Serialize)]
struct Columns {
    steps: Vec<u64>,
    /// By their names, each as long as `steps`.
    values: Map<String, Value>,
}

fn shown(run: &Run, budget: u64) -> Result<Shown, Failure> {
    let samples = samples::read(&run.folder, budget)?;
    let is_warm_start = |line: &&Line| phase(line) == "warm_start";
    let tables = [
        (
            "warm_start",
            columns(run.lines.iter().filter(is_warm_start)),
        ),
        (
            "train",
            columns(run.lines.iter().filter(|line| !is_warm_start(line))),
        ),
    ];
    Ok(Shown {
        label: run.label.clone(),
        path: run.folder.root().display().to_string(),
        status: run.status,
        n_steps: run.n_steps(),
        tables: tables.into(),
        alarms: alarms(run),
        config: flat(&run.config),
        samples_note: note(&samples),
        n_samples: samples.n_all,
        samples: samples.lines,
    })
}

fn note(samples: &Samples) -> Option<String> {
    let left_out = samples.left_out?;
    Some(format!(
        "{} of {} samples are in this page, those of {} of {} steps: a page has at most {} MB of them. All are in samples.jsonl.",
        samples.lines.len(),
        samples.n_all,
        left_out.n_steps,
        left_out.n_all_steps,
        MAX_SAMPLES >> 20
    ))
}

fn columns<'a>(lines: impl Iterator<Item = &'a Line>) -> Columns {
    let lines: Vec<&Line> = lines.collect();
    let mut columns = Columns {
        steps: lines.iter().map(|line| step(line)).collect(),
        ..Columns::default()
    };
    for (idx, line) in lines.iter().enumerate() {
        for name in line.keys().filter(|name| *name != "step") {
            let Some(value) = number(line, name) else {
                continue;
            };
            let column = columns.values.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(column) = column {
                column.resize(idx, Value::Null);
                column.push(json!(six_digits(value)));
            }
        }
    }
    for column in columns.values.values_mut() {
        if let Value::Array(column) = column {
            column.resize(lines.len(), Value::Null);
        }
    }
    columns
}

/// What a curve shows, in a third of the bytes.
fn six_digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_long_as_the_steps() {
        let lines: Vec<Line> = [
            json!({"step": 0, "phase": "initial", "b": 0.123_456_789}),
            json!({"step": 1, "phase": "train", "a": 1.0, "c": null}),
            json!({"step": 2, "phase": "train", "a": 2e-9}),
        ]
        .iter()
        .map(|line| line.as_object().unwrap().clone())
        .collect();
        let found = columns(lines.iter());
        assert_eq!(found.steps, [0, 1, 2]);
        assert_eq!(
            Value::Object(found.values),
            json!({"b": [0.123_457, null, null], "a": [null, 1.0, 2e-9]})
        );
    }

    #[test]
    fn no_text_ends_the_script() {
        let text = "</script><!--<script>\u{2028}{{data}}";
        let json = inside_script(&json!({ "completion": text }).to_string());
        assert!(!json.contains('<'), "{json}");
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["completion"], text);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for text in SCRIPTS.iter().chain([&PAGE, &STYLE]) {
            for absent in [
                "http:",
                "https:",
                "fetch(",
                "XMLHttpRequest",
                "@import",
                "innerHTML",
            ] {
                let without_names = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!without_names.contains(absent), "{absent}");
            }
        }
        for placeholder in ["{{style}}", "{{script}}", "{{data}}"] {
            assert_eq!(PAGE.matches(placeholder).count(), 1);
            assert!(!STYLE.contains(placeholder) && !SCRIPTS.concat().contains(placeholder));
        }
    }
}
