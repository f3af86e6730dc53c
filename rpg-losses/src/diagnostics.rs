//! What a step reports besides its loss.

use crate::aggregate::to_float;
use crate::divergence;
use crate::formula::Exponentiated;
use crate::ratios::{MAX_LOG_RATIO, Ratios};
use crate::terms::ClipFlags;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};
use std::collections::BTreeMap;

/// Declares [`DiagnosticSums`]: the order of the fields is the order in the tensor.
macro_rules! sums {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Sums over tokens and units (tokens, or responses at the sequence levels), in a fixed order.
        ///
        /// The scalar reference and the tensor code both fill this record.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(crate) struct DiagnosticSums { $($(#[$doc])* pub(crate) $name: f64,)+ }

        /// Number of sums a [`Diagnostics`] holds.
        pub(crate) const N_SUMS: usize = [$(stringify!($name)),+].len();

        impl DiagnosticSums {
            pub(crate) fn to_array(self) -> [f64; N_SUMS] {
                [$(self.$name),+]
            }

            pub(crate) fn from_array(sums: [f64; N_SUMS]) -> Self {
                let [$($name),+] = sums;
                Self { $($name),+ }
            }
        }
    };
}

sums! {
    n_tokens,
    n_units,
    loss,
    // Over units.
    clipped_low,
    clipped_high,
    clipped_dual,
    weight,
    weight_squared,
    kl,
    clamped,
    masked,
    // Over tokens, at every level.
    old_k1,
    old_squares,
    old_k3,
    ref_k1,
    ref_squares,
    ref_k3,
}

impl DiagnosticSums {
    /// Adds the sums of other tokens.
    pub(crate) fn add(&mut self, other: &Self) {
        let (sums, other) = (self.to_array(), other.to_array());
        *self = Self::from_array(std::array::from_fn(|idx| sums[idx] + other[idx]));
    }

