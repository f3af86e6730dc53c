//! How this process was started: alone, or by `mpirun` or `srun` as one of several ranks.

#[cfg(not(feature = "mpi"))]
mod alone;
#[cfg(feature = "mpi")]
mod mpi;

#[cfg(not(feature = "mpi"))]
use self::alone::Job;
#[cfg(feature = "mpi")]
use self::mpi::Job;
use super::say;
use crate::failure::Failure;
use crate::train::Team;
use std::time::Duration;

/// The ranks that were started together.
pub(super) struct Launch {
    job: Job,
    team: Team,
}

impl Launch {
    /// Meets the other ranks. From here on only the first says something.
    pub(super) fn start() -> Result<Self, Failure> {
        let (job, team) = Job::start()?;
        say::be_quiet(!team.is_first());
        Ok(Self { job, team })
    }

    /// All ranks.
    pub(super) fn team(&self) -> &Team {
        &self.team
    }

    /// The number of this rank among those on its machine: which GPU it takes.
    pub(super) fn local_rank(&self) -> usize {
        self.job.local_rank()
    }

    /// The process ends when an exchange takes longer than this.
    pub(super) fn wait_at_most(&self, time: Duration) {
        self.job.wait_at_most(time);
    }

    /// Leaves the others when the work is done or has failed on all ranks; the result is for the first to report. A failure
    /// of this rank alone ends all of them: the process exits without leaving, and the launcher ends the others.
    pub(super) fn end<T>(self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        let Self { job, team } = self;
        match result {
            Err(mut failure) if !team.all_know(&failure) => {
                say::be_quiet(false);
                failure.message = format!("rank {}: {}", team.rank(), failure.message);
                Err(failure)
            }
            result => {
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
