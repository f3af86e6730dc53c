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
//! `parts` may be left out. What the command prints on standard error goes to the caller's.
//!
//! **The command runs with the rights of the user who starts it.** It is not confined in any way: a
//! command from someone you do not trust can do whatever you can.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

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
    /// What it is made of, for the log.
    #[serde(default)]
    pub parts: BTreeMap<String, f64>,
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
    #[error("the reward command ended before it had answered ({restarts} restarts)")]
    Ended {
        /// How often it had been started again for this batch.
        restarts: usize,
    },
    /// The batch took longer than it may.
    #[error("the reward command did not answer within {seconds} s")]
    Timeout {
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
                })
            })
            .collect()
    }
}

/// What to do with a completion that the command gave no score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// Hand the error on; a training run stops.
    Fail,
    /// Take this score instead. The errors are still counted.
    Score(f64),
}

/// How an external command is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalConfig {
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// How many processes share the work.
    #[serde(default = "default_processes")]
    pub processes: usize,
    /// The limit for one batch, in seconds.
    #[serde(default = "default_timeout")]
    pub batch_timeout: f64,
    /// How often a process that ends too early is started again within one batch.
    #[serde(default = "default_restarts")]
    pub max_restarts: usize,
    /// What to do with completions that have no score.
    #[serde(default = "default_policy")]
    pub on_error: ErrorPolicy,
}

fn default_processes() -> usize {
    2
}

fn default_timeout() -> f64 {
    60.0
}

fn default_restarts() -> usize {
    1
}

fn default_policy() -> ErrorPolicy {
    ErrorPolicy::Fail
}

impl ExternalConfig {
    /// A command with its arguments, and the default of everything else.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            processes: default_processes(),
            batch_timeout: default_timeout(),
            max_restarts: default_restarts(),
            on_error: default_policy(),
        }
    }
}

/// A pool of processes that score completions.
#[derive(Debug)]
pub struct ExternalReward {
    config: ExternalConfig,
    workers: Vec<Mutex<Option<Worker>>>,
    errors: std::sync::atomic::AtomicUsize,
}

/// One running process; a thread of ours reads what it writes.
#[derive(Debug)]
struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A process that reads to the end of its input ends by itself; one that hangs is stopped.
        self.stdin = None;
        let deadline = Instant::now() + Duration::from_millis(200);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop();
    }
}

impl Worker {
    fn start(command: &[String]) -> Result<Self, RewardError> {
        let failed = |message: String| RewardError::Start {
            command: command.join(" "),
            message,
        };
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| failed("the command is empty".into()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| failed("no output".into()))?;
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            stdin,
            lines,
        })
    }

    fn stop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends the items in a thread of their own, so that a process that answers while it reads cannot
    /// block both sides, and collects the answers.
    fn run(
        &mut self,
        items: &[(usize, &RewardItem<'_>)],
        deadline: Instant,
        scores: &mut Vec<(usize, Result<Score, RewardError>)>,
    ) -> Result<(), Interrupted> {
        let mut input = String::new();
        for (id, item) in items {
            let line = Request { id: *id, item };
            input.push_str(&serde_json::to_string(&line).unwrap_or_default());
            input.push('\n');
        }
        let mut stdin = self.stdin.take().ok_or(Interrupted::Ended)?;
        let writer = std::thread::spawn(move || {
            let sent = stdin
                .write_all(input.as_bytes())
                .and_then(|()| stdin.flush());
            sent.map(|()| stdin)
        });
        let mut outcome = Ok(());
        for (id, _) in items {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => scores.push((*id, read_answer(&line, *id))),
                Err(RecvTimeoutError::Timeout) => {
                    outcome = Err(Interrupted::Timeout);
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    outcome = Err(Interrupted::Ended);
                    break;
                }
            }
        }
        if outcome.is_err() {
            // Stopping the process also frees a writer that waits for it to read.
            self.stop();
        }
        match writer.join() {
            Ok(Ok(stdin)) => self.stdin = Some(stdin),
            _ if outcome.is_ok() => outcome = Ok(()),
            _ => {}
        }
        outcome
    }
}

/// Why a process did not finish its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    Ended,
    Timeout,
}