    /// The named metrics; see the table at [`Diagnostics`].
    pub(crate) fn metrics(self) -> BTreeMap<String, f64> {
        let per_unit = |sum: f64| sum / self.n_units.max(1.0);
        let per_token = |sum: f64| sum / self.n_tokens.max(1.0);
        let [eff_sample_size, chi2] = spread(self.n_units, self.weight, self.weight_squared);
        let clipped = self.clipped_low + self.clipped_high;
        [
            ("actor/pg_loss", self.loss),
            ("actor/pg_clipfrac", per_unit(clipped)),
            ("actor/pg_clipfrac_lower", per_unit(self.clipped_dual)),
            ("clip_ratio/low_mean", per_unit(self.clipped_low)),
            ("clip_ratio/high_mean", per_unit(self.clipped_high)),
            ("actor/weight_mean", per_unit(self.weight)),
            ("actor/eff_sample_size", eff_sample_size),
            ("actor/chi2", chi2),
            ("actor/kl_loss", per_unit(self.kl)),
            ("actor/log_ratio_clamped", self.clamped),
            ("actor/sequence_masked", per_unit(self.masked)),
            ("actor/ppo_kl", per_token(self.old_k1)),
            ("actor/ppo_kl_k2", 0.5 * per_token(self.old_squares)),
            ("actor/ppo_kl_k3", per_token(self.old_k3)),
            ("actor/ref_kl_k1", per_token(self.ref_k1)),
            ("actor/ref_kl_k2", 0.5 * per_token(self.ref_squares)),
            ("actor/ref_kl_k3", per_token(self.ref_k3)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }
}

/// Effective sample size and chi-square of `n` weights with this sum and sum of squares; 0 of none.
pub(crate) fn spread(n: f64, sum: f64, squares: f64) -> [f64; 2] {
    if n == 0.0 {
        return [0.0; 2];
    }
    [sum / n * (sum / squares), squares / n - 1.0]
}

/// Sums over one micro-batch, still on the device; merge those of a step, then read once.
///
/// A unit is a token, or a response at the two sequence levels. Masked units do not count.
///
/// | metric | meaning |
/// | --- | --- |
/// | `actor/pg_loss` | the loss itself, KL term included |
/// | `actor/pg_clipfrac` | share of units clipped at `1-eps_low` or `1+eps_high` |
/// | `actor/pg_clipfrac_lower` | share of units with negative advantage clipped at `c` |
/// | `clip_ratio/low_mean`, `clip_ratio/high_mean` | the two parts of `pg_clipfrac` |
/// | `actor/weight_mean` | mean importance weight `w` over units |
/// | `actor/eff_sample_size` | effective sample size of the `n` units as a share of them, `(sum w)^2 / (n * sum w^2)` |
/// | `actor/chi2` | mean of `w^2` over units, less 1: estimates the chi-square divergence of `pi` from `pi_old` |
/// | `actor/kl_loss` | mean over units of `w*k3(exp(-u))`, the unbiased estimate of `KL(pi, ref)` |
/// | `actor/ppo_kl`, `actor/ppo_kl_k2`, `actor/ppo_kl_k3` | mean over tokens of `k1`, `k2`, `k3` of `w`: `lp_old - lp`, `(lp - lp_old)^2/2`, `w - 1 - (lp - lp_old)`; the first and the last estimate `KL(pi_old, pi)` |
/// | `actor/ref_kl_k1`, `actor/ref_kl_k2`, `actor/ref_kl_k3` | mean over tokens of `k1`, `k2`, `k3` of `exp(-u)`: `u`, `u^2/2`, `exp(-u) - 1 + u`; without importance weight, so that they estimate `KL(pi, ref)` only while `pi` is near `pi_old` |
/// | `actor/log_ratio_clamped` | number of units whose log-ratio was clamped before `exp` |
/// | `actor/sequence_masked` | share of units whose advantage `sequence_mask` has set to 0 |
#[derive(Debug, Clone)]
pub struct Diagnostics<B: Backend> {
    sums: Tensor<B, 1>, // [N_SUMS]
}

impl<B: Backend> Diagnostics<B> {
    /// Adds up another micro-batch of the same step.
    pub fn merge(self, other: Self) -> Self {
        Self {
            sums: self.sums + other.sums,
        }
    }

    /// Reads the sums back and forms the metrics: one synchronisation.
    pub fn read(self) -> BTreeMap<String, f64> {
        Self::metrics(&self.read_sums())
    }

    /// Reads the sums back. They add up over micro-batches and over processes; [`metrics`](Self::metrics) takes
    /// those of a whole step.
    pub fn read_sums(self) -> Vec<f64> {
        self.sums.into_data().iter::<f64>().collect()
    }

    /// The metrics of a step from its sums.
    ///
    /// # Panics
    /// If these are not as many as [`read_sums`](Self::read_sums) returns.
    pub fn metrics(sums: &[f64]) -> BTreeMap<String, f64> {
        let sums: [f64; N_SUMS] = sums
            .try_into()
            .expect("the sums of a step are as many as those of a micro-batch");
        DiagnosticSums::from_array(sums).metrics()
    }

    pub(crate) fn from_sums(sums: Tensor<B, 1>) -> Self {
        Self { sums }
    }

    #[cfg(test)]
    pub(crate) fn into_sums(self) -> Tensor<B, 1> {
        self.sums
    }
}

/// What the sums of a micro-batch are made of; the ratios must be constants.
pub(crate) struct Observed<B: Backend> {
    /// Of the units, `[B, U]`.
    pub(crate) units: Ratios<B>,
    /// Of the tokens, `[B, T]`, if those are not the units. All log-ratios are 0 where a token is masked.
    pub(crate) tokens: Option<Ratios<B>>,
    /// Where the trust region acted on the units.
    pub(crate) flags: ClipFlags<B>,
    /// `[B, U]`.
    pub(crate) unit_mask: Tensor<B, 2, Bool>,
    /// `[1]`.
    pub(crate) n_tokens: Tensor<B, 1>,
    /// `[1]`.
    pub(crate) loss: Tensor<B, 1>,
}

/// The sums of one micro-batch.
pub(crate) fn collect<B: Backend>(
    observed: Observed<B>,
    exponentiated: Exponentiated,
) -> Diagnostics<B> {
    let Observed { units, tokens, .. } = observed;
    let (flags, unit_mask) = (observed.flags, observed.unit_mask);
    let dtype = units.w.dtype();
    let count = |flag: Tensor<B, 2, Bool>| to_float(flag.bool_and(unit_mask.clone()), dtype).sum();
    let beyond = |x: &Tensor<B, 2>| x.clone().abs().greater_elem(MAX_LOG_RATIO);
    let mut clamped = beyond(&units.log_w);
    if exponentiated.log_r {
        clamped = clamped.bool_or(beyond(&units.log_r));
    }
    if exponentiated.u {
        clamped = clamped.bool_or(beyond(&units.u));
    }
    let squares = |x: Tensor<B, 2>| (x.clone() * x).sum();
    let weights = units.w.clone().mask_fill(unit_mask.clone().bool_not(), 0.0);
    let k3_of_units = divergence::k3(&units);
    let kl = (units.w.clone() * k3_of_units.clone()).sum(); // Masked units have a `k3` of 0.
    let (tokens, k3_of_tokens) = match tokens {
        Some(tokens) => (tokens.clone(), divergence::k3(&tokens)),
        None => (units, k3_of_units),
    };
    let sums: [Tensor<B, 1>; N_SUMS] = [
        // In the order of `DiagnosticSums`.
        observed.n_tokens,
        to_float(unit_mask.clone(), dtype).sum(),
        observed.loss,
        count(flags.low),
        count(flags.high),
        count(flags.dual),
        weights.clone().sum(),
        squares(weights),
        kl,
        count(clamped),
        count(flags.masked),
        // Masked tokens have estimates of 0.
        -tokens.log_w.clone().sum(),
        squares(tokens.log_w.clone()),
        (tokens.w - 1.0 - tokens.log_w).sum(),
        tokens.u.clone().sum(),
        squares(tokens.u),
        k3_of_tokens.sum(),
    ];
    Diagnostics::from_sums(Tensor::cat(sums.into(), 0))
}

#[cfg(test)]
mod tests {
    use crate::aggregate::StepTotals;
    use crate::choices::{Clip, Estimator};
    use crate::config::ObjectiveConfig;
    use crate::objectives::Kind;
    use crate::objectives::spec::{Parts, TrustRegion};
    use crate::reference::{Batch, evaluate};

    /// Every kind, and every form of RPG.
    fn configurations() -> Vec<ObjectiveConfig> {
        let mut configs: Vec<ObjectiveConfig> = (Kind::ALL.iter())
            .map(|kind| ObjectiveConfig::for_kind(*kind))
            .collect();
        for estimator in Estimator::ALL {
            for clip in Clip::ALL {
                for kl_in_clip in [true, false] {
                    configs.push(ObjectiveConfig {
                        estimator: *estimator,
                        clip: *clip,
                        kl_in_clip,
                        ..ObjectiveConfig::default()
                    });
                }
            }
        }
        configs
    }

    #[test]
    fn every_trust_region_reports_on_which_side_it_acts() {
        // w = 1/8 with A < 0, 4 with A > 0, 32 with A < 0, 1.
        let logp_old = [8.0_f64, 0.25, 1.0 / 32.0, 1.0].map(|x| vec![x.ln() - 2.0]);
        let advantages = [-1.0, 1.0, -1.0, 1.0].map(|a| vec![a]);
        let batch = Batch {
            logp: &vec![vec![-2.0]; 4],
            logp_old: &logp_old,
            logp_ref: &logp_old,
            advantages: &advantages,
            weights: None,
            mask: &vec![vec![true]; 4],
        };
        let totals = StepTotals {
            n_tokens: 4,
            n_responses: 4,
            max_length: 1,
        };
        // These bound a divergence in place of `w`.
        let bounds_weight =
            |config: &ObjectiveConfig| !matches!(config.kind, Kind::DppoTv | Kind::DppoKl);
        for config in configurations().into_iter().filter(bounds_weight) {
            let config = ObjectiveConfig {
                beta: 0.0,
                eps_low: 0.5,
                eps_high: 0.5,
                c: Some(10.0),
                ..config
            };
            let region = match config.kind.spec().parts {
                Parts::Composed => config.form().spec().trust_region,
                Parts::Fixed { trust_region, .. } => trust_region,
            };
            let expected = match region {
                TrustRegion::Open | TrustRegion::Gate => [0.0, 0.0, 0.0],
                TrustRegion::Interval if config.kind == Kind::Gmpo => [0.25, 0.25, 0.0],
                // A weight outside is truncated whatever the advantage.
                TrustRegion::Interval => [0.25, 0.5, 0.0],
                TrustRegion::Dual => [0.25, 0.25, 0.25],
            };
            let metrics = evaluate(&config, batch, &totals).metrics;
            let names = [
                "clip_ratio/low_mean",
                "clip_ratio/high_mean",
                "actor/pg_clipfrac_lower",
            ];
            assert_eq!(names.map(|name| metrics[name]), expected, "{config:?}");
            assert_eq!(metrics["actor/pg_clipfrac"], expected[0] + expected[1]);
        }
    }
}
