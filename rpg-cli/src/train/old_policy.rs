//! `pi_old`, the policy from which the updates of a step start, and how far the sampler is from it.

use super::learner::Learner;
use super::prepare::{OnProgress, Response, log_probs};
use super::ranks::Team;
use crate::config::TrainConfig;
use crate::failure::Failure;
use rpg_core::ops::DecodeBackend;
use rpg_losses::rollout::{RolloutCorrection, rollout_weights};
use rpg_losses::{Level, ObjectiveConfig};
use std::collections::BTreeMap;

/// Makes `logp_old` of the sampler's log-probs, which the responses have in its place. Returns the metrics of the
/// correction for the sampler, if there is one.
///
/// Without a correction the sampler's log-probs are by definition those of `pi_old`, and nothing is scored. With one,
/// `pi_old` is the learner's policy, from which the step starts; it is not kept, so that it can be updated in place.
pub(super) fn add_old_policy<B: DecodeBackend>(
    config: &TrainConfig,
    learner: &Learner<B>,
    responses: &mut [Response],
    team: &Team,
    on_progress: OnProgress<'_>,
) -> Result<BTreeMap<String, f64>, Failure> {
    let mut metrics = BTreeMap::new();
    if let Some(correction) = &config.rollout_correction() {
        let policy = learner.policy()?;
        let logp_old = log_probs(config, &policy, responses, team, on_progress)?;
        for (response, logp_old) in responses.iter_mut().zip(logp_old) {
            response.logp_old = logp_old;
        }
        metrics = add_weights(correction, responses);
    }
    add_mass(&config.objective, responses);
    Ok(metrics)
}

/// Adds the weight of each token, and returns the metrics.
fn add_weights(
    correction: &RolloutCorrection,
    responses: &mut [Response],
) -> BTreeMap<String, f64> {
    let rows = |values: &dyn Fn(&Response) -> Vec<f64>| -> Vec<Vec<f64>> {
        responses.iter().map(values).collect()
    };
    let mask = responses
        .iter()
        .map(|response| vec![response.is_trained; response.len()]);
    let rollout = rollout_weights(
        correction,
        &rows(&|response| in_f64(&response.logp_old)),
        &rows(&|response| in_f64(response.logp_rollout)),
        &mask.collect::<Vec<_>>(),
    );
    for (response, weights) in responses.iter_mut().zip(rollout.weights) {
        response.weights = Some(weights);
    }
    rollout.metrics
}

/// With `z` other than 1 `pi_old` is a measure of that mass, of which the normalized form sampled: the logarithm of
/// each unit, a token or a response, is larger by `log z`. Where the reference is `pi_old`, so is its.
fn add_mass(objective: &ObjectiveConfig, responses: &mut [Response]) {
    let log_z = objective.coefficients().z.ln();
    for response in responses {
        // A response's log-prob is the sum over its tokens at level `sequence`, elsewhere their mean or not read.
        let of_token = if objective.level == Level::Sequence {
            log_z / response.len() as f64
        } else {
            log_z
        };
        for logp in &mut response.logp_old {
            *logp += of_token as f32;
        }
    }
}

fn in_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| x.into()).collect()
}
