//! From the groups of a step to what its updates are computed from.

use super::grading::Sampled;
use super::step::Response;
use crate::config::TrainConfig;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rpg_core::model::CausalLm;
use rpg_core::ops::ModelBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_core::seed::{derive, stream};
use rpg_losses::{TokenLogProbs, token_advantages};

/// Groups of a step.
#[derive(Default)]
pub(super) struct Rollout {
    pub(super) groups: Vec<Sampled>,
}

impl Rollout {
    /// Tokens of prompts and completions.
    pub(super) fn n_tokens(&self) -> usize {
        self.groups
            .iter()
            .map(|sampled| {
                let completions = &sampled.group.completions;
                let prompt = sampled.problem.prompt_tokens.len();
                completions
                    .iter()
                    .map(|c| prompt + c.tokens.len())
                    .sum::<usize>()
            })
            .sum()
    }
}

/// Mean over all tokens.
pub(super) fn mean_advantage(responses: &[Vec<Response>]) -> f64 {
    let all = || {
        responses
            .iter()
            .flatten()
            .flat_map(|response| &response.advantages)
    };
    all().sum::<f64>() / all().count().max(1) as f64
}

/// Groups, each completion with a reward, as responses to train on, with advantages over the whole step.
pub(super) fn responses<B: ModelBackend>(
    config: &TrainConfig,
    reference: Option<&CausalLm<B>>,
    rollout: &Rollout,
) -> Vec<Vec<Response>> {
    let groups = &rollout.groups;
    let rewards: Vec<f64> = groups.iter().flat_map(Sampled::rewards).collect();
    let items: Vec<Vec<ScoreItem>> = groups
        .iter()
        .map(|sampled| {
            let prompt = &sampled.problem.prompt_tokens;
            let completions = sampled.group.completions.iter();
            completions
                .map(|c| ScoreItem::response(prompt, &c.tokens))
                .collect()
        })
        .collect();
    let logp_ref: Option<Vec<Vec<f32>>> =
        reference.map(|reference| score_all(config, reference, &items.concat()));
    let logp_old: Vec<&Vec<f32>> = groups
        .iter()
        .flat_map(|sampled| sampled.group.completions.iter().map(|c| &c.logprobs))
        .collect();
    let group_of: Vec<usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(i, sampled)| vec![i; sampled.group.completions.len()])
        .collect();
    let mask: Vec<Vec<bool>> = logp_old.iter().map(|logp| vec![true; logp.len()]).collect();
    let wide = |rows: &[Vec<f32>]| -> Vec<Vec<f64>> {
        rows.iter()
            .map(|row| row.iter().map(|&x| x.into()).collect())
            .collect()
    };
    let wide_old: Vec<Vec<f64>> = logp_old
        .iter()
        .map(|row| row.iter().map(|&x| x.into()).collect())
        .collect();
    let wide_ref = logp_ref.as_deref().map(wide);
    let log_probs = wide_ref.as_ref().map(|logp_ref| TokenLogProbs {
        logp_old: &wide_old,
        logp_ref,
    });
    let objective = &config.objective;
    let mut advantages =
        token_advantages(objective, &rewards, &group_of, &mask, log_probs).into_iter();
    let mut logp_ref = logp_ref.map(Vec::into_iter);
    let mut logp_old = logp_old.into_iter();
    items
        .into_iter()
        .map(|group| {
            group
                .into_iter()
                .map(|item| Response {
                    item,
                    logp_old: logp_old.next().cloned().unwrap_or_default(),
                    logp_ref: logp_ref.as_mut().and_then(Iterator::next),
                    advantages: advantages.next().unwrap_or_default(),
                })
                .collect()
        })
        .collect()
}

/// Log-probs of every item's tokens under a fixed model.
fn score_all<B: ModelBackend>(
    config: &TrainConfig,
    model: &CausalLm<B>,
    items: &[ScoreItem],
) -> Vec<Vec<f32>> {
    let mut result = Vec::with_capacity(items.len());
    let longest = items
        .iter()
        .map(|item| item.tokens.len())
        .max()
        .unwrap_or(1);
    let per_pass = (config.train.micro_batch_tokens / longest).max(1);
    for part in items.chunks(per_pass) {
        let scores = score(model, part, config.rollout.temperature);
        let values: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
        let mut rest = values.as_slice();
        for item in part {
            let (now, later) = rest.split_at(item.scored.len());
            result.push(now.to_vec());
            rest = later;
        }
    }
    result
}

/// The groups of each update, in an order that the seed decides.
pub(super) fn mini_batches(config: &TrainConfig, step: u64, n_groups: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..n_groups).collect();
    let seed = derive(config.seed, &[stream::MINI_BATCH, step]);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let n = config.train.mini_batches.min(n_groups);
    (0..n)
        .map(|i| order[i * n_groups / n..(i + 1) * n_groups / n].to_vec())
        .collect()
}
