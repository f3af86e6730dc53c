//! The servers of a run: asked what they are, kept at the current weights, and shared out to completions.

use super::board::{Board, Job, Outcome};
use super::engine::{Answer, Engine, Facts, Needs, Sampling, engine};
use super::error::ServerError;
use super::keeper::prepare;
use super::options::ServerOptions;
use super::rollouts::Published;
use crate::generate::GenerateError;
use crate::generate::delivery::Place;
use rpg_core::Completion;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// So often the caller may stop a rollout.
const POLL: Duration = Duration::from_millis(50);

/// Servers that can sample for a run.
///
/// Each has a thread that gives it new weights, also when it comes back after a failure.
pub struct Servers {
    shared: Arc<Shared>,
    facts: Vec<Facts>,
}

/// What the threads share.
struct Shared {
    options: ServerOptions,
    needs: Needs,
    engines: Vec<Box<dyn Engine>>,
    board: Mutex<Board>,
    changed: Condvar,
}

/// A completion, and which server it is from.
pub(super) struct Sampled {
    pub(super) server: usize,
    pub(super) place: Place,
    pub(super) completion: Completion,
    /// Whether it is one of the server's first with these weights.
    pub(super) is_canary: bool,
}

/// Makes a completion of a server's answer, which must be from weights with this label, or says what is wrong with it.
pub(super) type Accept<'a> = &'a (dyn Fn(Answer, &str) -> Result<Completion, String> + Sync);

