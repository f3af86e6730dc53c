//! The best evaluation of a run.

use super::{Answers, mean_at_k};
use crate::train::report::Metrics;
use serde::{Deserialize, Serialize};

/// The evaluation with the highest Mean@k so far, of those that can be compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step after which it was measured; 0 is the policy before the first step.
    pub step: u64,
    /// Its Mean@k on the problems that every evaluation of the run measures.
    pub score: f64,
    /// k.
    pub k: usize,
    /// The number of these problems.
    pub problems: usize,
}

impl Best {
    /// What an evaluation after a step says of the policy, if it says something. `common` are the problems that every
    /// evaluation of the run measures.
    pub(super) fn candidate(step: u64, k: usize, common: &[Answers]) -> Option<Self> {
        Some(Self {
            step,
            score: mean_at_k(common)?,
            k,
            problems: common.len(),
        })
    }

    /// Whether this one takes the place of `other`. Of equal ones the first stays; one that was measured on other
    /// problems, as the config was changed meanwhile, is no measure any more.
    fn replaces(&self, other: &Self) -> bool {
        (self.k, self.problems) != (other.k, other.problems) || self.score > other.score
    }

    /// Takes the place of `best` if it is better, adds both to the metrics, and returns whether it has.
    pub(super) fn compete(self, best: &mut Option<Self>, metrics: &mut Metrics) -> bool {
        metrics.add("evaluate/score", self.score);
        let is_best = best.as_ref().is_none_or(|best| self.replaces(best));
        if is_best {
            *best = Some(self);
        }
        if let Some(best) = best {
            metrics.add("evaluate/best_score", best.score);
            metrics.add("evaluate/best_step", best.step as f64);
        }
        is_best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_highest_is_the_best() {
        let mut best = None;
        for (step, score, problems, is_best, best_step) in [
            (0, 0.25, 8, true, 0.0),
            (10, 0.5, 8, true, 10.0),
            (20, 0.5, 8, false, 10.0),
            (30, 0.375, 8, false, 10.0),
            // Measured on other problems from here on.
            (40, 0.25, 4, true, 40.0),
            (50, 0.125, 4, false, 40.0),
        ] {
            let mut metrics = Metrics::new(step, "train");
            let candidate = Best {
                step,
                score,
                k: 2,
                problems,
            };
            assert_eq!(
                candidate.compete(&mut best, &mut metrics),
                is_best,
                "{step}"
            );
            assert_eq!(metrics.get("evaluate/score"), Some(score));
            assert_eq!(metrics.get("evaluate/best_step"), Some(best_step));
        }
    }
}
