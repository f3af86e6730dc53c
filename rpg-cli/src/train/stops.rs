//! When a run stops after it was asked to.

use crate::config::Positive;
use crate::interrupt::Interrupt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How long a run goes on after a stop is requested to finish a step that has updated the policy: schedulers
/// wait for ten seconds or more before they kill, and a micro-batch cannot be interrupted.
const TIME_TO_FINISH: Duration = Duration::from_secs(2);

/// The longest time since the last checkpoint for which a stop may drop work, besides that of the current step.
const LONGEST_LOSS: Duration = Duration::from_secs(60);

/// Whether a run stops at once.
pub(super) struct Stops {
    interrupt: Interrupt,
    after: Duration,
}

impl Stops {
    /// `within_step`: whether the policy and the state of the run do not match.
    pub(super) fn new(interrupt: &Interrupt, within_step: bool) -> Self {
        Self {
            interrupt: interrupt.clone(),
            after: if within_step {
                TIME_TO_FINISH
            } else {
                Duration::ZERO
            },
        }
    }

    pub(super) fn now(&self) -> bool {
        self.interrupt.requested_for(self.after)
    }

    /// The answer of a progress callback.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        if self.now() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// How much work a stop may drop: that of a step whose updates take long, but not what was done in the minutes before
/// it.
pub(super) struct Pace {
    last_save: Instant,
    // Whether the updates of the last step took too long to be finished once a stop is requested.
    is_slow: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            last_save: Instant::now(),
            is_slow: false,
        }
    }
}

impl Pace {
    /// The updates of a step took this long.
    pub(super) fn updated(&mut self, time: Duration) {
        self.is_slow = time > TIME_TO_FINISH;
    }

    /// A checkpoint was written.
    pub(super) fn saved(&mut self) {
        self.last_save = Instant::now();
    }

    /// Whether so many minutes have passed since the last checkpoint.
    pub(super) fn has_passed(&self, minutes: Option<Positive>) -> bool {
        minutes
            .is_some_and(|minutes| self.last_save.elapsed().as_secs_f64() >= 60.0 * minutes.get())
    }

    /// Whether there should be a checkpoint before the next updates.
    pub(super) fn asks_for_checkpoint(&self) -> bool {
        self.is_slow && self.last_save.elapsed() > LONGEST_LOSS
    }
}
