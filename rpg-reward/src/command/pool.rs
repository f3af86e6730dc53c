//! The pool of processes of one command: the shares of a batch, restarts, and the handling of failures.

use crate::command::CommandConfig;
use crate::command::process::{Fault, Process};
use crate::reward::{ErrorPolicy, Reward, RewardError, RewardItem, Score};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

type Outcome = Result<Score, RewardError>;

/// A pool of processes that score completions.
#[derive(Debug)]
pub struct CommandReward {
    name: String,
    config: CommandConfig,
    processes: Vec<Mutex<Option<Process>>>,
    errors: AtomicUsize,
    has_answered: AtomicBool,
    // Grows with every time-out before the first answer.
    silence: AtomicUsize,
}

/// How much silence is at least enough to give up a command that has never answered; a time-out after which the answer
/// turns out to be in a buffer counts twice.
const TOO_SILENT: usize = 3;

impl CommandReward {
    /// A pool whose processes start with the first batch, or with [`start`](Self::start). Its name is `command`.
    pub fn new(config: CommandConfig) -> Self {
        Self::named("command", config)
    }

    /// The same with a name of its own.
    pub fn named(name: &str, config: CommandConfig) -> Self {
        let processes = (0..config.processes.max(1))
            .map(|_| Mutex::new(None))
            .collect();
        Self {
            name: name.to_owned(),
            config,
            processes,
            errors: AtomicUsize::new(0),
            has_answered: AtomicBool::new(false),
            silence: AtomicUsize::new(0),
        }
    }

    /// How the command is run.
    pub fn config(&self) -> &CommandConfig {
        &self.config
    }

    /// How many completions have failed so far.
    pub fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }

    /// Starts the processes before the first batch.
    pub fn start(&self) -> Result<(), RewardError> {
        for slot in &self.processes {
            let mut slot = lock(slot);
            if slot.is_none() {
                *slot = Some(Process::start(&self.config.program)?);
            }
        }
        Ok(())
    }

    /// Fails if one of the started processes has already ended. A command that waits for its first line
    /// has not.
    pub fn check_running(&self) -> Result<(), RewardError> {
        for slot in &self.processes {
            if let Some(status) = lock(slot).as_mut().and_then(Process::status_if_ended) {
                return Err(RewardError::Ended {
                    status,
                    restarts: 0,
                });
            }
        }
        Ok(())
    }

    /// Counts a failure and applies the error policy to it.
    fn with_policy(&self, outcome: Outcome) -> Outcome {
        let error = match outcome {
            Ok(_) | Err(RewardError::NotAsked) => return outcome,
            Err(error) => error,
        };
        self.errors.fetch_add(1, Ordering::Relaxed);
        match self.config.on_error {
            ErrorPolicy::Stop | ErrorPolicy::Skip => Err(error),
            ErrorPolicy::Score(score) => Ok(Score {
                error: Some(error),
                ..Score::new(score).with_part("error", 1.0)
            }),
        }
    }

    /// Scores the share of one process. An item that fails costs its process; the next item gets a new
    /// one.
    fn score_share(
        &self,
        slot: &Mutex<Option<Process>>,
        items: &[(usize, &RewardItem<'_>)],
        batch: &Batch,
    ) {
        let limit = duration(self.config.timeout_seconds);
        let mut slot = lock(slot);
        // A process that has ended or kept writing since the last batch is replaced and does not count
        // against this batch.
        if slot.as_mut().is_some_and(|process| {
            process.has_unread_lines() || process.status_if_ended().is_some()
        }) {
            *slot = None;
        }
        let (mut done, mut restarts) = (0, 0);
        while done < items.len() && batch.is_wanted(items[done].0) {
            let process = match slot.take() {
                Some(process) => slot.insert(process),
                None => match Process::start(&self.config.program) {
                    Ok(process) => slot.insert(process),
                    Err(error) => {
                        batch.fail(items[done].0, error, self.config.on_error);
                        done += 1;
                        continue;
                    }
                },
            };
            let before = done;
            let asked = process.ask(
                &items[done..],
                limit,
                |item_idx| batch.is_wanted(item_idx),
                |item_idx, score| {
                    self.has_answered.store(true, Ordering::Relaxed);
                    batch.finish(item_idx, Ok(score));
                    done += 1;
                },
            );
            let Err(fault) = asked else { continue };
            *slot = None;
            if done > before {
                restarts = 0;
            }
            let error = match fault {
                Fault::Stopped => return,
                Fault::Ended(_) if restarts < self.config.max_restarts => {
                    restarts += 1;
                    continue;
                }
                Fault::Ended(status) => RewardError::Ended { status, restarts },
                Fault::Timeout => {
                    self.was_silent(1, batch);
                    RewardError::Timeout {
                        seconds: self.config.timeout_seconds,
                    }
                }
                Fault::NotFlushed => {
                    self.was_silent(2, batch);
                    RewardError::NotFlushed {
                        seconds: self.config.timeout_seconds,
                    }
                }
                Fault::BadAnswer(error) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    error
                }
            };
            batch.fail(items[done].0, error, self.config.on_error);
            done += 1;
            restarts = 0;
        }
    }

    /// Gives the batch up if the command has been silent from its start, for too long.
    fn was_silent(&self, weight: usize, batch: &Batch) {
        if self.has_answered.load(Ordering::Relaxed) {
            return;
        }
        let silence = self.silence.fetch_add(weight, Ordering::Relaxed) + weight;
        // Not before a process has been silent twice.
        if silence >= TOO_SILENT.max(self.processes.len() + 1) {
            batch.given_up.store(true, Ordering::Relaxed);
        }
    }
}

