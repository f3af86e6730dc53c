//! The samples of a run that fit into a page.

use crate::failure::{AtPath, Failure};
use crate::run_folder::{RunFolder, SAMPLES};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

/// Samples of a run.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Samples {
    pub(super) lines: Vec<Map<String, Value>>,
    /// How many the run has.
    pub(super) n_all: usize,
    /// How many of its steps are shown, and how many there are, if not all are shown.
    pub(super) left_out: Option<LeftOut>,
}

/// What does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) n_steps: usize,
    pub(super) n_all_steps: usize,
}

/// Where a line is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    step: u64,
    offset: u64,
    length: u64,
}

/// Reads at most `budget` bytes of samples: of all steps, or of steps at equal distances, of which the last is one.
pub(super) fn read(folder: &RunFolder, budget: u64) -> Result<Samples, Failure> {
    let path = folder.path(SAMPLES);
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Samples::default()),
        opened => opened.at(&path)?,
    };
    let places = places(&file).at(&path)?;
    let (chosen, left_out) = choose(&places, budget);
    let mut samples = Samples {
        lines: Vec::with_capacity(chosen.len()),
        n_all: places.len(),
        left_out,
    };
    for place in chosen {
        let mut line = Vec::new();
        file.seek(SeekFrom::Start(place.offset)).at(&path)?;
        (&mut file)
            .take(place.length)
            .read_to_end(&mut line)
            .at(&path)?;
        // A run that is resumed meanwhile may have written the file anew.
        samples
            .lines
            .extend(serde_json::from_slice::<Map<_, _>>(&line));
    }
    Ok(samples)
}

/// The whole lines of the file that have a step.
fn places(file: &File) -> std::io::Result<Vec<Place>> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut places, mut line, mut offset) = (Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            return Ok(places);
        }
        if let Some(step) = step_of(&line).filter(|_| line.ends_with(b"}\n")) {
            places.push(Place {
                step,
                offset,
                length,
            });
        }
        offset += length;
    }
}

/// The step of a line: where `rpg` writes it, without reading all of the line; elsewhere by reading it.
fn step_of(line: &[u8]) -> Option<u64> {
    let written = line.strip_prefix(b"{\"step\":").and_then(|rest| {
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
    });
    written.or_else(|| {
        let line: Map<String, Value> = serde_json::from_slice(line).ok()?;
        line.get("step")?.as_u64()
    })
}

/// The lines of as many steps as fit.
fn choose(places: &[Place], budget: u64) -> (Vec<Place>, Option<LeftOut>) {
    let bytes = |places: &[Place]| places.iter().map(|place| place.length).sum::<u64>();
    if bytes(places) <= budget {
        return (places.to_vec(), None);
    }
    let steps: Vec<&[Place]> = places.chunk_by(|a, b| a.step == b.step).collect();
    let mut stride = 2;
    loop {
        let mut kept: Vec<&[Place]> = steps.iter().rev().step_by(stride).copied().collect();
        kept.reverse();
        let chosen = kept.concat();
        let left_out = LeftOut {
            n_steps: kept.len(),
            n_all_steps: steps.len(),
        };
        if bytes(&chosen) <= budget {
            return (chosen, Some(left_out));
        }
        if kept.len() == 1 {
            let mut rest = budget;
            let fits = |place: &Place| {
                let fits = place.length <= rest;
                rest = rest.saturating_sub(place.length);
                fits
            };
            return (
                chosen.into_iter().take_while(fits).collect(),
                Some(left_out),
            );
        }
        stride += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn steps_at_equal_distances_are_kept() {
        // Two lines of 50 bytes per step.
        let places: Vec<Place> = (0..20)
            .map(|i| Place {
                step: 1 + i / 2,
                offset: 50 * i,
                length: 50,
            })
            .collect();
        for (budget, steps, n_lines) in [
            (1000, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10][..], 20),
            (999, &[2, 4, 6, 8, 10], 10),
            (400, &[1, 4, 7, 10], 8),
            (100, &[10], 2),
            (60, &[10], 1),
            (10, &[], 0),
        ] {
            let (chosen, left_out) = choose(&places, budget);
            let mut found: Vec<u64> = chosen.iter().map(|place| place.step).collect();
            found.dedup();
            assert_eq!(
                (found.as_slice(), chosen.len()),
                (steps, n_lines),
                "{budget}"
            );
            assert_eq!(left_out.is_some(), budget < 1000, "{budget}");
        }
    }

    #[test]
    fn whole_lines_are_read_and_torn_ones_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&temp.path().join("run"), "").unwrap();
        assert_eq!(read(&folder, 1000).unwrap(), Samples::default());
        let text =
            "{\"step\":1,\"id\":\"a\"}\n{\"id\":\"b\",\"step\":2}\n\0\0\n{\"step\":3,\"id\":\"torn";
        fs::write(folder.path(SAMPLES), text).unwrap();
        let samples = read(&folder, 1000).unwrap();
        let ids: Vec<&Value> = samples.lines.iter().map(|line| &line["id"]).collect();
        assert_eq!(ids, [&json!("a"), &json!("b")]);
        assert_eq!((samples.n_all, samples.left_out), (2, None));
        let samples = read(&folder, 25).unwrap();
        assert_eq!(samples.lines[0]["id"], json!("b"));
        assert_eq!(
            samples.left_out,
            Some(LeftOut {
                n_steps: 1,
                n_all_steps: 2
            })
        );
        fs::remove_file(folder.path(SAMPLES)).unwrap();
        assert_eq!(read(&folder, 1000).unwrap(), Samples::default());
    }
}
