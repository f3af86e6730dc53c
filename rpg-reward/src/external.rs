//! Rewards of your own: a trait for Rust, and a command for every other language.
//!
//! [`ExternalReward`] keeps a pool of processes of one command. Each gets one JSON object a line on its
//! standard input and answers with one a line on its standard output, in the same order:
//!
//! ```text
//! -> {"id": 0, "prompt": "2 + 2 = ?", "completion": "\\boxed{4}", "gold": "4"}
//! <- {"id": 0, "score": 1.0, "parts": {"correct": 1.0}}
//! ```
//!
//! `id` counts the items of a batch; an answer that repeats it is checked against it. `parts` may be left
//! out; a part called `correct` is 0 or 1. What the command prints on standard error goes to the caller's.
//!
//! As long as the command answers each line by that line alone, the scores do not depend on the number of
//! processes, and neither do failures: an item whose process ends, hangs or answers with something that is
//! no score is the only one without a score, because the next item gets a new process.
//!
//! **The command runs with the rights of the user who starts it.** It is not confined in any way: a
//! command from someone you do not trust can do whatever you can.

mod pool;
mod process;

pub use pool::ExternalReward;
pub use process::stop_all_processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{GradeOptions, grade, shaping::ScoreScale};

/// One completion to be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RewardItem<'a> {
    /// What the model was asked.
    pub prompt: &'a str,
    /// What it wrote.
    pub completion: &'a str,
    /// The gold answer.
    pub gold: &'a str,
}

/// The score of one completion.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// The reward.
    pub score: f64,
    /// What it is made of, for the log. A part called `correct` is 0 or 1.
    #[serde(default)]
    pub parts: BTreeMap<String, f64>,
    /// Why there was no score, where [`ErrorPolicy::Score`] put one in its place.
    #[serde(skip)]
    pub error: Option<RewardError>,
}

/// Something that scores completions.
///
/// A failure is an error of its own and never a silent zero: what becomes of it is the caller's choice.
pub trait Reward: Send + Sync {
    /// The name under which the reward is logged.
    fn name(&self) -> &str;

    /// Scores a batch; the results are in the order of the items.
    fn score(&self, items: &[RewardItem<'_>]) -> Vec<Result<Score, RewardError>>;
}

/// Why a completion has no score.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RewardError {
    /// The command could not be started.
    #[error("the reward command {command:?} could not be started: {message}")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        message: String,
    },
    /// The command ended or closed its output before it had answered.
    #[error("the reward command ended before it had answered ({status}; {restarts} restarts)")]
    Ended {
        /// How it ended: its exit code, or the signal.
        status: String,
        /// How often it had been started again for this item.
        restarts: usize,
    },
    /// The answer took longer than it may.
    #[error("the reward command did not answer within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: f64,
    },
    /// The batch took longer than it may.
    #[error("the reward command was not done with its batch within {seconds} s")]
    BatchTimeout {
        /// The limit.
        seconds: f64,
    },
    /// An answer that is no score.
    #[error("the reward command answered {answer:?}: {message}")]
    BadAnswer {
        /// The line it wrote, cut.
        answer: String,
        /// What is wrong with it.
        message: String,
    },
    /// The item was left out: the caller asked to stop, or the command had failed on another item and
    /// the policy is [`ErrorPolicy::Stop`].
    #[error("the reward command was not asked")]
    NotAsked,
}

/// The grader of this crate as a [`Reward`].
#[derive(Debug, Clone, Default)]
pub struct MathReward {
    /// Where answers may stand.
    pub options: GradeOptions,
    /// The numbers for right and wrong.
    pub scale: ScoreScale,
}

impl Reward for MathReward {
    fn name(&self) -> &str {
        "math"
    }

    fn score(&self, items: &[RewardItem<'_>]) -> Vec<Result<Score, RewardError>> {
        use rayon::prelude::*;
        items
            .par_iter()
            .map(|item| {
                let correct = grade(item.completion, item.gold, &self.options).correct;
                let parts = BTreeMap::from([("correct".to_string(), f64::from(u8::from(correct)))]);
                Ok(Score {
                    score: self.scale.score(correct),
                    parts,
                    error: None,
                })
            })
            .collect()
    }
}

/// What to do with a completion that the command gave no score.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// Hand the error on, and ask no further: a training run stops.
    #[default]
    Stop,
    /// Hand the error on, and go on with the other items: a training run leaves the completion out.
    Skip,
    /// Take this score instead, with the error beside it.
    Score(f64),
}

/// How an external command is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalConfig {
    /// The program and its arguments; no shell is involved.
    pub program: Vec<String>,
    /// How many processes share the work.
    #[serde(default = "default_processes")]
    pub processes: usize,
    /// The limit for one answer, in seconds; the first of a process has its start in it.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: f64,
    /// The limit for a whole batch, in seconds: what is not answered by then has no score.
    #[serde(default = "default_batch_timeout")]
    pub batch_timeout_seconds: f64,
    /// How often a process that ends without an answer is started again for the same item.
    #[serde(default = "default_restarts")]
    pub max_restarts: usize,
    /// What to do with completions that have no score.
    #[serde(default)]
    pub on_error: ErrorPolicy,
}

fn default_processes() -> usize {
    2
}

fn default_timeout() -> f64 {
    60.0
}

fn default_batch_timeout() -> f64 {
    3600.0
}

fn default_restarts() -> usize {
    1
}

impl ExternalConfig {
    /// A command with its arguments, and the default of everything else.
    pub fn new<S: Into<String>>(program: impl IntoIterator<Item = S>) -> Self {
        Self {
            program: program.into_iter().map(Into::into).collect(),
            processes: default_processes(),
            timeout_seconds: default_timeout(),
            batch_timeout_seconds: default_batch_timeout(),
            max_restarts: default_restarts(),
            on_error: ErrorPolicy::default(),
        }
    }

    /// The file that will be run: the program itself if it is a path, else the first on `PATH`. `None` if
    /// there is none that can be executed.
    pub fn find_program(&self) -> Option<PathBuf> {
        let program = Path::new(self.program.first()?);
        if program.components().count() > 1 || program.is_absolute() {
            return executable(program).then(|| program.to_owned());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .flat_map(|file| {
                [
                    file.clone(),
                    file.with_extension(std::env::consts::EXE_EXTENSION),
                ]
            })
            .find(|file| executable(file))
    }
}

fn executable(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else {
        return false;
    };
    #[cfg(unix)]
    let allowed = {
        use std::os::unix::fs::PermissionsExt;
        metadata.permissions().mode() & 0o111 != 0
    };
    #[cfg(not(unix))]
    let allowed = true;
    metadata.is_file() && allowed
}
