//! What the training loop exchanges: numbers, values, and that a rank has failed.

use super::{OneRank, Ranks};
use crate::failure::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// All ranks of a run, as one of them sees them. Clones are the same rank.
///
/// A rank that cannot go on [tells](Self::tell) the others in place of what they exchange next, whatever that is.
#[derive(Clone)]
pub struct Team(Arc<dyn Ranks>);

/// The last byte of what is gathered: a value, or why a rank has none.
const VALUE: u8 = 0;
const FAILURE: u8 = 1;

impl Team {
    /// The team of which this is a rank.
    pub fn new(rank: impl Ranks + 'static) -> Self {
        Self(Arc::new(rank))
    }

    /// A single process.
    pub fn alone() -> Self {
        Self::new(OneRank)
    }

    /// By what it exchanges.
    #[cfg(test)]
    pub(super) fn ranks(&self) -> &Arc<dyn Ranks> {
        &self.0
    }

    /// The same ranks once more, for exchanges of another thread. Every rank asks for it at the same point.
    pub fn second(&self) -> Result<Self, Failure> {
        Ok(Self(Arc::from(self.0.second()?)))
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    /// The number of ranks.
    pub fn world(&self) -> usize {
        self.0.world()
    }

    /// Whether there is no other rank.
    pub fn is_alone(&self) -> bool {
        self.world() == 1
    }

    /// Whether this is the rank that writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Which of `n` things are this rank's: as many as any other's, or one more.
    pub fn share(&self, n: usize) -> Range<usize> {
        let start = |rank: usize| rank * n / self.world();
        start(self.rank())..start(self.rank() + 1)
    }

    /// The values of all ranks, in their order.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<Vec<T>, Failure> {
        if self.is_alone() {
            return Ok(vec![value]);
        }
        let bytes = rmp_serde::to_vec_named(&value).map_err(Failure::internal)?;
        let all = self.gather_bytes(bytes)?;
        let read = |bytes: &Vec<u8>| rmp_serde::from_slice(bytes).map_err(Failure::internal);
        all.iter().map(read).collect()
    }

    /// The lists of all ranks, one after the other.
    pub fn concat<T: Serialize + DeserializeOwned>(
        &self,
        values: Vec<T>,
    ) -> Result<Vec<T>, Failure> {
        Ok(self.gather(values)?.into_iter().flatten().collect())
    }

    /// The sums of the ranks' values, element by element and in the order of the ranks. A rank with nothing to add gives no
    /// values; without any there are no sums.
    pub fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, Failure> {
        let all = self.gather(values)?.into_iter();
        let sums = all.filter(|values| !values.is_empty()).reduce(|mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
        Ok(sums.unwrap_or_default())
    }

    /// Whether a rank says so.
    pub fn any(&self, flag: bool) -> Result<bool, Failure> {
        Ok(self.gather(flag)?.contains(&true))
    }

    /// What rank 0 makes; the others make nothing.
    pub fn first<T: Serialize + DeserializeOwned>(
        &self,
        make: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.is_alone() {
            return make();
        }
        let made = if self.is_first() {
            vec![make()?]
        } else {
            Vec::new()
        };
        let told = self.concat(made)?.pop();
        told.ok_or_else(|| Failure::internal("rank 0 has told nothing"))
    }

    /// Ends the run on all ranks, in place of their next exchange, because this one has failed. Returns the failure that
    /// all then have: that of the first of the ranks that tell one.
    pub fn tell(&self, failure: Failure) -> Failure {
        if self.all_know(&failure) {
            return failure;
        }
        let told = rmp_serde::to_vec_named(&failure).unwrap_or_default();
        let all_have = self.exchange(told, FAILURE).err();
        all_have.filter(|known| known.everywhere).unwrap_or(failure)
    }

    /// Whether every rank has this failure.
    pub fn all_know(&self, failure: &Failure) -> bool {
        self.is_alone() || failure.everywhere
    }

    /// The bytes of all ranks, in their order.
    pub(in crate::train) fn gather_bytes(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure> {
        self.exchange(bytes, VALUE)
    }

    /// What every rank has for this one, in their order.
    pub(in crate::train) fn all_to_all(
        &self,
        bytes: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        // Whoever has failed says so here.
        self.gather_bytes(Vec::new())?;
        self.0.all_to_all(bytes)
    }

    fn exchange(&self, mut bytes: Vec<u8>, tag: u8) -> Result<Vec<Vec<u8>>, Failure> {
        bytes.push(tag);
        let mut all = self.0.all_gather(bytes)?;
        for (rank, bytes) in all.iter_mut().enumerate() {
            if bytes.pop() != Some(VALUE) {
                return Err(failure_of(rank, bytes));
            }
        }
        Ok(all)
    }
}

/// What a rank has told, as every rank has it.
fn failure_of(rank: usize, bytes: &[u8]) -> Failure {
    let told = rmp_serde::from_slice(bytes).map_err(Failure::internal);
    let mut failure: Failure = told.unwrap_or_else(|unreadable| unreadable);
    failure.everywhere = true;
    if rank > 0 {
        failure.message = format!("rank {rank}: {}", failure.message);
    }
    failure
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.world())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::ThreadRanks;

    #[test]
    fn shares_are_all_of_it_in_order_and_of_one_size() {
        for (world, n) in [(1, 5), (2, 5), (3, 7), (4, 2), (4, 0)] {
            let shares = ThreadRanks::run(world, |team| team.share(n));
            assert_eq!(shares[0].start, 0);
            assert_eq!(shares[world - 1].end, n);
            for pair in shares.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
            }
            let sizes = shares.iter().map(ExactSizeIterator::len);
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }
    }