impl Reward for CommandReward {
    fn name(&self) -> &str {
        &self.name
    }

    /// `on_progress` is called every few milliseconds.
    fn score(
        &self,
        items: &[RewardItem<'_>],
        on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Vec<Outcome> {
        let numbered: Vec<(usize, &RewardItem<'_>)> = items.iter().enumerate().collect();
        let size = items.len().div_ceil(self.processes.len()).max(1);
        let batch = Batch::new(items.len());
        let start = Instant::now();
        let limit = duration(self.config.batch_timeout_seconds);
        thread::scope(|scope| {
            let threads: Vec<_> = numbered
                .chunks(size)
                .zip(&self.processes)
                .map(|(share, slot)| {
                    let batch = &batch;
                    scope.spawn(move || self.score_share(slot, share, batch))
                })
                .collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                if on_progress(batch.n_done.load(Ordering::Relaxed)).is_break() {
                    batch.stopped.store(true, Ordering::Relaxed);
                }
                if start.elapsed() >= limit {
                    batch.out_of_time.store(true, Ordering::Relaxed);
                }
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        let left = if batch.stopped.into_inner() {
            RewardError::NotAsked
        } else if batch.given_up.into_inner() && self.config.on_error != ErrorPolicy::Stop {
            RewardError::GivenUp {
                seconds: self.config.timeout_seconds,
            }
        } else if batch.out_of_time.into_inner() {
            RewardError::BatchTimeout {
                seconds: self.config.batch_timeout_seconds,
            }
        } else {
            RewardError::NotAsked
        };
        let outcomes = batch.outcomes.into_iter().map(|outcome| {
            let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
            outcome.unwrap_or_else(|| Err(left.clone()))
        });
        outcomes.map(|outcome| self.with_policy(outcome)).collect()
    }

    fn on_error(&self) -> ErrorPolicy {
        self.config.on_error
    }

    fn describe(&self) -> String {
        self.config.program.join(" ")
    }
}

impl Drop for CommandReward {
    fn drop(&mut self) {
        // Every process is told before the first is waited for.
        for slot in &self.processes {
            if let Some(process) = lock(slot).as_mut() {
                process.close_input();
            }
        }
    }
}

/// What the threads of a batch share.
struct Batch {
    outcomes: Vec<Mutex<Option<Outcome>>>,
    n_done: AtomicUsize,
    stopped: AtomicBool,
    out_of_time: AtomicBool,
    given_up: AtomicBool,
    /// The first item whose failure ends the batch. The items before it are still scored, so that which
    /// failure is reported does not depend on the order in which the threads run.
    first_failure: AtomicUsize,
}

impl Batch {
    fn new(n: usize) -> Self {
        Self {
            outcomes: (0..n).map(|_| Mutex::new(None)).collect(),
            n_done: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            out_of_time: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            first_failure: AtomicUsize::new(usize::MAX),
        }
    }

    fn is_wanted(&self, item_idx: usize) -> bool {
        !self.stopped.load(Ordering::Relaxed)
            && !self.out_of_time.load(Ordering::Relaxed)
            && !self.given_up.load(Ordering::Relaxed)
            && item_idx < self.first_failure.load(Ordering::Relaxed)
    }

    fn finish(&self, item_idx: usize, outcome: Outcome) {
        *self.outcomes[item_idx]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.n_done.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, item_idx: usize, error: RewardError, policy: ErrorPolicy) {
        self.finish(item_idx, Err(error));
        if policy == ErrorPolicy::Stop {
            self.first_failure.fetch_min(item_idx, Ordering::Relaxed);
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn lock(slot: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
