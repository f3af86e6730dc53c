//! The folder of a run, in which nothing is ever half-written.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `config.toml` | the resolved config |
//! | `metrics.jsonl` | one object per step |
//! | `samples.jsonl` | some completions per step, with their grades |
//! | `checkpoints/step-N/` | a Hugging Face folder, what resuming needs, and checksums |
//! | `best/step-N/` | the policy of the best evaluation as a Hugging Face folder, with checksums |
//! | `weights/` | the newest policies as servers load them, if servers sample |
//! | `summary.json` | before, after, best, steps, seconds; written at the end |
//! | `curve.svg` | the learning curve; `rpg report` redraws it |
//! | `report.html` | curves, alarms, samples; written by `rpg report` |
//! | `tensorboard/` | the metrics once more, for TensorBoard, if asked for |
//! | `.lock` | locked by the process that trains |
//!
//! A whole file is written under a temporary name, synced and renamed. A line is appended in one write, and a
//! resumed run first drops the lines after its checkpoint.

use crate::best::BEST;
use crate::checkpoint;
use crate::checksums;
use crate::durable::{self, make_folder};
use crate::failure::{AtPath, Failure};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A run's folder. Clones share its lock.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
    // Held by the process that trains; the kernel releases it however the process ends.
    _lock: Option<Arc<File>>,
}

/// One object per step.
pub const METRICS: &str = "metrics.jsonl";

/// Some completions per step.
pub const SAMPLES: &str = "samples.jsonl";

/// The files of lines, each with a `step`.
const LINES: [&str; 2] = [METRICS, SAMPLES];

const CONFIG: &str = "config.toml";
const CHECKPOINTS: &str = "checkpoints";
const LOCK: &str = ".lock";

/// A checkpoint that differs from its checksums: this, then its name.
const DAMAGED: &str = "damaged-";

impl RunFolder {
    /// Creates a new folder and locks it; one that already holds a run is an error.
    pub fn create(root: &Path, config_toml: &str) -> Result<Self, Failure> {
        let taken = || {
            Failure::input(format!("{}: already holds a run", root.display())).hint(format!(
                "resume it with rpg train --resume {}, or choose another --run-dir",
                root.display()
            ))
        };
        if root.join(CONFIG).exists() {
            return Err(taken());
        }
        if root.is_dir() && !is_free(root)? {
            return Err(
                Failure::input(format!("{}: the folder is not empty", root.display()))
                    .hint("choose a new folder with --run-dir"),
            );
        }
        make_folder(root)?;
        fs::create_dir_all(root.join(CHECKPOINTS)).at(root)?;
        let folder = Self {
            root: root.into(),
            _lock: lock(root)?,
        };
        // Another process may have created a run here before the lock was free.
        if root.join(CONFIG).exists() {
            return Err(taken());
        }
        for name in LINES {
            let path = root.join(name);
            File::create(&path).at(&path)?;
        }
        folder.check_writable()?;
        folder.write(CONFIG, config_toml.as_bytes())?;
        Ok(folder)
    }

    /// Creates the next free folder `NAME-001`, `NAME-002`, ... in `parent`. Processes that start together get
    /// different ones.
    pub fn create_next(parent: &Path, name: &str, config_toml: &str) -> Result<Self, Failure> {
        make_folder(parent)?;
        let mut number = 1;
        loop {
            let root = parent.join(format!("{name}-{number:03}"));
            match fs::create_dir(&root) {
                Ok(()) => return Self::create(&root, config_toml),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(e).at(&root),
            }
        }
    }

