//! A watchdog over exchanges: MPI and NCCL wait for good.

use crate::cli::say;
use crate::failure::Failure;
use crate::train::Ranks;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that an exchange may take until the config says it.
const LIMIT: Duration = Duration::from_secs(1800);

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Ends the process when the other ranks do not come.
pub(super) struct Watch {
    rank: usize,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    since: Option<Instant>,
    limit: Duration,
}

impl Watch {
    /// For the exchanges of one thread of this rank.
    pub(super) fn new(rank: usize) -> Arc<Self> {
        let waiting = Mutex::new(Waiting {
            since: None,
            limit: LIMIT,
        });
        Arc::new(Self { rank, waiting })
    }

    /// Watches from now on.
    pub(super) fn start(self: &Arc<Self>) {
        let watch = Arc::clone(self);
        thread::spawn(move || {
            loop {
                thread::sleep(LOOK_EVERY);
                watch.look();
            }
        });
    }

    /// The process ends when an exchange takes longer than this.
    pub(super) fn limit(&self, limit: Duration) {
        self.lock().limit = limit;
    }

    /// The time counts until the result is dropped.
    pub(super) fn waiting(&self) -> Until<'_> {
        self.lock().since = Some(Instant::now());
        Until(self)
    }

    fn look(&self) {
        let waiting = self.lock();
        if waiting
            .since
            .is_some_and(|since| since.elapsed() > waiting.limit)
        {
            say::be_quiet(false);
            say::line(format_args!(
                "error: rank {}: has waited for the others for more than distributed.timeout_s = {} s: one of them is stuck, \
                 or takes longer",
                self.rank,
                waiting.limit.as_secs_f64()
            ));
            std::process::abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Until<'a>(&'a Watch);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.lock().since = None;
    }
}

/// Ranks whose exchanges are watched.
pub(super) struct Watched {
    pub(super) ranks: Arc<dyn Ranks>,
    pub(super) watch: Arc<Watch>,
}

impl Ranks for Watched {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn world(&self) -> usize {
        self.ranks.world()
    }

    fn all_gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure> {
        let _waiting = self.watch.waiting();
        self.ranks.all_gather(bytes)
    }

    fn all_to_all(&self, bytes: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let _waiting = self.watch.waiting();
        self.ranks.all_to_all(bytes)
    }

    fn second(&self) -> Result<Box<dyn Ranks>, Failure> {
        let waiting = self.watch.waiting();
        let ranks = Arc::from(self.ranks.second()?);
        drop(waiting);
        let watch = Watch::new(self.rank());
        watch.limit(self.watch.lock().limit);
        watch.start();
        Ok(Box::new(Self { ranks, watch }))
    }
}
