//! `pi_old`, the policy from which the updates of a step start, and how far the sampler is from it.

use super::learner::Learner;
use super::prepare::{OnProgress, Response, log_probs};
use super::ranks::Ranks;
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
    ranks: &dyn Ranks<B>,
    on_progress: OnProgress<'_>,
) -> Result<BTreeMap<String, f64>, Failure> {
    let mut metrics = BTreeMap::new();
    if let Some(correction) = &config.rollout_correction() {
        let logp_old = log_probs(config, &learner.policy(), responses, on_progress)?;
        for (response, logp_old) in responses.iter_mut().zip(logp_old) {
            response.logp_old = logp_old;
        }
        metrics = add_weights(correction, responses, ranks)?;
    }
    add_mass(&config.objective, responses);
    Ok(metrics)
}

/// Adds the weight of each token. The metrics are those of the responses of all ranks.
fn add_weights<B: DecodeBackend>(
    correction: &RolloutCorrection,
    responses: &mut [Response],
    ranks: &dyn Ranks<B>,
) -> Result<BTreeMap<String, f64>, Failure> {
    let all = |values: &dyn Fn(&Response) -> Vec<f64>| {
        let values: Vec<f64> = responses.iter().flat_map(values).collect();
        ranks.gather(&values)
    };
    let lengths = all(&|response| vec![response.len() as f64])?;
    let logp_old = all(&|response| in_f64(&response.logp_old))?;
    let logp_rollout = all(&|response| in_f64(response.logp_rollout))?;
    let n_before: usize = lengths[..ranks.rank()].iter().map(Vec::len).sum();
    let lengths: Vec<usize> = lengths.concat().iter().map(|&n| n as usize).collect();
    let is_trained = all(&|response| vec![f64::from(u8::from(response.is_trained))])?.concat();
    let is_trained = is_trained.into_iter().map(|flag| flag == 1.0);
    let mask: Vec<Vec<bool>> = is_trained
        .zip(&lengths)
        .map(|(flag, &n)| vec![flag; n])
        .collect();
    let rollout = rollout_weights(
        correction,
        &rows(&logp_old.concat(), &lengths),
        &rows(&logp_rollout.concat(), &lengths),
        &mask,
    );
    let own = rollout.weights.into_iter().skip(n_before);
    for (response, weights) in responses.iter_mut().zip(own) {
        response.weights = Some(weights);
    }
    Ok(rollout.metrics)
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

/// Cuts a list into rows of these lengths.
fn rows(mut values: &[f64], lengths: &[usize]) -> Vec<Vec<f64>> {
    let row = |&n: &usize| {
        let (row, rest) = values.split_at(n);
        values = rest;
        row.to_vec()
    };
    lengths.iter().map(row).collect()
}