    /// Opens the folder of an existing run to read it.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        if root.join(CONFIG).exists() {
            return Ok(Self {
                root: root.into(),
                _lock: None,
            });
        }
        Err(
            Failure::input(format!("{}: not a run folder", root.display())).hint(
                "a run folder contains a config.toml; one that lacks it has not begun: start the run again",
            ),
        )
    }

    /// Opens and locks the folder of an existing run to continue it. A folder that another process trains in, or
    /// that cannot be written, is an error.
    pub fn open_to_resume(root: &Path) -> Result<Self, Failure> {
        let mut folder = Self::open(root)?;
        folder._lock = lock(root)?;
        let checkpoints = folder.path(CHECKPOINTS);
        fs::create_dir_all(&checkpoints).at(&checkpoints)?;
        folder.check_writable()?;
        durable::recover_replaced(&checkpoints)?;
        let best = folder.path(BEST);
        if best.is_dir() {
            durable::recover_replaced(&best)?;
        }
        Ok(folder)
    }

    /// Finds out whether everything that a run writes can be written.
    fn check_writable(&self) -> Result<(), Failure> {
        let hint = "the run folder and everything in it must be writable";
        for path in [self.root.clone(), self.path(CHECKPOINTS)] {
            tempfile::tempfile_in(&path)
                .at(&path)
                .map_err(|failure| failure.hint(hint))?;
        }
        for name in LINES {
            let path = self.path(name);
            let opened = OpenOptions::new().append(true).create(true).open(&path);
            opened.at(&path).map_err(|failure| failure.hint(hint))?;
        }
        Ok(())
    }

    /// The folder's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a whole file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        durable::write_file(&self.path(name), bytes)
    }

    /// Whether a process trains in this folder; `None` where the file system cannot say.
    pub fn is_in_training(&self) -> Option<bool> {
        let Ok(file) = File::open(self.path(LOCK)) else {
            return Some(false);
        };
        // Released at once: a process that wants the lock waits for longer.
        match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        }
    }

    /// Replaces the run's config.
    pub fn write_config(&self, config_toml: &str) -> Result<(), Failure> {
        self.write(CONFIG, config_toml.as_bytes())
    }

    /// Appends a line to a file of lines. What is left of a line that could not be written whole is removed.
    pub fn append(&self, name: &str, line: &Value) -> Result<(), Failure> {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .at(&path)?;
        let n_before = file.metadata().at(&path)?.len();
        let written = file.write_all(format!("{line}\n").as_bytes());
        if written.is_err() {
            // The first error is the one to report.
            let _ = file.set_len(n_before);
        }
        written.at(&path)
    }

    /// The whole lines of a file. A crash or a full disk can leave parts of lines, which need not be text: they are
    /// left out, as is a file that is missing.
    pub fn lines(&self, name: &str) -> Result<Vec<Map<String, Value>>, Failure> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.at(&path)?,
        };
        let lines = bytes.split(|&byte| byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// Keeps the lines for which `is_kept` is true: a resumed run repeats the steps of the others. Incomplete
    /// lines are dropped too.
    pub fn retain_lines(
        &self,
        is_kept: impl Fn(&Map<String, Value>) -> bool,
    ) -> Result<(), Failure> {
        for name in LINES {
            let mut text = String::new();
            for line in self.lines(name)?.into_iter().filter(&is_kept) {
                text += &format!("{}\n", Value::Object(line));
            }
            self.write(name, text.as_bytes())?;
        }
        Ok(())
    }

    /// Checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<PathBuf>, Failure> {
        let found = step_folders(&self.path(CHECKPOINTS))?;
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The newest checkpoint; one that differs from its checksums is an error.
    pub fn newest_checkpoint(&self) -> Result<PathBuf, Failure> {
        let newest = self.checkpoints()?.pop().ok_or_else(|| {
            Failure::input(format!(
                "{}: the run has no checkpoint yet",
                self.root.display()
            ))
            .hint("resume the run; it writes the first one before its first step")
        })?;
        verify(&newest)?;
        Ok(newest)
    }

    /// The newest checkpoint that agrees with its checksums, if there is any checkpoint, and what is to be said
    /// about newer ones, which are moved aside. It is an error if there are only damaged ones.
    pub fn newest_whole_checkpoint(&self) -> Result<(Option<PathBuf>, Vec<String>), Failure> {
        let mut damaged: Vec<(PathBuf, Failure)> = Vec::new();
        for path in self.checkpoints()?.into_iter().rev() {
            match verify(&path) {
                Ok(()) => {
                    let notes = damaged.into_iter().map(|(path, failure)| {
                        let aside = set_aside(&path)?;
                        Ok(format!(
                            "{}; an older checkpoint is used, and this one is now {}",
                            failure.message,
                            aside.display()
                        ))
                    });
                    return Ok((Some(path), notes.collect::<Result<_, Failure>>()?));
                }
                Err(failure) => damaged.push((path, failure)),
            }
        }
        match damaged.into_iter().next() {
            Some((_, failure)) => Err(failure.hint(
                "restore the file from a copy, or start again in a new folder; the run has no other whole \
                 checkpoint",
            )),
            None => Ok((None, Vec::new())),
        }
    }

    /// Writes a checkpoint folder under a temporary name, with checksums, and renames it; then removes all but the
    /// newest `n_kept`. Nothing is left of one that could not be written whole.
    pub fn write_checkpoint(
        &self,
        step: u64,
        n_kept: usize,
        write: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let parent = self.path(CHECKPOINTS);
        let target = durable::write_folder(&parent, &step_name(step), write)?;
        let all = self.checkpoints()?;
        for path in &all[..all.len().saturating_sub(n_kept)] {
            fs::remove_dir_all(path).at(path)?;
        }
        Ok(target)
    }
}

