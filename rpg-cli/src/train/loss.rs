//! The loss of a micro-batch of responses, and what an update reports.

use super::learner::{StepReport, TapedLoss};
use super::prepare::{Place, Response};
use super::ranks::Team;
use crate::config::{Positive, TrainConfig};
use crate::failure::Failure;
use burn::backend::Autodiff;
use burn::tensor::{Bool, Int, Tensor, TensorData};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{Entropy, ScoreItem, score_on_tape};
use rpg_losses::aggregate::aggregate_tokens;
use rpg_losses::ratios::MAX_LOG_RATIO;
use rpg_losses::{Diagnostics, LossInputs, ObjectiveConfig, StepTotals, policy_loss};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an update reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpdateReport {
    /// The diagnostics of the loss, under verl's names, and `actor/entropy`, `actor/grad_norm`, `actor/lr`,
    /// `actor/skipped_updates`.
    pub metrics: BTreeMap<String, f64>,
    /// Mean of `|log-prob at sampling - log-prob at scoring|` over all tokens.
    pub mean_logprob_difference: f64,
    /// The largest one.
    pub max_logprob_difference: f64,
    /// Mean of `exp(log-prob at scoring - log-prob at sampling)` over all tokens.
    pub mean_sampler_weight: f64,
    /// The largest one.
    pub max_sampler_weight: f64,
    /// What the responses were trained with that the step writes down.
    pub responses: Vec<TrainedResponse>,
}

/// What a response was trained with in an update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainedResponse {
    /// Which of the step's samples it is.
    pub place: Place,
    /// The importance weight `w = exp(lp - lp_old)` of each token, before any truncation.
    pub weights: Vec<f32>,
    /// The mean advantage of its tokens.
    pub advantage: f64,
}

impl TrainedResponse {
    fn new(response: &Response<'_>, logp: &[f32]) -> Self {
        let bound = MAX_LOG_RATIO as f32;
        let weight = |(lp, lp_old): (&f32, &f32)| (lp - lp_old).clamp(-bound, bound).exp();
        let advantages = &response.advantages;
        Self {
            place: response.place,
            weights: logp.iter().zip(&response.logp_old).map(weight).collect(),
            advantage: advantages.iter().sum::<f64>() / advantages.len().max(1) as f64,
        }
    }
}

impl UpdateReport {
    /// Adds what the optimizer did.
    pub(super) fn add_step(&mut self, step: &StepReport, lr: f64) {
        let skipped = f64::from(u8::from(step.skipped));
        self.metrics.extend([
            ("actor/grad_norm".to_owned(), step.grad_norm),
            ("actor/lr".to_owned(), lr),
            ("actor/skipped_updates".to_owned(), skipped),
        ]);
    }

    /// Whether the policy is further from the reference than `limit`, a mean KL divergence.
    pub(super) fn is_beyond(&self, limit: Option<Positive>) -> bool {
        let kl = self.metrics.get("actor/kl_loss");
        kl.zip(limit).is_some_and(|(kl, limit)| *kl > limit.get())
    }
}

/// What an update adds up over its micro-batches and reads back only once.
pub(super) struct UpdateSums<B: DecodeBackend> {
    diagnostics: Diagnostics<Autodiff<B>>,
    entropy: Tensor<Autodiff<B>, 1>,
    difference: Tensor<Autodiff<B>, 1>,
    largest: Tensor<Autodiff<B>, 1>,
    weight: Tensor<Autodiff<B>, 1>,
    largest_weight: Tensor<Autodiff<B>, 1>,
    // The log-probs of the responses that are written down.
    logprobs: Vec<(Place, Tensor<B, 1>)>,
}

impl<B: DecodeBackend> UpdateSums<B> {
    pub(super) fn add_to(self, sums: &mut Option<Self>) {
        *sums = Some(match sums.take() {
            Some(sums) => sums.merge(self),
            None => self,
        });
    }

    fn merge(self, other: Self) -> Self {
        Self {
            diagnostics: self.diagnostics.merge(other.diagnostics),
            entropy: self.entropy + other.entropy,
            difference: self.difference + other.difference,
            largest: self.largest.max_pair(other.largest),
            weight: self.weight + other.weight,
            largest_weight: self.largest_weight.max_pair(other.largest_weight),
            logprobs: [self.logprobs, other.logprobs].concat(),
        }
    }

