//! The third policy: corrections where the sampler is not `pi_old`.
//!
//! A server with other kernels, rollouts in 8 bits or weights a few updates old sample from a policy `pi_roll` of
//! their own. With `v = exp(lp_old - lp_roll)` a token's loss is multiplied by a constant that makes up for it.
//! Untruncated, at level `sequence`, and where `pi_roll` can sample all that `pi_old` can, the expected gradient is
//! that of samples from `pi_old`.

use crate::choices::named_enum;
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
    /// Whether its numbers are in their ranges.
    pub(crate) fn is_valid(&self) -> bool {
        let is_bound = |x: f64| x.is_finite() && x > 0.0;
        is_bound(self.max)
            && (0.0..=self.max).contains(&self.min)
            && self.reject.is_none_or(|reject| is_bound(reject.max))
    }

    /// The factor for a ratio.
    fn factor(&self, v: f64) -> f64 {
        match self.mode {
            RolloutMode::Truncate => v.min(self.max),
            RolloutMode::Mask if (self.min..=self.max).contains(&v) => v,
            RolloutMode::Mask => 0.0,
        }
    }
}

/// What the losses of a step's tokens are multiplied by.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RolloutWeights {
    /// A constant per token, `[B][T]`; 0 where the mask is false. Tokens with 0 still count in the denominators.
    pub weights: Vec<Vec<f64>>,
    /// Of the mismatch:
    ///
    /// | metric | meaning |
    /// | --- | --- |
    /// | `rollout/v_mean`, `rollout/v_max` | mean and largest `v`, over tokens or, at the other levels, responses |
    /// | `rollout/ess` | effective sample size, `(sum v)^2 / (n * sum v^2)` |
    /// | `rollout/chi_square` | mean of `v^2`, less 1 |
    /// | `rollout/masked` | share of tokens with weight 0 |
    /// | `rollout/k1`, `rollout/k2`, `rollout/k3` | mean over tokens of `-log v`, `(log v)^2/2`, `v - 1 - log v` of the token |
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
        let log_v = |idx: &usize| logp_old[row][*idx] - logp_rollout[row][*idx];
        let ratios: Vec<f64> = tokens.iter().map(log_v).collect();
        let n = ratios.len() as f64;
        let total: f64 = ratios.iter().sum();
        let shared = match correction.level {
            RolloutLevel::Token => None,
            RolloutLevel::Sequence => Some(exp_clamped(total)),
            RolloutLevel::Geometric => Some(exp_clamped(total / n)),
        };
        if n > 0.0 {
            shared.into_iter().for_each(|v| sums.add_ratio(v));
        }
        let is_rejected = correction.reject.is_some_and(|reject| {
            let kl: f64 = match reject.kl {
                MismatchKl::K1 => -total,
                MismatchKl::K3 => ratios.iter().map(|x| exp_clamped(*x) - 1.0 - x).sum(),
            };
            kl > reject.max * n
        });
        for (idx, log_v) in tokens.into_iter().zip(ratios) {
            let v = exp_clamped(log_v);
            if shared.is_none() {
                sums.add_ratio(v);
            }
            let factor = correction.factor(shared.unwrap_or(v));
            weights[row][idx] = if is_rejected { 0.0 } else { factor };
            sums.add_token(v, log_v, weights[row][idx]);
        }
    }
    RolloutWeights {
        weights,
        metrics: sums.metrics(),
    }
}

#[derive(Debug, Default)]
struct Sums {
    n: f64,
    v: f64,
    squares: f64,
    max: f64,
    n_tokens: f64,
    masked: f64,
    k: [f64; 3],
}

impl Sums {
    fn add_ratio(&mut self, v: f64) {
        self.n += 1.0;
        self.v += v;
        self.squares += v * v;
        self.max = self.max.max(v);
    }

    fn add_token(&mut self, v: f64, log_v: f64, weight: f64) {
        self.n_tokens += 1.0;
        self.masked += f64::from(u8::from(weight == 0.0));
        let estimates = [-log_v, 0.5 * log_v * log_v, v - 1.0 - log_v];
        for (sum, estimate) in self.k.iter_mut().zip(estimates) {
            *sum += estimate;
        }
    }

    fn metrics(self) -> BTreeMap<String, f64> {
        let [k1, k2, k3] = self.k.map(|sum| sum / self.n_tokens.max(1.0));
        let (ess, chi_square) = if self.n > 0.0 {
            let ess = self.v * self.v / (self.n * self.squares);
            (ess, self.squares / self.n - 1.0)
        } else {
            (0.0, 0.0)
        };
        [
            ("rollout/v_mean", self.v / self.n.max(1.0)),
            ("rollout/v_max", self.max),
            ("rollout/ess", ess),
            ("rollout/chi_square", chi_square),
            ("rollout/masked", self.masked / self.n_tokens.max(1.0)),
            ("rollout/k1", k1),
            ("rollout/k2", k2),
            ("rollout/k3", k3),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }
}
