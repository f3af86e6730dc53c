//! The configurations and their oracles.

use super::case::{Case, MIN_MARGIN, relative_error};
use super::options::VerifyOptions;
use super::oracle;
use super::random::Random;
use super::report::{Oracle, Row, Subject, larger};
use crate::choices::{Divergence, Estimator, KlEstimator, KlPlacement, KlWeight, Level};
use crate::config::ObjectiveConfig;
use crate::formula::{Unit, unit_loss};
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use crate::objectives::spec::Parts;
use burn::tensor::backend::AutodiffBackend;

/// How far the policy has moved from the sampling policy: weights from about 1/4 to 4.
const DISTANCE: f64 = 0.5;

/// Beyond this log-ratio a step of the finite difference changes a weight by too much.
const MAX_LOG_DISTANCE: f64 = 10.0;

pub(super) fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (idx, config) in configurations().iter().enumerate() {
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
            let subject = Subject::Units(config.clone());
            rows.push(Row::new(
                subject,
                oracle,
                options.n_cases,
                worst,
                options.precision,
            ));
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
    // A case in which nothing can be compared proves nothing.
    (case.units().into_iter().flatten())
        .filter_map(|unit| unit_error(&case.config, unit))
        .reduce(larger)
        .unwrap_or(f64::INFINITY)
}

/// Loss and derivative of the closed form against the loss as the oracle has it.
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

/// Every kind x divergence x estimator x clip x level.
pub(super) fn configurations() -> Vec<ObjectiveConfig> {
    let mut objectives = Vec::new();
    for kind in Kind::ALL {
        let objective = ObjectiveConfig::for_kind(*kind);
        match kind.spec().parts {
            Parts::Composed => objectives.extend(compositions(&objective)),
            Parts::Fixed { .. } => {
                let is_ppo = *kind == Kind::Ppo;
                objectives.push(objective.clone());
                objectives.extend(is_ppo.then(|| kl_terms(&objective)).into_iter().flatten());
            }
        }
    }
    let at_levels = |objective: &ObjectiveConfig| {
        let objective = objective.clone();
        Level::ALL.iter().map(move |level| ObjectiveConfig {
            level: *level,
            ..objective.clone()
        })
    };
    objectives.iter().flat_map(at_levels).collect()
}

/// Every KL term in the loss.
fn kl_terms(base: &ObjectiveConfig) -> Vec<ObjectiveConfig> {
    let weights = |estimator: &KlEstimator| {
        let estimator = *estimator;
        KlWeight::ALL.iter().map(move |weight| ObjectiveConfig {
            kl_placement: KlPlacement::Loss,
            kl_estimator: estimator,
            kl_weight: *weight,
            ..base.clone()
        })
    };
    KlEstimator::ALL.iter().flat_map(weights).collect()
}

/// Every divergence x estimator x clip, with the KL term inside the clip and, where that matters, outside.
fn compositions(base: &ObjectiveConfig) -> Vec<ObjectiveConfig> {
    let mut objectives = Vec::new();
    for kl in Divergence::ALL {
        for estimator in Estimator::ALL {
            for clip in Form::clips(*estimator) {
                let form = Form::new(*estimator, clip, true).spec();
                let outside = form.kl_in_clip.is_some().then_some(false);
                for kl_in_clip in [Some(true), outside].into_iter().flatten() {
                    objectives.push(ObjectiveConfig {
                        kl: *kl,
                        estimator: *estimator,
                        clip,
                        kl_in_clip,
                        ..base.clone()
                    });
                }
            }
        }
    }
    objectives
}
