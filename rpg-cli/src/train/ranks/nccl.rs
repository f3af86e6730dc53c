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

/// The most bytes that a rank has on its GPU for another at a time, in each direction.
const PART: usize = 32 << 20;

/// A rank's end of the connections between GPUs.
pub(crate) struct Nccl(Comm);

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
        no_library: library.err().map(|_| format!("{name} cannot be loaded")),
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
        Ok(Self(comm.map_err(of_nccl)?))
    }

    /// Exchanges the parts of messages that begin at `start`, but for the one that this rank has for itself.
    fn exchange_part(
        &self,
        given: &[Vec<u8>],
        lengths: &[usize],
        start: usize,
        all: &mut [Vec<u8>],
    ) -> Result<(), Failure> {
        let stream = self.0.stream();
        let on_gpu = |bytes: &Vec<u8>| {
            let part = &bytes[start.min(bytes.len())..bytes.len().min(start + PART)];
            (!part.is_empty())
                .then(|| stream.clone_htod(part))
                .transpose()
        };
        let sent: Result<Vec<Option<CudaSlice<u8>>>, _> = given.iter().map(on_gpu).collect();
        let sent = sent.map_err(of_driver)?;
        let room = |n: usize| {
            let n = n.saturating_sub(start).min(PART);
            (n > 0).then(|| stream.alloc_zeros::<u8>(n)).transpose()
        };
        let received: Result<Vec<Option<CudaSlice<u8>>>, _> =
            lengths.iter().map(|&n| room(n)).collect();
        let mut received = received.map_err(of_driver)?;
        let others = || (0..lengths.len()).filter(|&rank| rank != self.0.rank());
        group_start().map_err(of_nccl)?;
        for rank in others() {
            if let Some(sent) = &sent[rank.min(sent.len() - 1)] {
                self.0.send(sent, rank as i32).map_err(of_nccl)?;
            }
            if let Some(received) = &mut received[rank] {
                self.0.recv(received, rank as i32).map_err(of_nccl)?;
            }
        }
        group_end().map_err(of_nccl)?;
        let mut parts = Vec::with_capacity(lengths.len());
        for rank in others() {
            if let Some(received) = &received[rank] {
                parts.push((rank, stream.clone_dtoh(received).map_err(of_driver)?));
            }
        }
        // The driver may still be copying what it has returned.
        stream.synchronize().map_err(of_driver)?;
        for (rank, part) in parts {
            all[rank].extend(part);
        }
        Ok(())
    }
}

impl Wire for Nccl {
    fn exchange(&self, given: &[Vec<u8>], lengths: &[usize]) -> Result<Vec<Vec<u8>>, Failure> {
        let room = lengths.iter().map(|&n| Vec::with_capacity(n));
        let mut all: Vec<Vec<u8>> = room.collect();
        let own = self.0.rank();
        all[own].extend_from_slice(&given[own.min(given.len() - 1)]);
        let given_lengths = given.iter().map(Vec::len);
        let longest = given_lengths.chain(lengths.iter().copied()).max();
        for start in (0..longest.unwrap_or(0)).step_by(PART) {
            self.exchange_part(given, lengths, start, &mut all)?;
        }
        Ok(all)
    }
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
