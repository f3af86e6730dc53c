//! Ranks whose large messages take a faster way than their others.

use super::Ranks;
use crate::failure::Failure;
use std::sync::Arc;

/// Messages of fewer bytes go as ever: they would gain nothing.
const LARGE: usize = 1 << 20;

/// A way between ranks that is worth its trouble for large messages, such as NCCL between GPUs.
pub(crate) trait Wire: Send + Sync {
    /// Gives every rank the bytes that are meant for it, or the same if there is one message alone; returns what every rank has
    /// for this one, of these lengths, in the order of the ranks.
    fn exchange(&self, given: &[Vec<u8>], lengths: &[usize]) -> Result<Vec<Vec<u8>>, Failure>;
}

/// Ranks, and the way for their large messages.
pub(crate) struct Wired<W> {
    ranks: Arc<dyn Ranks>,
    wire: W,
}

impl<W: Wire> Wired<W> {
    pub(crate) fn new(ranks: Arc<dyn Ranks>, wire: W) -> Self {
        Self { ranks, wire }
    }

    /// The lengths of the messages of every rank, in the order of the ranks.
    fn lengths(&self, given: &[Vec<u8>]) -> Result<Vec<Vec<usize>>, Failure> {
        let lengths = given.iter().map(|bytes| bytes.len().to_le_bytes());
        let all = self.ranks.all_gather(lengths.flatten().collect())?;
        let read = |bytes: &Vec<u8>| {
            let lengths = bytes.as_chunks().0.iter();
            lengths.map(|&bytes| usize::from_le_bytes(bytes)).collect()
        };
        Ok(all.iter().map(read).collect())
    }
}

/// Every rank has the lengths, so that all decide alike.
fn are_large(lengths: &[Vec<usize>]) -> bool {
    lengths.iter().flatten().any(|&n| n >= LARGE)
}

impl<W: Wire> Ranks for Wired<W> {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn world(&self) -> usize {
        self.ranks.world()
    }

    fn all_gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure> {
        let mut given = [bytes];
        let lengths = self.lengths(&given)?;
        if are_large(&lengths) {
            return self.wire.exchange(&given, &lengths.concat());
        }
        self.ranks.all_gather(std::mem::take(&mut given[0]))
    }

    fn all_to_all(&self, bytes: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let lengths = self.lengths(&bytes)?;
        if are_large(&lengths) {
            let own = lengths.iter().map(|of_rank| of_rank[self.rank()]);
            return self.wire.exchange(&bytes, &own.collect::<Vec<_>>());
        }
        self.ranks.all_to_all(bytes)
    }

    /// Without the way: it is for one thread.
    fn second(&self) -> Result<Box<dyn Ranks>, Failure> {
        self.ranks.second()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Team, ThreadRanks};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Other ranks, which count what is exchanged over them, and check that its lengths are known.
    struct Counting<'a>(Box<dyn Ranks>, &'a AtomicUsize);

    impl Wire for Counting<'_> {
        fn exchange(&self, given: &[Vec<u8>], lengths: &[usize]) -> Result<Vec<Vec<u8>>, Failure> {
            self.1.fetch_add(1, Ordering::Relaxed);
            let received = match given {
                [same] if lengths.len() > 1 => self.0.all_gather(same.clone())?,
                _ => self.0.all_to_all(given.to_vec())?,
            };
            let found: Vec<usize> = received.iter().map(Vec::len).collect();
            assert_eq!(found, lengths);
            Ok(received)
        }
    }

    #[test]
    fn large_messages_take_the_wire_and_arrive_as_without_it() {
        // The length of the messages of one rank, whether all send it, and how many exchanges of the two are over the wire.
        for (length, are_all, n_wired) in [
            (LARGE - 100, true, 0),
            (LARGE, false, 2),
            (LARGE + 17, true, 2),
        ] {
            for world in [2, 3] {
                let n = AtomicUsize::new(0);
                ThreadRanks::run(world, |team| check(&team, length, are_all, &n));
                assert_eq!(n.into_inner(), n_wired * world, "{length} {world}");
            }
        }
    }

    fn check(team: &Team, length: usize, are_all: bool, n: &AtomicUsize) {
        let (rank, world) = (team.rank(), team.world());
        let plain = team.ranks();
        let wire = Counting(plain.second().unwrap(), n);
        let wired = Wired::new(Arc::clone(plain), wire);
        let own_length = if are_all || rank == 0 { length } else { 3 };
        let message = |to: usize| vec![(10 * rank + to) as u8; own_length - to];
        let gathered = wired.all_gather(message(0)).unwrap();
        assert_eq!(gathered, plain.all_gather(message(0)).unwrap());
        let sent: Vec<_> = (0..world).map(message).collect();
        let received = wired.all_to_all(sent.clone()).unwrap();
        assert_eq!(received, plain.all_to_all(sent).unwrap());
        assert_eq!((wired.rank(), wired.world()), (rank, world));
    }
}
