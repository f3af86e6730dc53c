//! The pool of processes of one command: shares of a batch, restarts, and what becomes of failures.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::process::{Fault, Process};
use super::{ErrorPolicy, ExternalConfig, Reward, RewardError, RewardItem, Score};

type Outcome = Result<Score, RewardError>;

/// A pool of processes that score completions.
#[derive(Debug)]
pub struct ExternalReward {
    config: ExternalConfig,
    processes: Vec<Mutex<Option<Process>>>,
    errors: AtomicUsize,
}

impl ExternalReward {
    /// A pool whose processes start with the first batch, or with [`start`](Self::start).
    pub fn new(config: ExternalConfig) -> Self {
        let processes = (0..config.processes.max(1))
            .map(|_| Mutex::new(None))
            .collect();
        Self {
            config,
            processes,
            errors: AtomicUsize::new(0),
        }
    }

    /// How the command is run.
    pub fn config(&self) -> &ExternalConfig {
        &self.config
    }

    /// How many completions had no score so far.
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

    /// Fails if a process that was started has ended by itself: a command that waits for its first line
    /// does not.
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

    /// Scores a batch, as [`Reward::score`] does, for as long as `go_on`, which is told how many items are
    /// done some times a second, allows it. What is then left is [`RewardError::NotAsked`].
    pub fn score_while(
        &self,
        items: &[RewardItem<'_>],
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Vec<Outcome> {
        let numbered: Vec<(usize, &RewardItem<'_>)> = items.iter().enumerate().collect();
        let size = items.len().div_ceil(self.processes.len()).max(1);
        let batch = Batch::new(items.len());
        let start = Instant::now();
        let limit = seconds(self.config.batch_timeout_seconds);
        std::thread::scope(|scope| {
            let threads: Vec<_> = numbered
                .chunks(size)
                .zip(&self.processes)
                .map(|(share, slot)| {
                    let batch = &batch;
                    scope.spawn(move || self.share(slot, share, batch))
                })
                .collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                if !go_on(batch.n_done.load(Ordering::Relaxed)) {
                    batch.stopped.store(true, Ordering::Relaxed);
                }
                if start.elapsed() >= limit {
                    batch.out_of_time.store(true, Ordering::Relaxed);
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        let left = match batch.out_of_time.into_inner() && !batch.stopped.into_inner() {
            true => RewardError::BatchTimeout {
                seconds: self.config.batch_timeout_seconds,
            },
            false => RewardError::NotAsked,
        };
        let outcomes = batch.outcomes.into_iter().map(|outcome| {
            let outcome = outcome
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            outcome.unwrap_or_else(|| Err(left.clone()))
        });
        outcomes.map(|outcome| self.judged(outcome)).collect()
    }

    /// Counts a failure and puts the score of the policy in its place.
    fn judged(&self, outcome: Outcome) -> Outcome {
        let error = match outcome {
            Ok(_) | Err(RewardError::NotAsked) => return outcome,
            Err(error) => error,
        };
        self.errors.fetch_add(1, Ordering::Relaxed);
        match self.config.on_error {
            ErrorPolicy::Stop | ErrorPolicy::Skip => Err(error),
            ErrorPolicy::Score(score) => Ok(Score {
                score,
                parts: BTreeMap::from([("error".to_string(), 1.0)]),
                error: Some(error),
            }),
        }
    }

    /// The share of one process. An item without an answer costs its process; the next gets a new one.
    fn share(
        &self,
        slot: &Mutex<Option<Process>>,
        items: &[(usize, &RewardItem<'_>)],
        batch: &Batch,
    ) {
        let limit = seconds(self.config.timeout_seconds);
        let mut slot = lock(slot);
        // One that ended, or went on talking, since the last batch does not count against this one.
        if slot.as_mut().is_some_and(|process| {
            process.has_unread_lines() || process.status_if_ended().is_some()
        }) {
            *slot = None;
        }
        let (mut done, mut restarts) = (0, 0);
        while done < items.len() && batch.go_on(items[done].0) {
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
                |id| batch.go_on(id),
                |id, score| {
                    batch.finish(id, Ok(score));
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
                Fault::Timeout => RewardError::Timeout {
                    seconds: self.config.timeout_seconds,
                },
                Fault::BadAnswer(error) => error,
            };
            batch.fail(items[done].0, error, self.config.on_error);
            done += 1;
            restarts = 0;
        }
    }
}

impl Reward for ExternalReward {
    fn name(&self) -> &str {
        "external"
    }

    fn score(&self, items: &[RewardItem<'_>]) -> Vec<Outcome> {
        self.score_while(items, &mut |_| true)
    }
}

impl Drop for ExternalReward {
    fn drop(&mut self) {
        // All of them are told before any is waited for.
        for slot in &self.processes {
            if let Some(process) = lock(slot).as_mut() {
                process.close_input();
            }
        }
    }
}

fn seconds(limit: f64) -> Duration {
    Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)
}

fn lock(slot: &Mutex<Option<Process>>) -> std::sync::MutexGuard<'_, Option<Process>> {
    slot.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What the threads of a batch share.
struct Batch {
    outcomes: Vec<Mutex<Option<Outcome>>>,
    n_done: AtomicUsize,
    stopped: AtomicBool,
    out_of_time: AtomicBool,
    /// The first item that ends the batch. Items before it are still asked, so that the one that is
    /// reported does not depend on who came first.
    first_failure: AtomicUsize,
}

impl Batch {
    fn new(n: usize) -> Self {
        Self {
            outcomes: (0..n).map(|_| Mutex::new(None)).collect(),
            n_done: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            out_of_time: AtomicBool::new(false),
            first_failure: AtomicUsize::new(usize::MAX),
        }
    }

    fn go_on(&self, item_idx: usize) -> bool {
        !self.stopped.load(Ordering::Relaxed)
            && !self.out_of_time.load(Ordering::Relaxed)
            && item_idx < self.first_failure.load(Ordering::Relaxed)
    }

    fn finish(&self, item_idx: usize, outcome: Outcome) {
        *self.outcomes[item_idx]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(outcome);
        self.n_done.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, item_idx: usize, error: RewardError, policy: ErrorPolicy) {
        self.finish(item_idx, Err(error));
        if policy == ErrorPolicy::Stop {
            self.first_failure.fetch_min(item_idx, Ordering::Relaxed);
        }
    }
}
