//! The outcome of a verification.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::Precision;

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

    /// A table for people: a line per configuration, a column per oracle, then the controls.
    pub fn table(&self) -> String {
        let oracles = [
            "closed form",
            "finite difference",
            "expectation",
            "micro-batches",
        ];
        let mut lines: Vec<(&str, usize, [Option<&Row>; 4])> = Vec::new();
        for row in &self.rows {
            let (config, oracle) = row.name.rsplit_once(": ").unwrap_or((&row.name, ""));
            let column = oracles.iter().position(|name| *name == oracle).unwrap_or(0);
            if lines.last().is_none_or(|line| line.0 != config) {
                lines.push((config, row.cases, [None; 4]));
            }
            if let Some(line) = lines.last_mut() {
                line.2[column] = Some(row);
            }
        }
        let width = lines
            .iter()
            .map(|line| line.0.len())
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
            "| {:-<width$} | ----- | ----------- | ------------ | ----------- | ------------- | ------- |",
            ""
        );
        for (config, cases, cells) in &lines {
            let cell = |row: &Option<&Row>| row.map_or("-".into(), |r| format!("{:.1e}", r.worst));
            let passed = cells.iter().flatten().all(|row| row.passed);
            let _ = writeln!(
                out,
                "| {config:width$} | {cases:5} | {:>11} | {:>12} | {:>11} | {:>13} | {:7} |",
                cell(&cells[0]),
                cell(&cells[1]),
                cell(&cells[2]),
                cell(&cells[3]),
                if passed { "ok" } else { "FAILED" }
            );
        }
        let width = self
            .controls
            .iter()
            .map(|c| c.name.len())
            .max()
            .unwrap_or(0);
        let width = width.max(16);
        let _ = writeln!(
            out,
            "\n| {:width$} | error   | verdict  |",
            "negative control"
        );
        let _ = writeln!(out, "| {:-<width$} | ------- | -------- |", "");
        for control in &self.controls {
            let verdict = if control.rejected {
                "rejected"
            } else {
                "ACCEPTED"
            };
            let _ = writeln!(
                out,
                "| {:width$} | {:>7} | {verdict} |",
                control.name,
                format!("{:.1e}", control.error)
            );
        }
        out
    }
}
