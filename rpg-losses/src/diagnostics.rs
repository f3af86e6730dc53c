//! What a step reports besides its loss.

use crate::aggregate::to_float;
use crate::divergence;
use crate::formula::Exponentiated;
use crate::ratios::{MAX_LOG_RATIO, Ratios};
use crate::terms::ClipFlags;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};
use std::collections::BTreeMap;

/// Number of sums a [`Diagnostics`] holds.
pub(crate) const N_SUMS: usize = 11;

/// Sums over tokens and units (tokens, or responses at the sequence levels), in a fixed order.
///
/// The scalar reference and the tensor code both fill this record; the order of the fields is the
/// order in the tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct DiagnosticSums {
    pub(crate) n_tokens: f64,
    pub(crate) n_units: f64,
    pub(crate) loss: f64,
    pub(crate) clipped_low: f64,
    pub(crate) clipped_high: f64,
    pub(crate) clipped_dual: f64,
    pub(crate) ppo_kl: f64,
    pub(crate) kl: f64,
    pub(crate) weight: f64,
    pub(crate) clamped: f64,
    pub(crate) masked: f64,
}

impl DiagnosticSums {
    pub(crate) fn to_array(self) -> [f64; N_SUMS] {
        [
            self.n_tokens,
            self.n_units,
            self.loss,
            self.clipped_low,
            self.clipped_high,
            self.clipped_dual,
            self.ppo_kl,
            self.kl,
            self.weight,
            self.clamped,
            self.masked,
        ]
    }

    pub(crate) fn from_array(sums: [f64; N_SUMS]) -> Self {
        let [
            n_tokens,
            n_units,
            loss,
            clipped_low,
            clipped_high,
            clipped_dual,
            ppo_kl,
            kl,
            weight,
            clamped,
            masked,
        ] = sums;
        Self {
            n_tokens,
            n_units,
            loss,
            clipped_low,
            clipped_high,
            clipped_dual,
            ppo_kl,
            kl,
            weight,
            clamped,
            masked,
        }
    }

    /// Adds the sums of other tokens.
    pub(crate) fn add(&mut self, other: &Self) {
        let (sums, other) = (self.to_array(), other.to_array());
        *self = Self::from_array(std::array::from_fn(|idx| sums[idx] + other[idx]));
    }

    /// The named metrics; see the table at [`Diagnostics`].
    pub(crate) fn metrics(self) -> BTreeMap<String, f64> {
        let per_unit = |sum: f64| sum / self.n_units.max(1.0);
        [
            ("actor/pg_loss", self.loss),
            (
                "actor/pg_clipfrac",
                per_unit(self.clipped_low + self.clipped_high),
            ),
            ("actor/pg_clipfrac_lower", per_unit(self.clipped_dual)),
            ("clip_ratio/low_mean", per_unit(self.clipped_low)),
            ("clip_ratio/high_mean", per_unit(self.clipped_high)),
            ("actor/ppo_kl", self.ppo_kl / self.n_tokens.max(1.0)),
            ("actor/kl_loss", per_unit(self.kl)),
            ("actor/weight_mean", per_unit(self.weight)),
            ("actor/log_ratio_clamped", self.clamped),
            ("actor/sequence_masked", per_unit(self.masked)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }
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
/// | `actor/ppo_kl` | mean of `lp_old - lp` over tokens |
/// | `actor/kl_loss` | mean of `w*k3(exp(-u))`, the unbiased estimate of `KL(pi, ref)` |
/// | `actor/weight_mean` | mean importance weight |
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

/// The sums of one micro-batch; the ratios must be constants. `unit_mask` is `[B, U]`.
pub(crate) fn collect<B: Backend>(
    ratios: Ratios<B>,
    flags: ClipFlags<B>,
    exponentiated: Exponentiated,
    unit_mask: Tensor<B, 2, Bool>,
    ppo_kl: Tensor<B, 1>,
    n_tokens: Tensor<B, 1>,
    loss: Tensor<B, 1>,
) -> Diagnostics<B> {
    let dtype = ratios.w.dtype();
    let count = |flag: Tensor<B, 2, Bool>| to_float(flag.bool_and(unit_mask.clone()), dtype).sum();
    let sum = |values: Tensor<B, 2>| values.mask_fill(unit_mask.clone().bool_not(), 0.0).sum();
    let beyond = |x: &Tensor<B, 2>| x.clone().abs().greater_elem(MAX_LOG_RATIO);
    let mut clamped = beyond(&ratios.log_w);
    if exponentiated.log_r {
        clamped = clamped.bool_or(beyond(&ratios.log_r));
    }
    if exponentiated.u {
        clamped = clamped.bool_or(beyond(&ratios.u));
    }
    let k3 = divergence::k3(&ratios);
    // In the order of `DiagnosticSums::to_array`.
    let sums = vec![
        n_tokens,
        to_float(unit_mask.clone(), dtype).sum(),
        loss,
        count(flags.low),
        count(flags.high),
        count(flags.dual),
        ppo_kl,
        sum(ratios.w.clone() * k3),
        sum(ratios.w),
        count(clamped),
        count(flags.masked),
    ];
    Diagnostics::from_sums(Tensor::cat(sums, 0))
}
