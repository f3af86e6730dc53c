//! Ranks that are threads of one process.

use super::{Ranks, Team};
use crate::failure::Failure;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One of several threads that train one policy together: what processes do, in one of them.
pub struct ThreadRanks {
    rank: usize,
    hub: Arc<Hub>,
    /// How many more hubs this rank has asked for.
    n_more: AtomicUsize,
}

/// What a rank gives in one exchange: the bytes for all, or for each.
type Given = Arc<Vec<Vec<u8>>>;

/// Where the threads meet.
struct Hub {
    world: usize,
    round: Mutex<Round>,
    changed: Condvar,
    /// Those for exchanges of other threads, in the order in which they were asked for.
    more: Mutex<Vec<Arc<Hub>>>,
}

#[derive(Default)]
struct Round {
    number: u64,
    given: Vec<Option<Given>>,
    /// What was given in the round before, which stays until every rank has come back.
    last: Vec<Given>,
    ended: Option<usize>,
}

impl ThreadRanks {
    /// Every rank of a world of this size.
    pub fn all(world: usize) -> Vec<Self> {
        let hub = Arc::new(Hub::new(world));
        let rank = |rank| Self::at(Arc::clone(&hub), rank);
        (0..world).map(rank).collect()
    }

    /// Does the work on every rank of a world of this size, each in a thread of its own; returns what they return, in their order.
    pub fn run<T: Send>(world: usize, work: impl Fn(Team) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let spawn = |rank| scope.spawn(move || work(Team::new(rank)));
            let threads: Vec<_> = Self::all(world).into_iter().map(spawn).collect();
            let results = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            results.collect()
        })
    }

    fn at(hub: Arc<Hub>, rank: usize) -> Self {
        Self {
            rank,
            hub,
            n_more: AtomicUsize::new(0),
        }
    }

    /// What all ranks give, once they have.
    fn meet(&self, given: Vec<Vec<u8>>) -> Result<Vec<Given>, Failure> {
        let hub = &self.hub;
        let mut round = hub.lock();
        let number = round.number;
        round.given[self.rank] = Some(Arc::new(given));
        if round.given.iter().all(Option::is_some) {
            round.last = round.given.iter_mut().filter_map(Option::take).collect();
            round.number += 1;
            hub.changed.notify_all();
        }
        while round.number == number {
            if let Some(ended) = round.ended {
                let message = format!("rank {ended} has ended before the others");
                return Err(Failure::internal(message));
            }
            let waited = hub.changed.wait(round);
            round = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(round.last.clone())
    }
}

impl Hub {
    fn new(world: usize) -> Self {
        Self {
            world,
            round: Mutex::new(Round {
                given: vec![None; world],
                ..Round::default()
            }),
            changed: Condvar::new(),
            more: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ranks for ThreadRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.hub.world
    }

    fn all_gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure> {
        let all = self.meet(vec![bytes])?;
        Ok(all.iter().map(|given| given[0].clone()).collect())
    }

    fn all_to_all(&self, bytes: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let all = self.meet(bytes)?;
        Ok(all.iter().map(|given| given[self.rank].clone()).collect())
    }

    fn second(&self) -> Result<Box<dyn Ranks>, Failure> {
        let i = self.n_more.fetch_add(1, Ordering::Relaxed);
        let more = self.hub.more.lock();
        let mut more = more.unwrap_or_else(PoisonError::into_inner);
        if more.len() == i {
            more.push(Arc::new(Hub::new(self.hub.world)));
        }
        Ok(Box::new(Self::at(Arc::clone(&more[i]), self.rank)))
    }
}

impl Drop for ThreadRanks {
    /// Nobody waits for a rank that is gone.
    fn drop(&mut self) {
        self.hub.lock().ended.get_or_insert(self.rank);
        self.hub.changed.notify_all();
    }
}
