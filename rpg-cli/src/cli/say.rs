//! Lines on standard error.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Whether lines are dropped from here on: of several ranks one speaks.
pub(super) fn be_quiet(is_quiet: bool) {
    IS_QUIET.store(is_quiet, Ordering::Relaxed);
}

/// Writes a line to standard error. One that cannot be written is lost: a closed terminal or a full disk must not end
/// a run.
pub fn line(text: Arguments<'_>) {
    if IS_QUIET.load(Ordering::Relaxed) {
        return;
    }
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
