//! The configurations and their oracles.

use burn::tensor::backend::AutodiffBackend;

use super::{
    VerifyOptions,
    case::{Case, MIN_MARGIN, relative_error},
    oracle,
    random::Random,
    report::{Oracle, Row},
};
use crate::{
    ObjectiveConfig,
    kinds::{Clip, Divergence, Estimator, Kind, Level},
    reference::{Unit, unit_loss},
};

/// How far the policy has moved from the sampling policy: weights from about 1/4 to 4.
const DISTANCE: f64 = 0.5;

/// Beyond this log-ratio a step of the finite difference changes a weight by too much.
const MAX_LOG_DISTANCE: f64 = 10.0;

pub(super) fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (idx, (name, config)) in configurations().iter().enumerate() {
        let mut worst = [0.0_f64; 3];
        for case_idx in 0..options.n_cases {
            let mut random = Random::derived(options.seed, &[idx as u64, case_idx as u64]);
            let case = Case::random(config, &mut random, DISTANCE);
            for (worst, error) in worst.iter_mut().zip(errors(&case, options)) {
                *worst = larger(*worst, error);
            }
        }
        let oracles = [
            Oracle::ClosedForm,
            Oracle::FiniteDifference,
            Oracle::Expectation,
        ];
        for (oracle, worst) in oracles.into_iter().zip(worst) {
            rows.push(Row {
                name: format!("{name}: {}", oracle.name()),
                cases: options.n_cases,
                worst,
                passed: worst <= oracle.tolerance(options.precision),
            });
        }
    }
    rows
}

/// Errors under closed form, finite difference and expectation.
fn errors<B: AutodiffBackend>(case: &Case, options: &VerifyOptions<B>) -> [f64; 3] {
    let closed_form = case.closed_form(&case.config);
    let autodiff = case.autodiff(&case.config, options);
    let unclipped = case.without_clip();
    [
        relative_error(&autodiff, &closed_form),
        finite_difference_error(case),
        relative_error(
            &case.autodiff(&unclipped, options),
            &case.objective_gradient(),
        ),
    ]
}

fn finite_difference_error(case: &Case) -> f64 {
    // A case of which nothing can be compared proves nothing.
    (case.units().into_iter().flatten())
        .filter_map(|unit| unit_error(&case.config, unit))
        .reduce(larger)
        .unwrap_or(f64::INFINITY)
}

/// Loss and derivative of the reference against the second writing of the loss.
pub(super) fn unit_error(config: &ObjectiveConfig, unit: Unit) -> Option<f64> {
    let largest = [
        unit.lp - unit.lp_old,
        unit.lp_ref - unit.lp_old,
        unit.lp - unit.lp_ref,
    ]
    .into_iter()
    .fold(0.0, |max: f64, x| max.max(x.abs()));
    if oracle::margin(config, unit) < MIN_MARGIN || largest > MAX_LOG_DISTANCE {
        return None;
    }
    let closed_form = unit_loss(config, unit);
    let frozen = |lp: f64| oracle::frozen_loss(config, unit, lp);
    let slope = oracle::derivative(frozen, unit.lp);
    let actual = [closed_form.loss, closed_form.grad];
    // Loss and slope are compared as one vector: a slope that is 0 has no scale of its own.
    Some(relative_error(&actual, &[frozen(unit.lp), slope]))
}

/// The larger of two errors, where NaN is the largest of all.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// Every kind x divergence x estimator x clip x level, named.
pub(super) fn configurations() -> Vec<(String, ObjectiveConfig)> {
    let mut configs = Vec::new();
    for divergence in Divergence::ALL {
        for (estimator, clip, kl_in_clip, label) in [
            (
                Estimator::Differentiable,
                Clip::None,
                true,
                "differentiable",
            ),
            (
                Estimator::Differentiable,
                Clip::Dual,
                true,
                "differentiable/dual",
            ),
            (
                Estimator::Differentiable,
                Clip::Dual,
                false,
                "differentiable/dual, kl outside",
            ),
            (Estimator::Reinforce, Clip::None, true, "reinforce"),
            (Estimator::Reinforce, Clip::Rpg, true, "reinforce/rpg"),
            (Estimator::Reinforce, Clip::Hard, true, "reinforce/hard"),
        ] {
            for level in Level::ALL {
                configs.push((
                    format!("rpg/{divergence}/{label}/{level}"),
                    ObjectiveConfig {
                        kl: *divergence,
                        estimator,
                        clip,
                        kl_in_clip,
                        level: *level,
                        ..Default::default()
                    },
                ));
            }
        }
    }
    for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Rpg) {
        for level in Level::ALL {
            configs.push((
                format!("{kind}/{level}"),
                ObjectiveConfig {
                    level: *level,
                    ..ObjectiveConfig::for_kind(*kind)
                },
            ));
        }
    }
    configs
}
