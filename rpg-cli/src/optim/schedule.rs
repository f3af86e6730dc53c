//! The learning rate as a function of the update or step, both counted from 1.

use serde::{Deserialize, Serialize};

/// What the learning rate does after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// It stays constant.
    #[default]
    Constant,
    /// It falls along half a cosine to zero at the end of the run.
    Cosine,
    /// It stays constant, then falls linearly to zero over the last steps of the run.
    WarmupStableDecay,
}

/// Where a step is in its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The step, counted from 1.
    pub step: u64,
    /// The steps of the run; an estimate where the data decide when it ends.
    pub steps: u64,
    /// The share of the run that was done before the step, from 0 to 1.
    pub done: f64,
}

impl Place {
    /// A step of a run of so many.
    pub fn of(step: u64, steps: u64) -> Self {
        Self {
            step,
            steps,
            done: (step - 1) as f64 / steps as f64,
        }
    }
}

/// Rises linearly over `warmup` updates, then stays constant.
pub fn constant_with_warmup(lr: f64, warmup: u64, update: u64) -> f64 {
    lr * (update as f64 / warmup.max(1) as f64).min(1.0)
}

/// Rises linearly to 1 over the first fraction `warmup` of a run, then stays. `done` is the fraction of the run that
/// is done, from 0 to 1.
pub fn linear_warmup(warmup: f64, done: f64) -> f64 {
    if done < warmup { done / warmup } else { 1.0 }
}

/// Rises linearly to 1 over the first fraction `warmup` of a run, then falls along half a cosine to zero at its
/// end. `done` is the fraction of the run that is done, from 0 to 1.
pub fn cosine(warmup: f64, done: f64) -> f64 {
    if done < warmup {
        return linear_warmup(warmup, done);
    }
    let rest = ((done - warmup) / (1.0 - warmup).max(f64::EPSILON)).clamp(0.0, 1.0);
    0.5 * (1.0 + (std::f64::consts::PI * rest).cos())
}

/// 1 until the last `decay` of the `total` steps, then falls linearly to `1 / (decay + 1)` at step `total`. Steps
/// are counted from 1.
pub fn stable_decay(decay: u64, total: u64, step: u64) -> f64 {
    let left = (total + 1).saturating_sub(step);
    (left as f64 / (decay + 1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rates_rise_stay_and_fall() {
        assert_eq!(constant_with_warmup(2.0, 4, 1), 0.5);
        assert_eq!(constant_with_warmup(2.0, 4, 9), 2.0);
        assert_eq!(constant_with_warmup(2.0, 0, 1), 2.0);
        assert_eq!((cosine(0.1, 0.05), cosine(0.1, 0.1)), (0.5, 1.0));
        assert_eq!(cosine(0.0, 0.0), 1.0);
        let rates = [0.05, 0.1, 1.0].map(|done| linear_warmup(0.1, done));
        assert_eq!((rates, linear_warmup(0.0, 0.0)), ([0.5, 1.0, 1.0], 1.0));
        assert!((cosine(0.1, 0.55) - 0.5).abs() < 1e-12 && cosine(0.1, 1.0) < 1e-12);
        let rates: Vec<f64> = (1..=8).map(|step| stable_decay(3, 7, step)).collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(stable_decay(0, 7, 7), 1.0);
    }
}
