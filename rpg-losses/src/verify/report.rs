//! The outcome of a verification.

use super::options::Precision;
use crate::choices::{Aggregation, Clip, KlWeight};
use crate::config::ObjectiveConfig;
use crate::objectives::spec::Parts;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::fmt;
use std::fmt::Write;

/// Rows that must pass and controls that must be rejected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What was verified.
    pub rows: Vec<Row>,
    /// What had to be rejected.
    pub controls: Vec<Control>,
    /// Mistakes that have mean zero.
    pub harmless: Vec<HarmlessInTheMean>,
}

/// One subject under one oracle. In JSON its `name` is `subject: oracle`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// What was verified.
    pub subject: Subject,
    /// What it was compared with.
    pub oracle: Oracle,
    /// Number of random cases.
    pub cases: usize,
    /// The worst relative error among them.
    pub worst: f64,
    /// Whether it is within tolerance.
    pub passed: bool,
}

/// What a row verifies.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Subject {
    /// The gradients of single units.
    Units(ObjectiveConfig),
    /// Corrections for a sampler that is not the policy of `lp_old`, under this objective.
    Rollout(ObjectiveConfig),
    /// Whole steps of random objectives under one aggregation.
    Steps(Aggregation, Path),
    /// Steps whose units lie exactly on the bounds of the trust region.
    Bounds(ObjectiveConfig, Path),
}

/// The code that computes the loss of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Path {
    /// [`crate::policy_loss`].
    PolicyLoss,
    /// [`crate::policy_loss_from_operations`].
    Operations,
}

/// A loss that is known to be wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Control {
    /// What is wrong.
    pub name: String,
    /// Its relative error: the smallest over all cases.
    pub error: f64,
    /// Whether the error is beyond doubt.
    pub rejected: bool,
}

/// A mistake that leaves the expected gradient of a normalized policy alone: it adds a multiple of
/// `w*grad lp`, whose mean is 0. It costs variance, and clipped units get a push that they should not get.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HarmlessInTheMean {
    /// What is wrong.
    pub name: String,
    /// Its relative error for a normalized policy: the largest over all cases.
    pub in_the_mean: f64,
    /// That for a policy of free mass: the smallest over all cases.
    pub free_mass: f64,
    /// Whether the first is zero and the second beyond doubt.
    pub as_claimed: bool,
}

/// What a gradient is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Oracle {
    /// The closed form.
    ClosedForm,
    /// The slope of the loss, written down a second time.
    FiniteDifference,
    /// The slope of the objective, by exact expectation.
    Expectation,
    /// The same step in micro-batches.
    MicroBatches,
}

impl Oracle {
    /// The number of oracles; each has a column in the tables.
    const COUNT: usize = Self::MicroBatches as usize + 1;

    fn name(self) -> &'static str {
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
            // In f64 whatever the tensors are.
            (Self::FiniteDifference, Precision::F32 | Precision::F64) => 1e-6,
            (Self::ClosedForm | Self::Expectation | Self::MicroBatches, Precision::F32) => 1e-4,
            (Self::ClosedForm | Self::MicroBatches, Precision::F64) => 1e-9,
            (Self::Expectation, Precision::F64) => 1e-6,
        }
    }
}

