//! Extreme and degenerate inputs, on every kind and in both types.

use crate::common::{B, Step, assert_agree, bool_matrix, changed, configurations, matrix, name};
use burn::tensor::DType;
use rpg_losses::{
    Aggregation, Clip, Divergence, Estimator, Kind, LossInputs, ObjectiveConfig, StepTotals,
    policy_loss, policy_loss_from_operations,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a step through both paths in both types; everything must be finite.
fn check(label: &str, step: &Step) {
    for config in configurations() {
        let expected = step.reference(&config);
        for dtype in [DType::F64, DType::F32] {
            for outcome in [
                step.tensors(&config, dtype),
                step.operations(&config, dtype, step.mask.len().max(1)),
            ] {
                let name = format!("{label}: {} {dtype:?}", name(&config));
                let is_finite = outcome.loss.is_finite()
                    && outcome.grad.iter().flatten().all(|grad| grad.is_finite())
                    && outcome.metrics.values().all(|value| value.is_finite());
                assert!(is_finite, "{name}: {outcome:?}");
                if dtype == DType::F64 {
                    assert_agree(&name, &outcome, &expected, 1e-9);
                }
                for (grads, mask) in outcome.grad.iter().zip(&step.mask) {
                    for (grad, is_token) in grads.iter().zip(mask) {
                        assert!(*is_token || *grad == 0.0, "{name}: gradient where masked");
                    }
                }
            }
        }
    }
}

fn rows<const N: usize, const T: usize>(rows: [[f64; T]; N]) -> Vec<Vec<f64>> {
    rows.map(|row| row.to_vec()).to_vec()
}

#[test]
fn extreme_log_ratios_give_finite_losses_and_gradients() {
    for size in [20.5, 50.0, 1e4] {
        let step = Step {
            logp: rows([[-size, 0.0, -1.0], [-size, -0.5, -size], [0.0, size, -1.0]]),
            logp_old: rows([
                [0.0, -size, -1.0],
                [-size, -size, -1.0],
                [-size, 0.0, -size],
            ]),
            logp_ref: Some(rows([
                [-1.0, 0.0, -size],
                [0.0, -1.0, size],
                [-size, -size, 0.0],
            ])),
            advantages: rows([[1.0, -1.0, 0.5], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]),
            mask: vec![vec![true; 3]; 3],
        };
        check(&format!("log-ratios of {size}"), &step);
        let config = ObjectiveConfig::default();
        assert!(step.reference(&config).metrics["actor/log_ratio_clamped"] >= 4.0);
    }
}

/// The clamp keeps numbers finite; it does not switch the gradient off.
#[test]
fn beyond_the_clamp_both_estimators_keep_the_same_gradient() {
    let step = Step {
        logp: rows([[-1.0, -30.0]]),
        logp_old: rows([[-26.0, -1.0]]),
        logp_ref: Some(rows([[-3.0, -2.0]])),
        advantages: rows([[1.0, 1.0]]),
        mask: vec![vec![true; 2]],
    };
    for kl in Divergence::ALL {
        let config = |estimator| {
            changed(&ObjectiveConfig::default(), |config| {
                config.kl = *kl;
                config.estimator = estimator;
                config.clip = Clip::None;
                config.beta = 0.1;
            })
        };
        let differentiable = config(Estimator::Differentiable);
        let reinforce = config(Estimator::Reinforce);
        let expected = step.reference(&reinforce);
        assert!(expected.grad[0][0].abs() > 1e6, "{kl}: {expected:?}");
        for outcome in [
            step.tensors(&differentiable, DType::F64),
            step.operations(&differentiable, DType::F64, 1),
            step.operations(&reinforce, DType::F64, 1),
        ] {
            for (actual, expected) in outcome.grad[0].iter().zip(&expected.grad[0]) {
                assert!((actual - expected).abs() <= 1e-9 * expected.abs(), "{kl}");
            }
            assert_eq!(outcome.metrics["actor/log_ratio_clamped"], 2.0, "{kl}");
        }
    }
}

/// A clamped log-ratio to the reference is counted where the loss exponentiates it: `r` in the forward
/// divergences, `exp(-u)` in k3.
#[test]
fn clamped_log_ratios_are_counted_where_they_enter() {
    // The second token's `w` is clamped in any case, the first one has `log r = -25` and `u = 25`.
    let step = Step {
        logp: rows([[-1.0, -2.0]]),
        logp_old: rows([[-1.0, -60.0]]),
        logp_ref: Some(rows([[-26.0, -60.0]])),
        advantages: rows([[1.0, 1.0]]),
        mask: vec![vec![true; 2]],
    };
    // Exactly at the bound nothing is clamped: `w` and `r`, and `r` and `exp(-u)`.
    let at_bound = Step {
        logp: rows([[-1.0, -1.0]]),
        logp_old: rows([[-21.0, -1.0]]),
        logp_ref: Some(rows([[-1.0, -21.0]])),
        ..step.clone()
    };
    let check = |config: &ObjectiveConfig, beyond: f64| {
        let metric = "actor/log_ratio_clamped";
        for (step, expected) in [(&step, beyond), (&at_bound, 0.0)] {
            assert_eq!(
                step.reference(config).metrics[metric],
                expected,
                "{config:?}"
            );
            for outcome in [
                step.tensors(config, DType::F64),
                step.operations(config, DType::F64, 1),
            ] {
                assert_eq!(outcome.metrics[metric], expected, "{config:?}");
            }
        }
    };
    for kl in Divergence::ALL {
        let config = changed(&ObjectiveConfig::default(), |config| {
            config.kl = *kl;
            config.beta = 0.1;
        });
        use Divergence::{Fkl, Skl, Ufkl, Uskl};
        let has_weight = [Fkl, Ufkl, Skl, Uskl].contains(kl);
        check(&config, if has_weight { 2.0 } else { 1.0 });
    }
    for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Rpg) {
        use Kind::{DrGrpo, Gmpo, Grpo, GrpoCorrected, GspoToken};
        let beyond = match *kind {
            Grpo | DrGrpo | GrpoCorrected => 2.0,
            // Both tokens have one weight: `exp(29)`, and that of logarithms that have been clipped.
            GspoToken => 2.0,
            Gmpo => 0.0,
            _ => 1.0,
        };
        check(&ObjectiveConfig::for_kind(*kind), beyond);
    }
}

