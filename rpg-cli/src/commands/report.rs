//! `rpg report`: the learning curve once more.

use super::output;
use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::report::curve;
use crate::run_folder::RunFolder;

pub(super) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let path = curve::draw(&RunFolder::open(&args.run_dir)?)?;
    output::line(path.display())
}
