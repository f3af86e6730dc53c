//! The third policy: corrections where the sampler is not `pi_old`.
//!
//! A server with other kernels, rollouts in 8 bits or weights a few updates old sample from a policy `pi_roll` of
//! their own. With `v = exp(lp_old - lp_roll)` a token's loss is multiplied by a constant that makes up for it.
//! Untruncated, at level `sequence`, and where `pi_roll` can sample all that `pi_old` can, the expected gradient is
//! that of samples from `pi_old`.

use crate::choices::named_enum;
use crate::config::ObjectiveError;
use crate::diagnostics::spread;
use crate::formula::exp_clamped;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

named_enum! {
    /// What `v` is a ratio of.
    RolloutLevel {
        /// The probabilities of a token.
        Token = "token",
        /// Those of the whole response.
        Sequence = "sequence",
        /// The geometric means over the response's tokens.
        Geometric = "geometric",
    }
}

named_enum! {
    /// What happens to a `v` beyond its bounds.
    RolloutMode {
        /// It is `max` above `max` (truncated importance sampling).
        Truncate = "truncate",
        /// It is 0 below `min` and above `max` (masked importance sampling; IcePop at level `token`).
        Mask = "mask",
    }
}

named_enum! {
    /// The estimate of the mismatch by which responses are rejected.
    MismatchKl {
        /// `-log v`.
        K1 = "k1",
        /// `v - 1 - log v`.
        K3 = "k3",
    }
}

/// How losses are corrected for a sampler that is not `pi_old`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutCorrection {
    /// What `v` is a ratio of.
    pub level: RolloutLevel,
    /// What happens beyond the bounds.
    pub mode: RolloutMode,
    /// The lower bound, which only `mask` reads.
    pub min: f64,
    /// The upper bound.
    pub max: f64,
    /// Whether whole responses are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<Reject>,
}

/// Drops a response whose mismatch, the mean over its tokens, is above a bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// The estimate.
    pub kl: MismatchKl,
    /// The bound.
    pub max: f64,
}

impl Default for RolloutCorrection {
    fn default() -> Self {
        Self {
            level: RolloutLevel::Token,
            mode: RolloutMode::Truncate,
            min: 0.5,
            max: 2.0,
            reject: None,
        }
    }
}

impl RolloutCorrection {
    /// Refuses a number outside its range.
    pub(crate) fn check(&self) -> Result<(), ObjectiveError> {
        let refused = |key, found: f64, expected| {
            let found = found.to_string();
            Err(ObjectiveError::Value {
                key,
                found,
                expected,
            })
        };
        let is_bound = |x: f64| x.is_finite() && x > 0.0;
        let bound = "a finite number greater than 0";
        if !is_bound(self.max) {
            return refused("rollout_correction.max", self.max, bound);
        }
        if let Some(reject) = self.reject.filter(|reject| !is_bound(reject.max)) {
            return refused("rollout_correction.reject.max", reject.max, bound);
        }
        if self.reads_min() && !(0.0..=self.max).contains(&self.min) {
            return refused(
                "rollout_correction.min",
                self.min,
                "a number from 0 to `max`",
            );
        }
        Ok(())
    }

    /// Whether the lower bound has an effect.
    pub(crate) fn reads_min(&self) -> bool {
        self.mode == RolloutMode::Mask
    }
}

/// What the losses of a step's tokens are multiplied by.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RolloutWeights {
    /// A constant per token, `[B][T]`; 0 where the mask is false. Tokens with 0 still count in the denominators.
    pub weights: Vec<Vec<f64>>,
    /// Of the mismatch, under verl's names where it has them; of `v` before it is bounded:
    ///
    /// | metric | meaning |
    /// | --- | --- |
    /// | `rollout_corr/rollout_is_mean`, `.../rollout_is_max` | mean and largest `v`, over tokens or, at the other levels, responses |
    /// | `rollout_corr/rollout_is_eff_sample_size` | their effective sample size as a share of their number, `(sum v)^2 / (n * sum v^2)` |
    /// | `rollout_corr/rollout_is_oob_ratio` | share of them beyond the bounds: truncated or masked |
    /// | `rollout_corr/rollout_rs_masked_fraction` | share of tokens with weight 0 |
    /// | `rollout_corr/chi2_token`, `.../chi2_seq` | mean of `v^2` less 1, of tokens and of whole responses |
    /// | `rollout_corr/kl`, `.../k2_kl`, `.../k3_kl` | mean over tokens of `-log v`, `(log v)^2/2`, `v - 1 - log v` of the token |
    pub metrics: BTreeMap<String, f64>,
}

