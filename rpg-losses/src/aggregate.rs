//! From losses per token or response to the loss of one optimizer step.

use crate::choices::Aggregation;
use crate::config::ObjectiveConfig;
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

/// The share of a micro-batch in the step's mean of a value of tokens, `[B, T]`, as the objective aggregates losses of
/// tokens: a tensor `[1]`. At the sequence levels, which have none, every response has the mean of its tokens.
pub fn aggregate_tokens<B: Backend>(
    config: &ObjectiveConfig,
    values: Tensor<B, 2>,
    mask: &Tensor<B, 2, Bool>,
    totals: &StepTotals,
) -> Tensor<B, 1> {
    let aggregation = if config.aggregation == Aggregation::SeqMean {
        Aggregation::SeqMeanTokenMean
    } else {
        config.aggregation
    };
    aggregate(aggregation, values, mask, &config.totals(totals))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Level;
    use burn::backend::Flex;

    #[test]
    fn values_of_tokens_are_aggregated_as_their_losses() {
        let device = Default::default();
        let values = Tensor::<Flex, 2>::from_floats([[1.0, 2.0, 99.0], [4.0, 99.0, 99.0]], &device);
        let mask = Tensor::<Flex, 2, Bool>::from_bool(
            [[true, true, false], [true, false, false]].into(),
            &device,
        );
        // Half of a step.
        let totals = StepTotals {
            n_tokens: 6,
            n_responses: 4,
            max_length: 5,
        };
        let mut config = ObjectiveConfig::default();
        for (aggregation, expected) in [
            (Aggregation::TokenMean, 7.0 / 6.0),
            (Aggregation::SeqMeanTokenSum, 7.0 / 4.0),
            (Aggregation::SeqMeanTokenMean, 5.5 / 4.0),
            (Aggregation::SeqMean, 5.5 / 4.0),
            (Aggregation::Constant, 7.0 / 8.0),
        ] {
            config.aggregation = aggregation;
            config.level = if aggregation.is_of_sequences() {
                Level::Sequence
            } else {
                Level::Token
            };
            config.max_length = (aggregation == Aggregation::Constant).then_some(2);
            let found: f32 =
                aggregate_tokens(&config, values.clone(), &mask, &totals).into_scalar();
            assert!((found - expected).abs() < 1e-6, "{aggregation}: {found}");
        }
    }
}
