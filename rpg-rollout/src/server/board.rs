//! How each server is, which weights it has, and the completions that wait for one.

use super::error::ServerError;
use super::rollouts::Published;
use crate::generate::delivery::Place;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that failed is tried again after this time, and after twice that if it fails again,
const MIN_REST: Duration = Duration::from_millis(250);

/// up to this.
const MAX_REST: Duration = Duration::from_secs(1);

/// A server that says that it has the weights and has failed this often since its last completion is given up.
const MAX_STRIKES: usize = 5;

/// So many of a server's first completions with new weights are compared with the policy.
const N_CANARIES: usize = 4;

/// A completion to sample.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) prompt: Arc<[u32]>,
    pub(super) seed: u64,
}

/// What a server is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has the current weights, and completions are asked of it.
    Working,
    /// It is to be given the current weights from this time on.
    Due(Instant),
    /// It is being given weights.
    Preparing,
}

/// A server that must not be used before it has been started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// The label that it had.
    pub(super) label: String,
    /// Whether it could not be reached since then.
    pub(super) was_gone: bool,
}

/// What is known of a server that is to be given weights.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) published: Arc<Published>,
    pub(super) lost: Option<Lost>,
    /// Whether it has been found to be what the run needs since it was last gone.
    pub(super) is_known: bool,
    /// Whether it has had no weights from this process yet.
    pub(super) is_first: bool,
}

/// How giving a server weights ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Ready,
    Failed {
        fault: String,
        is_gone: bool,
    },
    /// It must be started again.
    Lost {
        fault: String,
        label: String,
    },
    /// It has not been started again yet.
    StillLost,
}

#[derive(Debug)]
struct Status {
    url: String,
    state: State,
    label: Option<String>,
    lost: Option<Lost>,
    is_known: bool,
    /// Counts how often it was given weights or failed: what happened to requests of an earlier one says nothing new.
    epoch: usize,
    strikes: usize,
    rest: Duration,
    fault: String,
    canaries_left: usize,
    n_completions: usize,
    n_failures: usize,
}

impl Status {
    fn new(url: String) -> Self {
        Self {
            url,
            state: State::Due(Instant::now()),
            label: None,
            lost: None,
            is_known: true,
            epoch: 0,
            strikes: 0,
            rest: MIN_REST,
            fault: "it has not been asked yet".into(),
            canaries_left: 0,
            n_completions: 0,
            n_failures: 0,
        }
    }

    fn rest(&mut self, fault: String) {
        self.fault = fault;
        self.epoch += 1;
        self.state = State::Due(Instant::now() + self.rest);
        self.rest = MAX_REST.min(2 * self.rest);
    }
}

/// The state of all servers.
#[derive(Debug)]
pub(super) struct Board {
    servers: Vec<Status>,
    current: Option<(Arc<Published>, Instant)>,
    queue: VecDeque<Job>,
    down_since: Option<Instant>,
    sync_s: Option<f64>,
    /// Nothing more is sampled for now.
    pub(super) is_over: bool,
    /// Nobody is interested in the servers any more.
    pub(super) is_closed: bool,
}

impl Board {
    pub(super) fn new(urls: &[String]) -> Self {
        Self {
            servers: urls.iter().cloned().map(Status::new).collect(),
            current: None,
            queue: VecDeque::new(),
            down_since: Some(Instant::now()),
            sync_s: None,
            is_over: true,
            is_closed: false,
        }
    }

    /// From here on servers are to have these weights. Those that have them keep them.
    pub(super) fn publish(&mut self, published: Published) {
        for server in &mut self.servers {
            if server.state == State::Working && server.label.as_ref() != Some(&published.label) {
                server.state = State::Due(Instant::now());
                server.rest = MIN_REST;
            }
        }
        let is_new = self.label() != Some(published.label.as_str());
        if is_new {
            self.current = Some((Arc::new(published), Instant::now()));
        }
        self.note_down();
    }

    /// The label of the weights that servers are to have.
    pub(super) fn label(&self) -> Option<&str> {
        let (published, _) = self.current.as_ref()?;
        Some(&published.label)
    }

    /// Whether no server is about to be given weights, apart from those that failed.
    pub(super) fn is_settled(&self) -> bool {
        let label = self.label();
        self.servers.iter().all(|server| {
            let has_them = server.label.as_deref() == label;
            has_them || server.rest > MIN_REST || server.lost.is_some()
        })
    }

    /// Begins a rollout.
    pub(super) fn begin(&mut self, jobs: Vec<Job>) {
        self.queue = jobs.into();
        self.is_over = false;
    }

    /// Since when no server works.
    pub(super) fn down_since(&self) -> Option<Instant> {
        self.down_since
    }

