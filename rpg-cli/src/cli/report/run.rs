//! A run as a report reads it: what its folder has in this moment.

use crate::failure::{AtPath, Failure};
use crate::run_folder::{METRICS, RunFolder};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A line of metrics.jsonl.
pub(super) type Line = Map<String, Value>;

/// What a run's folder says.
#[derive(Debug)]
pub(super) struct Run {
    /// What the run is called, different from the other runs of the report.
    pub(super) label: String,
    pub(super) folder: RunFolder,
    /// config.toml.
    pub(super) config: toml::Table,
    /// The lines of metrics.jsonl.
    pub(super) lines: Vec<Line>,
    pub(super) status: Status,
}

/// Whether a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// A process trains.
    Running,
    /// It has come to its end.
    Finished,
    /// It was interrupted, and can be resumed.
    Stopped,
}

impl Run {
    /// Reads a run, whole lines only.
    pub(super) fn read(label: &str, folder: &RunFolder) -> Result<Self, Failure> {
        // Asked first: a run that ends meanwhile is then shown as running once more, and not as stopped.
        let trains = folder.is_in_training();
        let path = folder.path("config.toml");
        let config = fs::read_to_string(&path).at(&path)?;
        let config = config.parse().map_err(|e: toml::de::Error| {
            Failure::input(format!("{}: {}", path.display(), e.message()))
        })?;
        let lines = folder.lines(METRICS)?;
        let has_ended = lines.last().is_some_and(|line| phase(line) == "final");
        let status = match (trains, has_ended) {
            (_, true) => Status::Finished,
            (Some(false), false) => Status::Stopped,
            (Some(true) | None, false) => Status::Running,
        };
        Ok(Self {
            label: label.to_owned(),
            folder: folder.clone(),
            config,
            lines,
            status,
        })
    }

    /// The lines of the steps of reinforcement learning.
    pub(super) fn steps(&self) -> Vec<&Line> {
        let lines = self.lines.iter();
        lines.filter(|line| phase(line) == "train").collect()
    }

    /// The steps that the config asks for.
    pub(super) fn n_steps(&self) -> Option<i64> {
        self.config.get("train")?.get("steps")?.as_integer()
    }
}

/// The phase of a line.
pub(super) fn phase(line: &Line) -> &str {
    line.get("phase")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The step of a line.
pub(super) fn step(line: &Line) -> u64 {
    line.get("step").and_then(Value::as_u64).unwrap_or_default()
}

/// The value of a metric in a line.
pub(super) fn number(line: &Line, name: &str) -> Option<f64> {
    line.get(name).and_then(Value::as_f64)
}

/// Opens the folders of runs and gives each a label: the shortest end of its path that no other has.
pub(super) fn open(roots: &[PathBuf]) -> Result<Vec<(String, RunFolder)>, Failure> {
    let folders: Vec<RunFolder> = roots
        .iter()
        .map(|root| RunFolder::open(root))
        .collect::<Result<_, _>>()?;
    let whole = |folder: &RunFolder| fs::canonicalize(folder.root()).at(folder.root());
    let paths: Vec<PathBuf> = folders.iter().map(whole).collect::<Result<_, _>>()?;
    for (idx, path) in paths.iter().enumerate() {
        if paths[..idx].contains(path) {
            return Err(
                Failure::input(format!("{}: given twice", roots[idx].display()))
                    .hint("name each run once"),
            );
        }
    }
    Ok(labels(&paths).into_iter().zip(folders).collect())
}

fn labels(paths: &[PathBuf]) -> Vec<String> {
    let label = |path: &PathBuf| {
        let is_taken = |n: usize| {
            let mut others = paths.iter().filter(|other| *other != path);
            others.any(|other| end_of(other, n) == end_of(path, n))
        };
        // Two paths that are not the same differ somewhere.
        let n = (1..).find(|n| !is_taken(*n)).unwrap_or(usize::MAX);
        end_of(path, n)
    };
    paths.iter().map(label).collect()
}

/// The last `n` names of a path.
fn end_of(path: &Path, n: usize) -> String {
    let names: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        })
        .collect();
    names[names.len().saturating_sub(n)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_name_are_told_apart() {
        for (paths, expected) in [
            (&["/r/a", "/r/b"][..], &["a", "b"][..]),
            (&["/x/run", "/y/run", "/y/b"], &["x/run", "y/run", "b"]),
            (&["/run", "/y/run"], &["run", "y/run"]),
            (
                &["/x/1/run", "/x/2/run", "/y/2/run"],
                &["1/run", "x/2/run", "y/2/run"],
            ),
        ] {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            assert_eq!(labels(&paths), expected);
        }
    }

    #[test]
    fn the_status_of_a_run() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("run");
        let training = RunFolder::create(&root, "[train]\nsteps = 7\n").unwrap();
        let reader = RunFolder::open(&root).unwrap();
        let read = || Run::read("run", &reader).unwrap();
        assert_eq!(
            (read().status, read().n_steps()),
            (Status::Running, Some(7))
        );
        let append = |text: &str| {
            let before = fs::read_to_string(reader.path(METRICS)).unwrap();
            fs::write(reader.path(METRICS), before + text).unwrap();
        };
        append("{\"step\":1,\"phase\":\"train\"}\n{\"step\":2,\"pha");
        assert_eq!(read().steps().len(), 1);
        drop(training);
        assert_eq!(read().status, Status::Stopped);
        append("\n{\"step\":2,\"phase\":\"final\"}\n");
        assert_eq!(read().status, Status::Finished);
        fs::write(reader.path("config.toml"), "steps =").unwrap();
        let error = Run::read("run", &reader).unwrap_err();
        assert!(error.message.contains("config.toml: "), "{error}");
    }
}
