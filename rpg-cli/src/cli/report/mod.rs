//! Reports over runs: a page for the browser, made of what their folders have.
//!
//! `run.rs` reads a run, `history.rs` and `alarms/` say what is wrong with it, `differences.rs` in what configs differ,
//! `samples.rs` which samples fit; `page.rs` puts everything into one file with style and scripts. `follow.rs` writes the
//! page again while runs go on.

mod alarms;
mod differences;
mod follow;
mod history;
mod page;
mod run;
mod samples;

use crate::durable;
use crate::failure::Failure;
use crate::run_folder::RunFolder;
use run::{Run, Status};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The page of a run in its folder.
const REPORT: &str = "report.html";

/// Runs, and the page that shows them.
#[derive(Debug)]
pub(super) struct Report {
    runs: Vec<(String, RunFolder)>,
    out: PathBuf,
}

impl Report {
    /// A report over the runs in these folders, in `out` or in the first of them.
    pub(super) fn new(roots: &[PathBuf], out: Option<&Path>) -> Result<Self, Failure> {
        let runs = run::open(roots)?;
        let out = match (out, runs.first()) {
            (Some(out), _) => out.to_owned(),
            (None, Some((_, first))) => first.path(REPORT),
            (None, None) => return Err(Failure::input("no run folder is given")),
        };
        if out.is_dir() {
            return Err(Failure::input(format!(
                "{}: found a folder; expected a file",
                out.display()
            ))
            .hint(format!("--out {}", out.join(REPORT).display())));
        }
        Ok(Self { runs, out })
    }

    /// The runs' folders.
    pub(super) fn folders(&self) -> impl Iterator<Item = &RunFolder> {
        self.runs.iter().map(|(_, folder)| folder)
    }

    /// Where the page is.
    pub(super) fn out(&self) -> &Path {
        &self.out
    }

    /// Writes the page, and returns what is to be said about the runs.
    pub(super) fn write(&self) -> Result<Vec<String>, Failure> {
        let runs = self.read()?;
        self.write_page(&runs, None)?;
        let empty = runs.iter().filter(|run| run.lines.is_empty());
        Ok(empty
            .map(|run| format!("{}: no step is done yet", run.folder.root().display()))
            .collect())
    }

    /// Writes the page, with how often it loads itself, and returns whether a run goes on.
    fn write_again(&self, reload: Duration) -> Result<bool, Failure> {
        let runs = self.read()?;
        let goes_on = runs.iter().any(|run| run.status == Status::Running);
        self.write_page(&runs, goes_on.then_some(reload))?;
        Ok(goes_on)
    }

    fn read(&self) -> Result<Vec<Run>, Failure> {
        let runs = self.runs.iter();
        runs.map(|(label, folder)| Run::read(label, folder))
            .collect()
    }

    fn write_page(&self, runs: &[Run], reload: Option<Duration>) -> Result<(), Failure> {
        durable::write_file(&self.out, page::page(runs, reload)?.as_bytes())
    }
}
