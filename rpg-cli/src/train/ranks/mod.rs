//! Several processes that train one policy: how they exchange bytes, and what is made of that.
//!
//! All ranks decide alike: from what all have, from what rank 0 tells, or by agreement; sums go in rank order, and weights
//! are received, so they are the same bits everywhere. Each rank samples, grades and scores its share of a step and computes
//! the gradient of its share of a mini-batch; everything else of the loop runs on every rank. Only rank 0 writes.

mod fingerprint;
#[cfg(feature = "cuda")]
mod nccl;
mod share;
mod team;
mod threads;
mod transport;
#[cfg(any(feature = "cuda", test))]
mod wired;

pub(super) use fingerprint::check_alike;
#[cfg(feature = "cuda")]
pub(crate) use nccl::{Nccl, equipment};
pub(super) use share::in_shares;
pub use team::Team;
pub use threads::ThreadRanks;
pub use transport::Transport;
pub(crate) use transport::{Equipment, hindrance};
#[cfg(feature = "cuda")]
pub(crate) use wired::Wired;

use crate::failure::Failure;

/// One of several processes, each of which has a copy of the policy and a share of the work.
///
/// Every rank makes the same exchanges in the same order, one at a time. The loop uses them through a [`Team`].
pub trait Ranks: Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn world(&self) -> usize;

    /// The bytes of every rank, in the order of the ranks. Ranks may have different numbers of them.
    fn all_gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure>;

    /// Gives every rank the bytes that are meant for it, and returns what every rank has for this one, in the order of the
    /// ranks.
    fn all_to_all(&self, bytes: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure>;

    /// The same ranks once more, for exchanges of another thread, which have an order of their own. Every rank asks for it at the
    /// same point.
    fn second(&self) -> Result<Box<dyn Ranks>, Failure>;
}

/// A single process: nothing is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OneRank;

impl Ranks for OneRank {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure> {
        Ok(vec![bytes])
    }

    fn all_to_all(&self, bytes: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        Ok(bytes)
    }

    fn second(&self) -> Result<Box<dyn Ranks>, Failure> {
        Ok(Box::new(Self))
    }
}
