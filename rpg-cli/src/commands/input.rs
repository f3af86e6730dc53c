//! Input files, where `-` is standard input.

use crate::failure::{AtPath, Failure};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    match path == Path::new("-") {
        true => Ok(Box::new(stdin().lock())),
        false => Ok(Box::new(BufReader::new(File::open(path).at(path)?))),
    }
}

/// The whole text.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).at(path)?;
    Ok(text)
}

/// The lines that are not empty, with their numbers.
pub(super) fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(usize, String), Failure>>, Failure> {
    let name = path.to_owned();
    Ok(open(path)?
        .lines()
        .enumerate()
        .filter_map(move |(i, line)| match line.at(&name) {
            Ok(line) if line.trim().is_empty() => None,
            line => Some(line.map(|line| (i + 1, line))),
        }))
}
