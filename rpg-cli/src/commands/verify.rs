//! `rpg verify`: grades answers from JSONL.

use super::input;
use crate::args::VerifyArgs;
use crate::failure::{Failure, exit};
use rayon::prelude::*;
use rpg_reward::GradeOptions;
use rpg_reward::suite::{Summary, grade_line};
use std::io::Write;

/// Lines graded at a time, on all cores.
const CHUNK: usize = 512;

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let name = args.input.display();
    let options = GradeOptions::default();
    let mut out = std::io::stdout().lock();
    let mut summary = Summary::default();
    let mut lines = input::lines(&args.input)?.peekable();
    while lines.peek().is_some() {
        let chunk = lines.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>()?;
        let results: Vec<_> = chunk
            .par_iter()
            .map(|(number, line)| grade_line(line, *number, &options))
            .collect();
        for result in results {
            match result {
                Ok((result, timed)) => {
                    summary.add(&timed);
                    if !args.summary {
                        let line = serde_json::to_string(&result).map_err(Failure::internal)?;
                        writeln!(out, "{line}").map_err(Failure::internal)?;
                    }
                }
                Err(bad) => {
                    summary.add_bad_line();
                    eprintln!("warning: {name}: {bad}");
                }
            }
        }
    }
    if args.summary {
        write!(out, "{summary}").map_err(Failure::internal)?;
    }
    match summary.bad_lines {
        0 => Ok(()),
        n => Err(Failure {
            message: format!("{name}: {n} lines could not be read"),
            hint: Some("each line must be an object with \"gold\" and \"pred\"".into()),
            code: exit::BAD_INPUT,
        }),
    }
}
