//! Standard output, which its reader may close at any time.

use crate::failure::Failure;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes a text and a newline.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    checked(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Reports a failed write, except to a closed pipe: a reader such as `head` has seen enough.
pub(super) fn checked(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::internal(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
