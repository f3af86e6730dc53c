//! A process and the most memory that it had.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// What is left of a process that succeeded.
pub(super) struct Ended {
    pub(super) stdout: String,
    /// The largest resident size, from the start of the process on.
    pub(super) peak_mib: f64,
}

/// Runs `command` to its end, with its output in files: `log` with the extensions `out` and `err`.
pub(super) fn run_to_end(mut command: Command, log: &Path, label: &str) -> Result<Ended> {
    let (out, err) = (log.with_extension("out"), log.with_extension("err"));
    let create = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&err)?)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    // The system keeps the peak itself; it is gone with the process, so it is read all the time.
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_mib = None;
    let status = loop {
        let status = fs::read_to_string(&status_file).unwrap_or_default();
        peak_mib = peak(&status).or(peak_mib);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        sleep(Duration::from_millis(20));
    };
    if !status.success() {
        let hint = match status.code() {
            Some(_) => "",
            None => ", perhaps for want of memory: --pass with a smaller number takes less",
        };
        bail!(
            "{label}: {program} ended with {status}{hint}; what it said is in {}",
            err.display()
        );
    }
    let stdout =
        fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    ensure!(
        peak_mib.is_some(),
        "{label}: the peak memory of a process is read from /proc, which this system does not have"
    );
    Ok(Ended {
        stdout,
        peak_mib: peak_mib.unwrap_or(f64::NAN),
    })
}

/// The peak in the text of `/proc/PID/status`; a process that has ended has none.
fn peak(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_found() {
        let status = "Name:\trpg\nVmPeak:\t  9000 kB\nVmHWM:\t    2560 kB\nVmRSS:\t  100 kB\n";
        assert_eq!(peak(status), Some(2.5));
        assert_eq!(peak("Name:\trpg\nState:\tZ (zombie)\n"), None);
        assert_eq!(peak(""), None);
    }
}
