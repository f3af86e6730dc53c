//! The outcome of a verification.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{Precision, rows::larger};

/// Rows that must hold and controls that must not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was verified.
    pub rows: Vec<Row>,
    /// What had to be rejected.
    pub controls: Vec<Control>,
}

/// One configuration under one oracle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The configuration and the oracle, `configuration: oracle`.
    pub name: String,
    /// Number of random cases.
    pub cases: usize,
    /// The worst relative error among them.
    pub worst: f64,
    /// Whether it is within tolerance.
    pub passed: bool,
}

/// A loss that is known to be wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What is wrong.
    pub name: String,
    /// Its relative error: the smallest over all cases.
    pub error: f64,
    /// Whether the error was seen.
    pub rejected: bool,
}

/// What a gradient is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oracle {
    ClosedForm,
    FiniteDifference,
    Expectation,
    MicroBatches,
}

impl Oracle {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ClosedForm => "closed form",
            Self::FiniteDifference => "finite difference",
            Self::Expectation => "expectation",
            Self::MicroBatches => "micro-batches",
        }
    }

    /// The relative error that rounding and, for slopes, step size explain.
    pub(super) fn tolerance(self, precision: Precision) -> f64 {
        match (self, precision) {
            (Self::FiniteDifference, _) => 1e-6, // In f64 whatever the tensors are.
            (_, Precision::F32) => 1e-4,
            (Self::ClosedForm | Self::MicroBatches, Precision::F64) => 1e-9,
            (Self::Expectation, Precision::F64) => 1e-6,
        }
    }
}

impl Report {
    /// Whether every row holds and every control was rejected.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
            && self.controls.iter().all(|control| control.rejected)
    }

    /// A table in Markdown: a line per configuration, a column per oracle, then the controls.
    pub fn table(&self) -> String {
        self.rows_by(str::to_string) + "\n" + &self.controls_table()
    }

    /// The same with the three levels of a configuration on one line, and so whole steps and bounds.
    pub fn summary(&self) -> String {
        let key = |config: &str| match config.split_once('/') {
            Some(("at the bounds", _)) => "at the bounds".to_string(),
            Some(_) => {
                let (key, _) = config.rsplit_once('/').unwrap_or((config, ""));
                key.to_string()
            }
            None => config.to_string(),
        };
        self.rows_by(key) + "\n" + &self.controls_table()
    }

    /// Lines of all rows whose configurations have one key: the worst errors, and all cases.
    fn rows_by(&self, key: impl Fn(&str) -> String) -> String {
        let mut lines: Vec<Line> = Vec::new();
        for row in &self.rows {
            let (config, oracle) = row.name.rsplit_once(": ").unwrap_or((&row.name, ""));
            let Some(column) = COLUMNS.iter().position(|column| column.name() == oracle) else {
                continue;
            };
            let key = key(config);
            let idx = lines
                .iter()
                .position(|line| line.key == key)
                .unwrap_or_else(|| {
                    lines.push(Line::new(key));
                    lines.len() - 1
                });
            lines[idx].add(column, row);
        }
        let width = lines
            .iter()
            .map(|line| line.key.len())
            .max()
            .unwrap_or(0)
            .max(13);
        let mut out = String::new();
        let _ = writeln!(
            out,
            "| {:width$} | cases | closed form | finite diff. | expectation | micro-batches | verdict |",
            "configuration"
        );
        let _ = writeln!(
            out,
            "| {:-<width$} | ----: | ----------: | -----------: | ----------: | ------------: | ------- |",
            ""
        );
        for line in &lines {
            let cell = |worst: Option<f64>| worst.map_or("-".into(), |x| format!("{x:.1e}"));
            let [closed_form, finite_difference, expectation, micro_batches] = line.worst.map(cell);
            let _ = writeln!(
                out,
                "| {:width$} | {:5} | {closed_form:>11} | {finite_difference:>12} | \
                 {expectation:>11} | {micro_batches:>13} | {:7} |",
                line.key,
                line.cases.into_iter().max().unwrap_or(0),
                if line.passed { "ok" } else { "FAILED" }
            );
        }
        out
    }

    fn controls_table(&self) -> String {
        let width = self
            .controls
            .iter()
            .map(|control| control.name.len())
            .max()
            .unwrap_or(0);
        let width = width.max(16);
        let mut out = String::new();
        let _ = writeln!(
            out,
            "| {:width$} |   error | verdict  |",
            "negative control"
        );
        let _ = writeln!(out, "| {:-<width$} | ------: | -------- |", "");
        for control in &self.controls {
            let verdict = if control.rejected {
                "rejected"
            } else {
                "ACCEPTED"
            };
            let error = format!("{:.1e}", control.error);
            let _ = writeln!(out, "| {:width$} | {error:>7} | {verdict} |", control.name);
        }
        out
    }
}

/// The columns of a table.
const COLUMNS: [Oracle; 4] = [
    Oracle::ClosedForm,
    Oracle::FiniteDifference,
    Oracle::Expectation,
    Oracle::MicroBatches,
];

/// Rows that share a line of a table.
struct Line {
    key: String,
    cases: [usize; 4],
    worst: [Option<f64>; 4],
    passed: bool,
}

impl Line {
    fn new(key: String) -> Self {
        Self {
            key,
            cases: [0; 4],
            worst: [None; 4],
            passed: true,
        }
    }

    fn add(&mut self, column: usize, row: &Row) {
        self.cases[column] += row.cases;
        let worst = self.worst[column].map_or(row.worst, |worst| larger(worst, row.worst));
        self.worst[column] = Some(worst);
        self.passed &= row.passed;
    }
}
