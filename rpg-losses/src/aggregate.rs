//! From losses per token or response to the loss of one optimizer step.

use crate::choices::Aggregation;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// Sizes of one whole optimizer step.
///
/// Every loss is divided by these and not by the sizes of its micro-batch, so that losses and
/// gradients of micro-batches add up to those of the step, however it is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTotals {
    /// Unmasked tokens in all responses of the step.
    pub n_tokens: usize,
    /// Responses of the step, those without unmasked tokens included.
    pub n_responses: usize,
    /// The divisor of [`Aggregation::Constant`] where the config sets none.
    pub max_length: usize,
}

impl StepTotals {
    /// The totals of a step that consists of these responses.
    pub fn from_mask(mask: &[Vec<bool>]) -> Self {
        Self {
            n_tokens: mask.iter().flatten().filter(|is_token| **is_token).count(),
            n_responses: mask.len(),
            max_length: mask.iter().map(Vec::len).max().unwrap_or(0),
        }
    }

    /// The weight of a token (or of the response, for `seq_mean`) in a response of this length.
    ///
    /// | aggregation | weight |
    /// | --- | --- |
    /// | `token_mean` | `1 / n_tokens` |
    /// | `seq_mean_token_sum`, `seq_mean` | `1 / n_responses` |
    /// | `seq_mean_token_mean` | `1 / (n_responses * length)` |
    /// | `constant` | `1 / (n_responses * max_length)` |
    ///
    /// In a step in which nothing counts the divisor would be 0; it is taken as 1.
    pub fn weight(&self, aggregation: Aggregation, length: usize) -> f64 {
        let divisor = match aggregation {
            Aggregation::TokenMean => self.n_tokens as f64,
            Aggregation::SeqMeanTokenSum | Aggregation::SeqMean => self.n_responses as f64,
            Aggregation::SeqMeanTokenMean => self.n_responses as f64 * length as f64,
            Aggregation::Constant => self.n_responses as f64 * self.max_length as f64,
        };
        if divisor > 0.0 { 1.0 / divisor } else { 1.0 }
    }
}

/// The sum of unit losses `[B, U]`, each with its weight in the step: a tensor `[1]`.
///
/// `mask` is that of the tokens, `[B, T]`. At the sequence levels (`U = 1`) a response counts if
/// any of its tokens does. Masked units add exactly nothing.
pub fn aggregate<B: Backend>(
    aggregation: Aggregation,
    unit_losses: Tensor<B, 2>,
    mask: &Tensor<B, 2, Bool>,
    totals: &StepTotals,
) -> Tensor<B, 1> {
    let dtype = unit_losses.dtype();
    let unmasked = |losses: Tensor<B, 2>| losses.mask_fill(mask.clone().bool_not(), 0.0);
    match aggregation {
        Aggregation::SeqMean => {
            let is_empty = lengths(mask, dtype).lower_elem(0.5);
            let weighted = unit_losses * totals.weight(aggregation, 1);
            weighted.mask_fill(is_empty, 0.0).sum()
        }
        Aggregation::SeqMeanTokenMean => {
            let per_response =
                unmasked(unit_losses).sum_dim(1) / lengths(mask, dtype).clamp_min(1.0);
            (per_response * totals.weight(Aggregation::SeqMeanTokenSum, 1)).sum()
        }
        Aggregation::TokenMean | Aggregation::SeqMeanTokenSum | Aggregation::Constant => {
            (unmasked(unit_losses) * totals.weight(aggregation, 1)).sum()
        }
    }
}

/// Unmasked tokens per response, `[B, 1]`.
pub(crate) fn lengths<B: Backend>(mask: &Tensor<B, 2, Bool>, dtype: DType) -> Tensor<B, 2> {
    to_float(mask.clone(), dtype).sum_dim(1)
}

/// 1 where true, 0 where false.
pub(crate) fn to_float<B: Backend, const D: usize>(
    mask: Tensor<B, D, Bool>,
    dtype: DType,
) -> Tensor<B, D> {
    mask.cast(FloatDType::from(dtype))
}