#[derive(Serialize)]
struct Request<'a> {
    id: usize,
    #[serde(flatten)]
    item: &'a RewardItem<'a>,
}

#[derive(Deserialize)]
struct Answer {
    id: Option<usize>,
    score: f64,
    #[serde(default)]
    parts: BTreeMap<String, f64>,
}

fn read_answer(line: &str, id: usize) -> Result<Score, RewardError> {
    let bad = |message: String| {
        let cut = line.floor_char_boundary(200);
        RewardError::BadAnswer {
            answer: line[..cut].to_string(),
            message,
        }
    };
    let answer: Answer = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
    if answer.id.is_some_and(|other| other != id) {
        return Err(bad(format!("it answers another item than {id}")));
    }
    if !answer.score.is_finite() {
        return Err(bad("the score is no finite number".into()));
    }
    Ok(Score {
        score: answer.score,
        parts: answer.parts,
    })
}

impl ExternalReward {
    /// A pool whose processes start with the first batch.
    pub fn new(config: ExternalConfig) -> Self {
        let workers = (0..config.processes.max(1))
            .map(|_| Mutex::new(None))
            .collect();
        Self {
            config,
            workers,
            errors: Default::default(),
        }
    }

    /// How many completions had no score so far.
    pub fn errors(&self) -> usize {
        self.errors.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The share of one process, with restarts.
    fn share(
        &self,
        slot: &Mutex<Option<Worker>>,
        items: &[(usize, &RewardItem<'_>)],
        deadline: Instant,
    ) -> Vec<(usize, Result<Score, RewardError>)> {
        let mut scores: Vec<(usize, Result<Score, RewardError>)> = Vec::with_capacity(items.len());
        let mut slot = slot
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut restarts = 0;
        let mut started_here = false;
        let error = loop {
            if slot.is_none() {
                match Worker::start(&self.config.command) {
                    Ok(worker) => {
                        *slot = Some(worker);
                        started_here = true;
                    }
                    Err(error) => break error,
                }
            }
            let Some(worker) = slot.as_mut() else {
                continue;
            };
            let done = scores.len();
            match worker.run(&items[done..], deadline, &mut scores) {
                Ok(()) => return scores,
                Err(interrupted) => {
                    *slot = None;
                    if interrupted == Interrupted::Timeout {
                        break RewardError::Timeout {
                            seconds: self.config.batch_timeout,
                        };
                    }
                    // A process that ended after the last batch does not count against this one.
                    if !started_here && scores.len() == done {
                        continue;
                    }
                    if restarts >= self.config.max_restarts {
                        break RewardError::Ended { restarts };
                    }
                    restarts += 1;
                }
            }
        };
        let done = scores.len();
        scores.extend(
            items[done..]
                .iter()
                .map(|(id, _)| (*id, Err(error.clone()))),
        );
        scores
    }
}

impl Reward for ExternalReward {
    fn name(&self) -> &str {
        "external"
    }

    fn score(&self, items: &[RewardItem<'_>]) -> Vec<Result<Score, RewardError>> {
        let limit = Duration::try_from_secs_f64(self.config.batch_timeout)
            .unwrap_or(Duration::from_secs(86_400));
        let deadline = Instant::now() + limit.min(Duration::from_secs(86_400 * 365));
        let numbered: Vec<(usize, &RewardItem<'_>)> = items.iter().enumerate().collect();
        let size = items.len().div_ceil(self.workers.len()).max(1);
        let mut scores: Vec<(usize, Result<Score, RewardError>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = numbered
                .chunks(size)
                .zip(&self.workers)
                .map(|(share, slot)| scope.spawn(move || self.share(slot, share, deadline)))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_default())
                .collect()
        });
        scores.sort_unstable_by_key(|(id, _)| *id);
        scores
            .into_iter()
            .map(|(_, score)| match (score, self.config.on_error) {
                (Err(error), policy) => {
                    self.errors
                        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    match policy {
                        ErrorPolicy::Fail => Err(error),
                        ErrorPolicy::Score(score) => Ok(Score {
                            score,
                            parts: BTreeMap::from([("error".to_string(), 1.0)]),
                        }),
                    }
                }
                (score, _) => score,
            })
            .collect()
    }
}
