//! A process that MPI's launcher has started.

use crate::cli::say;
use crate::failure::Failure;
use crate::train::Ranks;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::{Threading, Universe, initialize_with_threading};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// Why a process that was started with others is alone.
pub(super) const WHY_ALONE: &str = "MPI finds no other: start it by the mpirun of the MPI that this rpg is built with, or by \
                                    srun --mpi=pmix";

/// The most bytes that one call of MPI moves to or from a rank: it counts in 32 bits.
const MOST: usize = 1 << 30;

/// The ranks of an MPI job, until this one leaves.
pub(super) struct Job {
    // Leaving waits for all ranks: a rank that fails alone must not.
    universe: ManuallyDrop<Universe>,
    local_rank: usize,
    local_ranks: usize,
}

impl Job {
    /// Starts MPI. Without a launcher there is one rank.
    pub(super) fn start() -> Result<(Self, Arc<dyn Ranks>), Failure> {
        let Some((universe, threading)) = initialize_with_threading(Threading::Multiple) else {
            return Err(Failure::internal("MPI was started before"));
        };
        let universe = ManuallyDrop::new(universe);
        if threading < Threading::Serialized {
            return Err(Failure::internal(format!(
                "MPI: found {threading:?}; expected MPI_THREAD_SERIALIZED, as the work is not in the main thread"
            )));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let local = world.split_shared(world.rank());
        let (local_rank, local_ranks) = (local.rank() as usize, local.size() as usize);
        if size > 1 {
            say_who_panics(rank);
        }
        let process = Process {
            rank,
            size,
            all: Handle(ManuallyDrop::new(world)),
            threading,
        };
        let job = Self {
            universe,
            local_rank,
            local_ranks,
        };
        Ok((job, Arc::new(process)))
    }

    pub(super) fn local_rank(&self) -> usize {
        self.local_rank
    }

    pub(super) fn local_ranks(&self) -> usize {
        self.local_ranks
    }

    /// Waits for the other ranks to leave as well.
    pub(super) fn leave(self) {
        drop(ManuallyDrop::into_inner(self.universe));
    }
}

/// A panic ends the process as it does without MPI, and the launcher ends the others.
fn say_who_panics(rank: usize) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say::be_quiet(false);
        say::line(format_args!("rank {rank}:"));
        usual(panic);
    }));
}

/// This process among those of the job.
struct Process {
    rank: usize,
    size: usize,
    all: Handle,
    threading: Threading,
}

/// All processes of the job. It stays until MPI ends: all would have to give it back together.
struct Handle(ManuallyDrop<SimpleCommunicator>);

// SAFETY: MPI's handles belong to no thread. One communicator is used by one thread at a time, as [`Ranks`] asks for it, and two
// of them at a time only where MPI allows calls from several threads.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Ranks for Process {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.size
    }

    fn all_gather(&self, mut bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Failure> {
        let world = &self.all.0;
        bytes.reserve(1);
        let mut sizes = vec![0u64; self.size];
        world.all_gather_into(&(bytes.len() as u64), &mut sizes[..]);
        let mut all: Vec<Vec<u8>> = sizes
            .iter()
            .map(|&n| Vec::with_capacity(n as usize))
            .collect();
        let most = MOST / self.size;
        for start in rounds(&sizes, most) {
            let counts: Vec<i32> = sizes
                .iter()
                .map(|&n| part(n as usize, start, most))
                .collect();
            let own = &bytes[start.min(bytes.len())..][..counts[self.rank] as usize];
            let (mut received, starts) = buffer(&counts);
            let mut parts = PartitionMut::new(&mut received[..], &counts[..], &starts[..]);
            world.all_gather_varcount_into(own, &mut parts);
            append(&mut all, &received, &counts);
        }
        Ok(all)
    }

    fn all_to_all(&self, bytes: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let world = &self.all.0;
        let own: Vec<u64> = bytes.iter().map(|bytes| bytes.len() as u64).collect();
        // By sender, then by receiver: every rank must make as many calls as any other.
        let mut sizes = vec![0u64; self.size * self.size];
        world.all_gather_into(&own[..], &mut sizes[..]);
        let mine = |from: usize| sizes[from * self.size + self.rank] as usize;
        let mut all: Vec<Vec<u8>> = (0..self.size)
            .map(|from| Vec::with_capacity(mine(from)))
            .collect();
        let most = MOST / self.size;
        for start in rounds(&sizes, most) {
            let given: Vec<i32> = bytes
                .iter()
                .map(|bytes| part(bytes.len(), start, most))
                .collect();
            let taken: Vec<i32> = (0..self.size)
                .map(|from| part(mine(from), start, most))
                .collect();
            let mut sent = Vec::with_capacity(1);
            for (bytes, &n) in bytes.iter().zip(&given) {
                sent.extend_from_slice(&bytes[start.min(bytes.len())..][..n as usize]);
            }
            let (_, given_starts) = buffer(&given);
            let (mut received, taken_starts) = buffer(&taken);
            let parts = Partition::new(&sent[..], &given[..], &given_starts[..]);
            let mut into = PartitionMut::new(&mut received[..], &taken[..], &taken_starts[..]);
            world.all_to_all_varcount_into(&parts, &mut into);
            append(&mut all, &received, &taken);
        }
        Ok(all)
    }

    fn second(&self) -> Result<Box<dyn Ranks>, Failure> {
        if self.threading < Threading::Multiple {
            return Err(Failure {
                everywhere: true,
                ..Failure::input(format!(
                    "MPI: found {:?}; expected MPI_THREAD_MULTIPLE, which several ranks with rollout.max_staleness above 0 need",
                    self.threading
                ))
            }
            .hint("build rpg with an MPI that has it, or set rollout.max_staleness = 0"));
        }
        Ok(Box::new(Self {
            all: Handle(ManuallyDrop::new(self.all.0.duplicate())),
            ..*self
        }))
    }
}

/// Where the parts begin in which messages of these sizes are moved.
fn rounds(sizes: &[u64], most: usize) -> impl Iterator<Item = usize> {
    let longest = sizes.iter().max().map_or(0, |&n| n as usize);
    (0..longest).step_by(most)
}

/// The length of the part of a message that begins at `start`.
fn part(n: usize, start: usize, most: usize) -> i32 {
    n.saturating_sub(start).min(most) as i32
}

/// Room for parts of these lengths, and where each begins. As all that MPI is given, it has an address: that of an empty
/// list is the number by which Open MPI means `MPI_IN_PLACE`.
fn buffer(counts: &[i32]) -> (Vec<u8>, Vec<i32>) {
    let mut n = 0;
    let mut starts = Vec::with_capacity(counts.len());
    for count in counts {
        starts.push(n);
        n += count;
    }
    (vec![0; n as usize + 1], starts)
}

fn append(all: &mut [Vec<u8>], mut received: &[u8], counts: &[i32]) {
    for (message, &n) in all.iter_mut().zip(counts) {
        let (part, rest) = received.split_at(n as usize);
        message.extend_from_slice(part);
        received = rest;
    }
}
