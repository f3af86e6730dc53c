//! A build without MPI: one process.

use crate::failure::Failure;
use crate::train::{OneRank, Ranks};
use std::sync::Arc;

/// Why a process that was started with others is alone.
pub(super) const WHY_ALONE: &str =
    "this rpg is built without MPI: cargo build --release -p rpg-cli --features mpi";

/// A process that meets no other.
pub(super) struct Job;

impl Job {
    pub(super) fn start() -> Result<(Self, Arc<dyn Ranks>), Failure> {
        Ok((Self, Arc::new(OneRank)))
    }

    pub(super) fn local_rank(&self) -> usize {
        0
    }

    pub(super) fn local_ranks(&self) -> usize {
        1
    }

    pub(super) fn leave(self) {}
}
