//! NCCL between the GPUs of the ranks.
//!
//! NCCL's own sums have an order that depends on sizes and on how GPUs are connected, so that only its sends are used: the sums
//! stay in the order of the ranks. A call that the others do not answer waits for good; the launcher's watchdog ends it.

use super::wired::Wire;
use super::{Equipment, Ranks};
use crate::failure::Failure;
use cudarc::driver::{CudaContext, CudaSlice, DriverError};
use cudarc::nccl::result::{NcclError, group_end, group_start};
use cudarc::nccl::{Comm, Id};
use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::ops::Range;

/// The most bytes that a rank has on its GPU for another at a time, in each direction.
const PART: usize = 32 << 20;

/// A rank's end of the connections between GPUs.
pub(crate) struct Nccl(
    // It ends with the process: where NCCL has failed, to end it may fail as well.
    ManuallyDrop<Comm>,
);

// SAFETY: NCCL allows calls for a communicator from any thread, one at a time, and [`Ranks`] asks for exchanges one at a time.
unsafe impl Send for Nccl {}
// SAFETY: as above.
unsafe impl Sync for Nccl {}

/// What this rank has for NCCL if its policy is on this GPU.
pub(crate) fn equipment(gpu: usize) -> Result<Equipment, Failure> {
    let uuid = CudaContext::new(gpu).and_then(|context| context.uuid());
    let uuid = uuid.map_err(of_driver)?.bytes;
    let uuid: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = if cfg!(windows) {
        "nccl.dll"
    } else {
        "libnccl.so"
    };
    // SAFETY: loading NCCL runs its initialisers, which touch nothing of ours.
    let library = unsafe { libloading::Library::new(name) };
    Ok(Equipment {
        gpu: Some(uuid),
        no_library: library.err().map(|_| {
            format!("{name} cannot be loaded: it is in NCCL's development package, or a link to libnccl.so.2")
        }),
    })
}

impl Nccl {
    /// Connects the GPUs of all ranks, each of which calls this with its own.
    pub(crate) fn connect(ranks: &dyn Ranks, gpu: usize) -> Result<Self, Failure> {
        let own = if ranks.rank() == 0 {
            let id = Id::new().map_err(of_nccl)?;
            id.internal().map(|byte| byte as u8).to_vec()
        } else {
            Vec::new()
        };
        let all = ranks.all_gather(own)?;
        let id = all[0].as_slice().try_into().map_err(Failure::internal)?;
        let id: [u8; 128] = id;
        let id = Id::uninit(id.map(|byte| byte as c_char));
        let stream = CudaContext::new(gpu).and_then(|context| context.new_stream());
        let stream = stream.map_err(of_driver)?;
        let comm = Comm::from_rank(stream, ranks.rank(), ranks.world(), id);
        Ok(Self(ManuallyDrop::new(comm.map_err(of_nccl)?)))
    }

    /// Exchanges the parts of messages that begin at `start`, with all ranks but this one.
    fn exchange_part(
        &self,
        given: &[Vec<u8>],
        start: usize,
        all: &mut [Vec<u8>],
    ) -> Result<(), Failure> {
        let stream = self.0.stream();
        let others = || (0..all.len()).filter(|&rank| rank != self.0.rank());
        // A message for all is sent from one place.
        let mut sent: Vec<Option<CudaSlice<u8>>> = given.iter().map(|_| None).collect();
        let mut received = Vec::with_capacity(all.len());
        for rank in others() {
            let i = rank.min(given.len() - 1);
            let part = part(&given[i], start);
            if sent[i].is_none() && !part.is_empty() {
                sent[i] = Some(stream.clone_htod(part).map_err(of_driver)?);
            }
            let n = part_range(all[rank].len(), start).len();
            if n > 0 {
                let room = stream.alloc_zeros::<u8>(n).map_err(of_driver)?;
                received.push((rank, room));
            }
        }
        group_start().map_err(of_nccl)?;
        for rank in others() {
            if let Some(sent) = &sent[rank.min(given.len() - 1)] {
                self.0.send(sent, rank as i32).map_err(of_nccl)?;
            }
        }
        for (rank, received) in &mut received {
            self.0.recv(received, *rank as i32).map_err(of_nccl)?;
        }
        group_end().map_err(of_nccl)?;
        for (rank, received) in &received {
            let range = part_range(all[*rank].len(), start);
            let copied = stream.memcpy_dtoh(received, &mut all[*rank][range]);
            copied.map_err(of_driver)?;
        }
        // The driver may still be copying what it has returned.
        stream.synchronize().map_err(of_driver)
    }
}

impl Wire for Nccl {
    fn exchange(&self, given: &[Vec<u8>], lengths: &[usize]) -> Result<Vec<Vec<u8>>, Failure> {
        let own = self.0.rank();
        let room = lengths.iter().enumerate().map(|(rank, &n)| match rank {
            _ if rank == own => given[own.min(given.len() - 1)].clone(),
            _ => vec![0; n],
        });
        let mut all: Vec<Vec<u8>> = room.collect();
        let given_lengths = given.iter().map(Vec::len);
        let longest = given_lengths.chain(lengths.iter().copied()).max();
        for start in (0..longest.unwrap_or(0)).step_by(PART) {
            self.exchange_part(given, start, &mut all)?;
        }
        Ok(all)
    }
}

/// The part of a message of so many bytes that begins at `start`.
fn part_range(n: usize, start: usize) -> Range<usize> {
    start.min(n)..n.min(start + PART)
}

fn part(bytes: &[u8], start: usize) -> &[u8] {
    &bytes[part_range(bytes.len(), start)]
}

fn of_driver(error: DriverError) -> Failure {
    Failure::internal(format!("CUDA: {error}"))
}

fn of_nccl(error: NcclError) -> Failure {
    Failure::internal(format!("NCCL: {:?}", error.0)).hint("NCCL_DEBUG=INFO says more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Device;
    use crate::device::DeviceChoice;
    use crate::train::ThreadRanks;

    #[test]
    fn gpus_exchange_what_ranks_do() {
        if Device::find(DeviceChoice::Cuda, 0).is_err() {
            eprintln!("skipped: there is no CUDA GPU");
            return;
        }
        let own = equipment(0).unwrap();
        if let Some(why) = own.no_library {
            eprintln!("skipped: {why}");
            return;
        }
        let world = CudaContext::device_count().unwrap() as usize;
        ThreadRanks::run(world, |team| {
            let (rank, plain) = (team.rank(), team.ranks());
            let nccl = Nccl::connect(plain.as_ref(), rank).unwrap();
            // Nothing, less than a part, and more.
            for n in [0, 5, 2 * PART + 3] {
                let message = |to: usize| vec![(10 * rank + to) as u8; n + rank + to];
                let sent: Vec<_> = (0..world).map(message).collect();
                let expected = plain.all_to_all(sent.clone()).unwrap();
                let lengths: Vec<_> = expected.iter().map(Vec::len).collect();
                assert_eq!(nccl.exchange(&sent, &lengths).unwrap(), expected);
                let expected = plain.all_gather(message(0)).unwrap();
                let lengths: Vec<_> = expected.iter().map(Vec::len).collect();
                assert_eq!(nccl.exchange(&[message(0)], &lengths).unwrap(), expected);
            }
        });
    }
}