/// Whether a folder has nothing in it but what a process leaves that is killed while it creates a run there.
fn is_free(root: &Path) -> Result<bool, Failure> {
    for entry in fs::read_dir(root).at(root)? {
        let path = entry.at(root)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_left = match name.as_ref() {
            LOCK => true,
            CHECKPOINTS => path.is_dir() && fs::read_dir(&path).at(&path)?.next().is_none(),
            name if LINES.contains(&name) => path.metadata().at(&path)?.len() == 0,
            name => name.starts_with(durable::TEMPORARY),
        };
        if !is_left {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lock of a run folder; `None` where the file system has no locks.
fn lock(root: &Path) -> Result<Option<Arc<File>>, Failure> {
    let path = root.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .at(&path)?;
    // Whoever asks whether a process trains here holds the lock for an instant.
    let mut locked = file.try_lock();
    for _ in 0..20 {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => Ok(Some(Arc::new(file))),
        Err(TryLockError::WouldBlock) => Err(Failure::input(format!(
            "{}: another process is training in this folder",
            root.display()
        ))
        .hint("wait until it has ended, or stop it; a process that was killed holds no lock")),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Refuses a checkpoint that differs from its checksums.
fn verify(checkpoint: &Path) -> Result<(), Failure> {
    checksums::verify(checkpoint, checkpoint::has_checksums(checkpoint))
}

/// The name of the folder of a step.
pub(crate) fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The folders of steps in a folder, by their steps, oldest first.
pub(crate) fn step_folders(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let step = name.strip_prefix("step-").and_then(|n| n.parse().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Gives a damaged checkpoint a name that nothing reads.
fn set_aside(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{DAMAGED}{name}"));
    durable::remove_folder(&aside)?;
    fs::rename(path, &aside).at(path)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folder() -> (tempfile::TempDir, RunFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run"), "seed = 1\n").unwrap();
        (dir, folder)
    }

    #[test]
    fn a_folder_is_never_used_for_two_runs() {
        let (dir, folder) = folder();
        let error = RunFolder::create(folder.root(), "").unwrap_err();
        assert!(error.message.contains("already holds a run"), "{error}");
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "mine").unwrap();
        assert!(
            RunFolder::create(&other, "")
                .unwrap_err()
                .message
                .contains("not empty")
        );
        assert!(
            RunFolder::open(&other)
                .unwrap_err()
                .message
                .contains("not a run folder")
        );
    }

    #[test]
    fn what_a_process_leaves_that_is_killed_before_the_run_begins_is_no_run() {
        let (_dir, folder) = folder();
        let root = folder.root().to_owned();
        drop(folder);
        fs::remove_file(root.join(CONFIG)).unwrap();
        fs::write(root.join(".new-Ab3"), "see").unwrap();
        let error = RunFolder::open_to_resume(&root).unwrap_err();
        assert!(error.hint.unwrap().contains("start the run again"));
        drop(RunFolder::create(&root, "seed = 1\n").unwrap());
        fs::remove_file(root.join(CONFIG)).unwrap();
        fs::write(root.join(METRICS), "{}\n").unwrap();
        let error = RunFolder::create(&root, "").unwrap_err();
        assert!(error.message.contains("not empty"), "{error}");
    }

    #[test]
    fn kept_lines_keep_every_digit() {
        let (_temp, folder) = folder();
        for x in [
            1.529_250_965_078_183_8e-9,
            1.509_984_334_309_895_8e-7,
            0.1 + 0.2,
        ] {
            let line = serde_json::json!({ "x": x });
            folder.append("metrics.jsonl", &line).unwrap();
        }
        let before = fs::read_to_string(folder.path("metrics.jsonl")).unwrap();
        folder.retain_lines(|_| true).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path("metrics.jsonl")).unwrap(),
            before
        );
    }

    #[test]
    fn incomplete_and_later_lines_are_dropped() {
        let (_dir, folder) = folder();
        for step in 1..=3 {
            folder
                .append("metrics.jsonl", &json!({"step": step}))
                .unwrap();
        }
        let path = folder.path("metrics.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"step\": 4, \"rew").unwrap();
        folder
            .retain_lines(|line| line["step"].as_u64() <= Some(2))
            .unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"step\":1}\n{\"step\":2}\n"
        );
    }

    #[test]
    fn no_torn_line_poisons_a_file() {
        for torn in [
            &b"{\"step\":2,\"completion\":\"\xe4\xbd"[..],
            b"{\"step\": 2, \"rew",
            b"\0\0\0\0",
            b"{\"step\": 2, \"rew{\"step\":2}\n",
            b"\xff\n{\"step\": 9}\n",
        ] {
            let (_dir, folder) = folder();
            folder.append(SAMPLES, &json!({"step": 1})).unwrap();
            let path = folder.path(SAMPLES);
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(torn).unwrap();
            folder
                .retain_lines(|line| line["step"].as_u64() <= Some(2))
                .unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n");
        }
        let (_dir, folder) = folder();
        fs::remove_file(folder.path(METRICS)).unwrap();
        folder.retain_lines(|_| true).unwrap();
        assert_eq!(folder.lines(METRICS).unwrap(), []);
    }

    #[test]
    fn one_process_at_a_time_trains_in_a_folder() {
        let (_dir, folder) = folder();
        let root = folder.root().to_owned();
        let error = RunFolder::open_to_resume(&root).unwrap_err();
        assert!(error.message.contains("another process"), "{error}");
        let reader = RunFolder::open(&root).unwrap();
        assert_eq!(reader.is_in_training(), Some(true));
        drop(folder);
        assert_eq!(reader.is_in_training(), Some(false));
        assert!(RunFolder::open_to_resume(&root).is_ok());
    }

    #[test]
    fn a_damaged_checkpoint_is_never_resumed_from() {
        let (_dir, folder) = folder();
        assert_eq!(folder.newest_whole_checkpoint().unwrap(), (None, vec![]));
        let good = |dir: &Path| {
            fs::create_dir(dir.join("reference")).at(dir)?;
            fs::write(dir.join("reference/b"), "b").at(dir)?;
            fs::write(dir.join("a"), "a").at(dir)
        };
        for step in 1..=3 {
            folder.write_checkpoint(step, 9, good).unwrap();
        }
        let path = |name: &str| folder.path(CHECKPOINTS).join(name);
        fs::write(path("step-000003").join("a"), "A").unwrap();
        fs::remove_file(path("step-000002").join("reference/b")).unwrap();
        let (whole, notes) = folder.newest_whole_checkpoint().unwrap();
        assert_eq!(whole, Some(path("step-000001")));
        assert!(notes[0].contains("step-000003/a"), "{notes:?}");
        assert!(notes[1].contains("step-000002/reference/b"), "{notes:?}");
        assert!(path("damaged-step-000003").exists());
        fs::write(path("step-000001").join("a"), "A").unwrap();
        let error = folder.newest_whole_checkpoint().unwrap_err();
        assert!(error.message.contains("step-000001/a"), "{error}");
        // A checkpoint that was being replaced comes back.
        let replaced = path(".replaced-step-000001");
        fs::rename(path("step-000001"), &replaced).unwrap();
        let root = folder.root().to_owned();
        drop(folder);
        let folder = RunFolder::open_to_resume(&root).unwrap();
        assert!(folder.checkpoints().unwrap()[0].ends_with("step-000001"));
    }

    #[test]
    fn a_checkpoint_appears_whole_or_not_at_all() {
        let (_dir, folder) = folder();
        let good = |dir: &Path| fs::write(dir.join("a"), "a").at(dir);
        folder.write_checkpoint(1, 2, good).unwrap();
        let failed = folder.write_checkpoint(2, 2, |dir| {
            fs::write(dir.join("a"), "half").at(dir)?;
            Err(Failure::internal("disk full"))
        });
        assert!(failed.is_err() && !folder.path("checkpoints/.partial").exists());
        let names = |folder: &RunFolder| -> Vec<String> {
            let paths = folder.checkpoints().unwrap();
            paths
                .iter()
                .map(|p| p.file_name().unwrap().to_string_lossy().into())
                .collect()
        };
        assert_eq!(names(&folder), ["step-000001"]);
        for step in [2, 2, 3] {
            folder.write_checkpoint(step, 2, good).unwrap();
        }
        assert_eq!(names(&folder), ["step-000002", "step-000003"]);
    }
}