    /// That no server works, with what each is about.
    pub(super) fn none_left(&self, waited: Duration) -> ServerError {
        let faults = self.servers.iter();
        let faults = faults.map(|server| (server.url.clone(), server.fault.clone()));
        ServerError::NoneLeft {
            waited,
            faults: faults.collect(),
        }
    }

    /// A completion for a server to sample, if it works, with the weights that it is to have, and its epoch.
    pub(super) fn take_job(&mut self, server: usize) -> Option<(Job, Arc<Published>, usize)> {
        let status = &self.servers[server];
        let (published, _) = self.current.as_ref()?;
        if status.state != State::Working {
            return None;
        }
        let job = self.queue.pop_front()?;
        Some((job, published.clone(), status.epoch))
    }

    /// A server has sampled a completion; whether the policy is to be asked about it.
    pub(super) fn answered(&mut self, server: usize) -> bool {
        let status = &mut self.servers[server];
        status.n_completions += 1;
        status.strikes = 0;
        status.rest = MIN_REST;
        let is_canary = status.canaries_left > 0;
        status.canaries_left = status.canaries_left.saturating_sub(1);
        is_canary
    }

    /// A server has not sampled a completion, which goes to whoever is free.
    pub(super) fn failed(&mut self, server: usize, epoch: usize, fault: String, job: Job) {
        if self.is_over {
            return;
        }
        self.queue.push_front(job);
        let status = &mut self.servers[server];
        status.n_failures += 1;
        // Others of its requests may have failed of the same cause.
        if status.epoch == epoch && status.state == State::Working {
            status.strikes += 1;
            status.rest(fault);
            if status.strikes >= MAX_STRIKES {
                status.lost = Some(Lost {
                    label: status.label.clone().unwrap_or_default(),
                    was_gone: false,
                });
            }
            self.note_down();
        }
    }

    /// When a server is to be given weights, if it is.
    pub(super) fn due(&self, server: usize) -> Option<Instant> {
        match self.servers[server].state {
            State::Due(at) => self.current.as_ref().map(|_| at),
            State::Working | State::Preparing => None,
        }
    }

    /// A server is being given weights.
    pub(super) fn attempt(&mut self, server: usize) -> Option<Attempt> {
        let (published, _) = self.current.as_ref()?;
        let status = &mut self.servers[server];
        status.state = State::Preparing;
        Some(Attempt {
            published: published.clone(),
            lost: status.lost.clone(),
            is_known: status.is_known,
            is_first: status.label.is_none(),
        })
    }

    /// A server has been given weights, or not.
    pub(super) fn end(&mut self, server: usize, attempt: Attempt, outcome: Outcome) {
        let label = &attempt.published.label;
        let current = self.current.as_ref();
        let since = current.and_then(|(now, at)| (now.label == *label).then_some(*at));
        let status = &mut self.servers[server];
        match outcome {
            Outcome::Ready => {
                let had_them = status.label.as_ref() == Some(label) && attempt.is_known;
                if !had_them {
                    status.canaries_left = N_CANARIES;
                }
                if attempt.lost.is_some() {
                    status.strikes = 0;
                }
                status.label = Some(label.clone());
                status.lost = None;
                status.is_known = true;
                status.epoch += 1;
                // Meanwhile there may be newer ones.
                status.state = match since {
                    Some(_) => State::Working,
                    None => State::Due(Instant::now()),
                };
                if let Some(since) = since.filter(|_| !had_them) {
                    self.sync_s = Some(since.elapsed().as_secs_f64());
                }
            }
            Outcome::Failed { fault, is_gone } => {
                status.is_known &= !is_gone;
                if let Some(lost) = &mut status.lost {
                    lost.was_gone |= is_gone;
                }
                status.rest(fault);
            }
            Outcome::Lost { fault, label } => {
                status.lost = Some(Lost {
                    label,
                    was_gone: false,
                });
                status.rest(fault);
            }
            Outcome::StillLost => status.rest(status.fault.clone()),
        }
        self.note_down();
    }

    /// What there is to report since the last call.
    pub(super) fn take_metrics(&mut self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        let mut retried = 0;
        for (i, server) in self.servers.iter_mut().enumerate() {
            let n_completions = std::mem::take(&mut server.n_completions);
            let n_failures = std::mem::take(&mut server.n_failures);
            retried += n_failures;
            metrics.insert(
                format!("rollout/server/{i}/completions"),
                n_completions as f64,
            );
            metrics.insert(format!("rollout/server/{i}/failures"), n_failures as f64);
        }
        metrics.insert("rollout/server/retried".into(), retried as f64);
        let sync_s = self.sync_s.take();
        metrics.extend(sync_s.map(|seconds| ("rollout/server/sync_s".into(), seconds)));
        metrics
    }

    fn note_down(&mut self) {
        let works = |server: &Status| server.state == State::Working;
        let is_down = !self.servers.iter().any(works);
        self.down_since = is_down.then(|| self.down_since.unwrap_or_else(Instant::now));
    }
}