impl Servers {
    /// Asks every server what it is, and refuses one that cannot be used: it cannot be reached, has another vocabulary or a
    /// shorter context than needed, gives other log-probs than those at the sampling temperature, or was started without
    /// the interfaces that training needs.
    pub fn ask(options: ServerOptions, needs: Needs) -> Result<Self, ServerError> {
        if options.urls.is_empty() {
            return Err(ServerError::NoServers);
        }
        let engines: Vec<_> = (options.urls.iter())
            .map(|url| engine(&options, url))
            .collect();
        let ask = |engine: &dyn Engine| ask(engine, &options, &needs);
        let facts = thread::scope(|scope| {
            let asked: Vec<_> = (engines.iter())
                .map(|engine| scope.spawn(move || ask(&**engine)))
                .collect();
            asked
                .into_iter()
                .map(|asked| asked.join().expect("asking does not panic"))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let shared = Arc::new(Shared {
            board: Mutex::new(Board::new(&options.urls)),
            changed: Condvar::new(),
            options,
            needs,
            engines,
        });
        for server in 0..shared.engines.len() {
            let shared = shared.clone();
            thread::spawn(move || shared.keep(server));
        }
        Ok(Self { shared, facts })
    }

    /// What each of them is, for people.
    pub fn descriptions(&self) -> Vec<String> {
        let urls = self.shared.options.urls.iter();
        urls.zip(&self.facts)
            .map(|(url, facts)| format!("{url}: {facts}"))
            .collect()
    }

    pub(super) fn options(&self) -> &ServerOptions {
        &self.shared.options
    }

    /// From here on completions come from these weights. Servers load them while the caller goes on.
    pub(super) fn publish(&self, published: Published) {
        self.shared.board().publish(published);
        self.shared.changed.notify_all();
    }

    /// The label of the weights that servers are to have.
    pub(super) fn label(&self) -> Option<String> {
        self.shared.board().label().map(str::to_owned)
    }

    /// Whether all servers have them, those aside that failed.
    pub(super) fn are_settled(&self) -> bool {
        self.shared.board().is_settled()
    }

    pub(super) fn take_metrics(&self) -> BTreeMap<String, f64> {
        self.shared.board().take_metrics()
    }

    /// Samples all completions with whichever servers work. `on_event` is called with each, and without one at least every
    /// [`POLL`]; if it breaks, all connections are closed.
    pub(super) fn sample(
        &self,
        jobs: Vec<Job>,
        sampling: &Sampling,
        accept: Accept,
        on_event: &mut dyn FnMut(Option<Sampled>) -> ControlFlow<()>,
    ) -> Result<(), GenerateError> {
        let shared = &*self.shared;
        let n_jobs = jobs.len();
        shared.board().begin(jobs);
        let (sender, results) = channel();
        let ended = thread::scope(|scope| {
            for server in 0..shared.engines.len() {
                for _ in 0..n_jobs.min(shared.options.concurrency) {
                    let sender = sender.clone();
                    scope.spawn(move || shared.work(server, sampling, accept, &sender));
                }
            }
            let ended = shared.collect(n_jobs, &results, on_event);
            shared.board().is_over = true;
            shared.changed.notify_all();
            if ended.is_err() {
                for engine in &shared.engines {
                    engine.client().interrupt();
                }
            }
            ended
        });
        if ended.is_err() {
            for engine in &shared.engines {
                engine.client().reopen();
            }
        }
        ended
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.descriptions()).finish()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.shared.board().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, board: MutexGuard<'a, Board>, time: Duration) -> MutexGuard<'a, Board> {
        let woken = self.changed.wait_timeout(board, time);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Gives a server weights whenever it needs them.
    fn keep(&self, server: usize) {
        /// There is nothing to wait for; whatever comes wakes it.
        const LONG: Duration = Duration::from_secs(3600);
        let mut board = self.board();
        while !board.is_closed {
            let now = Instant::now();
            let due = board.due(server);
            if due.is_none_or(|due| due > now) {
                let time = due.map_or(LONG, |due| due - now);
                board = self.wait(board, time);
                continue;
            }
            let Some(attempt) = board.attempt(server) else {
                continue;
            };
            drop(board);
            let engine = &*self.engines[server];
            let outcome: Outcome = prepare(engine, &self.options, &self.needs, &attempt);
            board = self.board();
            board.end(server, attempt, outcome);
            self.changed.notify_all();
        }
    }

    /// Has a server sample one completion after the other.
    fn work(
        &self,
        server: usize,
        sampling: &Sampling,
        accept: Accept,
        results: &Sender<Result<Sampled, ServerError>>,
    ) {
        let engine = &*self.engines[server];
        let mut board = self.board();
        while !board.is_over {
            let Some((job, published, epoch)) = board.take_job(server) else {
                board = self.wait(board, Duration::from_secs(1));
                continue;
            };
            drop(board);
            let timeout = self.options.request_timeout;
            let answer = engine.generate(&job.prompt, job.seed, sampling, &published, timeout);
            let completion = match answer {
                Ok(answer) => accept(answer, &published.label),
                // No other server would take it, and asking again changes nothing.
                Err(error) if matches!(error.status(), Some(400 | 413 | 422)) => {
                    let _ = results.send(Err(ServerError::Refused {
                        url: engine.client().url().to_owned(),
                        message: error.to_string(),
                    }));
                    return;
                }
                Err(error) => Err(error.to_string()),
            };
            board = self.board();
            match completion {
                Ok(completion) => {
                    let sampled = Sampled {
                        server,
                        place: job.place,
                        completion,
                        is_canary: board.answered(server),
                    };
                    // Nobody listens where the rollout is over.
                    let _ = results.send(Ok(sampled));
                }
                Err(fault) => {
                    board.failed(server, epoch, fault, job);
                    self.changed.notify_all();
                }
            }
        }
    }

    /// Hands over completions until all are there.
    fn collect(
        &self,
        n_jobs: usize,
        results: &Receiver<Result<Sampled, ServerError>>,
        on_event: &mut dyn FnMut(Option<Sampled>) -> ControlFlow<()>,
    ) -> Result<(), GenerateError> {
        let began = Instant::now();
        let mut n_left = n_jobs;
        while n_left > 0 {
            let sampled = match results.recv_timeout(POLL) {
                Ok(sampled) => Some(sampled?),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
            };
            n_left -= usize::from(sampled.is_some());
            if on_event(sampled).is_break() {
                return Err(GenerateError::Interrupted);
            }
            let board = self.board();
            let waited = board.down_since().map(|since| since.max(began).elapsed());
            if let Some(waited) = waited.filter(|&waited| waited > self.options.timeout) {
                return Err(board.none_left(waited).into());
            }
        }
        Ok(())
    }
}

/// What a server is, if it can be used.
fn ask(engine: &dyn Engine, options: &ServerOptions, needs: &Needs) -> Result<Facts, ServerError> {
    let unusable = |fault: String, hint: String| ServerError::Unusable {
        url: engine.client().url().to_owned(),
        fault,
        hint: Some(hint),
    };
    if options.loads {
        engine.wake();
    }
    let facts = engine.facts(needs).map_err(|error| {
        let hint = match error.status() {
            Some(401 | 403) => "give the key that it was started with",
            _ => "start it, or correct its address: http://HOST:PORT",
        };
        unusable(error.to_string(), hint.to_owned())
    })?;
    let checked = facts.check(needs, &engine.remedies());
    checked.map_err(|unfit| unusable(unfit.fault, unfit.hint))?;
    Ok(facts)
}
