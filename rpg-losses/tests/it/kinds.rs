//! The kinds and the mask of the field, worked out from their papers.

use crate::common::{OF_TOKENS, Step, changed};
use burn::tensor::DType;
use rpg_losses::reference::{ClipEvent, Unit, UnitLoss, unit_loss};
use rpg_losses::{Aggregation, Kind, KlPlacement, KlWeight, Level, ObjectiveConfig};

/// One response; all its tokens count.
fn response(log_w: &[f64], advantages: &[f64]) -> Step {
    let logp_old = vec![-1.5; log_w.len()];
    Step {
        logp: vec![logp_old.iter().zip(log_w).map(|(a, b)| a + b).collect()],
        logp_old: vec![logp_old],
        logp_ref: None,
        advantages: vec![advantages.to_vec()],
        mask: vec![vec![true; log_w.len()]],
    }
}

/// Loss and gradient by all three ways of computing them, which must be as expected.
fn check(config: &ObjectiveConfig, step: &Step, loss: f64, grad: &[Vec<f64>]) {
    let closed_form = step.reference(config);
    let one_pass = step.tensors(config, DType::F64);
    let operations = step.operations(config, DType::F64, step.mask.len());
    for (actual_loss, actual) in [
        (closed_form.loss, closed_form.grad),
        (one_pass.loss, one_pass.grad),
        (operations.loss, operations.grad),
    ] {
        assert!(
            (actual_loss - loss).abs() < 1e-14,
            "{}: {actual_loss}",
            config.kind
        );
        for (actual, expected) in actual.iter().flatten().zip(grad.iter().flatten()) {
            assert!(
                (actual - expected).abs() < 1e-14,
                "{}: {actual}, not {expected}",
                config.kind
            );
        }
    }
}

#[test]
fn on_policy_every_kind_has_the_policy_gradient() {
    let step = response(&[0.0; 3], &[0.5, -1.0, 2.0]);
    for kind in Kind::ALL {
        let config = changed(&ObjectiveConfig::for_kind(*kind), |config| {
            config.level = Level::Token;
            config.aggregation = Aggregation::SeqMeanTokenSum;
            config.beta = 0.0;
            config.sequence_mask = Some(0.0);
        });
        for grad in [
            step.reference(&config).grad,
            step.operations(&config, DType::F64, 1).grad,
        ] {
            for (grad, expected) in grad[0].iter().zip([-0.5, 1.0, -2.0]) {
                assert!((grad - expected).abs() < 1e-14, "{kind}: {grad}");
            }
        }
    }
}

/// Equations 10 and 11 of GSPO's paper: with one advantage per response the two have one gradient, and one loss.
#[test]
fn gspo_token_is_gspo_where_a_response_has_one_advantage() {
    let (gspo, of_tokens) = (Kind::Gspo, Kind::GspoToken);
    // Inside the bounds and beyond both of them.
    for shift in [0.0, 0.3, -0.3] {
        for a in [0.7, -0.7] {
            let log_w = [0.1 + shift, -0.2 + shift, 0.1 + shift, shift];
            let step = response(&log_w, &[a; 4]);
            let config = |kind: Kind| {
                changed(&ObjectiveConfig::for_kind(kind), |config| {
                    config.eps_low = 0.2;
                    config.eps_high = 0.25;
                })
            };
            let expected = step.reference(&config(gspo));
            check(&config(of_tokens), &step, expected.loss, &expected.grad);
        }
    }
}

#[test]
fn gspo_token_gives_every_token_its_own_advantage() {
    let mut config = ObjectiveConfig::for_kind(Kind::GspoToken);
    (config.eps_low, config.eps_high) = (0.2, 0.2);
    let step = response(&[0.3, -0.1, 0.1], &[0.5, -1.0, 2.0]);
    let s = 0.1_f64.exp();
    let grad = [0.5, -1.0, 2.0].map(|a| -s * a / 3.0);
    check(&config, &step, grad.iter().sum(), &[grad.to_vec()]);
    // A KL term has the weight of the loss: `s*u`, with the slope of the token's own `lp`.
    config.kl_placement = KlPlacement::Loss;
    config.kl_weight = KlWeight::Full;
    config.beta = 0.1;
    let mut step = step;
    step.logp_ref = Some(vec![vec![-1.0; 3]]);
    let u = [0.3, -0.1, 0.1].map(|log_w| log_w - 0.5);
    let with_kl: Vec<f64> = (grad.iter().zip(u))
        .map(|(grad, u)| grad + 0.1 * s * (u + 1.0) / 3.0)
        .collect();
    let kl: f64 = u.iter().map(|u| 0.1 * s * u / 3.0).sum();
    check(&config, &step, grad.iter().sum::<f64>() + kl, &[with_kl]);
}

