//! The tensor code against the closed form, on batches with masks, and split into micro-batches.

use crate::common::{B, Step, assert_agree, bool_matrix, changed, configurations, matrix, name};
use burn::tensor::DType;
use rpg_losses::{
    Aggregation, Level, LossInputs, ObjectiveConfig, policy_loss, policy_loss_from_operations,
};

/// Five responses: whole, cut, empty, with a hole, and of one token; NaN where masked.
fn step(with_reference: bool) -> Step {
    let mask: Vec<Vec<bool>> = [
        [true, true, true, true],
        [true, true, false, false],
        [false, false, false, false],
        [true, false, true, true],
        [false, true, false, false],
    ]
    .map(|row| row.to_vec())
    .to_vec();
    let mut state = 17_u64;
    let mut uniform = |low: f64, high: f64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        low + (high - low) * (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut fill = |low, high, if_masked: f64| -> Vec<Vec<f64>> {
        mask.iter()
            .map(|row| {
                row.iter()
                    .map(|is_token| {
                        if *is_token {
                            uniform(low, high)
                        } else {
                            if_masked
                        }
                    })
                    .collect()
            })
            .collect()
    };
    Step {
        logp: fill(-2.0, -0.1, f64::NAN),
        logp_old: fill(-2.0, -0.1, f64::INFINITY),
        logp_ref: with_reference.then(|| fill(-2.0, -0.1, f64::NEG_INFINITY)),
        advantages: fill(-1.0, 1.0, f64::NAN),
        mask,
    }
}

fn aggregations(config: &ObjectiveConfig) -> Vec<ObjectiveConfig> {
    if config.level != Level::Token {
        return vec![config.clone()];
    }
    (Aggregation::ALL.iter())
        .filter(|aggregation| **aggregation != Aggregation::SeqMean)
        .flat_map(|aggregation| {
            [None, Some(7)].map(|max_length| {
                changed(config, |config| {
                    config.aggregation = *aggregation;
                    config.max_length = max_length;
                })
            })
        })
        .collect()
}

/// Exactly 0 where masked.
fn assert_masked(name: &str, grad: &[Vec<f64>], mask: &[Vec<bool>]) {
    let pairs = grad.iter().flatten().zip(mask.iter().flatten());
    assert!(
        pairs
            .into_iter()
            .all(|(g, is_token)| *is_token || *g == 0.0),
        "{name}: {grad:?}"
    );
}

#[test]
fn tensors_agree_with_the_closed_form_however_the_step_is_split() {
    for with_reference in [false, true] {
        let step = step(with_reference);
        for config in configurations().iter().flat_map(aggregations) {
            let expected = step.reference(&config);
            assert_masked(&name(&config), &expected.grad, &step.mask);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
                for size in [5, 2, 1] {
                    let name = format!("{} {dtype:?} by {size}", name(&config));
                    for actual in [
                        step.micro_batches(&config, dtype, size),
                        step.operations(&config, dtype, size),
                    ] {
                        assert_agree(&name, &actual, &expected, tolerance);
                        assert_masked(&name, &actual.grad, &step.mask);
                    }
                }
            }
        }
    }
}

#[test]
fn only_the_policy_being_trained_gets_a_gradient() {
    let step = step(true);
    let totals = step.totals();
    for config in configurations() {
        for loss in [policy_loss::<B>, policy_loss_from_operations::<B>] {
            let leaf = |rows: &[Vec<f64>]| matrix(rows, DType::F64).require_grad();
            let (logp, logp_old) = (leaf(&step.logp), leaf(&step.logp_old));
            let logp_ref = leaf(step.logp_ref.as_ref().unwrap());
            let advantages = leaf(&step.advantages);
            let inputs = LossInputs {
                logp: logp.clone(),
                logp_old: logp_old.clone(),
                logp_ref: Some(logp_ref.clone()),
                advantages: advantages.clone(),
                weights: None,
                mask: bool_matrix(&step.mask),
            };
            let grads = loss(&config, inputs, &totals).loss.backward();
            let name = name(&config);
            assert!(logp.grad(&grads).is_some(), "{name}");
            for (key, constant) in [
                ("logp_old", logp_old),
                ("logp_ref", logp_ref),
                ("advantages", advantages),
            ] {
                assert!(
                    constant.grad(&grads).is_none(),
                    "{name}: gradient in `{key}`"
                );
            }
        }
    }
}
