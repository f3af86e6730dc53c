//! Comparisons with other systems, both sides in one run.

use anyhow::{Result, bail};
use xshell::Shell;

pub(crate) fn run(_shell: &Shell, args: &[String]) -> Result<()> {
    bail!(
        "no benchmark is called `{}`",
        args.first().map_or("", String::as_str)
    )
}
