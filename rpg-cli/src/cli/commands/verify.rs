//! `rpg verify`: grades answers from JSONL.

use super::input::{self, Line};
use super::output;
use crate::cli::args::VerifyArgs;
use crate::cli::say::say;
use crate::failure::Failure;
use rayon::prelude::*;
use rpg_reward::GradeOptions;
use rpg_reward::suite::{BadLine, Summary, check_golds, grade_line};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};

/// The most lines graded at a time, on all cores.
const CHUNK: usize = 512;

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let name = input::name(&args.input);
    let lines = read_ahead(input::raw_lines(&args.input)?);
    let (bad_lines, keys) = if args.check_golds {
        match list_unread_golds(args, &lines)? {
            ControlFlow::Continue(bad_lines) => (bad_lines, "\"gold\""),
            ControlFlow::Break(()) => return Ok(()),
        }
    } else {
        let mut summary = Summary::default();
        if grade_all(args, &lines, &mut summary)?.is_break() {
            return Ok(());
        }
        (summary.bad_lines, "\"gold\" and \"pred\"")
    };
    match bad_lines {
        0 => Ok(()),
        n => Err(Failure::input(format!(
            "{name}: {n} {} could not be read",
            if n == 1 { "line" } else { "lines" }
        ))
        .hint(format!("each line must be an object with {keys}"))),
    }
}

/// Writes the gold answers that the grader does not understand, a line each, and counts the lines that could
/// not be read.
fn list_unread_golds(
    args: &VerifyArgs,
    lines: &Receiver<Result<Line, Failure>>,
) -> Result<ControlFlow<(), usize>, Failure> {
    let name = input::name(&args.input);
    let mut out = io::stdout().lock();
    let mut bad_lines = 0;
    for line in lines {
        let (number, line) = line?;
        let result = match &line {
            Ok(line) => check_golds(line, number),
            Err(why) => Err(refused(number, why)),
        };
        let write = || -> io::Result<()> {
            match result {
                Ok(unread) => {
                    for gold in unread {
                        writeln!(out, "{}", serde_json::to_string(&gold)?)?;
                    }
                }
                Err(bad) => {
                    bad_lines += 1;
                    say!("warning: {name}: {bad}");
                    writeln!(out, "{}", serde_json::to_string(&bad)?)?;
                }
            }
            Ok(())
        };
        if output::checked(write())?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    if output::checked(out.flush())?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    Ok(ControlFlow::Continue(bad_lines))
}

fn refused(line: usize, why: &str) -> BadLine {
    BadLine {
        line,
        message: why.into(),
    }
}

/// Reads the lines in a thread, so that those that have arrived are graded at once, even a single one.
fn read_ahead(
    lines: impl Iterator<Item = Result<Line, Failure>> + Send + 'static,
) -> Receiver<Result<Line, Failure>> {
    let (sender, receiver) = sync_channel(4 * CHUNK);
    std::thread::spawn(move || {
        for line in lines {
            let failed = line.is_err();
            if sender.send(line).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

/// Grades line by line, until the lines end or nobody reads the results any more.
fn grade_all(
    args: &VerifyArgs,
    lines: &Receiver<Result<Line, Failure>>,
    summary: &mut Summary,
) -> Result<ControlFlow<()>, Failure> {
    let name = input::name(&args.input);
    let mut options = GradeOptions::default();
    options.unclosed_thinking = args.unclosed_thinking;
    let mut out = io::stdout().lock();
    while let Ok(first) = lines.recv() {
        let chunk: Vec<Line> = std::iter::once(first)
            .chain(lines.try_iter().take(CHUNK - 1))
            .collect::<Result<_, _>>()?;
        let results: Vec<_> = chunk
            .par_iter()
            .map(|(number, line)| match line {
                Ok(line) => grade_line(line, *number, &options),
                Err(why) => Err(refused(*number, why)),
            })
            .collect();
        let mut write = |result| -> io::Result<()> {
            match result {
                Ok((result, timed)) => {
                    summary.add(&timed);
                    if !args.summary {
                        writeln!(out, "{}", serde_json::to_string(&result)?)?;
                    }
                }
                Err(bad) => {
                    summary.add_bad_line();
                    say!("warning: {name}: {bad}");
                    // The line keeps its place.
                    if !args.summary {
                        writeln!(out, "{}", serde_json::to_string(&bad)?)?;
                    }
                }
            }
            Ok(())
        };
        let written = results.into_iter().try_for_each(&mut write);
        if output::checked(written.and_then(|()| out.flush()))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    if args.summary {
        return output::checked(write!(out, "{summary}"));
    }
    Ok(ControlFlow::Continue(()))
}