/// The paper's loss has one term per response, `-A*(product of the clipped weights)^(1/n)`.
#[test]
fn gmpo_is_the_geometric_mean_of_clipped_weights() {
    let config = changed(&ObjectiveConfig::for_kind(Kind::Gmpo), |config| {
        (config.eps_low, config.eps_high) = (0.4, 0.5);
    });
    let log_w = [0.9, -0.9, 0.1, 0.5, -0.4];
    for (a, clipped, slopes) in [
        (2.0, [0.5, -0.9, 0.1, 0.5, -0.4], [0.0, 1.0, 1.0, 1.0, 1.0]),
        (-2.0, [0.9, -0.4, 0.1, 0.5, -0.4], [1.0, 0.0, 1.0, 1.0, 1.0]),
    ] {
        let weight = (clipped.iter().sum::<f64>() / 5.0).exp();
        let grad = slopes.map(|slope| -a * weight * slope / 5.0);
        check(
            &config,
            &response(&log_w, &[a; 5]),
            -a * weight,
            &[grad.to_vec()],
        );
    }
    // Two responses: their mean, each with a weight of its own; masked tokens are no part of it.
    let step = Step {
        logp: vec![vec![-1.0, -1.0, f64::NAN], vec![-1.0, -2.0, -3.0]],
        logp_old: vec![vec![-1.2, -1.1, f64::NAN], vec![-1.1, -1.8, -2.8]],
        logp_ref: None,
        advantages: vec![vec![1.0; 3], vec![-1.0; 3]],
        mask: vec![vec![true, true, false], vec![true; 3]],
    };
    let (first, second) = (0.15_f64.exp(), (-0.1_f64).exp());
    let grad = [vec![-first / 4.0, -first / 4.0, 0.0], vec![second / 6.0; 3]];
    check(&config, &step, (second - first) / 2.0, &grad);
    let metrics = step.reference(&config).metrics;
    assert!((metrics["actor/weight_mean"] - (2.0 * first + 3.0 * second) / 5.0).abs() < 1e-14);
}

#[test]
fn sapo_has_a_gate_for_each_sign() {
    let config = changed(&ObjectiveConfig::for_kind(Kind::Sapo), |config| {
        (config.tau_pos, config.tau_neg) = (2.0, 3.0);
        config.aggregation = Aggregation::SeqMeanTokenSum;
    });
    let (w, a) = ([1.5_f64, 0.25, 1.5, 0.25], [2.0, 2.0, -2.0, -2.0]);
    let gate = |w: f64, a: f64| {
        let tau = if a > 0.0 { 2.0 } else { 3.0 };
        let g = 1.0 / (1.0 + (-tau * (w - 1.0)).exp());
        (-4.0 / tau * g * a, -4.0 / tau * g * (1.0 - g) * tau * w * a)
    };
    let (losses, grad): (Vec<f64>, Vec<f64>) = (w.iter().zip(a)).map(|(w, a)| gate(*w, a)).unzip();
    let step = response(&w.map(f64::ln), &a);
    check(&config, &step, losses.iter().sum(), &[grad]);
    // Far out the gate is shut; nothing is called clipped.
    let far = response(&[6.0, 6.0], &[1.0, -1.0]);
    let outcome = far.operations(&config, DType::F32, 1);
    assert!(outcome.grad.iter().flatten().all(|grad| *grad == 0.0));
    assert_eq!(outcome.metrics["actor/pg_clipfrac"], 0.0);
}