/// `w*u` for `w*(exp(-u) - 1 + u) + w*(1 - exp(-u))`, which cancels where `exp(-u)` is large.
#[test]
fn the_slope_of_the_corrected_kl_term_keeps_its_digits() {
    let u = -19.5;
    let step = Step {
        logp: rows([[u]]),
        logp_old: rows([[u]]),
        logp_ref: Some(rows([[0.0]])),
        advantages: rows([[0.0]]),
        mask: vec![vec![true]],
    };
    let mut config = ObjectiveConfig::for_kind(Kind::GrpoCorrected);
    config.beta = 1.0;
    assert_eq!(step.reference(&config).grad, [[u]]);
    for dtype in [DType::F32, DType::F64] {
        assert_eq!(step.tensors(&config, dtype).grad, [[u]]);
        assert_eq!(step.operations(&config, dtype, 1).grad, [[u]]);
    }
}

#[test]
fn masked_and_empty_steps_have_loss_and_gradient_zero() {
    let nan = f64::NAN;
    let all_masked = Step {
        logp: rows([[nan, f64::INFINITY], [nan, 0.0]]),
        logp_old: rows([[nan, nan], [f64::NEG_INFINITY, nan]]),
        logp_ref: Some(rows([[nan, nan], [nan, nan]])),
        advantages: rows([[nan, nan], [nan, f64::INFINITY]]),
        mask: vec![vec![false; 2]; 2],
    };
    let no_columns = Step {
        logp: vec![vec![]; 3],
        logp_old: vec![vec![]; 3],
        logp_ref: None,
        advantages: vec![vec![]; 3],
        mask: vec![vec![]; 3],
    };
    for (label, step) in [
        ("all masked", all_masked),
        ("T = 0", no_columns),
        ("B = 0", Step::default()),
    ] {
        check(label, &step);
        for config in configurations() {
            let outcome = step.tensors(&config, DType::F32);
            assert_eq!(outcome.loss, 0.0, "{label}");
            assert!(
                outcome.grad.iter().flatten().all(|grad| *grad == 0.0),
                "{label}"
            );
            assert!(
                outcome.metrics.values().all(|value| *value == 0.0),
                "{label}"
            );
        }
    }
}

