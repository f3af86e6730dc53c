//! What moves large messages between ranks.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What moves gradients and weights between ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Transport {
    /// NCCL where it can be used, else MPI.
    #[default]
    Auto,
    /// MPI, from and to host memory.
    Mpi,
    /// NCCL, between GPUs.
    Nccl,
}

/// What a rank has for NCCL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Equipment {
    /// The UUID of its GPU, if the policy is on CUDA.
    pub(crate) gpu: Option<String>,
    /// Why the library cannot be used.
    pub(crate) no_library: Option<String>,
}

impl Transport {
    /// Whether large messages go through NCCL, given what hinders it.
    pub(crate) fn is_nccl(self, hindrance: Option<&str>) -> Result<bool, Failure> {
        match (self, hindrance) {
            (Self::Mpi, _) | (Self::Auto, Some(_)) => Ok(false),
            (Self::Auto | Self::Nccl, None) => Ok(true),
            (Self::Nccl, Some(why)) => Err(Failure {
                everywhere: true,
                ..Failure::input(format!(
                    "distributed.transport: found nccl; expected auto or mpi, as {why}"
                ))
            }),
        }
    }
}

/// Why these ranks cannot use NCCL, which wants a GPU for each.
pub(crate) fn hindrance(ranks: &[Equipment]) -> Option<String> {
    let mut seen = HashMap::new();
    ranks.iter().enumerate().find_map(|(rank, equipment)| {
        let Some(gpu) = &equipment.gpu else {
            return Some(format!("rank {rank} is not on CUDA"));
        };
        if let Some(other) = seen.insert(gpu, rank) {
            return Some(format!(
                "ranks {other} and {rank} have one GPU between them"
            ));
        }
        let why = equipment.no_library.as_ref()?;
        Some(format!("rank {rank}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nccl_is_taken_where_every_rank_has_a_gpu_and_the_library() {
        let on = |gpu: &str| Equipment {
            gpu: Some(gpu.to_owned()),
            no_library: None,
        };
        let cpu = Equipment::default();
        let without = Equipment {
            no_library: Some("libnccl.so cannot be loaded".into()),
            ..on("c")
        };
        for (ranks, expected) in [
            (vec![on("a"), on("b")], None),
            (vec![on("a"), cpu], Some("rank 1 is not on CUDA")),
            (
                vec![on("a"), on("b"), on("a")],
                Some("ranks 0 and 2 have one GPU between them"),
            ),
            (
                vec![on("a"), without],
                Some("rank 1: libnccl.so cannot be loaded"),
            ),
        ] {
            let found = hindrance(&ranks);
            assert_eq!(found.as_deref(), expected);
            let auto = Transport::Auto.is_nccl(expected).unwrap();
            assert_eq!(auto, expected.is_none());
            assert!(!Transport::Mpi.is_nccl(expected).unwrap());
            let nccl = Transport::Nccl.is_nccl(expected);
            let refusal = nccl.err().map(|failure| failure.message);
            let expected = expected.map(|why| {
                format!("distributed.transport: found nccl; expected auto or mpi, as {why}")
            });
            assert_eq!(refusal, expected);
        }
    }
}
