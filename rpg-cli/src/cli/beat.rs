//! Lines from time to time, so that whoever reads a log sees that a long task goes on.

use crate::cli::say::say;
use std::cell::Cell;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often a line says how far a long task is, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// When the last line was printed.
#[derive(Debug, Clone, Default)]
pub(super) struct Beat {
    last: Cell<Option<Instant>>,
}

impl Beat {
    /// Something has been printed.
    pub(super) fn said(&self, now: Instant) {
        self.last.set(Some(now));
    }

    /// Whether nothing was printed for so long that a line should be. The time begins when it is first asked for.
    pub(super) fn is_time(&self, now: Instant) -> bool {
        match self.last.get() {
            Some(last) => now.saturating_duration_since(last) >= LINE_EVERY,
            None => {
                self.said(now);
                false
            }
        }
    }
}

/// While this exists, lines say from time to time that a task goes on of which no more is known.
#[derive(Debug)]
pub(super) struct Waiting(#[expect(dead_code)] Sender<()>);

impl Waiting {
    /// Waiting for `what`, such as "loading the model".
    pub(super) fn for_the_end_of(what: &'static str) -> Self {
        let (sender, end) = channel();
        std::thread::spawn(move || {
            let start = Instant::now();
            while end.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
                say!("{what}: {:.0} s so far", start.elapsed().as_secs_f64());
            }
        });
        Self(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_when_nothing_was_said_for_long() {
        let beat = Beat::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // The seconds; whether a line is due, and whether one is printed then, for whatever reason.
        for (seconds, due, printed) in [
            (0, false, false),
            (29, false, false),
            (30, true, true),
            (31, false, true),
            (60, false, false),
            (61, true, false),
            (62, true, true),
            (90, false, false),
            (92, true, true),
        ] {
            assert_eq!(beat.is_time(at(seconds)), due, "{seconds}");
            if printed {
                beat.said(at(seconds));
            }
        }
    }
}
