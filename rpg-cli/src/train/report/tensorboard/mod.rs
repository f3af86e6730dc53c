//! TensorBoard event files, made of metrics.jsonl.
//!
//! `tensorboard/` in the run folder has one file, which says everything that metrics.jsonl says. A process that resumes a run
//! writes a new one from the lines that the run has kept, and removes the old one: so nothing is there twice, nothing of steps
//! that are repeated, and no half-written record. The new file begins with TensorFlow's mark of a new session, at which a
//! TensorBoard that watches forgets the steps that it has read.

mod encode;

use super::{Event, Reporter};
use crate::failure::{AtPath, Failure};
use crate::run_folder::{METRICS, RunFolder};
use encode::{What, record};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The folder of event files within a run folder.
pub const TENSORBOARD: &str = "tensorboard";

/// What the name of every event file has in it.
const MARK: &str = "tfevents";

/// Writes metrics to a TensorBoard event file as the run goes on.
#[derive(Debug)]
pub struct TensorBoardFile {
    folder: RunFolder,
    // Opened at the first event: by then a resumed run has dropped the lines that it repeats.
    file: Option<(PathBuf, File)>,
}

impl TensorBoardFile {
    /// Writes into this folder. It must be told before [`MetricsFile`](super::MetricsFile), whose lines it begins with.
    pub fn new(folder: &RunFolder) -> Self {
        Self {
            folder: folder.clone(),
            file: None,
        }
    }
}

impl Reporter for TensorBoardFile {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let (path, file) = match &mut self.file {
            Some(opened) => opened,
            none => {
                let path = write_tensorboard(&self.folder)?;
                let file = OpenOptions::new().append(true).open(&path).at(&path)?;
                none.insert((path, file))
            }
        };
        let Some(metrics) = event.metrics() else {
            return Ok(());
        };
        if let Some(bytes) = of_line(seconds(SystemTime::now()), metrics.values()) {
            file.write_all(&bytes).at(path)?;
        }
        Ok(())
    }
}

/// Writes the event file of everything in metrics.jsonl, in place of those that are there, and returns its path.
pub fn write_tensorboard(folder: &RunFolder) -> Result<PathBuf, Failure> {
    let parent = folder.path(TENSORBOARD);
    let old = event_files(folder)?;
    let lines = folder.lines(METRICS)?;
    let times = times(&lines, last_change(folder));
    let begin = times
        .first()
        .copied()
        .unwrap_or_else(|| seconds(SystemTime::now()));
    let mut bytes = record(begin, 0, &What::Version);
    bytes.extend(record(begin, 0, &What::Start));
    let config = fs::read_to_string(folder.path("config.toml")).unwrap_or_default();
    // Four spaces make code of it.
    let config: String = config.lines().map(|line| format!("    {line}\n")).collect();
    bytes.extend(record(begin, 0, &What::Text("config", &config)));
    for (line, time) in lines.iter().zip(times) {
        bytes.extend(of_line(time, line).unwrap_or_default());
    }
    fs::create_dir_all(&parent).at(&parent)?;
    let name = format!("{TENSORBOARD}/{}", next_name(&old));
    folder.write(&name, &bytes)?;
    for path in old {
        fs::remove_file(&path).at(&path)?;
    }
    Ok(folder.path(&name))
}

/// The event files of a run.
fn event_files(folder: &RunFolder) -> Result<Vec<PathBuf>, Failure> {
    let parent = folder.path(TENSORBOARD);
    if !parent.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&parent).at(&parent)? {
        let path = entry.at(&parent)?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().contains(MARK) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A name after those of the old files: TensorBoard reads the files of a folder in the order of their names.
fn next_name(old: &[PathBuf]) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (seconds, rest) = (now.as_secs(), now.subsec_nanos());
    let name = format!("events.out.{MARK}.{seconds:010}.{rest:09}.rpg");
    let last = old.last().and_then(|path| path.file_name());
    match last.map(|last| last.to_string_lossy()) {
        // The clock has been put back.
        Some(last) if *last >= *name => format!("{last}.0"),
        _ => name,
    }
}

