//! A build without MPI: one process.

use crate::failure::Failure;
use crate::train::Team;
use std::time::Duration;

/// A process that meets no other.
pub(super) struct Job;

/// Variables by which launchers tell a process how many they have started: of Open MPI, and of MPICH and `srun --mpi=pmi2`.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

impl Job {
    /// Refuses to be one of several: each would train for itself.
    pub(super) fn start() -> Result<(Self, Team), Failure> {
        match started(|name| std::env::var(name).ok()) {
            0 | 1 => Ok((Self, Team::alone())),
            n => Err(Failure::input(format!(
                "started as one of {n} ranks, but this rpg is built without MPI: cargo build --release -p rpg-cli --features mpi"
            ))),
        }
    }

    pub(super) fn local_rank(&self) -> usize {
        0
    }

    pub(super) fn wait_at_most(&self, _time: Duration) {}

    pub(super) fn leave(self) {}
}

/// How many processes were started together, as far as the environment says it.
fn started(variable: impl Fn(&str) -> Option<String>) -> usize {
    let number = |name| variable(name)?.parse().ok();
    // The number of tasks is there in a batch script as well; only a task has a rank.
    let of_slurm = variable("PMIX_RANK").and_then(|_| number("SLURM_NTASKS"));
    let others = SIZES.into_iter().find_map(number);
    others.or(of_slurm).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_how_many_they_have_started() {
        for (variables, expected) in [
            (&[][..], 1),
            (&[("OMPI_COMM_WORLD_SIZE", "4")], 4),
            (&[("OMPI_COMM_WORLD_SIZE", "1")], 1),
            (&[("PMI_SIZE", "2")], 2),
            (&[("PMI_SIZE", "two")], 1),
            (&[("SLURM_NTASKS", "8")], 1),
            (&[("SLURM_NTASKS", "8"), ("PMIX_RANK", "0")], 8),
        ] {
            let found = started(|name| {
                let found = variables.iter().find(|(given, _)| *given == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(found, expected, "{variables:?}");
        }
    }
}
