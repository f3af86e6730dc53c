//! The steps of a run, as alarms look at them.

use super::run::{Line, number, step};

/// How many steps the newest past is.
pub(super) const WINDOW: usize = 10;

/// With fewer steps nothing is said.
pub(super) const MIN_STEPS: usize = 5;

/// The lines of a run.
pub(super) struct History<'a> {
    /// All lines.
    lines: &'a [Line],
    /// Those of the steps of reinforcement learning.
    steps: Vec<&'a Line>,
}

/// The steps that an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "steps {} to {}", self.first, self.last)
    }
}

/// A window of steps.
#[derive(Clone, Copy)]
pub(super) struct Window<'a>(&'a [&'a Line]);

impl<'a> History<'a> {
    pub(super) fn new(lines: &'a [Line], steps: Vec<&'a Line>) -> Self {
        Self { lines, steps }
    }

    /// The newest steps, if there are enough of them.
    pub(super) fn newest(&self) -> Option<Window<'_>> {
        let begin = self.steps.len().saturating_sub(WINDOW);
        Window::new(&self.steps[begin..])
    }

    /// The first steps, if there are as many after them.
    pub(super) fn oldest(&self) -> Option<Window<'_>> {
        (self.steps.len() >= 2 * WINDOW).then(|| Window(&self.steps[..WINDOW]))
    }

    /// The steps up to this one, or the first ones if it is among them.
    pub(super) fn up_to(&self, last: u64) -> Option<Window<'_>> {
        let n = self.steps.partition_point(|line| step(line) <= last);
        let end = n.max(WINDOW).min(self.steps.len());
        Window::new(&self.steps[end.saturating_sub(WINDOW)..end])
    }

    /// Steps and held-out accuracies: Mean@k of all problems together, where there are several sources.
    pub(super) fn held_out(&self) -> (String, Vec<(u64, f64)>) {
        let is_accuracy =
            |name: &&String| name.starts_with("val-core/") && name.contains("/acc/mean@");
        let names = || {
            self.lines
                .iter()
                .flat_map(|line| line.keys())
                .filter(is_accuracy)
        };
        let of_all = names().find(|name| name.starts_with("val-core/all/"));
        let Some(name) = of_all.or_else(|| names().next()).cloned() else {
            return (String::new(), Vec::new());
        };
        let value = |line: &Line| Some((step(line), number(line, &name)?));
        let values = self.lines.iter().filter_map(value).collect();
        (name, values)
    }
}

impl<'a> Window<'a> {
    fn new(lines: &'a [&'a Line]) -> Option<Self> {
        (lines.len() >= MIN_STEPS).then_some(Self(lines))
    }

    pub(super) fn steps(&self) -> Steps {
        let of = |line: Option<&&Line>| line.map_or(0, |line| step(line));
        Steps {
            first: of(self.0.first()),
            last: of(self.0.last()),
        }
    }

    /// The values of a metric.
    pub(super) fn values(&self, name: &'a str) -> impl Iterator<Item = f64> + use<'a> {
        self.0.iter().filter_map(move |line| number(line, name))
    }

    /// The mean of a metric, if at least half of the steps have it.
    pub(super) fn mean(&self, name: &'a str) -> Option<f64> {
        let n = self.values(name).count();
        (n > 0 && 2 * n >= self.0.len()).then(|| self.values(name).sum::<f64>() / n as f64)
    }

    pub(super) fn max(&self, name: &'a str) -> Option<f64> {
        self.values(name).reduce(f64::max)
    }

    pub(super) fn min(&self, name: &'a str) -> Option<f64> {
        self.values(name).reduce(f64::min)
    }

    pub(super) fn sum(&self, name: &'a str) -> f64 {
        self.values(name).sum()
    }
}