    #[test]
    fn every_rank_has_the_same_sums_values_and_decisions() {
        for world in 1..=4 {
            let results = ThreadRanks::run(world, |team| {
                let rank = team.rank() as f64;
                let own = match team.rank() {
                    1 => vec![],
                    _ => vec![rank, 0.1],
                };
                let sums = team.sum(own).unwrap();
                let all = team.concat(vec![f32::NAN.to_bits(); team.rank()]).unwrap();
                let told = team.first(|| Ok("zero".to_owned())).unwrap();
                let is_last = team.any(team.rank() == 3).unwrap();
                let sent = (0..team.world()).map(|to| vec![team.rank() as u8; to]);
                let received = team.all_to_all(sent.collect()).unwrap();
                for (from, bytes) in received.iter().enumerate() {
                    assert_eq!(*bytes, vec![from as u8; team.rank()]);
                }
                (sums, all.len(), told, is_last)
            });
            let first: f64 = (0..world).filter(|&rank| rank != 1).map(|r| r as f64).sum();
            assert_eq!(results[0].0[0], first);
            assert_eq!(results[0].1, world * (world - 1) / 2);
            assert_eq!((results[0].2.as_str(), results[0].3), ("zero", world == 4));
            assert!(results.iter().all(|result| *result == results[0]));
        }
    }

    #[test]
    fn exchanges_of_two_threads_do_not_meet() {
        for world in 1..=3 {
            let results = ThreadRanks::run(world, |team| {
                let seconds = [(); 2].map(|()| team.second().unwrap());
                let sums = |team: &Team, own: f64| {
                    let sums = (0..50).map(|i| team.sum(vec![own + f64::from(i)]).unwrap()[0]);
                    sums.collect::<Vec<_>>()
                };
                std::thread::scope(|scope| {
                    let second = scope.spawn(|| sums(&seconds[0], 1.0));
                    let third = sums(&seconds[1], 2.0);
                    [sums(&team, 0.0), second.join().unwrap(), third]
                })
            });
            for sums in results {
                for (i, sums) in sums.into_iter().enumerate() {
                    let expected = (0..50).map(|j| (world * (i + j)) as f64);
                    assert_eq!(sums, expected.collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn the_first_failure_that_is_told_is_that_of_all() {
        let results = ThreadRanks::run(3, |team| match team.rank() {
            0 => team.sum(vec![1.0]).unwrap_err(),
            rank => team.tell(Failure::reward(format!("sentence {rank}")).hint("do it")),
        });
        for failure in &results {
            assert_eq!(failure.message, "rank 1: sentence 1");
            assert_eq!(failure.hint.as_deref(), Some("do it"));
            assert!(failure.everywhere);
        }
    }

    #[test]
    fn a_rank_that_ends_without_a_word_ends_all() {
        let results = ThreadRanks::run(3, |team| match team.rank() {
            2 => None,
            _ => Some(team.any(true).unwrap_err()),
        });
        for failure in results.into_iter().flatten() {
            assert_eq!(failure.message, "rank 2 has ended before the others");
            assert!(!failure.everywhere);
        }
    }
}
