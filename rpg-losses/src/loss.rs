//! The entry point: a configured objective applied to a batch of tokens.

use crate::aggregate::{StepTotals, aggregate, lengths, to_float};
use crate::choices::Level;
use crate::config::ObjectiveConfig;
use crate::diagnostics::{self, Diagnostics, Observed};
use crate::formula::Formula;
use crate::fused;
use crate::inputs::{LossInputs, LossOutput};
use crate::ratios::Ratios;
use crate::terms::UnitLosses;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The loss of a micro-batch: its share of the loss of the whole step.
///
/// Losses, gradients and diagnostics of a step's micro-batches add up to those of the step.
/// `config` decides everything; see [`ObjectiveConfig`], and [`crate::objectives`] for the formulas.
/// The loss is to be minimised; its gradient reaches `logp` alone.
///
/// Where tensors are in host memory, the closed form is evaluated in one pass; elsewhere this is
/// [`policy_loss_from_operations`]. Both are verified against the same oracles.
///
/// # Panics
/// If the shapes of the inputs differ.
pub fn policy_loss<B: Backend>(
    config: &ObjectiveConfig,
    inputs: LossInputs<B>,
    totals: &StepTotals,
) -> LossOutput<B> {
    inputs.assert_shapes();
    if inputs.is_empty() {
        return empty_output(inputs.logp);
    }
    if fused::is_available::<B>(&inputs.logp.device(), inputs.logp.dtype()) {
        return fused::policy_loss(config, inputs, totals);
    }
    policy_loss_from_operations(config, inputs, totals)
}

/// [`policy_loss`] composed of tensor operations that are differentiated one by one.
///
/// # Panics
/// If the shapes of the inputs differ.
pub fn policy_loss_from_operations<B: Backend>(
    config: &ObjectiveConfig,
    inputs: LossInputs<B>,
    totals: &StepTotals,
) -> LossOutput<B> {
    inputs.assert_shapes();
    if inputs.is_empty() {
        return empty_output(inputs.logp);
    }
    let inputs = inputs.without_masked();
    let totals = config.totals(totals);
    let formula = Formula::new(config);
    let dtype = inputs.logp.dtype();
    let mask = inputs.mask.clone();
    let (ratios, units) = unit_losses(config.level, &formula, &inputs);
    let loss = aggregate(config.aggregation, units.losses, &mask, &totals);

    // Diagnostics report on the loss and must not prolong its graph.
    let constants = ratios.detach();
    let are_units_tokens = config.level == Level::Token && !formula.shares_weights();
    let tokens = (!are_units_tokens).then(|| token_ratios(&inputs).detach());
    let unit_mask = if config.level.is_sequence() {
        lengths(&mask, dtype).greater_elem(0.5)
    } else {
        mask.clone()
    };
    let observed = Observed {
        units: constants,
        tokens,
        flags: units.clipped,
        unit_mask,
        n_tokens: to_float(mask, dtype).sum(),
        loss: loss.clone().detach(), // A reported number.
    };
    let diagnostics = diagnostics::collect(observed, formula.exponentiated);
    LossOutput { loss, diagnostics }
}

/// The loss of every unit before aggregation: `[B, T]` at token level, `[B, 1]` at sequence level.
///
/// Masked tokens have a finite loss without meaning, and gradient 0. For callers who weight the units
/// themselves, as an exact expectation does.
///
/// # Panics
/// If the shapes of the inputs differ.
pub fn unaggregated_loss<B: Backend>(
    config: &ObjectiveConfig,
    inputs: LossInputs<B>,
) -> Tensor<B, 2> {
    inputs.assert_shapes();
    let inputs = inputs.without_masked();
    unit_losses(config.level, &Formula::new(config), &inputs)
        .1
        .losses
}

/// The weighted losses of all units, and the ratios that they are made of.
fn unit_losses<B: Backend>(
    level: Level,
    formula: &Formula,
    inputs: &LossInputs<B>,
) -> (Ratios<B>, UnitLosses<B>) {
    let (ratios, advantages) = units(level, inputs);
    let log_ratios = inputs.logp.clone() - inputs.logp_old.clone();
    let lengths = lengths(&inputs.mask, log_ratios.dtype());
    let (ratios, units) = formula.losses(ratios, advantages, log_ratios, lengths);
    let weights = unit_weights(level, inputs);
    (ratios, units.map(|losses| weighted(losses, weights)))
}

