//! When a run stops after it was asked to.

use crate::interrupt::Interrupt;
use std::time::Duration;

/// How long a run goes on after a stop is requested to finish a step that has updated the policy: schedulers
/// wait for ten seconds or more before they kill, and a micro-batch cannot be interrupted.
pub(super) const TIME_TO_FINISH: Duration = Duration::from_secs(2);

/// The longest time since the last checkpoint for which a stop may drop work, besides that of the current step.
pub(super) const LONGEST_LOSS: Duration = Duration::from_secs(60);

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
}
