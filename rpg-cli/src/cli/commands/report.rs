//! `rpg report`: redraws the learning curve.

use super::output;
use crate::cli::args::ReportArgs;
use crate::cli::curve;
use crate::failure::Failure;
use crate::run_folder::RunFolder;

pub(super) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let path = curve::draw(&RunFolder::open(&args.run_dir)?)?;
    output::line(path.display())
}
