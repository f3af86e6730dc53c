//! Properties of every configuration, on inputs that shrink to the smallest failure.

use crate::common::{Step, assert_agree, changed, configurations, name};
use burn::tensor::DType;
use proptest::prelude::*;
use rpg_losses::reference::{ClipEvent, Unit, unit_loss};
use rpg_losses::verify::unit_error;
use rpg_losses::{
    AdvantageKind, Aggregation, Clip, Divergence, Estimator, Kind, Level, ObjectiveConfig,
    advantages,
};

/// Any configuration with any coefficients.
fn config() -> impl Strategy<Value = ObjectiveConfig> {
    let choice = (
        0..configurations().len(),
        0..4_usize,
        proptest::option::of(1..20_usize),
    );
    let numbers = (0.0..2.0, 0.0..=1.0, 0.0..1.0, 1.01..5.0, 0.2..3.0);
    let gate = (0.1..5.0, 0.1..5.0, 0.0..1.0);
    (choice, numbers, gate).prop_map(
        |(
            (idx, aggregation, max_length),
            (beta, eps_low, eps_high, c, z),
            (tau_pos, tau_neg, mask),
        )| {
            changed(&configurations()[idx], |config| {
                config.aggregation = if config.level == Level::Token {
                    Aggregation::ALL[aggregation]
                } else {
                    Aggregation::SeqMean
                };
                config.max_length = max_length;
                config.beta = beta;
                config.eps_low = eps_low;
                config.eps_high = eps_high;
                config.c = Some(c);
                config.z = z;
                config.tau_pos = tau_pos;
                config.tau_neg = tau_neg;
                config.sequence_mask = config.sequence_mask.map(|_| mask);
            })
        },
    )
}

/// Token values: log-probabilities, their two partners, the advantage, and whether it counts.
fn token(spread: f64) -> impl Strategy<Value = (f64, f64, f64, f64, bool)> {
    (
        -6.0..0.5,
        -spread..spread,
        -spread..spread,
        -3.0..3.0,
        any::<bool>(),
    )
}

