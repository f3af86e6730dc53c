//! A page that is written again while runs go on.

use super::Report;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::run_folder::{METRICS, RunFolder, SAMPLES};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

/// How often the files are looked at, and how often the page loads itself again.
const INTERVAL: Duration = Duration::from_secs(5);

/// Writing a page may take a twentieth of the time: the machine is there to train.
const MAX_SHARE: u32 = 20;

impl Report {
    /// Writes the page until no run goes on any more or a stop is requested; `written` is called after the first time, with
    /// whether one goes on. The last page does not load itself again.
    pub(in crate::cli) fn follow(
        &self,
        interrupt: &Interrupt,
        written: impl FnOnce(bool) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut seen = self.stamps();
        let mut goes_on = self.write_again(INTERVAL)?;
        written(goes_on)?;
        let mut pause = INTERVAL;
        while goes_on && wait(pause, interrupt) {
            let now = self.stamps();
            // A process that was killed writes nothing any more.
            if now == seen && self.folders().any(trains) {
                continue;
            }
            let started = Instant::now();
            goes_on = self.write_again(INTERVAL)?;
            pause = INTERVAL.max(started.elapsed() * MAX_SHARE);
            seen = now;
        }
        if goes_on {
            self.write()?;
        }
        Ok(())
    }

    /// Lengths and times of the files that a page is made of.
    fn stamps(&self) -> Vec<Option<(u64, SystemTime)>> {
        let files = self
            .folders()
            .flat_map(|folder| [METRICS, SAMPLES].map(|name| folder.path(name)));
        files
            .map(|path| {
                let file = fs::metadata(path).ok()?;
                Some((file.len(), file.modified().ok()?))
            })
            .collect()
    }
}

fn trains(folder: &RunFolder) -> bool {
    folder.is_in_training() != Some(false)
}

/// Waits; returns false if a stop was requested.
fn wait(time: Duration, interrupt: &Interrupt) -> bool {
    let started = Instant::now();
    while started.elapsed() < time {
        if interrupt.requested() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
