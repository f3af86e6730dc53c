//! One optimizer update: the loss of a mini-batch, cut into micro-batches, and AdamW.

use crate::optim::{AdamW, global_norm};
use burn::backend::Autodiff;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_losses::{Diagnostics, LossInputs, ObjectiveConfig, StepTotals, policy_loss};
use std::collections::BTreeMap;

/// A response to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Prompt and response.
    pub item: ScoreItem,
    /// Log-probability of each token under the policy that sampled it.
    pub logp_old: Vec<f32>,
    /// The same under the reference; absent where that is the sampling policy.
    pub logp_ref: Option<Vec<f32>>,
    /// Advantage of each token.
    pub advantages: Vec<f64>,
}

impl Response {
    fn len(&self) -> usize {
        self.item.scored.len()
    }
}

/// What an update reports.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateReport {
    /// The diagnostics of the loss, under verl's names, and `actor/entropy`, `actor/grad_norm`.
    pub metrics: BTreeMap<String, f64>,
    /// Mean and largest `|log-prob at sampling - log-prob at scoring|`.
    pub logprob_difference: (f64, f64),
}

/// What is the same for all updates of a run.
#[derive(Debug, Clone, Copy)]
pub struct UpdateSettings<'a> {
    /// The loss.
    pub objective: &'a ObjectiveConfig,
    /// The gradient of all parameters together is scaled down to this norm.
    pub max_grad_norm: f64,
    /// Temperature at which log-probs are counted.
    pub temperature: f64,
    /// Longest completion, in tokens.
    pub max_length: usize,
    /// Tokens per forward and backward pass.
    pub micro_batch_tokens: usize,
}

/// One update of the policy from a mini-batch.
pub fn update<B: DecodeBackend>(
    model: CausalLm<Autodiff<B>>,
    optimizer: &mut AdamW<B>,
    responses: &[Response],
    lr: f64,
    settings: &UpdateSettings,
) -> (CausalLm<Autodiff<B>>, UpdateReport) {
    let UpdateSettings {
        objective,
        temperature,
        max_length,
        ..
    } = *settings;
    let totals = StepTotals {
        n_tokens: responses.iter().map(Response::len).sum(),
        n_responses: responses.len(),
        max_length,
    };
    let mut accumulator = GradientsAccumulator::new();
    let mut sums: Option<Sums<B>> = None;
    for micro_batch in micro_batches(responses, settings.micro_batch_tokens) {
        let (loss, micro_sums) = forward(&model, micro_batch, objective, &totals, temperature);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        accumulator.accumulate(&model, grads);
        sums = Some(match sums {
            Some(sums) => sums.merge(micro_sums),
            None => micro_sums,
        });
    }
    let grads = accumulator.grads();
    let norm = global_norm(&model, &grads);
    let scale = (settings.max_grad_norm / norm).min(1.0);
    let mut report = match sums {
        Some(sums) => sums.read(totals.n_tokens),
        None => UpdateReport {
            metrics: BTreeMap::new(),
            logprob_difference: (0.0, 0.0),
        },
    };
    report.metrics.insert("actor/grad_norm".into(), norm);
    report.metrics.insert("actor/lr".into(), lr);
    let finite = norm.is_finite();
    report
        .metrics
        .insert("actor/skipped_updates".into(), f64::from(u8::from(!finite)));
    // A gradient that is not finite would destroy the weights and the moments for good.
    match finite {
        true => (optimizer.step(model, grads, lr, scale), report),
        false => (model, report),
    }
}

/// Cuts a mini-batch so that no part has more than `max_tokens` tokens (or it is one response).
fn micro_batches(responses: &[Response], max_tokens: usize) -> impl Iterator<Item = &[Response]> {
    let mut rest = responses;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut n_tokens = 0;
        let n = rest
            .iter()
            .take_while(|response| {
                n_tokens += response.item.tokens.len();
                n_tokens <= max_tokens
            })
            .count();
        let (now, later) = rest.split_at(n.max(1));
        rest = later;
        Some(now)
    })
}

/// What is read back once per update.
struct Sums<B: DecodeBackend> {
    diagnostics: Diagnostics<Autodiff<B>>,
    entropy: Tensor<Autodiff<B>, 1>,
    difference: Tensor<Autodiff<B>, 1>,
    largest: Tensor<Autodiff<B>, 1>,
}

