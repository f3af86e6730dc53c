//! A request to stop at a point from which the work can be resumed.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Whether a stop was requested. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    since: OnceLock<Instant>,
}

impl Interrupt {
    /// Whether a stop was requested.
    pub fn requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Whether a stop was requested at least this long ago.
    pub fn requested_for(&self, time: Duration) -> bool {
        let since = self.0.since.get();
        self.requested() && since.is_none_or(|since| since.elapsed() >= time)
    }

    /// The answer of a progress callback.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Requests a stop; returns whether one had been requested before.
    pub fn request(&self) -> bool {
        self.0.since.get_or_init(Instant::now);
        self.0.requested.swap(true, Ordering::SeqCst)
    }
}
