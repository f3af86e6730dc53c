//! Lines on standard error.

use std::fmt::Arguments;
use std::io::Write;

/// Writes a line to standard error. One that cannot be written is lost: a closed terminal or a full disk must not end
/// a run.
pub fn line(text: Arguments<'_>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{text}");
}

/// `eprintln!`, except that it never panics.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::cli::say::line(format_args!($($arg)*))
    };
}

pub(super) use say;
