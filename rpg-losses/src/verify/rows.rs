//! The configurations and their oracles.

use super::case::{Case, MIN_MARGIN, relative_error};
use super::options::VerifyOptions;
use super::oracle;
use super::random::Random;
use super::report::{Oracle, Row, Subject, larger};
use super::steps::flatten;
use super::weigh::{self, Weighed};
use crate::aggregate::StepTotals;
use crate::choices::{
    Aggregation, Divergence, Estimator, KlEstimator, KlPlacement, KlWeight, Level,
};
use crate::config::ObjectiveConfig;
use crate::formula::Unit;
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use crate::objectives::spec::Parts;
use crate::reference::{Batch, evaluate};
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
    (case.tokens().iter())
        .filter_map(|tokens| response_error(&case.config, tokens))
        .reduce(larger)
        .unwrap_or(f64::INFINITY)
}

/// Losses and gradient of a response by the closed form against the losses of its units as the oracle has them.
pub(super) fn response_error(config: &ObjectiveConfig, tokens: &[Unit]) -> Option<f64> {
    let expected = slopes(config, tokens)?;
    Some(relative_error(&closed_form(config, tokens), &expected))
}

/// The gradient of a response, token by token, and then the sum of the losses of its units.
fn closed_form(config: &ObjectiveConfig, tokens: &[Unit]) -> Vec<f64> {
    let rows = |value: fn(&Unit) -> f64| vec![tokens.iter().map(value).collect::<Vec<f64>>()];
    let mask = vec![vec![true; tokens.len()]];
    let config = ObjectiveConfig {
        aggregation: if config.level.is_sequence() {
            Aggregation::SeqMean
        } else {
            Aggregation::SeqMeanTokenSum
        },
        ..config.clone()
    };
    let batch = Batch {
        logp: &rows(|token| token.lp),
        logp_old: &rows(|token| token.lp_old),
        logp_ref: &rows(|token| token.lp_ref),
        advantages: &rows(|token| token.advantage),
        weights: None,
        mask: &mask,
    };
    flatten(evaluate(&config, batch, &StepTotals::from_mask(&mask)))
}

/// The same by finite differences; `None` where they say nothing.
pub(super) fn slopes(config: &ObjectiveConfig, tokens: &[Unit]) -> Option<Vec<f64>> {
    let (units, share) = weigh::units(config, tokens);
    let is_near = weigh::mask_margin(config, tokens).abs() < MIN_MARGIN;
    if is_near || !units.iter().all(|weighed| has_slope(config, *weighed)) {
        return None;
    }
    let slope = |weighed: &Weighed| {
        let frozen = |lp: f64| oracle::frozen_loss(config, *weighed, lp);
        oracle::derivative(frozen, weighed.unit.lp) * share
    };
    let loss = |weighed: &Weighed| oracle::frozen_loss(config, *weighed, weighed.unit.lp);
    let mut slopes: Vec<f64> = units.iter().map(slope).collect();
    if config.level.is_sequence() {
        slopes = vec![slopes[0]; tokens.len()];
    }
    // Loss and slopes are compared as one vector: a slope that is 0 has no scale of its own.
    slopes.push(units.iter().map(loss).sum());
    Some(slopes)
}

/// Whether the unit is neither so close to a case distinction nor so far off policy that a difference says nothing.
fn has_slope(config: &ObjectiveConfig, weighed: Weighed) -> bool {
    let Weighed { unit, log_w } = weighed;
    let largest = [
        unit.lp - unit.lp_old,
        unit.lp_ref - unit.lp_old,
        unit.lp - unit.lp_ref,
        log_w,
    ]
    .into_iter()
    .fold(0.0, |max: f64, x| max.max(x.abs()));
    oracle::margin(config, weighed) >= MIN_MARGIN && largest <= MAX_LOG_DISTANCE
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
        objectives.extend(sequence_mask(&objective));
    }
    let at_levels = |objective: &ObjectiveConfig| {
        let objective = objective.clone();
        let levels = Level::ALL.iter().map(move |level| ObjectiveConfig {
            level: *level,
            ..objective.clone()
        });
        levels.filter(ObjectiveConfig::goes_with_level)
    };
    objectives.iter().flat_map(at_levels).collect()
}

/// The sequence mask, on losses in which it acts differently.
fn sequence_mask(base: &ObjectiveConfig) -> Option<ObjectiveConfig> {
    let is_masked = [Kind::Rpg, Kind::Ppo, Kind::Gmpo].contains(&base.kind);
    is_masked.then(|| ObjectiveConfig {
        sequence_mask: Some(0.05),
        ..base.clone()
    })
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