impl Report {
    /// Whether every row passed, every control was rejected, and what is called harmless is.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
            && self.controls.iter().all(|control| control.rejected)
            && self.harmless.iter().all(|mistake| mistake.as_claimed)
    }

    /// A table in Markdown: a line per configuration, a column per oracle, then the controls.
    pub fn table(&self) -> String {
        self.rows_by(Subject::to_string) + "\n" + &self.controls_tables()
    }

    /// The same with the three levels of a configuration on one line, and all bounds on another.
    pub fn summary(&self) -> String {
        self.rows_by(Subject::group) + "\n" + &self.controls_tables()
    }

    /// Lines of all rows whose subjects have one key: the worst errors, and all cases.
    fn rows_by(&self, key: impl Fn(&Subject) -> String) -> String {
        let mut lines: Vec<Line> = Vec::new();
        for row in &self.rows {
            let key = key(&row.subject);
            let idx = lines
                .iter()
                .position(|line| line.key == key)
                .unwrap_or_else(|| {
                    lines.push(Line::new(key));
                    lines.len() - 1
                });
            lines[idx].add(row);
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

    fn controls_tables(&self) -> String {
        self.controls_table() + "\n" + &self.harmless_table()
    }

    fn harmless_table(&self) -> String {
        let width = (self.harmless.iter()).map(|mistake| mistake.name.len());
        let width = width.max().unwrap_or(0).max(20);
        let mut out = String::new();
        let _ = writeln!(
            out,
            "| {:width$} | normalized | free mass | verdict    |",
            "harmless in the mean"
        );
        let _ = writeln!(
            out,
            "| {:-<width$} | ---------: | --------: | ---------- |",
            ""
        );
        for mistake in &self.harmless {
            let verdict = if mistake.as_claimed {
                "as claimed"
            } else {
                "OTHERWISE"
            };
            let (mean, free) = (mistake.in_the_mean, mistake.free_mass);
            let (mean, free) = (format!("{mean:.1e}"), format!("{free:.1e}"));
            let _ = writeln!(
                out,
                "| {:width$} | {mean:>10} | {free:>9} | {verdict:10} |",
                mistake.name
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

impl Row {
    pub(super) fn new(
        subject: Subject,
        oracle: Oracle,
        cases: usize,
        worst: f64,
        precision: Precision,
    ) -> Self {
        Self {
            subject,
            oracle,
            cases,
            worst,
            passed: worst <= oracle.tolerance(precision),
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("Row", 4)?;
        let name = format!("{}: {}", self.subject, self.oracle.name());
        row.serialize_field("name", &name)?;
        row.serialize_field("cases", &self.cases)?;
        row.serialize_field("worst", &self.worst)?;
        row.serialize_field("passed", &self.passed)?;
        row.end()
    }
}

impl Subject {
    /// Its line in the summary, which the levels of one objective share, and all bounds.
    fn group(&self) -> String {
        match self {
            Self::Units(config) => objective_name(config),
            Self::Rollout(_) => "rollout_correction".into(),
            Self::Steps(aggregation, _) => format!("step/{aggregation}"),
            Self::Bounds(..) => "at the bounds".into(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Units(config) => write!(f, "{}/{}", objective_name(config), config.level),
            Self::Rollout(config) => {
                let (name, level) = (objective_name(config), config.level);
                write!(f, "rollout_correction/{name}/{level}")
            }
            Self::Steps(aggregation, path) => write!(f, "step/{aggregation}/{}", path.name()),
            Self::Bounds(config, path) => {
                let (name, level) = (objective_name(config), config.level);
                write!(f, "at the bounds/{name}/{level}/{}", path.name())
            }
        }
    }
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::PolicyLoss => "policy_loss",
            Self::Operations => "operations",
        }
    }
}

/// What the loss is made of, and whether it has a sequence mask.
fn objective_name(config: &ObjectiveConfig) -> String {
    let name = loss_name(config);
    match config.sequence_mask {
        None => name,
        Some(_) => name + ", sequence mask",
    }
}

/// Kind and, where the loss is composed, divergence, estimator and clip.
fn loss_name(config: &ObjectiveConfig) -> String {
    let kind = config.kind;
    if config.kind.spec().parts != Parts::Composed {
        let is_preset = config.kl_term() == ObjectiveConfig::for_kind(kind).kl_term();
        return match config.kl_term().filter(|_| !is_preset) {
            None => kind.to_string(),
            Some(term) => match term.weight {
                KlWeight::None => format!("{kind} + {}", term.estimator),
                KlWeight::Detached => format!("{kind} + SG(w)*{}", term.estimator),
                KlWeight::Full => format!("{kind} + w*{}", term.estimator),
            },
        };
    }
    let mut name = format!("{kind}/{}/{}", config.kl, config.estimator);
    if config.clip != Clip::None {
        let _ = write!(name, "/{}", config.clip);
    }
    if !config.kl_in_clip {
        name.push_str(", kl outside");
    }
    name
}

/// The larger of two errors, where NaN is the largest of all.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// Rows that share a line of a table; an entry per oracle.
struct Line {
    key: String,
    cases: [usize; Oracle::COUNT],
    worst: [Option<f64>; Oracle::COUNT],
    passed: bool,
}

impl Line {
    fn new(key: String) -> Self {
        Self {
            key,
            cases: [0; Oracle::COUNT],
            worst: [None; Oracle::COUNT],
            passed: true,
        }
    }

    fn add(&mut self, row: &Row) {
        let column = row.oracle as usize;
        self.cases[column] += row.cases;
        let worst = self.worst[column].map_or(row.worst, |worst| larger(worst, row.worst));
        self.worst[column] = Some(worst);
        self.passed &= row.passed;
    }
}