    /// The report over all ranks, which have `n_tokens` tokens together; `responses` are those of this one, which may have
    /// none. Empty if no rank has one.
    pub(super) fn read(
        sums: Option<Self>,
        responses: &[&Response<'_>],
        n_tokens: usize,
        team: &Team,
    ) -> Result<UpdateReport, Failure> {
        let (mut diagnostics, mut totals, mut maxima) = (Vec::new(), Vec::new(), Vec::new());
        let mut written = Vec::new();
        if let Some(own) = sums {
            diagnostics = own.diagnostics.read_sums();
            let sums = vec![own.entropy, own.difference, own.weight];
            totals.extend(Tensor::cat(sums, 0).into_data().iter::<f64>());
            let largest = vec![own.largest, own.largest_weight];
            maxima.extend(Tensor::cat(largest, 0).into_data().iter::<f64>());
            written = trained(responses, own.logprobs);
        }
        let diagnostics = team.sum(diagnostics)?;
        let totals = team.sum(totals)?;
        let maxima = team.concat(maxima)?;
        let responses = team.concat(written)?;
        let [entropy, difference, weight] = totals[..] else {
            return Ok(UpdateReport::default());
        };
        // A NaN must not be hidden by a number.
        let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        let largest = |i: usize| {
            let of_ranks = maxima.chunks(2).map(|of_rank| of_rank[i]);
            of_ranks.reduce(larger).unwrap_or(0.0)
        };
        let n = n_tokens.max(1) as f64;
        let mut metrics = Diagnostics::<Autodiff<B>>::metrics(&diagnostics);
        metrics.insert("actor/entropy".into(), entropy / n);
        Ok(UpdateReport {
            metrics,
            mean_logprob_difference: difference / n,
            max_logprob_difference: largest(0),
            mean_sampler_weight: weight / n,
            max_sampler_weight: largest(1),
            responses,
        })
    }
}

/// What responses were trained with whose log-probs these are.
fn trained<B: DecodeBackend>(
    responses: &[&Response<'_>],
    logprobs: Vec<(Place, Tensor<B, 1>)>,
) -> Vec<TrainedResponse> {
    let of = |(place, logp): (Place, Tensor<B, 1>)| {
        let response = responses.iter().find(|response| response.place == place)?;
        let logp: Vec<f32> = logp.into_data().iter::<f32>().collect();
        Some(TrainedResponse::new(response, &logp))
    };
    logprobs.into_iter().filter_map(of).collect()
}

/// What the loss of an update depends on besides the responses.
pub(super) struct UpdateLoss<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) objective: &'a ObjectiveConfig,
    /// Over all ranks.
    pub(super) totals: &'a StepTotals,
}

