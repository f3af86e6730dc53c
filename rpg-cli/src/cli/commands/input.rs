//! Input files, where `-` is standard input.

use crate::failure::{AtPath, Failure};
use rpg_core::Message;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;

fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if is_stdin(path) {
        Ok(Box::new(BufReader::new(stdin())))
    } else {
        Ok(Box::new(BufReader::new(File::open(path).at(path)?)))
    }
}

/// The name of an input in messages.
pub(super) fn name(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".into()
    } else {
        path.display().to_string()
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Refuses a conversation in which nobody says anything.
pub(super) fn check_messages(messages: &[Message]) -> Result<(), String> {
    if messages.is_empty() {
        return Err("`messages`: found an empty list; expected at least one message".into());
    }
    Ok(())
}

/// Reads a whole input.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).at(path)?;
    Ok(text)
}

/// The number of a line, and its text or why it is not text.
pub(super) type Line = (usize, Result<String, String>);

/// The lines that are not blank.
pub(super) fn raw_lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Line, Failure>> + Send + use<>, Failure> {
    let name = path.to_owned();
    let mut reader = open(path)?;
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut bytes = Vec::new();
            match reader.read_until(b'\n', &mut bytes).at(&name) {
                Ok(0) => return None,
                Ok(_) => number += 1,
                Err(failure) => return Some(Err(failure)),
            }
            let line = String::from_utf8(bytes)
                .map(|line| {
                    // The byte-order mark that some editors write at the start of a file.
                    let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
                    line.trim_end_matches(['\n', '\r']).to_owned()
                })
                .map_err(|error| format!("not UTF-8: {}", error.utf8_error()));
            if !line.as_ref().is_ok_and(|line| line.trim().is_empty()) {
                return Some(Ok((number, line)));
            }
        }
    }))
}

/// The lines that are not blank, with their numbers; one that is not text is an error.
pub(super) fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(usize, String), Failure>>, Failure> {
    let name = name(path);
    Ok(raw_lines(path)?.map(move |line| {
        let (number, line) = line?;
        match line {
            Ok(line) => Ok((number, line)),
            Err(why) => Err(Failure::input(format!("{name}, line {number}: {why}"))),
        }
    }))
}
