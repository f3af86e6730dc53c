//! What scores completions: the [`Reward`] trait, its errors, and the grader as a reward.

use crate::grade::grade_batch;
use crate::options::GradeOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// One completion to be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RewardItem<'a> {
    /// What the model was asked.
    pub prompt: &'a str,
    /// What it wrote.
    pub completion: &'a str,
    /// The completion's tokens; not sent to a command.
    #[serde(skip)]
    pub tokens: &'a [u32],
    /// The gold answer.
    pub gold: &'a str,
    /// Other columns of the data: a JSON object as text. A command is sent it as `columns`.
    #[serde(skip)]
    pub columns: Option<&'a str>,
}

/// The score of one completion.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Score {
    /// The reward.
    pub score: f64,
    /// What the reward consists of, for the log. A part called `correct` is 0 or 1.
    #[serde(default)]
    pub parts: BTreeMap<String, f64>,
    /// The error that [`ErrorPolicy::Score`] replaced with this score.
    #[serde(skip)]
    pub error: Option<RewardError>,
}

impl Score {
    /// A score without parts.
    pub fn new(score: f64) -> Self {
        Self {
            score,
            ..Self::default()
        }
    }

    /// Adds a part.
    #[must_use]
    pub fn with_part(mut self, name: impl Into<String>, value: f64) -> Self {
        self.parts.insert(name.into(), value);
        self
    }
}

/// Something that scores completions.
///
/// A failure is an error, never a silent zero: the caller decides what becomes of it.
pub trait Reward: Send + Sync {
    /// The name under which the reward is logged.
    fn name(&self) -> &str;

    /// Scores a batch, in the order of the items.
    ///
    /// `on_progress` is told how many items are done; if it breaks, the remaining items are not
    /// scored ([`RewardError::NotAsked`]).
    fn score(
        &self,
        items: &[RewardItem<'_>],
        on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Vec<Result<Score, RewardError>>;

    /// What becomes of a completion without a score.
    fn on_error(&self) -> ErrorPolicy {
        ErrorPolicy::Stop
    }

    /// What the reward is, for an error message: the command line of a command.
    fn describe(&self) -> String {
        self.name().to_owned()
    }
}

/// Why a completion has no score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// The command could not be started.
    #[error("the reward command {command:?} could not be started: {message}")]
    Start {
        /// The command.
        command: String,
        /// The error of the system.
        message: String,
    },
    /// The command ended or closed its output before it answered.
    #[error("the reward command ended before it answered ({status}; {restarts} restarts)")]
    Ended {
        /// How it ended: the exit code or the signal.
        status: String,
        /// How often it was restarted for this item.
        restarts: usize,
    },
    /// The answer exceeded its time limit.
    #[error("the reward command did not answer within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: f64,
    },
    /// The answer exceeded its time limit, and came when the command's input ended.
    #[error(
        "the reward command did not answer within {seconds} s, but did when its input ended: it seems not to flush its \
         answers"
    )]
    NotFlushed {
        /// The limit.
        seconds: f64,
    },
    /// The command was given up: it has never answered.
    #[error(
        "the completion was not sent: the reward command has never answered, within {seconds} s each, and was given up"
    )]
    GivenUp {
        /// The limit of an answer.
        seconds: f64,
    },
    /// The batch exceeded its time limit.
    #[error("the reward command did not finish its batch within {seconds} s")]
    BatchTimeout {
        /// The limit.
        seconds: f64,
    },
    /// The answer is not a valid score.
    #[error("the reward command answered {answer:?}: {message}")]
    BadAnswer {
        /// The line that the command wrote, truncated.
        answer: String,
        /// What is wrong with it.
        message: String,
    },
    /// A reward written in Rust failed.
    #[error("the reward failed: {message}")]
    Failed {
        /// What went wrong.
        message: String,
    },
    /// The item was left out: the caller stopped the batch, or another item failed and the policy is
    /// [`ErrorPolicy::Stop`].
    #[error("the completion was not scored")]
    NotAsked,
}

/// What to do with a completion that has no score.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// Return the error and leave the rest of the batch unscored: a training run stops.
    #[default]
    Stop,
    /// Return the error and score the other items: a training run drops the completion.
    Skip,
    /// Use this score instead and record the error in it.
    Score(f64),
}

/// The numbers that right and wrong answers score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreScale {
    /// 1 for a right answer, 0 for a wrong one.
    #[default]
    ZeroOne,
    /// 1 for a right answer, -1 for a wrong one.
    PlusMinusOne,
}

impl ScoreScale {
    /// The score of an answer.
    pub fn score(self, correct: bool) -> f64 {
        match (self, correct) {
            (_, true) => 1.0,
            (Self::ZeroOne, false) => 0.0,
            (Self::PlusMinusOne, false) => -1.0,
        }
    }
}

/// The grader of this crate as a [`Reward`].
#[derive(Debug, Clone, Default)]
pub struct MathReward {
    /// Where the grader looks for answers.
    pub options: GradeOptions,
    /// The numbers for right and wrong.
    pub scale: ScoreScale,
}

/// How many items are graded between two calls of `on_progress`.
const CHUNK: usize = 256;

impl Reward for MathReward {
    fn name(&self) -> &str {
        "math"
    }

    fn score(
        &self,
        items: &[RewardItem<'_>],
        on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Vec<Result<Score, RewardError>> {
        let mut scores = Vec::with_capacity(items.len());
        for chunk in items.chunks(CHUNK) {
            if on_progress(scores.len()).is_break() {
                break;
            }
            let answers: Vec<_> = chunk
                .iter()
                .map(|item| (item.completion, item.gold))
                .collect();
            let verdicts = grade_batch(&answers, &self.options).into_iter();
            scores.extend(verdicts.map(|verdict| {
                let correct = f64::from(u8::from(verdict.correct));
                let score = Score::new(self.scale.score(verdict.correct));
                Ok(score.with_part("correct", correct))
            }));
        }
        scores.resize(items.len(), Err(RewardError::NotAsked));
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(n: usize) -> Vec<RewardItem<'static>> {
        let item = |i: usize| RewardItem {
            prompt: "2 + 2",
            completion: "\\boxed{4}",
            tokens: &[],
            gold: if i.is_multiple_of(2) { "4" } else { "5" },
            columns: None,
        };
        (0..n).map(item).collect()
    }

    #[test]
    fn the_grader_scores_on_either_scale() {
        let rows = [
            (ScoreScale::ZeroOne, [1.0, 0.0]),
            (ScoreScale::PlusMinusOne, [1.0, -1.0]),
        ];
        for (scale, expected) in rows {
            let reward = MathReward {
                scale,
                ..MathReward::default()
            };
            let scores = reward.score(&items(2), &mut |_| ControlFlow::Continue(()));
            let expected = [
                Ok(Score::new(expected[0]).with_part("correct", 1.0)),
                Ok(Score::new(expected[1]).with_part("correct", 0.0)),
            ];
            assert_eq!(scores, expected, "{scale:?}");
        }
    }

    #[test]
    fn a_stopped_batch_is_scored_as_far_as_it_came() {
        let mut calls = Vec::new();
        let scores = MathReward::default().score(&items(3 * CHUNK), &mut |done| {
            calls.push(done);
            if done < CHUNK {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        assert_eq!(calls, [0, CHUNK]);
        assert_eq!(scores.len(), 3 * CHUNK);
        let (done, left) = scores.split_at(CHUNK);
        assert!(done.iter().all(Result::is_ok));
        assert!(left.iter().all(|s| *s == Err(RewardError::NotAsked)));
    }
}