impl UpdateLoss<'_> {
    /// The share of `responses` in the loss.
    pub(super) fn of<B: DecodeBackend>(
        &self,
        policy: &CausalLm<Autodiff<B>>,
        responses: &[&Response<'_>],
    ) -> (TapedLoss<B>, UpdateSums<B>) {
        let (temperature, entropy_coeff) = (
            self.config.rollout.temperature.get(),
            self.config.train.entropy_coeff.get(),
        );
        let activations = self.config.train.activations(policy.config());
        let device = policy.device();
        let items: Vec<&ScoreItem> = responses.iter().map(|response| &response.item).collect();
        let has_bonus = entropy_coeff > 0.0;
        let entropy = if has_bonus {
            Entropy::Differentiable
        } else {
            Entropy::Measured
        };
        let (scores, tape) = score_on_tape(policy, &items, temperature, entropy, activations);
        let rows = Rows::new(responses);
        let logprobs = self.written(responses, &scores.logprobs);
        let padded = |packed: Tensor<Autodiff<B>, 1>| {
            packed
                .select(0, rows.indices::<B>(&device))
                .reshape([rows.n_rows, rows.n_columns])
        };
        let logp = padded(scores.logprobs);
        let logp_old = rows.tensor::<B>(&device, |row, i| responses[row].logp_old[i]);
        let advantages = rows.tensor::<B>(&device, |row, i| responses[row].advantages[i] as f32);
        let logp_ref: Option<Vec<&[f32]>> = responses
            .iter()
            .map(|response| response.logp_ref.as_deref())
            .collect();
        let logp_ref =
            logp_ref.map(|logp_ref| rows.tensor::<B>(&device, |row, i| logp_ref[row][i]));
        let weights: Option<Vec<&[f64]>> = responses
            .iter()
            .map(|response| response.weights.as_deref())
            .collect();
        let weights =
            weights.map(|weights| rows.tensor::<B>(&device, |row, i| weights[row][i] as f32));
        let mask = rows.mask::<B>(&device);
        let logp_rollout = rows.tensor::<B>(&device, |row, i| responses[row].logp_rollout[i]);
        // The difference from the sampler is a measurement; it must not add to the gradient.
        let log_weight = logp.clone().detach() - logp_rollout;
        let padding = mask.clone().bool_not();
        let weight = log_weight.clone().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
        let weight = weight.exp().mask_fill(padding.clone(), 0.0);
        let difference = log_weight.abs().mask_fill(padding, 0.0);
        let bonus = has_bonus.then(|| {
            let entropy = padded(scores.entropy.clone());
            aggregate_tokens(self.objective, entropy, &mask, self.totals) * entropy_coeff
        });
        let inputs = LossInputs {
            logp,
            logp_old,
            logp_ref,
            advantages,
            weights,
            mask,
        };
        let output = policy_loss(self.objective, inputs, self.totals);
        let sums = UpdateSums {
            diagnostics: output.diagnostics,
            entropy: scores.entropy.detach().sum(), // A reported number.
            difference: difference.clone().sum(),
            largest: difference.max(),
            weight: weight.clone().sum(),
            largest_weight: weight.max(),
            logprobs,
        };
        let loss = match bonus {
            Some(bonus) => output.loss - bonus,
            None => output.loss,
        };
        ((loss, tape), sums)
    }

    /// Of packed log-probs, those of the responses that the step writes down.
    fn written<B: DecodeBackend>(
        &self,
        responses: &[&Response<'_>],
        logprobs: &Tensor<Autodiff<B>, 1>,
    ) -> Vec<(Place, Tensor<B, 1>)> {
        let n_written = self.config.checkpoint.samples_per_step;
        let mut end = 0;
        let places = responses.iter().map(|response| {
            let begin = end;
            end += response.len();
            (response.place, begin..end)
        });
        let written = places.filter(|(place, _)| place.is_written(n_written));
        let of = |(place, range)| (place, logprobs.clone().inner().slice([range]));
        written.map(of).collect()
    }
}

/// The responses of a micro-batch as rows of a padded `[B, T]` tensor.
struct Rows {
    n_rows: usize,
    n_columns: usize,
    lengths: Vec<usize>,
}

impl Rows {
    fn new(responses: &[&Response<'_>]) -> Self {
        let lengths: Vec<usize> = responses.iter().map(|response| response.len()).collect();
        Self {
            n_rows: lengths.len(),
            n_columns: lengths.iter().copied().max().unwrap_or(0),
            lengths,
        }
    }

    /// The index in the packed tensor of each element of the padded one; 0 for padding.
    fn indices<B: DecodeBackend>(&self, device: &B::Device) -> Tensor<Autodiff<B>, 1, Int> {
        let mut indices = vec![0i32; self.n_rows * self.n_columns];
        let mut next = 0;
        for (row, &length) in self.lengths.iter().enumerate() {
            for index in &mut indices[row * self.n_columns..][..length] {
                *index = next;
                next += 1;
            }
        }
        let n = indices.len();
        Tensor::from_data(TensorData::new(indices, [n]), device)
    }

    /// The values of each row, padded with 0.
    fn tensor<B: DecodeBackend>(
        &self,
        device: &B::Device,
        value: impl Fn(usize, usize) -> f32,
    ) -> Tensor<Autodiff<B>, 2> {
        let mut values = vec![0f32; self.n_rows * self.n_columns];
        for (row, &length) in self.lengths.iter().enumerate() {
            for i in 0..length {
                values[row * self.n_columns + i] = value(row, i);
            }
        }
        Tensor::from_data(
            TensorData::new(values, [self.n_rows, self.n_columns]),
            device,
        )
    }

    fn mask<B: DecodeBackend>(&self, device: &B::Device) -> Tensor<Autodiff<B>, 2, Bool> {
        let mask: Vec<bool> = self
            .lengths
            .iter()
            .flat_map(|&length| (0..self.n_columns).map(move |column| column < length))
            .collect();
        Tensor::from_data(TensorData::new(mask, [self.n_rows, self.n_columns]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NonNegative, PositiveTemperature};
    use crate::train::ranks::Team;
    use burn::backend::Flex;
    use rpg_core::score::score;
    use rpg_losses::Aggregation;

    const LOGP: [f32; 3] = [-1.0, -2.0, -3.0];

    /// The loss is lowered by the coefficient times the mean entropy, in the share that the micro-batch has of it.
    #[test]
    fn the_entropy_bonus_is_a_mean_over_the_step() {
        let config = TrainConfig::recipe("arithmetic", &[]).unwrap();
        let shape = config.model.scratch.as_ref().unwrap();
        let (policy, _) = shape.init::<Flex>(0, &Default::default()).unwrap();
        let responses: Vec<Response<'_>> = [&[3, 4, 5][..], &[6]]
            .iter()
            .map(|tokens| Response {
                group: 0,
                place: Place {
                    group: 0,
                    sample: 0,
                },
                item: ScoreItem::response(&[1, 2], tokens),
                logp_rollout: &LOGP[..tokens.len()],
                logp_old: LOGP[..tokens.len()].to_vec(),
                weights: None,
                logp_ref: None,
                advantages: vec![0.5; tokens.len()],
                is_trained: true,
            })
            .collect();
        let items: Vec<&ScoreItem> = responses.iter().map(|response| &response.item).collect();
        let entropy = score(&policy, &items, 0.7).entropy.into_data();
        let entropy: Vec<f64> = entropy.iter::<f64>().collect();
        let totals = StepTotals {
            n_tokens: 10,
            n_responses: 5,
            max_length: 8,
        };
        let policy = policy.into_trainable();
        for (aggregation, expected) in [
            (Aggregation::TokenMean, entropy.iter().sum::<f64>() / 10.0),
            (
                Aggregation::SeqMeanTokenMean,
                (entropy[..3].iter().sum::<f64>() / 3.0 + entropy[3]) / 5.0,
            ),
        ] {
            let mut config = config.clone();
            config.objective.aggregation = aggregation;
            config.rollout.temperature = PositiveTemperature::of(0.7);
            let mut of_coeff = |coeff: f64| {
                config.train.entropy_coeff = NonNegative::of(coeff);
                let loss = UpdateLoss {
                    config: &config,
                    objective: &config.objective,
                    totals: &totals,
                };
                let parts: Vec<&Response<'_>> = responses.iter().collect();
                let ((loss, _), _) = loss.of(&policy, &parts);
                f64::from(loss.into_scalar())
            };
            let bonus = (of_coeff(0.0) - of_coeff(0.5)) / 0.5;
            assert!((bonus - expected).abs() < 1e-6, "{bonus} {expected}");
        }
    }

    /// Weights belong to the tokens of their responses, whatever the micro-batches.
    #[test]
    fn every_token_has_the_weight_that_it_was_trained_with() {
        let config = TrainConfig::recipe("arithmetic", &[]).unwrap();
        let shape = config.model.scratch.as_ref().unwrap();
        let (policy, _) = shape.init::<Flex>(0, &Default::default()).unwrap();
        // The step writes down the first samples of the first four groups.
        let places =
            [(0, 0), (0, 1), (3, 0), (4, 0)].map(|(group, sample)| Place { group, sample });
        let responses: Vec<Response<'_>> = [&[3, 4, 5][..], &[6], &[5, 3], &[4]]
            .iter()
            .zip(places)
            .map(|(tokens, place)| Response {
                group: 0,
                place,
                item: ScoreItem::response(&[1, 2], tokens),
                logp_rollout: &LOGP[..tokens.len()],
                logp_old: LOGP[..tokens.len()].to_vec(),
                weights: None,
                logp_ref: None,
                advantages: vec![place.group as f64; tokens.len()],
                is_trained: true,
            })
            .collect();
        let temperature = config.rollout.temperature.get();
        let weights = |response: &Response<'_>| -> Vec<f32> {
            let scores = score(&policy, &[&response.item], temperature)
                .logprobs
                .into_data();
            let ratios = scores.iter::<f32>().zip(&response.logp_old);
            ratios.map(|(lp, lp_old)| (lp - lp_old).exp()).collect()
        };
        let totals = StepTotals {
            n_tokens: 7,
            n_responses: 4,
            max_length: 8,
        };
        let trainable = policy.clone().into_trainable();
        let loss = UpdateLoss {
            config: &config,
            objective: &config.objective,
            totals: &totals,
        };
        let parts: Vec<&Response<'_>> = responses.iter().collect();
        let mut sums = None;
        for part in [&parts[..2], &parts[2..]] {
            loss.of(&trainable, part).1.add_to(&mut sums);
        }
        let report =
            UpdateSums::<Flex>::read(sums, &parts, totals.n_tokens, &Team::alone()).unwrap();
        for (found, response) in report.responses.iter().zip([&responses[0], &responses[2]]) {
            assert_eq!(found.place, response.place);
            assert_eq!(found.advantage, response.place.group as f64);
            let expected = weights(response);
            assert_eq!(found.weights.len(), expected.len());
            for (found, expected) in found.weights.iter().zip(&expected) {
                assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
            }
        }
        assert_eq!(report.responses.len(), 2);
        let none = UpdateSums::<Flex>::read(None, &[], 0, &Team::alone()).unwrap();
        assert_eq!(none, UpdateReport::default());
    }
}