impl<B: DecodeBackend> Sums<B> {
    fn merge(self, other: Self) -> Self {
        Self {
            diagnostics: self.diagnostics.merge(other.diagnostics),
            entropy: self.entropy + other.entropy,
            difference: self.difference + other.difference,
            largest: self.largest.max_pair(other.largest),
        }
    }

    fn read(self, n_tokens: usize) -> UpdateReport {
        let mut metrics = self.diagnostics.read();
        let rest = Tensor::cat(vec![self.entropy, self.difference, self.largest], 0).into_data();
        let rest: Vec<f64> = rest.iter::<f64>().collect();
        let n = n_tokens.max(1) as f64;
        metrics.insert("actor/entropy".into(), rest[0] / n);
        UpdateReport {
            metrics,
            logprob_difference: (rest[1] / n, rest[2]),
        }
    }
}

fn forward<B: DecodeBackend>(
    model: &CausalLm<Autodiff<B>>,
    responses: &[Response],
    objective: &ObjectiveConfig,
    totals: &StepTotals,
    temperature: f64,
) -> (Tensor<Autodiff<B>, 1>, Sums<B>) {
    let device = model.device();
    let items: Vec<ScoreItem> = responses
        .iter()
        .map(|response| response.item.clone())
        .collect();
    let scores = score(model, &items, temperature);
    let rows = Rows::new(responses);
    let logp = scores
        .logprobs
        .select(0, rows.indices::<B>(&device))
        .reshape([rows.b, rows.t]);
    let logp_old = rows.tensor::<B>(responses, &device, |response, i| {
        f64::from(response.logp_old[i])
    });
    let advantages = rows.tensor::<B>(responses, &device, |response, i| response.advantages[i]);
    let logp_ref = responses
        .iter()
        .all(|response| response.logp_ref.is_some())
        .then(|| {
            rows.tensor::<B>(responses, &device, |response, i| {
                response
                    .logp_ref
                    .as_ref()
                    .map_or(0.0, |logp_ref| f64::from(logp_ref[i]))
            })
        });
    let mask = rows.mask::<B>(&device);
    // The difference to the sampler is a measurement; it must not add to the gradient.
    let difference = (logp.clone().detach() - logp_old.clone()).abs();
    let difference = difference.mask_fill(mask.clone().bool_not(), 0.0);
    let inputs = LossInputs {
        logp,
        logp_old,
        logp_ref,
        advantages,
        mask,
    };
    let output = policy_loss(objective, inputs, totals);
    let sums = Sums {
        diagnostics: output.diagnostics,
        entropy: scores.entropy.sum(),
        difference: difference.clone().sum(),
        largest: difference.max(),
    };
    (output.loss, sums)
}

/// The responses of a micro-batch as rows of a padded `[B, T]` tensor.
struct Rows {
    b: usize,
    t: usize,
    lengths: Vec<usize>,
}

impl Rows {
    fn new(responses: &[Response]) -> Self {
        let lengths: Vec<usize> = responses.iter().map(Response::len).collect();
        Self {
            b: lengths.len(),
            t: lengths.iter().copied().max().unwrap_or(0),
            lengths,
        }
    }

    /// Where each place of the padded tensor stands in the packed one; padding points at 0.
    fn indices<B: DecodeBackend>(&self, device: &B::Device) -> Tensor<Autodiff<B>, 1, Int> {
        let mut indices = vec![0i32; self.b * self.t];
        let mut next = 0;
        for (row, &length) in self.lengths.iter().enumerate() {
            for index in &mut indices[row * self.t..][..length] {
                *index = next;
                next += 1;
            }
        }
        Tensor::from_data(TensorData::new(indices, [self.b * self.t]), device)
    }

    fn tensor<B: DecodeBackend>(
        &self,
        responses: &[Response],
        device: &B::Device,
        value: impl Fn(&Response, usize) -> f64,
    ) -> Tensor<Autodiff<B>, 2> {
        let mut values = vec![0f32; self.b * self.t];
        for (row, response) in responses.iter().enumerate() {
            for i in 0..response.len() {
                values[row * self.t + i] = value(response, i) as f32;
            }
        }
        Tensor::from_data(TensorData::new(values, [self.b, self.t]), device)
    }

    fn mask<B: DecodeBackend>(&self, device: &B::Device) -> Tensor<Autodiff<B>, 2, Bool> {
        let mask: Vec<bool> = self
            .lengths
            .iter()
            .flat_map(|&length| (0..self.t).map(move |i| i < length))
            .collect();
        Tensor::from_data(TensorData::new(mask, [self.b, self.t]), device)
    }
}
