//! The folder of a run, in which nothing is ever half-written.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `config.toml` | the resolved config |
//! | `metrics.jsonl` | one object per step |
//! | `samples.jsonl` | some completions per step, with their grades |
//! | `checkpoints/step-N/` | a Hugging Face folder, and what resuming needs |
//! | `summary.json` | before, after, steps, seconds; written at the end |
//! | `curve.svg` | the learning curve; `rpg report` redraws it |
//!
//! A whole file is written under a temporary name, synced and renamed. A line is appended in one write, and a
//! resumed run first drops the lines after its checkpoint.

use crate::failure::{AtPath, Failure};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

/// One object per step.
pub const METRICS: &str = "metrics.jsonl";

/// Some completions per step.
pub const SAMPLES: &str = "samples.jsonl";

/// The files of lines, each with a `step`.
const LINES: [&str; 2] = [METRICS, SAMPLES];

impl RunFolder {
    /// Creates a new folder; one that already holds a run is an error.
    pub fn create(root: &Path, config_toml: &str) -> Result<Self, Failure> {
        if root.join("config.toml").exists() {
            return Err(
                Failure::input(format!("{}: already holds a run", root.display())).hint(format!(
                    "resume it with rpg train --resume {}, or choose another --run-dir",
                    root.display()
                )),
            );
        }
        if root.is_dir() && fs::read_dir(root).at(root)?.next().is_some() {
            return Err(
                Failure::input(format!("{}: the folder is not empty", root.display()))
                    .hint("choose a new folder with --run-dir"),
            );
        }
        fs::create_dir_all(root.join("checkpoints")).at(root)?;
        let folder = Self { root: root.into() };
        for name in LINES {
            let path = root.join(name);
            File::create(&path).at(&path)?;
        }
        folder.write("config.toml", config_toml.as_bytes())?;
        Ok(folder)
    }

    /// The next free folder `NAME-001`, `NAME-002`, ... in `parent`.
    pub fn next_free(parent: &Path, name: &str) -> PathBuf {
        (1..)
            .map(|i| parent.join(format!("{name}-{i:03}")))
            .find(|path| !path.exists())
            .unwrap_or_else(|| parent.join(name))
    }

    /// Opens the folder of an existing run.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        if root.join("config.toml").exists() {
            return Ok(Self { root: root.into() });
        }
        Err(
            Failure::input(format!("{}: not a run folder", root.display()))
                .hint("a run folder contains a config.toml"),
        )
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
        let path = self.path(name);
        let mut temporary = tempfile::NamedTempFile::new_in(&self.root).at(&path)?;
        temporary.write_all(bytes).at(&path)?;
        temporary.as_file().sync_all().at(&path)?;
        temporary.persist(&path).map_err(|e| e.error).at(&path)?;
        // Temporary files are private to the user; a run may be read by others.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).at(&path)?;
        }
        sync_folder(&self.root)
    }

    /// Appends a line to a file of lines.
    pub fn append(&self, name: &str, line: &Value) -> Result<(), Failure> {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .at(&path)?;
        file.write_all(format!("{line}\n").as_bytes()).at(&path)
    }

    /// The lines of a file, up to the first incomplete one.
    pub fn lines(&self, name: &str) -> Result<Vec<Map<String, Value>>, Failure> {
        let path = self.path(name);
        let text = fs::read_to_string(&path).at(&path)?;
        Ok(text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
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
        let dir = self.path("checkpoints");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).at(&dir)? {
            let path = entry.at(&dir)?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(step) = name
                .strip_prefix("step-")
                .and_then(|n| n.parse::<u64>().ok())
            {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The newest checkpoint.
    pub fn newest_checkpoint(&self) -> Result<PathBuf, Failure> {
        self.checkpoints()?.pop().ok_or_else(|| {
            Failure::input(format!(
                "{}: the run has no checkpoint yet",
                self.root.display()
            ))
            .hint("start the run again in a new folder")
        })
    }

    /// Writes a checkpoint folder under a temporary name and renames it; then removes all but the newest
    /// `n_kept`.
    pub fn write_checkpoint(
        &self,
        step: u64,
        n_kept: usize,
        write: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let parent = self.path("checkpoints");
        let target = parent.join(format!("step-{step:06}"));
        let partial = parent.join(".partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).at(&partial)?;
        }
        fs::create_dir_all(&partial).at(&partial)?;
        write(&partial)?;
        for entry in fs::read_dir(&partial).at(&partial)? {
            let path = entry.at(&partial)?.path();
            File::open(&path)
                .and_then(|file| file.sync_all())
                .at(&path)?;
        }
        sync_folder(&partial)?;
        if target.exists() {
            // The same step again: the old folder is first moved to a name that nothing reads.
            let old = parent.join(".old");
            fs::rename(&target, &old).at(&target)?;
            fs::rename(&partial, &target).at(&target)?;
            fs::remove_dir_all(&old).at(&old)?;
        } else {
            fs::rename(&partial, &target).at(&target)?;
        }
        sync_folder(&parent)?;
        let all = self.checkpoints()?;
        for path in &all[..all.len().saturating_sub(n_kept)] {
            fs::remove_dir_all(path).at(path)?;
        }
        Ok(target)
    }
}

fn sync_folder(path: &Path) -> Result<(), Failure> {
    // A rename survives a power failure only if the folder is synced; not every system allows that.
    #[cfg(unix)]
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .at(path)?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
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
    fn a_checkpoint_appears_whole_or_not_at_all() {
        let (_dir, folder) = folder();
        let good = |dir: &Path| fs::write(dir.join("a"), "a").at(dir);
        folder.write_checkpoint(1, 2, good).unwrap();
        let failed = folder.write_checkpoint(2, 2, |dir| {
            fs::write(dir.join("a"), "half").at(dir)?;
            Err(Failure::internal("disk full"))
        });
        assert!(failed.is_err());
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
