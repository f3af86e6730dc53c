//! Every objective in plain f64: the loss and its closed-form gradient, without tensors.
//!
//! This is what `rpg loss` prints and what the tensor code is verified against.

use crate::aggregate::StepTotals;
use crate::choices::{Aggregation, Level};
use crate::config::ObjectiveConfig;
use crate::diagnostics::DiagnosticSums;
use crate::formula::{Formula, UnitRatios};
use crate::response::Shared;
use std::collections::BTreeMap;

pub use crate::formula::{Unit, UnitLoss, unit_loss};
pub use crate::terms::ClipEvent;

/// The loss of a step, its gradient and its metrics.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The loss.
    pub loss: f64,
    /// Its derivative with respect to each log-probability, `[B][T]`; 0 where masked.
    pub grad: Vec<Vec<f64>>,
    /// The metrics of [`crate::Diagnostics`].
    pub metrics: BTreeMap<String, f64>,
}

/// A step's responses in plain vectors, `[B][T]` each.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Log-probabilities under the policy being trained.
    pub logp: &'a [Vec<f64>],
    /// Under the sampling policy.
    pub logp_old: &'a [Vec<f64>],
    /// Under the reference policy.
    pub logp_ref: &'a [Vec<f64>],
    /// Advantage of each token.
    pub advantages: &'a [Vec<f64>],
    /// What the loss of each token is multiplied by; absent: 1.
    pub weights: Option<&'a [Vec<f64>]>,
    /// True where a token counts.
    pub mask: &'a [Vec<bool>],
}

/// The loss of a batch, its gradient and its metrics.
///
/// The same function as [`crate::policy_loss`], token by token in f64.
///
/// # Panics
/// If a row of the batch is missing or shorter than its mask.
pub fn evaluate(config: &ObjectiveConfig, batch: Batch<'_>, totals: &StepTotals) -> Evaluation {
    let evaluator = RowEvaluator::new(config, totals);
    let mut sums = DiagnosticSums::default();
    let mut grad: Vec<Vec<f64>> = Vec::with_capacity(batch.mask.len());
    for (row, mask) in batch.mask.iter().enumerate() {
        let mut row_grad = vec![0.0; mask.len()];
        let write = |idx: usize, grad: f64| row_grad[idx] = grad;
        evaluator.evaluate(&BatchRow { batch, row }, write, &mut sums);
        grad.push(row_grad);
    }
    Evaluation {
        loss: sums.loss,
        grad,
        metrics: sums.metrics(),
    }
}

/// The tokens of one response, however they are stored.
pub(crate) trait TokenRow {
    /// True where a token counts.
    fn mask(&self) -> &[bool];

    /// What the loss of a token is multiplied by, where the mask is true.
    fn weight(&self, idx: usize) -> f64;

    /// The token at a position where the mask is true.
    fn token(&self, idx: usize) -> Unit;
}

struct BatchRow<'a> {
    batch: Batch<'a>,
    row: usize,
}

impl TokenRow for BatchRow<'_> {
    fn mask(&self) -> &[bool] {
        &self.batch.mask[self.row]
    }

    fn weight(&self, idx: usize) -> f64 {
        let weights = self.batch.weights;
        weights.map_or(1.0, |weights| weights[self.row][idx])
    }

    fn token(&self, idx: usize) -> Unit {
        Unit {
            lp: self.batch.logp[self.row][idx],
            lp_old: self.batch.logp_old[self.row][idx],
            lp_ref: self.batch.logp_ref[self.row][idx],
            advantage: self.batch.advantages[self.row][idx],
        }
    }
}

/// The configured loss, one response after another.
#[derive(Debug, Clone)]
pub(crate) struct RowEvaluator {
    formula: Formula,
    level: Level,
    aggregation: Aggregation,
    totals: StepTotals,
}

impl RowEvaluator {
    pub(crate) fn new(config: &ObjectiveConfig, totals: &StepTotals) -> Self {
        Self {
            formula: Formula::new(config),
            level: config.level,
            aggregation: config.aggregation,
            totals: config.totals(totals),
        }
    }