/// The record of a line of metrics.jsonl, if it has numbers.
fn of_line(time: f64, line: &Map<String, Value>) -> Option<Vec<u8>> {
    let phase = line.get("phase").and_then(Value::as_str).unwrap_or("train");
    let step = line.get("step").and_then(Value::as_u64)?;
    let numbers = line.iter().filter(|(name, _)| *name != "step");
    let scalars: Vec<(String, f64)> = numbers
        .filter_map(|(name, value)| Some((tag(phase, name), value.as_f64()?)))
        .collect();
    (!scalars.is_empty()).then(|| record(time, step, &What::Scalars(&scalars)))
}

/// The name of a metric in TensorBoard. Steps of the warm start are counted by themselves, so that what they share with other
/// steps needs a name of its own.
fn tag(phase: &str, name: &str) -> String {
    if phase == "warm_start" && !name.starts_with("warm_start/") {
        format!("warm_start/{name}")
    } else {
        name.to_owned()
    }
}

/// When each line was written, in seconds since 1970: the last one at `end`, and the others before it by the seconds that
/// steps took.
fn times(lines: &[Map<String, Value>], end: f64) -> Vec<f64> {
    let mut time = end;
    let mut times: Vec<f64> = lines
        .iter()
        .rev()
        .map(|line| {
            let now = time;
            time -= line
                .get("timing_s/step")
                .and_then(Value::as_f64)
                .unwrap_or(0.0);
            now
        })
        .collect();
    times.reverse();
    times
}

/// When metrics.jsonl was last written to.
fn last_change(folder: &RunFolder) -> f64 {
    let changed = fs::metadata(folder.path(METRICS)).and_then(|file| file.modified());
    seconds(changed.unwrap_or_else(|_| SystemTime::now()))
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn times_go_back_from_the_last_line() {
        let lines: Vec<_> = [
            json!({"step": 1, "timing_s/step": 2.0}),
            json!({"step": 1}),
            json!({"step": 2, "timing_s/step": 3.0}),
        ]
        .map(line)
        .into();
        assert_eq!(times(&lines, 100.0), [97.0, 97.0, 100.0]);
        assert_eq!(times(&[], 100.0), [0.0; 0]);
    }

    #[test]
    fn lines_without_numbers_have_no_record() {
        for (value, has_one) in [
            (json!({"step": 1, "phase": "train", "a": 1.0}), true),
            (json!({"step": 1, "phase": "train", "a": null}), false),
            (json!({"phase": "train", "a": 1.0}), false),
        ] {
            assert_eq!(
                of_line(0.0, &line(value.clone())).is_some(),
                has_one,
                "{value}"
            );
        }
        assert_eq!(
            tag("warm_start", "timing_s/step"),
            "warm_start/timing_s/step"
        );
        assert_eq!(tag("warm_start", "warm_start/nll"), "warm_start/nll");
        assert_eq!(tag("train", "timing_s/step"), "timing_s/step");
    }

    #[test]
    fn there_is_one_file_whose_name_comes_after_the_old_one() {
        let temp = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&temp.path().join("run"), "seed = 1\n").unwrap();
        let first = write_tensorboard(&folder).unwrap();
        let later = first.with_file_name(format!("events.out.{MARK}.9999999999.000000000.rpg"));
        fs::rename(&first, &later).unwrap();
        folder
            .append(METRICS, &json!({"step": 1, "phase": "train", "a": 1.0}))
            .unwrap();
        let second = write_tensorboard(&folder).unwrap();
        let only = std::slice::from_ref(&second);
        assert_eq!(event_files(&folder).unwrap(), only);
        assert!(second > later, "{second:?}");
        let third = write_tensorboard(&folder).unwrap();
        assert_eq!(fs::read(&third).unwrap().len(), {
            let scalars = [("a".to_owned(), 1.0)];
            let text = "    seed = 1\n";
            [
                What::Version,
                What::Start,
                What::Text("config", text),
                What::Scalars(&scalars),
            ]
            .iter()
            .zip([0, 0, 0, 1])
            .map(|(what, step)| record(0.0, step, what).len())
            .sum::<usize>()
        });
    }
}
