//! `rpg report`: runs as a page, or as TensorBoard event files.

use super::output;
use crate::cli::args::ReportArgs;
use crate::cli::report::Report;
use crate::cli::say::say;
use crate::cli::{curve, signals};
use crate::failure::Failure;
use crate::run_folder::RunFolder;
use crate::train::report::{TENSORBOARD, write_tensorboard};

pub(super) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let report = Report::new(&args.run_dirs, args.out.as_deref())?;
    if args.tensorboard {
        return report.folders().try_for_each(event_file);
    }
    if args.follow {
        let interrupt = signals::listen_and_say("writing the page for the last time");
        return report.follow(&interrupt, |goes_on| {
            if !goes_on {
                say!("note: none of the runs is going on; the page is written once");
            }
            output::line(report.out().display())
        });
    }
    for note in report.write()? {
        say!("note: {note}");
    }
    output::line(report.out().display())?;
    if args.out.is_none() {
        for folder in report.folders() {
            output::line(curve::draw(folder)?.display())?;
        }
    }
    Ok(())
}

fn event_file(folder: &RunFolder) -> Result<(), Failure> {
    let writes_itself = folder.path(TENSORBOARD).is_dir();
    if writes_itself && folder.is_in_training() != Some(false) {
        return Err(Failure::input(format!(
            "{}: the run is going on, and may be writing its event file itself",
            folder.root().display()
        ))
        .hint("wait for its end; TensorBoard reads the file meanwhile"));
    }
    output::line(write_tensorboard(folder)?.display())
}