/// The weight of each unit's loss, if there are weights.
fn unit_weights<B: Backend>(level: Level, inputs: &LossInputs<B>) -> Option<Tensor<B, 2>> {
    let weights = inputs.weights.clone()?;
    if !level.is_sequence() {
        return Some(weights);
    }
    let lengths = lengths(&inputs.mask, weights.dtype()).clamp_min(1.0);
    Some(weights.sum_dim(1) / lengths)
}

fn weighted<B: Backend>(losses: Tensor<B, 2>, weights: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
    match weights {
        Some(weights) => losses * weights,
        None => losses,
    }
}

/// The ratios of every token, `[B, T]`.
fn token_ratios<B: Backend>(inputs: &LossInputs<B>) -> Ratios<B> {
    let (logp, logp_old, logp_ref) = log_probs(inputs);
    Ratios::new(logp, logp_old, logp_ref)
}

/// Of the policy, the sampling policy and the reference, `[B, T]`.
fn log_probs<B: Backend>(inputs: &LossInputs<B>) -> (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) {
    let logp_old = inputs.logp_old.clone();
    let logp_ref = inputs.logp_ref.clone().unwrap_or_else(|| logp_old.clone());
    (inputs.logp.clone(), logp_old, logp_ref)
}

/// Ratios and advantages per unit.
fn units<B: Backend>(level: Level, inputs: &LossInputs<B>) -> (Ratios<B>, Tensor<B, 2>) {
    let (logp, logp_old, logp_ref) = log_probs(inputs);
    let advantages = inputs.advantages.clone();
    let sum = |tensor: Tensor<B, 2>| tensor.sum_dim(1); // [B, 1]
    let mean = |tensor: Tensor<B, 2>| {
        let lengths = lengths(&inputs.mask, tensor.dtype()).clamp_min(1.0);
        sum(tensor) / lengths
    };
    match level {
        Level::Token => (token_ratios(inputs), advantages),
        Level::Sequence => {
            let ratios = Ratios::new(sum(logp), sum(logp_old), sum(logp_ref));
            (ratios, mean(advantages))
        }
        Level::SequenceNorm => {
            let ratios = Ratios::new(mean(logp), mean(logp_old), mean(logp_ref));
            (ratios, mean(advantages))
        }
    }
}

/// A micro-batch without elements: loss 0, still part of the graph so that `backward` works.
fn empty_output<B: Backend>(logp: Tensor<B, 2>) -> LossOutput<B> {
    let options = (&logp.device(), logp.dtype());
    let sums = Tensor::zeros([diagnostics::N_SUMS], options);
    LossOutput {
        loss: logp.sum(),
        diagnostics: Diagnostics::from_sums(sums),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::Kind;
    use burn::backend::{Autodiff, Flex};

    type B = Autodiff<Flex>;

    /// What is reported must not keep the graph of the loss alive, nor add to its gradient.
    #[test]
    fn diagnostics_carry_no_gradient() {
        let device = Default::default();
        let leaf =
            |values: [[f32; 2]; 2]| Tensor::<B, 2>::from_floats(values, &device).require_grad();
        let totals = StepTotals {
            n_tokens: 4,
            n_responses: 2,
            max_length: 2,
        };
        for kind in Kind::ALL {
            for loss in [policy_loss::<B>, policy_loss_from_operations::<B>] {
                let leaves = [
                    leaf([[-0.5, -1.0], [-0.3, -2.0]]),
                    leaf([[-0.6, -0.2], [-0.9, -2.0]]),
                    leaf([[-0.7, -0.8], [-0.4, -1.0]]),
                    leaf([[0.5, 0.5], [-0.5, -0.5]]),
                ];
                let [logp, logp_old, logp_ref, advantages] = leaves.clone();
                let inputs = LossInputs {
                    mask: logp.clone().lower_elem(0.0),
                    logp,
                    logp_old,
                    logp_ref: Some(logp_ref),
                    advantages,
                    weights: None,
                };
                let output = loss(&ObjectiveConfig::for_kind(*kind), inputs, &totals);
                // A graph to differentiate, in which every leaf has derivative 1.
                let sum_of_leaves = leaves.clone().map(|leaf| leaf.sum()).into_iter();
                let sum = sum_of_leaves.fold(output.diagnostics.into_sums().sum(), |a, b| a + b);
                let grads = sum.backward();
                for leaf in &leaves {
                    let grad = leaf.grad(&grads).expect("the leaf is in the graph");
                    let grad: Vec<f32> = grad.into_data().iter::<f32>().collect();
                    assert_eq!(grad, [1.0; 4], "{kind}");
                }
            }
        }
    }
}
