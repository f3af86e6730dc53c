//! Turns the groups of a step into the responses that its updates are computed from.

use super::learner::Learner;
use super::old_policy::add_old_policy;
use super::ranks::Team;
use super::reference::Reference;
use super::sample::Rollout;
use crate::config::TrainConfig;
use crate::failure::Failure;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rpg_core::StopReason;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, passes, score};
use rpg_core::seed::{derive, stream};
use rpg_losses::{ObjectiveConfig, TokenLogProbs, token_advantages};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Is told how many of how many responses are scored, and may stop the run.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>;

/// A group of a [`Rollout`], and a sample of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The index of the group in [`Rollout::groups`].
    pub group: usize,
    /// The index of the sample in the group.
    pub sample: usize,
}

impl Place {
    /// The places of the samples that a step writes down, if there are so many: the first of each of the first groups.
    pub fn written(samples_per_step: usize) -> impl Iterator<Item = Self> {
        (0..samples_per_step).map(|group| Self { group, sample: 0 })
    }

    /// Whether it is one of them.
    pub fn is_written(self, samples_per_step: usize) -> bool {
        self.sample == 0 && self.group < samples_per_step
    }
}

/// A response to train on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Response<'a> {
    /// Which of the step's groups it belongs to.
    pub(super) group: usize,
    /// Which of everything that was sampled it is.
    pub(super) place: Place,
    /// Prompt and response.
    pub(super) item: ScoreItem,
    /// Log-probability of each token as the sampler gave it.
    pub(super) logp_rollout: &'a [f32],
    /// The same under `pi_old`.
    pub(super) logp_old: Vec<f32>,
    /// The same under the reference; `None` if that is `pi_old`.
    pub(super) logp_ref: Option<Vec<f32>>,
    /// Advantage of each token.
    pub(super) advantages: Vec<f64>,
    /// What each token's loss is multiplied by, to correct for the sampler; `None`: 1.
    pub(super) weights: Option<Vec<f64>>,
    /// Whether it is part of the loss, not only of the advantages.
    pub(super) is_trained: bool,
}

impl Response<'_> {
    /// The number of tokens of the response.
    pub(super) fn len(&self) -> usize {
        self.item.scored.len()
    }
}

/// The responses of a step that are trained on, in the order of their groups.
pub(super) struct Batch<'a> {
    pub(super) responses: Vec<Response<'a>>,
    /// How many more there were that the limit on tokens has cut, if those are masked.
    pub(super) n_masked: Option<usize>,
    /// The metrics of the correction for the sampler, if there is one.
    pub(super) of_sampler: BTreeMap<String, f64>,
    n_groups: usize,
}

impl Batch<'_> {
    /// The mean advantage over all tokens.
    pub(super) fn mean_advantage(&self) -> f64 {
        let all = || {
            self.responses
                .iter()
                .flat_map(|response| &response.advantages)
        };
        all().sum::<f64>() / all().count().max(1) as f64
    }

    /// The responses of each update of all epochs: whole groups, in an order that depends on the seed.
    pub(super) fn mini_batches(&self, config: &TrainConfig, step: u64) -> Vec<Vec<&Response<'_>>> {
        let epochs = 0..config.train.epochs.get() as u64;
        epochs
            .flat_map(|epoch| self.of_epoch(config, step, epoch))
            .collect()
    }

    fn of_epoch(&self, config: &TrainConfig, step: u64, epoch: u64) -> Vec<Vec<&Response<'_>>> {
        let n_groups = self.n_groups;
        let mut order: Vec<usize> = (0..n_groups).collect();
        let place = [stream::MINI_BATCH, step, epoch];
        // The first epoch has the order of runs with only one.
        let place = if epoch == 0 { &place[..2] } else { &place[..] };
        let seed = derive(config.seed, place);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let n = config.train.mini_batches.get().min(n_groups);
        (0..n)
            .map(|i| {
                let groups = &order[i * n_groups / n..(i + 1) * n_groups / n];
                groups
                    .iter()
                    .flat_map(|&group| self.of_group(group))
                    .collect()
            })
            .collect()
    }

    fn of_group(&self, group: usize) -> &[Response<'_>] {
        let start = self
            .responses
            .partition_point(|response| response.group < group);
        let end = self
            .responses
            .partition_point(|response| response.group <= group);
        &self.responses[start..end]
    }
}

