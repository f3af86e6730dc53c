//! Standard output, which its reader may close at any time.

use crate::failure::Failure;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;

/// Writes a text and a newline.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    checked(writeln!(out, "{text}").and_then(|()| out.flush())).map(|_| ())
}

/// Reports a failed write. A closed pipe is none, but a reason to stop: a reader such as `head` has seen enough.
pub(super) fn checked(written: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    match written {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::internal(format!("standard output: {error}"))),
    }
}