fn step(spread: f64) -> impl Strategy<Value = Step> {
    (1..6_usize, 1..6_usize)
        .prop_flat_map(move |(n_rows, n_columns)| {
            let row = proptest::collection::vec(token(spread), n_columns);
            proptest::collection::vec(row, n_rows)
        })
        .prop_map(|rows| {
            let pick = |value: fn(&(f64, f64, f64, f64, bool)) -> f64| -> Vec<Vec<f64>> {
                rows.iter()
                    .map(|row| row.iter().map(value).collect())
                    .collect()
            };
            let mut step = Step {
                logp: pick(|t| t.0),
                logp_old: pick(|t| t.0 + t.1),
                logp_ref: Some(pick(|t| t.0 + t.2)),
                advantages: pick(|t| t.3),
                mask: rows
                    .iter()
                    .map(|row| row.iter().map(|t| t.4).collect())
                    .collect(),
            };
            // One advantage per response keeps both levels comparable.
            for row in &mut step.advantages {
                let first = row[0];
                row.iter_mut().for_each(|a| *a = first);
            }
            step
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_of_computing_agree_with_the_closed_form(config in config(), step in step(2.0)) {
        let expected = step.reference(&config);
        assert_agree("one pass", &step.tensors(&config, DType::F64), &expected, 1e-9);
        let operations = step.operations(&config, DType::F64, step.mask.len());
        assert_agree("operations", &operations, &expected, 1e-9);
    }

    #[test]
    fn a_step_is_the_sum_of_its_micro_batches(
        config in config(),
        step in step(2.0),
        size in 1..4_usize,
    ) {
        let expected = step.reference(&config);
        let tensors = step.micro_batches(&config, DType::F64, size);
        assert_agree("one pass", &tensors, &expected, 1e-9);
        assert_agree("operations", &step.operations(&config, DType::F64, size), &expected, 1e-9);
    }

    #[test]
    fn any_finite_input_gives_finite_output(config in config(), step in step(1e4)) {
        for dtype in [DType::F32, DType::F64] {
            for outcome in [
                step.tensors(&config, dtype),
                step.operations(&config, dtype, step.mask.len()),
            ] {
                prop_assert!(outcome.loss.is_finite());
                prop_assert!(outcome.grad.iter().flatten().all(|grad| grad.is_finite()));
                prop_assert!(outcome.metrics.values().all(|value| value.is_finite()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The losses of the paper's Algorithm 1 (with the stop-gradient of Appendix G.2) and Algorithm 2 differ, their
    /// gradients do not.
    #[test]
    fn dual_clip_and_rpg_style_clip_have_one_gradient(
        kl in proptest::sample::select(Divergence::ALL),
        (lp, log_w, u) in (-6.0..-1e-6, -3.0..3.0, -2.0..2.0),
        advantage in -3.0..3.0,
        (beta, eps_low, eps_high, c, z) in (0.0..2.0, 0.0..=1.0, 0.0..1.0, 2.0..8.0, 0.2..3.0),
    ) {
        let unit = Unit { lp, lp_old: lp - log_w, lp_ref: lp - u, advantage };
        let grad = |estimator: Estimator, clip: Clip| {
            let config = changed(&ObjectiveConfig::default(), |config| {
                (config.kl, config.estimator, config.clip) = (kl, estimator, clip);
                (config.beta, config.z, config.c) = (beta, z, Some(c));
                (config.eps_low, config.eps_high) = (eps_low, eps_high);
            });
            unit_loss(&config, unit).grad
        };
        let dual = grad(Estimator::Differentiable, Clip::Dual);
        let rpg = grad(Estimator::Reinforce, Clip::Rpg);
        prop_assert!((dual - rpg).abs() <= 1e-12 * dual.abs().max(1.0), "{dual} {rpg}");
    }

    #[test]
    fn closed_forms_are_the_slopes_of_their_losses(
        config in config(),
        (lp, to_old, to_ref, advantage, _) in token(2.0),
    ) {
        let unit = Unit { lp, lp_old: lp + to_old, lp_ref: lp + to_ref, advantage };
        if let Some(error) = unit_error(&config, unit) {
            prop_assert!(error <= 1e-6, "{}: {error}", name(&config));
        }
    }

    #[test]
    fn without_clip_both_estimators_have_one_gradient(
        idx in 0..Divergence::ALL.len(),
        (lp, to_old, to_ref, advantage, _) in token(30.0),
        beta in 0.0..2.0,
        z in 0.2..3.0,
    ) {
        let config = |estimator| changed(&ObjectiveConfig::default(), |config| {
            config.kl = Divergence::ALL[idx];
            config.estimator = estimator;
            config.clip = Clip::None;
            config.beta = beta;
            config.z = z;
        });
        let unit = Unit { lp, lp_old: lp + to_old, lp_ref: lp + to_ref, advantage };
        let differentiable = unit_loss(&config(Estimator::Differentiable), unit).grad;
        let reinforce = unit_loss(&config(Estimator::Reinforce), unit).grad;
        prop_assert!((differentiable - reinforce).abs() <= 1e-12 * reinforce.abs());
    }

    /// A unit that no bound touches has the gradient it has without clip.
    #[test]
    fn inside_the_region_clipping_changes_nothing(
        config in config().prop_filter("an interval of the weight", |config| {
            ![Kind::Sapo, Kind::DppoKl, Kind::Gmpo].contains(&config.kind)
        }),
        position in 1e-3..0.999,
        (lp, _, to_ref, advantage, _) in token(1.0),
    ) {
        let (low, high) = (1.0 - config.eps_low, (1.0 + config.eps_high).min(config.c.unwrap_or(f64::INFINITY)));
        let w: f64 = low + (high - low) * position;
        let unit = Unit { lp, lp_old: lp - w.ln(), lp_ref: lp + to_ref, advantage };
        let unclipped = changed(&config, |config| {
            config.clip = Clip::None;
            config.eps_low = 1.0;
            config.eps_high = 1e9;
            config.c = Some(2e9);
        });
        let (actual, expected) = (unit_loss(&config, unit), unit_loss(&unclipped, unit));
        prop_assert_eq!(actual.clip, ClipEvent::Unclipped);
        let scale = expected.grad.abs().max(1.0);
        prop_assert!((actual.grad - expected.grad).abs() <= 1e-12 * scale);
    }

    /// On policy a gate is no gate, whatever its temperatures are.
    #[test]
    fn on_policy_the_gate_leaves_the_policy_gradient(
        lp in -6.0..0.0,
        advantage in -3.0..3.0,
        (tau_pos, tau_neg) in (1e-3..50.0, 1e-3..50.0),
    ) {
        let config = changed(&ObjectiveConfig::for_kind(Kind::Sapo), |config| {
            config.tau_pos = tau_pos;
            config.tau_neg = tau_neg;
        });
        let unit = Unit { lp, lp_old: lp, lp_ref: lp, advantage };
        let grad = unit_loss(&config, unit).grad;
        prop_assert!((grad + advantage).abs() <= 1e-12 * advantage.abs());
    }

    /// The corrected KL term of GRPO is that of `urkl`.
    #[test]
    fn corrected_grpo_regularizes_like_urkl(
        (lp, to_old, to_ref, _, _) in token(3.0),
        beta in 0.0..2.0,
    ) {
        let unit = Unit { lp, lp_old: lp + to_old, lp_ref: lp + to_ref, advantage: 0.0 };
        let mut corrected = ObjectiveConfig::for_kind(Kind::GrpoCorrected);
        corrected.beta = beta;
        let urkl = changed(&ObjectiveConfig::default(), |config| {
            config.clip = Clip::None;
            config.beta = beta;
        });
        let (actual, expected) = (unit_loss(&corrected, unit).grad, unit_loss(&urkl, unit).grad);
        prop_assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1.0));
    }

    #[test]
    fn advantages_depend_on_groups_and_not_on_order(
        rewards in proptest::collection::vec((-3.0..3.0, 0..4_usize), 1..12),
        shift in -5.0..5.0,
        turn in 0..12_usize,
    ) {
        let (values, groups): (Vec<f64>, Vec<usize>) = rewards.iter().copied().unzip();
        for kind in AdvantageKind::ALL {
            let expected = advantages(*kind, &values, &groups);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs().max(1.0);
            // Adding a constant to all rewards changes nothing.
            let shifted: Vec<f64> = values.iter().map(|r| r + shift).collect();
            let actual = advantages(*kind, &shifted, &groups);
            let has_origin = *kind == AdvantageKind::MaxRl; // It divides by the mean.
            let is_same = actual.iter().zip(&expected).all(|(a, b)| close(*a, *b));
            prop_assert!(is_same || has_origin, "{kind}");
            // Neither does another order, nor other names for the groups.
            let turn = turn % values.len();
            let (mut turned, mut names) = (values.clone(), groups.clone());
            turned.rotate_left(turn);
            names.rotate_left(turn);
            names.iter_mut().for_each(|group| *group = 100 - 7 * *group);
            let mut actual = advantages(*kind, &turned, &names);
            actual.rotate_right(turn);
            prop_assert!(actual.iter().zip(&expected).all(|(a, b)| close(*a, *b)), "{kind}");
            // They sum to zero within whatever is compared.
            let sum_where = |group: Option<usize>| -> f64 {
                (expected.iter().zip(&groups))
                    .filter(|(_, g)| group.is_none_or(|group| group == **g))
                    .map(|(a, _)| a)
                    .sum()
            };
            let sums: Vec<f64> = if kind.needs_groups() {
                (0..4).map(|group| sum_where(Some(group))).collect()
            } else {
                vec![sum_where(None)]
            };
            prop_assert!(sums.iter().all(|sum| sum.abs() <= 1e-8), "{kind}: {sums:?}");
        }
    }
}