    /// Adds the response to `sums` and passes the gradient of each of its tokens to `write`.
    pub(crate) fn evaluate(
        &self,
        row: &impl TokenRow,
        mut write: impl FnMut(usize, f64),
        sums: &mut DiagnosticSums,
    ) {
        let mask = row.mask();
        let tokens = || (0..mask.len()).filter(|idx| mask[*idx]);
        let length = mask.iter().filter(|is_token| **is_token).count();
        let weight = self.totals.weight(self.aggregation, length);
        sums.n_tokens += length as f64;
        let shared = self.formula.shared(tokens().map(|idx| row.token(idx)));
        if !self.level.is_sequence() {
            sums.n_units += length as f64;
            if shared == Shared::NOTHING {
                // The same with a constant, so that what most kinds do not read costs their loop nothing.
                self.add_tokens(row, &Shared::NOTHING, weight, write, sums);
            } else {
                self.add_tokens(row, &shared, weight, write, sums);
            }
        } else if length > 0 {
            let (response, share) = response_unit(self.level, tokens().map(|i| row.token(i)));
            let result = self.formula.evaluate(response, &shared);
            let factors: f64 = tokens().map(|idx| row.weight(idx)).sum();
            let weight = weight * factors / length as f64;
            sums.n_units += 1.0;
            tokens().for_each(|idx| sums.add_token(&UnitRatios::new(row.token(idx))));
            sums.add_unit(&result, weight);
            tokens().for_each(|idx| write(idx, weight * result.grad * share));
        }
    }

    /// Adds the tokens of a response, each with its loss.
    #[inline(always)]
    fn add_tokens(
        &self,
        row: &impl TokenRow,
        shared: &Shared,
        weight: f64,
        mut write: impl FnMut(usize, f64),
        sums: &mut DiagnosticSums,
    ) {
        let mask = row.mask();
        // The row's sums can stay in registers; the compiler cannot rule out that `write` changes `sums`.
        let mut row_sums = DiagnosticSums::default();
        for idx in (0..mask.len()).filter(|idx| mask[*idx]) {
            let token = row.token(idx);
            let ratios = UnitRatios::new(token);
            let result = self.formula.evaluate_at(token, &ratios, shared);
            row_sums.add_token(&ratios);
            let weight = weight * row.weight(idx);
            row_sums.add_unit(&result, weight);
            write(idx, weight * result.grad);
        }
        sums.add(&row_sums);
    }
}

/// A response as one unit, and the derivative of its log-probability in that of each token.
fn response_unit(level: Level, tokens: impl Iterator<Item = Unit>) -> (Unit, f64) {
    let mut length = 0.0;
    let mut sum = Unit {
        lp: 0.0,
        lp_old: 0.0,
        lp_ref: 0.0,
        advantage: 0.0,
    };
    for token in tokens {
        length += 1.0;
        sum.lp += token.lp;
        sum.lp_old += token.lp_old;
        sum.lp_ref += token.lp_ref;
        sum.advantage += token.advantage;
    }
    let share = match level {
        Level::SequenceNorm => 1.0 / length,
        Level::Sequence | Level::Token => 1.0,
    };
    let unit = Unit {
        lp: sum.lp * share,
        lp_old: sum.lp_old * share,
        lp_ref: sum.lp_ref * share,
        advantage: sum.advantage / length,
    };
    (unit, share)
}

impl DiagnosticSums {
    /// The estimates of a token.
    #[inline(always)]
    pub(crate) fn add_token(&mut self, ratios: &UnitRatios) {
        let UnitRatios { log_w, w, u, y, .. } = *ratios;
        self.old_k1 -= log_w;
        self.old_squares += log_w * log_w;
        self.old_k3 += w - 1.0 - log_w;
        self.ref_k1 += u;
        self.ref_squares += u * u;
        self.ref_k3 += y - 1.0 + u;
    }

    #[inline(always)]
    pub(crate) fn add_unit(&mut self, unit: &UnitLoss, weight: f64) {
        self.loss += weight * unit.loss;
        let count = |event: ClipEvent| f64::from(u8::from(unit.clip == event));
        self.clipped_low += count(ClipEvent::Low);
        self.clipped_high += count(ClipEvent::High);
        self.clipped_dual += count(ClipEvent::Dual);
        self.weight += unit.weight;
        self.weight_squared += unit.weight * unit.weight;
        self.kl += unit.kl;
        if unit.is_masked {
            self.masked += 1.0;
        }
        self.clamped += f64::from(u8::from(unit.is_clamped));
    }
}