/// A token with these probabilities under policy and sampler.
fn token(p: f64, q: f64, advantage: f64) -> Unit {
    Unit {
        lp: p.ln(),
        lp_old: q.ln(),
        lp_ref: q.ln(),
        advantage,
    }
}

fn dppo(kind: Kind, change: fn(&mut ObjectiveConfig), unit: Unit) -> UnitLoss {
    unit_loss(&changed(&ObjectiveConfig::for_kind(kind), change), unit)
}

#[test]
fn dppo_masks_by_the_divergence_and_not_by_the_ratio() {
    let check = |kind: Kind, (p, q, a): (f64, f64, f64), clip: ClipEvent| {
        let result = dppo(kind, |_| {}, token(p, q, a));
        let expected = if clip == ClipEvent::Unclipped {
            -p / q * a
        } else {
            0.0
        };
        assert_eq!(result.clip, clip, "{kind}: p = {p}, q = {q}, A = {a}");
        for actual in [result.loss, result.grad] {
            assert!(
                (actual - expected).abs() < 1e-12,
                "{kind}: p = {p}, q = {q}"
            );
        }
    };
    use ClipEvent::{High, Low, Unclipped};
    // The thresholds are 0.15 and 0.05.
    let (tv, kl) = (Kind::DppoTv, Kind::DppoKl);
    for (a, low, high) in [(1.0, Unclipped, High), (-1.0, Low, Unclipped)] {
        // A hundredfold of a rare token is nothing much.
        check(tv, (1e-3, 1e-5, a), Unclipped);
        check(kl, (1e-3, 1e-5, a), Unclipped);
        check(tv, (0.65, 0.49, a), high);
        check(tv, (0.65, 0.51, a), Unclipped);
        check(tv, (0.83, 0.99, a), low);
        check(tv, (0.85, 0.99, a), Unclipped);
        // A coin of 1/2 that shows 0.65: log(0.25/(0.65*0.35))/2 = 0.047; 0.66: 0.054.
        check(kl, (0.65, 0.5, a), Unclipped);
        check(kl, (0.66, 0.5, a), high);
        check(kl, (0.34, 0.5, a), low);
        // 0.93*log(0.93/0.99) + 0.07*log(7) = 0.078, the other way round 0.043.
        check(kl, (0.99, 0.93, a), high);
        check(kl, (0.93, 0.99, a), Unclipped);
    }
    for kind in [tv, kl] {
        check(kind, (0.9, 0.1, 0.0), Unclipped);
    }
}

#[test]
fn the_thresholds_of_dppo_are_one_per_direction() {
    for kind in [Kind::DppoTv, Kind::DppoKl] {
        let wide_low = |config: &mut ObjectiveConfig| config.eps_low = 0.9;
        let wide_high = |config: &mut ObjectiveConfig| config.eps_high = 0.9;
        let (rose, fell) = (token(0.8, 0.4, 1.0), token(0.4, 0.8, -1.0));
        assert_eq!(dppo(kind, wide_low, rose).clip, ClipEvent::High);
        assert_eq!(dppo(kind, wide_high, rose).clip, ClipEvent::Unclipped);
        assert_eq!(dppo(kind, wide_low, fell).clip, ClipEvent::Unclipped);
        assert_eq!(dppo(kind, wide_high, fell).clip, ClipEvent::Low);
    }
}

#[test]
fn the_weight_of_dppo_is_bounded_by_c_and_keeps_its_gradient() {
    for a in [1.0, -1.0] {
        let result = dppo(
            Kind::DppoTv,
            |config| config.c = Some(20.0),
            token(1e-3, 1e-5, a),
        );
        assert_eq!((result.loss, result.grad), (-20.0 * a, -20.0 * a));
        assert_eq!(result.clip, ClipEvent::Dual);
    }
    let config = changed(&ObjectiveConfig::for_kind(Kind::DppoTv), |config| {
        config.c = Some(2.0);
        config.aggregation = Aggregation::SeqMeanTokenSum;
    });
    // The second token is masked, whatever its weight is.
    let step = Step {
        logp: vec![vec![0.03_f64.ln(), 0.9_f64.ln(), 0.02_f64.ln()]],
        logp_old: vec![vec![0.01_f64.ln(), 0.3_f64.ln(), 0.02_f64.ln()]],
        logp_ref: None,
        advantages: vec![vec![1.0; 3]],
        mask: vec![vec![true; 3]],
    };
    check_all(&config, &step, -3.0, &[-2.0, 0.0, -1.0]);
    let metrics = step.operations(&config, DType::F64, 1).metrics;
    assert_eq!(metrics["actor/pg_clipfrac"], 1.0 / 3.0);
    assert_eq!(metrics["actor/pg_clipfrac_lower"], 1.0 / 3.0);
}