/// The factors of a step's tokens, and how far the sampler is from `pi_old`.
///
/// Log-ratios are clamped to 20 before `exp`, as everywhere.
///
/// # Panics
/// If a row is missing or shorter than its mask.
pub fn rollout_weights(
    correction: &RolloutCorrection,
    logp_old: &[Vec<f64>],
    logp_rollout: &[Vec<f64>],
    mask: &[Vec<bool>],
) -> RolloutWeights {
    let mut weights: Vec<Vec<f64>> = mask.iter().map(|row| vec![0.0; row.len()]).collect();
    let mut sums = Sums::default();
    for (row, row_mask) in mask.iter().enumerate() {
        let tokens: Vec<usize> = (0..row_mask.len()).filter(|idx| row_mask[*idx]).collect();
        if tokens.is_empty() {
            continue;
        }
        let log_v = |idx: &usize| logp_old[row][*idx] - logp_rollout[row][*idx];
        let log_ratios: Vec<f64> = tokens.iter().map(log_v).collect();
        let factors = correction.factors(&log_ratios, &mut sums);
        for (idx, factor) in tokens.into_iter().zip(factors) {
            weights[row][idx] = factor;
        }
    }
    RolloutWeights {
        weights,
        metrics: sums.metrics(),
    }
}

impl RolloutCorrection {
    /// The factors of a response's tokens from their `log v`, of which there is one at least.
    fn factors(&self, log_ratios: &[f64], sums: &mut Sums) -> Vec<f64> {
        let n = log_ratios.len() as f64;
        let total: f64 = log_ratios.iter().sum();
        let response = exp_clamped(total);
        let shared = match self.level {
            RolloutLevel::Token => None,
            RolloutLevel::Sequence => Some(response),
            RolloutLevel::Geometric => Some(exp_clamped(total / n)),
        };
        let is_rejected = self.reject.is_some_and(|reject| {
            let kl: f64 = match reject.kl {
                MismatchKl::K1 => -total,
                MismatchKl::K3 => log_ratios.iter().map(|x| exp_clamped(*x) - 1.0 - x).sum(),
            };
            kl > reject.max * n
        });
        sums.responses.add(response);
        if let Some(v) = shared {
            sums.add_ratio(v, self.is_beyond(v));
        }
        let factor = |log_v: &f64| {
            let v = exp_clamped(*log_v);
            if shared.is_none() {
                sums.add_ratio(v, self.is_beyond(v));
            }
            let factor = self.factor(shared.unwrap_or(v));
            let weight = if is_rejected { 0.0 } else { factor };
            sums.add_token(v, *log_v, weight);
            weight
        };
        log_ratios.iter().map(factor).collect()
    }

    /// Whether a ratio is truncated or masked.
    fn is_beyond(&self, v: f64) -> bool {
        match self.mode {
            RolloutMode::Truncate => v > self.max,
            RolloutMode::Mask => !(self.min..=self.max).contains(&v),
        }
    }

    /// The factor for a ratio.
    fn factor(&self, v: f64) -> f64 {
        match self.mode {
            RolloutMode::Truncate => v.min(self.max),
            RolloutMode::Mask if self.is_beyond(v) => 0.0,
            RolloutMode::Mask => v,
        }
    }
}

/// Some ratios.
#[derive(Debug, Default)]
struct Ratios {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Ratios {
    fn add(&mut self, v: f64) {
        self.n += 1.0;
        self.sum += v;
        self.squares += v * v;
    }

    /// Effective sample size and chi-square.
    fn spread(&self) -> [f64; 2] {
        spread(self.n, self.sum, self.squares)
    }
}

#[derive(Debug, Default)]
struct Sums {
    /// At the level of the correction.
    ratios: Ratios,
    beyond: f64,
    max: f64,
    tokens: Ratios,
    responses: Ratios,
    masked: f64,
    k: [f64; 3],
}

impl Sums {
    fn add_ratio(&mut self, v: f64, is_beyond: bool) {
        self.ratios.add(v);
        self.beyond += f64::from(u8::from(is_beyond));
        self.max = self.max.max(v);
    }

    fn add_token(&mut self, v: f64, log_v: f64, weight: f64) {
        self.tokens.add(v);
        self.masked += f64::from(u8::from(weight == 0.0));
        let estimates = [-log_v, 0.5 * log_v * log_v, v - 1.0 - log_v];
        for (sum, estimate) in self.k.iter_mut().zip(estimates) {
            *sum += estimate;
        }
    }

    fn metrics(self) -> BTreeMap<String, f64> {
        let per_ratio = |sum: f64| sum / self.ratios.n.max(1.0);
        let per_token = |sum: f64| sum / self.tokens.n.max(1.0);
        let [k1, k2, k3] = self.k.map(per_token);
        [
            ("rollout_is_mean", per_ratio(self.ratios.sum)),
            ("rollout_is_max", self.max),
            ("rollout_is_eff_sample_size", self.ratios.spread()[0]),
            ("rollout_is_oob_ratio", per_ratio(self.beyond)),
            ("rollout_rs_masked_fraction", per_token(self.masked)),
            ("chi2_token", self.tokens.spread()[1]),
            ("chi2_seq", self.responses.spread()[1]),
            ("kl", k1),
            ("k2_kl", k2),
            ("k3_kl", k3),
        ]
        .into_iter()
        .map(|(name, value)| (format!("rollout_corr/{name}"), value))
        .collect()
    }
}
