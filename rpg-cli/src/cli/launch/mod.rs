//! How this process was started: alone, or by `mpirun` or `srun` as one of several ranks.

#[cfg(not(feature = "mpi"))]
mod alone;
#[cfg(feature = "mpi")]
mod mpi;
mod watch;

#[cfg(not(feature = "mpi"))]
use self::alone::{Job, WHY_ALONE};
#[cfg(feature = "mpi")]
use self::mpi::{Job, WHY_ALONE};
use super::say::{self, say};
use crate::backend::Device;
use crate::config::DistributedConfig;
use crate::failure::Failure;
use crate::train::{Equipment, Ranks, Team, Transport, hindrance};
#[cfg(feature = "cuda")]
use crate::train::{Nccl, Wired};
use std::sync::Arc;
use std::time::Duration;
use watch::{Watch, Watched};

/// Variables by which launchers tell a process how many they have started: of Open MPI, and of MPICH and `srun --mpi=pmi2`.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// The ranks that were started together.
pub(super) struct Launch {
    job: Job,
    #[cfg(feature = "cuda")]
    ranks: Arc<dyn Ranks>,
    watch: Arc<Watch>,
    team: Team,
}

impl Launch {
    /// Meets the other ranks. From here on only the first says something. Refuses to be one of several that do not meet: each
    /// would train for itself.
    pub(super) fn start() -> Result<Self, Failure> {
        let (job, ranks) = Job::start()?;
        let watch = Watch::new(ranks.rank());
        let team = watched(&ranks, &watch);
        let n = started(|name| std::env::var(name).ok());
        if team.is_alone() && n > 1 {
            return Err(Failure::input(format!(
                "started as one of {n} ranks, but {WHY_ALONE}"
            )));
        }
        if !team.is_alone() {
            watch.start();
        }
        say::be_quiet(!team.is_first());
        Ok(Self {
            job,
            #[cfg(feature = "cuda")]
            ranks,
            watch,
            team,
        })
    }

    /// All ranks.
    pub(super) fn team(&self) -> &Team {
        &self.team
    }

    /// The number of this rank among those on its machine: which GPU it takes.
    pub(super) fn local_rank(&self) -> usize {
        self.job.local_rank()
    }

    /// How many of the ranks are on this machine.
    pub(super) fn local_ranks(&self) -> usize {
        self.job.local_ranks()
    }

    /// The process ends when an exchange takes longer than this config says.
    pub(super) fn watch(&self, config: &DistributedConfig) {
        let limit = Duration::try_from_secs_f64(config.timeout_s.get());
        self.watch.limit(limit.unwrap_or(Duration::MAX));
    }

    /// All ranks, whose large messages go between their GPUs where they can. Every rank asks for it at the same point.
    pub(super) fn connected(&self, wanted: Transport, device: &Device) -> Result<Team, Failure> {
        if self.team.is_alone() {
            return Ok(self.team.clone());
        }
        let own = equipment(device).map_err(|failure| self.team.tell(failure))?;
        let hindrance = hindrance(&self.team.gather(own)?);
        if wanted.is_nccl(hindrance.as_deref())? {
            say!("gradients and weights go over NCCL");
            return self.over_gpus(device);
        }
        if let (Transport::Auto, Some(_), Some(why)) = (wanted, device.cuda(), hindrance) {
            say!("note: gradients and weights go over MPI, as {why}");
        }
        Ok(self.team.clone())
    }

    #[cfg(feature = "cuda")]
    fn over_gpus(&self, device: &Device) -> Result<Team, Failure> {
        let _waiting = self.watch.waiting();
        let gpu = device.cuda().unwrap_or_default();
        let wire = Nccl::connect(self.ranks.as_ref(), gpu)?;
        let ranks: Arc<dyn Ranks> = Arc::new(Wired::new(Arc::clone(&self.ranks), wire));
        Ok(watched(&ranks, &self.watch))
    }

    #[cfg(not(feature = "cuda"))]
    fn over_gpus(&self, _device: &Device) -> Result<Team, Failure> {
        Ok(self.team.clone())
    }

    /// Leaves the others when the work is done or has failed on all ranks; the result is for the first to report. A failure
    /// of this rank alone ends all of them: the process exits without leaving, and the launcher ends the others.
    pub(super) fn end<T>(self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        let Self {
            job, watch, team, ..
        } = self;
        match result {
            Err(mut failure) if !team.all_know(&failure) => {
                say::be_quiet(false);
                failure.message = format!("rank {}: {}", team.rank(), failure.message);
                Err(failure)
            }
            result => {
                let _waiting = watch.waiting();
                job.leave();
                if team.is_first() {
                    result.map(Some)
                } else {
                    Ok(None)
                }
            }
        }
    }
}

fn watched(ranks: &Arc<dyn Ranks>, watch: &Arc<Watch>) -> Team {
    if ranks.world() == 1 {
        return Team::alone();
    }
    Team::new(Watched {
        ranks: Arc::clone(ranks),
        watch: Arc::clone(watch),
    })
}

/// What this process has for NCCL.
fn equipment(device: &Device) -> Result<Equipment, Failure> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = device.cuda() {
        return crate::train::equipment(gpu);
    }
    #[cfg(not(feature = "cuda"))]
    let _ = device;
    Ok(Equipment::default())
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