/// Makes responses of the samples of the kept groups that have a reward. Adds log-probs under `pi_old`, which is
/// the learner's policy, and under the reference, if that is another; and advantages, computed over the whole step.
///
/// With `train.mask_truncated_completions`, those that were cut count in the advantages of their groups and are then left
/// out: as with TRL's key of that name and DAPO's overlong filtering, the others are compared with them.
pub(super) fn prepare<'a, B: DecodeBackend>(
    config: &TrainConfig,
    learner: &Learner<B>,
    reference: &Reference<'_, B>,
    rollout: &'a Rollout,
    team: &Team,
    on_progress: OnProgress<'_>,
) -> Result<Batch<'a>, Failure> {
    let masks = config.train.mask_truncated_completions;
    let mut responses = Vec::new();
    let mut rewards = Vec::new();
    for (group_idx, &kept) in rollout.kept.iter().enumerate() {
        let group = &rollout.groups[kept];
        for (sample_idx, sample) in group.samples.iter().enumerate() {
            let Some(reward) = sample.grade.reward else {
                continue;
            };
            rewards.push(reward);
            responses.push(Response {
                group: group_idx,
                place: Place {
                    group: kept,
                    sample: sample_idx,
                },
                item: ScoreItem::response(&group.prompt_tokens, &sample.completion.tokens),
                logp_rollout: &sample.completion.logprobs,
                logp_old: sample.completion.logprobs.clone(),
                logp_ref: None,
                advantages: Vec::new(),
                weights: None,
                is_trained: !(masks && sample.completion.stop == StopReason::Length),
            });
        }
    }
    let of_sampler = add_old_policy(config, learner, &mut responses, team, on_progress)?;
    if let Some(model) = reference.model() {
        add_reference(config, model, &mut responses, team, on_progress)?;
    }
    add_advantages(&reference.objective(), &rewards, &mut responses);
    let n_all = responses.len();
    responses.retain(|response| response.is_trained);
    Ok(Batch {
        n_masked: masks.then_some(n_all - responses.len()),
        responses,
        of_sampler,
        n_groups: rollout.kept.len(),
    })
}

fn add_reference<B: DecodeBackend>(
    config: &TrainConfig,
    reference: &CausalLm<B>,
    responses: &mut [Response],
    team: &Team,
    on_progress: OnProgress<'_>,
) -> Result<(), Failure> {
    let logp_ref = log_probs(config, reference, responses, team, on_progress)?;
    for (response, logp_ref) in responses.iter_mut().zip(logp_ref) {
        response.logp_ref = Some(logp_ref);
    }
    Ok(())
}

/// The log-prob of each token of each response under `model`. Each rank scores its share of the responses.
pub(super) fn log_probs<B: DecodeBackend>(
    config: &TrainConfig,
    model: &CausalLm<B>,
    responses: &[Response],
    team: &Team,
    on_progress: OnProgress<'_>,
) -> Result<Vec<Vec<f32>>, Failure> {
    let own = &responses[team.share(responses.len())];
    let items: Vec<&ScoreItem> = own.iter().map(|response| &response.item).collect();
    let mut log_probs = Vec::with_capacity(items.len());
    for part in passes(
        model.config(),
        &items,
        config.train.micro_batch_tokens.get(),
        |item| *item,
    ) {
        if on_progress(log_probs.len(), items.len()).is_break() {
            return Err(Failure::interrupted());
        }
        let scores = score(model, part, config.rollout.temperature.get());
        let values: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
        let mut rest = values.as_slice();
        for item in part {
            let (now, later) = rest.split_at(item.scored.len());
            log_probs.push(now.to_vec());
            rest = later;
        }
    }
    team.concat(log_probs)
}

fn add_advantages(objective: &ObjectiveConfig, rewards: &[f64], responses: &mut [Response]) {
    let groups: Vec<usize> = responses.iter().map(|response| response.group).collect();
    let mask: Vec<Vec<bool>> = responses.iter().map(|r| vec![true; r.len()]).collect();
    let in_f64 = |row: &[f32]| -> Vec<f64> { row.iter().map(|&x| x.into()).collect() };
    let logp_ref: Option<Vec<Vec<f64>>> = responses
        .iter()
        .map(|response| response.logp_ref.as_deref().map(in_f64))
        .collect();
    let logp_old: Vec<Vec<f64>> = match logp_ref {
        Some(_) => responses.iter().map(|r| in_f64(&r.logp_old)).collect(),
        None => Vec::new(),
    };
    let log_probs = logp_ref.as_deref().map(|logp_ref| TokenLogProbs {
        logp_old: &logp_old,
        logp_ref,
    });
    let advantages = token_advantages(objective, rewards, &groups, &mask, log_probs);
    for (response, advantages) in responses.iter_mut().zip(advantages) {
        response.advantages = advantages;
    }
}
