//! How many updates a run has had, and how many of them changed nothing.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};

/// After so many skipped updates in a row at its end, a run has failed.
const TOO_MANY: u64 = 10;

/// The updates of a run so far, over all resumptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateCounts {
    /// All of them.
    pub all: u64,
    /// Those that were skipped because the gradient was not finite.
    pub skipped: u64,
    /// The length of the run of skipped ones at the end.
    pub skipped_last: u64,
}

impl UpdateCounts {
    pub(super) fn add(&mut self, skipped: bool) {
        self.all += 1;
        self.skipped += u64::from(skipped);
        self.skipped_last = if skipped { self.skipped_last + 1 } else { 0 };
    }

    /// What is to be said about skipped updates, if there are any.
    pub fn note(&self) -> Option<String> {
        (self.skipped > 0).then(|| {
            format!(
                "{} of {} updates were skipped, as their gradients were not finite numbers",
                self.skipped, self.all
            )
        })
    }

    /// Fails if all updates of the run were skipped, or at its end more than half of them or ten and more in a row: the
    /// policy no longer learns.
    pub fn check(&self) -> Result<(), Failure> {
        let message = match self.skipped_last {
            0 => return Ok(()),
            n if n == self.all => format!(
                "every update was skipped ({n} of {n}), as no gradient was a finite number: the policy has not been trained"
            ),
            n if n >= TOO_MANY || 2 * n > self.all => format!(
                "the last {n} updates were skipped ({} of {} in all), as their gradients were not finite numbers: the \
                 policy has stopped learning",
                self.skipped, self.all
            ),
            _ => return Ok(()),
        };
        Err(Failure::internal(message).hint(
            "lower optimizer.lr, objective.beta or the sizes of rewards; actor/grad_norm and actor/pg_loss in \
             metrics.jsonl show since when",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_learn_at_its_end_has_failed() {
        let counts = |updates: &str| {
            let mut counts = UpdateCounts::default();
            updates.chars().for_each(|c| counts.add(c == 's'));
            counts
        };
        let failure = |updates: &str| counts(updates).check().err().map(|f| f.message);
        for updates in ["", "u", "su", "us", "ssssssssssssu", "uuuuuuuuuusssssssss"] {
            assert_eq!(failure(updates), None, "{updates}");
        }
        for (updates, expected) in [
            ("s", "every update was skipped (1 of 1)"),
            ("sssssssssssss", "every update was skipped (13 of 13)"),
            (
                "suussssssssss",
                "the last 10 updates were skipped (11 of 13 in all)",
            ),
            ("uss", "the last 2 updates were skipped (2 of 3 in all)"),
            (
                "uuuuuuuuuussssssssss",
                "the last 10 updates were skipped (10 of 20 in all)",
            ),
        ] {
            let message = failure(updates).unwrap();
            assert!(message.starts_with(expected), "{message}");
        }
        assert_eq!(counts("uuu").note(), None);
        let note = counts("usus").note().unwrap();
        assert!(note.starts_with("2 of 4 updates were skipped"), "{note}");
    }
}