#[test]
fn one_token_and_equal_rewards_are_ordinary_steps() {
    let one = Step {
        logp: rows([[-0.5]]),
        logp_old: rows([[-0.7]]),
        logp_ref: None,
        advantages: rows([[0.3]]),
        mask: vec![vec![true]],
    };
    check("B = T = 1", &one);
    // Equal rewards: no advantage anywhere, only the KL term is left.
    let no_advantage = Step {
        advantages: rows([[0.0, 0.0], [0.0, 0.0]]),
        logp: rows([[-0.5, -0.1], [-2.0, -1.0]]),
        logp_old: rows([[-0.5, -0.2], [-2.5, -1.0]]),
        logp_ref: Some(rows([[-0.4, -0.2], [-2.0, -1.5]])),
        mask: vec![vec![true; 2]; 2],
    };
    check("A = 0", &no_advantage);
    for config in configurations() {
        let without_kl = changed(&config, |config| config.beta = 0.0);
        let outcome = no_advantage.tensors(&without_kl, DType::F64);
        assert_eq!(outcome.loss, 0.0, "{}", name(&without_kl));
        assert!(outcome.grad.iter().flatten().all(|grad| *grad == 0.0));
    }
}

#[test]
fn long_batches_are_the_same_on_one_thread_and_many() {
    // More than one chunk of the one-pass loop, with rows that do not divide it.
    let (n_rows, n_columns) = (211, 331);
    let mut state = 1_u64;
    let mut fill = |low: f64, high: f64| -> Vec<Vec<f64>> {
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            low + (high - low) * (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..n_rows)
            .map(|_| (0..n_columns).map(|_| next()).collect())
            .collect()
    };
    let step = Step {
        logp: fill(-2.0, 0.0),
        logp_old: fill(-2.0, 0.0),
        logp_ref: Some(fill(-2.0, 0.0)),
        advantages: fill(-1.0, 1.0),
        mask: (0..n_rows)
            .map(|row| (0..n_columns).map(|column| column < 3 * row).collect())
            .collect(),
    };
    for aggregation in [Aggregation::TokenMean, Aggregation::SeqMeanTokenMean] {
        let config = changed(&ObjectiveConfig::default(), |config| {
            config.aggregation = aggregation;
        });
        let expected = step.reference(&config);
        assert_agree("long", &step.tensors(&config, DType::F64), &expected, 1e-11);
        assert_agree("long", &step.tensors(&config, DType::F32), &expected, 1e-4);
        assert_agree(
            "long",
            &step.micro_batches(&config, DType::F64, 50),
            &expected,
            1e-11,
        );
    }
}

#[test]
fn shapes_that_differ_name_both() {
    let ones =
        |n_rows: usize, n_columns: usize| matrix(&vec![vec![-1.0; n_columns]; n_rows], DType::F32);
    let mask = |n_rows: usize, n_columns: usize| bool_matrix(&vec![vec![true; n_columns]; n_rows]);
    let right = || LossInputs::<B> {
        logp: ones(2, 3),
        logp_old: ones(2, 3),
        logp_ref: Some(ones(2, 3)),
        advantages: ones(2, 3),
        weights: None,
        mask: mask(2, 3),
    };
    let totals = StepTotals {
        n_tokens: 6,
        n_responses: 2,
        max_length: 3,
    };
    let check = |inputs: LossInputs<B>, expected: &str| {
        for loss in [policy_loss::<B>, policy_loss_from_operations::<B>] {
            let inputs = inputs.clone();
            // Nothing of the inputs is looked at after the panic.
            let call = AssertUnwindSafe(|| loss(&ObjectiveConfig::default(), inputs, &totals));
            let panic = catch_unwind(call).expect_err("shapes differ");
            let message = panic.downcast_ref::<String>().expect("a formatted message");
            assert!(message.contains(expected), "{message}");
        }
    };
    policy_loss(&ObjectiveConfig::default(), right(), &totals);
    let text = |key: &str| format!("`logp` is [2, 3], but `{key}` is [3, 2]");
    check(
        LossInputs {
            logp_old: ones(3, 2),
            ..right()
        },
        &text("logp_old"),
    );
    check(
        LossInputs {
            logp_ref: Some(ones(3, 2)),
            ..right()
        },
        &text("logp_ref"),
    );
    check(
        LossInputs {
            advantages: ones(3, 2),
            ..right()
        },
        &text("advantages"),
    );
    check(
        LossInputs {
            mask: mask(3, 2),
            ..right()
        },
        &text("mask"),
    );
}
