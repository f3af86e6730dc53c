//! What a run reports, and to whom.
//!
//! The loop says what happened ([`Event`]); reporters decide what becomes of it. [`MetricsFile`] and
//! [`SamplesFile`] write the run folder's lines, [`TensorBoardFile`] the same metrics for TensorBoard; the command adds one
//! for the terminal.

mod files;
mod metrics;
mod tensorboard;

pub use files::{MetricsFile, SamplesFile, sample_line};
pub use metrics::{Metrics, Timing};
pub use tensorboard::{TENSORBOARD, TensorBoardFile, write_tensorboard};

use super::evaluation::Evaluation;
use super::loss::UpdateReport;
use super::sample::{GradedGroup, Rollout};
use crate::failure::Failure;

/// Is told what a run does.
pub trait Reporter {
    /// Called for every event. A failure ends the run.
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure>;

    /// Called as a long activity advances.
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
        /// Steps in total.
        steps: u64,
        /// Worked examples per step.
        batch_size: usize,
    },
    /// A supervised step is done.
    WarmStartStep {
        /// Its number, counted from 1.
        step: u64,
        /// Steps in total.
        steps: u64,
        /// Its metrics.
        metrics: &'a Metrics,
    },
    /// Supervised training is over.
    WarmStartEnd,
    /// Reinforcement learning begins or continues.
    Start {
        /// Steps done before.
        done: u64,
        /// Steps in total; an estimate where `train.data_epochs` decides.
        steps: u64,
        /// What the user should know about the data.
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
        /// The metrics of an evaluation that belongs to no step.
        metrics: Option<&'a Metrics>,
    },
    /// An update of the current step is done.
    Updated {
        /// Its number, counted from 1.
        update: usize,
        /// Updates of the step in total.
        updates: usize,
    },
    /// A step of reinforcement learning is done.
    Step {
        /// Its number, counted from 1.
        step: u64,
        /// Steps in total; an estimate where `train.data_epochs` decides.
        steps: u64,
        /// What was sampled.
        rollout: &'a Rollout,
        /// What its updates report, in their order.
        updates: &'a [UpdateReport],
        /// Its metrics.
        metrics: &'a Metrics,
        /// The newest Mean@k on the held-out problems; NaN without any.
        held_out: f64,
    },
    /// The run is complete.
    End,
}

impl Event<'_> {
    /// The metrics of an event that is a line of metrics.jsonl.
    pub fn metrics(&self) -> Option<&Metrics> {
        match self {
            Self::WarmStartStep { metrics, .. } | Self::Step { metrics, .. } => Some(metrics),
            Self::Evaluated { metrics, .. } => *metrics,
            _ => None,
        }
    }
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

/// What takes long enough to report progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Completions of a step are sampled.
    Sampling,
    /// Completions of held-out problems are sampled.
    Evaluating,
    /// The user's reward scores completions.
    Grading,
    /// Log-probs of completions are computed under another policy than the sampler.
    Scoring,
    /// An update is computed, in micro-batches.
    Updating,
}

/// The progress of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The activity.
    pub activity: Activity,
    /// Completions or micro-batches done.
    pub done: usize,
    /// Completions or micro-batches in total.
    pub total: usize,
}

impl Progress {
    /// So much of an activity.
    pub fn new(activity: Activity, done: usize, total: usize) -> Self {
        Self {
            activity,
            done,
            total,
        }
    }
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
