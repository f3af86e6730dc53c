//! What a run reports, and to whom.
//!
//! The loop says what happened ([`Event`]); reporters decide what becomes of it. [`MetricsFile`] and
//! [`SamplesFile`] write the run folder's lines; the command adds one for the terminal.

mod files;
mod metrics;

pub use files::{MetricsFile, SamplesFile};
pub(super) use metrics::n_errors;
pub use metrics::{Metrics, Timing};

use super::collect::Evaluation;
use super::sample::{GradedGroup, Rollout};
use crate::failure::Failure;

/// Somebody who wants to know what a run does.
pub trait Reporter {
    /// Something has happened. A failure ends the run.
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure>;

    /// A long piece of work has come further.
    fn on_progress(&mut self, _progress: Progress) {}
}

/// What happens in a run, in this order: the warm start, if there is one, the first evaluation, the steps,
/// each of which may have an evaluation in it, and the last evaluation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Supervised training begins or continues.
    WarmStart {
        /// Steps done before.
        done: u64,
        /// All steps.
        steps: u64,
        /// Worked examples per step.
        batch_size: usize,
    },
    /// A supervised step is done.
    WarmStartStep {
        /// Which, counted from 1.
        step: u64,
        /// All steps.
        steps: u64,
        /// What is logged of it.
        metrics: &'a Metrics,
    },
    /// Supervised training is over.
    WarmStartEnd,
    /// Reinforcement learning begins or continues.
    Start {
        /// Steps done before.
        done: u64,
        /// All steps.
        steps: u64,
        /// What the user should know of the data.
        notes: &'a [String],
    },
    /// Completions have been graded.
    Graded {
        /// The step, or `None` in an evaluation.
        step: Option<u64>,
        /// The completions.
        groups: &'a [GradedGroup],
    },
    /// The policy was measured on the held-out problems.
    Evaluated {
        /// When.
        moment: Moment,
        /// Steps done.
        step: u64,
        /// The result.
        evaluation: &'a Evaluation,
        /// k of Mean@k.
        k: usize,
        /// The line of an evaluation that belongs to no step.
        metrics: Option<&'a Metrics>,
    },
    /// An update of the current step is done.
    Updated {
        /// Which, counted from 1.
        update: usize,
        /// All updates of the step.
        updates: usize,
    },
    /// A step of reinforcement learning is done.
    Step {
        /// Which, counted from 1.
        step: u64,
        /// All steps.
        steps: u64,
        /// What was sampled.
        rollout: &'a Rollout,
        /// What is logged of it.
        metrics: &'a Metrics,
        /// The newest Mean@k on the held-out problems.
        held_out: f64,
    },
    /// The run has come to its end.
    End,
}

/// When an evaluation takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the first step.
    Before,
    /// In a step.
    During,
    /// After the last step.
    After,
}

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Completions of a step are sampled.
    Sampling,
    /// Completions of held-out problems are sampled.
    Evaluating,
    /// The user's reward scores completions.
    Grading,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What.
    pub activity: Activity,
    /// Completions done.
    pub done: usize,
    /// All completions.
    pub total: usize,
}

/// The reporters of a run.
pub(super) struct Reporters<'a>(pub(super) Vec<Box<dyn Reporter + 'a>>);

impl Reporters<'_> {
    pub(super) fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        self.0
            .iter_mut()
            .try_for_each(|reporter| reporter.on(event))
    }

    pub(super) fn on_progress(&mut self, progress: Progress) {
        for reporter in &mut self.0 {
            reporter.on_progress(progress);
        }
    }
}