fn check_all(config: &ObjectiveConfig, step: &Step, loss: f64, grad: &[f64]) {
    check(config, step, loss, &[grad.to_vec()]);
}

/// The mean of `lp_old - lp`: 0.2 in the first response, 0.1 in the second.
fn off_policy() -> Step {
    Step {
        logp: vec![vec![-1.3, -1.1], vec![-1.1, f64::NAN]],
        logp_old: vec![vec![-1.0, -1.0], vec![-1.0, f64::NAN]],
        logp_ref: None,
        advantages: vec![vec![-1.0, 2.0], vec![-3.0, f64::NAN]],
        mask: vec![vec![true, true], vec![true, false]],
    }
}

#[test]
fn a_sequence_mask_takes_negative_advantages_off_policy_away() {
    let step = off_policy();
    let masked = |max: f64| {
        changed(&ObjectiveConfig::for_kind(Kind::Ppo), |config| {
            (config.eps_low, config.eps_high) = (0.5, 0.5);
            config.sequence_mask = Some(max);
        })
    };
    let w = [-0.3, -0.1, -0.1].map(f64::exp);
    let terms = [w[0] / 3.0, -2.0 * w[1] / 3.0, w[2]];
    // Two of three tokens lose their advantage, one of three, none; the denominator stays.
    for (max, is_masked, share) in [
        (0.05, [true, false, true], 2.0 / 3.0),
        (0.15, [true, false, false], 1.0 / 3.0),
        (0.25, [false; 3], 0.0),
    ] {
        let mut kept = terms;
        for (term, is_masked) in kept.iter_mut().zip(is_masked) {
            *term = if is_masked { 0.0 } else { *term };
        }
        let config = masked(max);
        check(
            &config,
            &step,
            kept.iter().sum(),
            &[vec![kept[0], kept[1]], vec![kept[2], 0.0]],
        );
        let operations = step.operations(&config, DType::F64, 1);
        for metrics in [step.reference(&config).metrics, operations.metrics] {
            assert_eq!(metrics["actor/sequence_masked"], share, "{max}");
        }
    }
    assert_eq!(
        step.reference(&ObjectiveConfig::for_kind(Kind::Ppo))
            .metrics["actor/sequence_masked"],
        0.0
    );
}

#[test]
fn a_sequence_mask_leaves_the_kl_term() {
    let mut step = off_policy();
    step.logp_ref = Some(vec![vec![-0.8, -1.4], vec![-2.0, f64::NAN]]);
    // All advantages are negative, and all masked.
    step.advantages = vec![vec![-1.0, -2.0], vec![-3.0, f64::NAN]];
    for kind in Kind::ALL {
        for level in Level::ALL {
            if *level != Level::Token && OF_TOKENS.contains(kind) {
                continue;
            }
            let config = changed(&ObjectiveConfig::for_kind(*kind), |config| {
                config.level = *level;
                config.aggregation = match level {
                    Level::Token => Aggregation::TokenMean,
                    _ => Aggregation::SeqMean,
                };
                config.beta = 0.3;
                config.sequence_mask = Some(0.05);
            });
            let without = changed(&config, |config| config.sequence_mask = None);
            let mut no_advantage = step.clone();
            no_advantage.advantages = vec![vec![0.0; 2]; 2];
            let expected = no_advantage.reference(&without);
            check(&config, &step, expected.loss, &expected.grad);
            let metrics = step.operations(&config, DType::F64, 2).metrics;
            assert_eq!(metrics["actor/sequence_masked"], 1.0, "{kind}, {level}");
        }
    }
}
