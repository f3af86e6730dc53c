//! Ranks that are threads of one process.

use super::Ranks;
use crate::failure::Failure;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One of several threads that train one policy together: what processes do, in one of them.
pub struct ThreadRanks {
    rank: usize,
    hub: Arc<Hub>,
}

/// What a rank gives in one exchange: the bytes for all, or for each.
type Given = Arc<Vec<Vec<u8>>>;

/// Where the threads meet.
struct Hub {
    world: usize,
    round: Mutex<Round>,
    changed: Condvar,
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
        let hub = Arc::new(Hub {
            world,
            round: Mutex::new(Round {
                given: vec![None; world],
                ..Round::default()
            }),
            changed: Condvar::new(),
        });
        let rank = |rank| Self {
            rank,
            hub: Arc::clone(&hub),
        };
        (0..world).map(rank).collect()
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
}

impl Drop for ThreadRanks {
    /// Nobody waits for a rank that is gone.
    fn drop(&mut self) {
        self.hub.lock().ended.get_or_insert(self.rank);
        self.hub.changed.notify_all();
    }
}
