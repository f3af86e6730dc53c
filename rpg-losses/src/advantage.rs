//! Rewards to advantages.

use crate::choices::AdvantageKind;
use crate::config::ObjectiveConfig;
use crate::objectives::kl_term::estimate;
use crate::objectives::spec::AdvantageRule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Added to a group's standard deviation.
pub const GROUP_STD_EPSILON: f64 = 1e-6;
/// Added to the batch's standard deviation.
pub const BATCH_STD_EPSILON: f64 = 1e-8;

/// Added to the variance over tokens where advantages are whitened.
pub const WHITENING_EPSILON: f64 = 1e-8;

/// One advantage per response from one reward per response.
///
/// | kind | advantage |
/// | --- | --- |
/// | `group_mean` | `R - mean(group)` |
/// | `group_norm` | `(R - mean(group)) / (std(group) + 1e-6)` |
/// | `leave_one_out` | `R - mean(other members)` |
/// | `opo` | `R - b`, `b` the mean of the group weighted by lengths; here all are equal: see [`advantages_with_lengths`] |
/// | `maxrl` | `(R - mean(group)) / mean(group)`; 0 where that mean is not above 0 |
/// | `batch_mean` | `R - mean(batch)` |
/// | `batch_norm` | `(R - mean(batch)) / (std(batch) + 1e-8)` |
///
/// Standard deviations have `n - 1` in the denominator. Where all rewards that are compared are
/// equal the advantage is exactly 0, and so it is for a group of one. `groups` holds one id per
/// response, in any order; the two batch forms do not read it.
///
/// ```
/// use rpg_losses::{AdvantageKind, advantages};
/// let a = advantages(AdvantageKind::GroupMean, &[1.0, 0.0, 1.0, 1.0], &[7, 7, 9, 9]);
/// assert_eq!(a, [0.5, -0.5, 0.0, 0.0]);
/// ```
///
/// # Panics
/// If a group form is requested and the two slices differ in length.
pub fn advantages(kind: AdvantageKind, rewards: &[f64], groups: &[usize]) -> Vec<f64> {
    advantages_with_lengths(kind, rewards, groups, &vec![1; rewards.len()])
}

/// [`advantages`] of responses that have so many tokens each, which `opo` reads. A group without tokens counts as
/// one of equal lengths.
///
/// # Panics
/// As [`advantages`], and if there are fewer lengths than rewards.
pub fn advantages_with_lengths(
    kind: AdvantageKind,
    rewards: &[f64],
    groups: &[usize],
    lengths: &[usize],
) -> Vec<f64> {
    if !kind.needs_groups() {
        return batch_advantages(kind, rewards, &vec![true; rewards.len()]);
    }
    assert_eq!(
        rewards.len(),
        groups.len(),
        "advantages: {} rewards, but {} group ids",
        rewards.len(),
        groups.len()
    );
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (idx, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(idx);
    }
    let mut result = vec![0.0; rewards.len()];
    for member_idxs in members.values() {
        let group_rewards: Vec<f64> = member_idxs.iter().map(|idx| rewards[*idx]).collect();
        let n = group_rewards.len() as f64;
        if all_equal(&group_rewards) {
            continue;
        }
        let mean = group_rewards.iter().sum::<f64>() / n;
        let std = standard_deviation(&group_rewards, mean);
        let n_tokens: usize = member_idxs.iter().map(|idx| lengths[*idx]).sum();
        let weighted = member_idxs
            .iter()
            .map(|idx| rewards[*idx] * lengths[*idx] as f64);
        let optimal = if n_tokens == 0 {
            mean
        } else {
            weighted.sum::<f64>() / n_tokens as f64
        };
        for idx in member_idxs {
            let centred = rewards[*idx] - mean;
            result[*idx] = match kind {
                AdvantageKind::GroupNorm => centred / (std + GROUP_STD_EPSILON),
                // R - (n*mean - R)/(n - 1) = (R - mean) * n/(n - 1).
                AdvantageKind::LeaveOneOut => centred * n / (n - 1.0),
                AdvantageKind::GroupMean => centred,
                AdvantageKind::Opo => rewards[*idx] - optimal,
                AdvantageKind::MaxRl if mean > 0.0 => centred / mean,
                AdvantageKind::MaxRl => 0.0,
                AdvantageKind::BatchMean | AdvantageKind::BatchNorm => {
                    unreachable!("{kind} does not compare within groups")
                }
            };
        }
    }
    result
}

/// Log-probabilities of the sampled tokens, for objectives whose token rewards contain a KL penalty.
#[derive(Debug, Clone, Copy)]
pub struct TokenLogProbs<'a> {
    /// Under the sampling policy, `[B][T]`.
    pub logp_old: &'a [Vec<f64>],
    /// Under the reference policy, `[B][T]`.
    pub logp_ref: &'a [Vec<f64>],
}

/// Advantages of a step's responses, or of their tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of numbers, one per response, or a list of such lists, one per token"
)]
pub enum Advantages {
    /// One per response, which all its tokens share.
    PerResponse(Vec<f64>),
    /// One per token, `[B][T]`.
    PerToken(Vec<Vec<f64>>),
}

impl Advantages {
    /// One per token, `[B][T]`, 0 where the mask is false.
    ///
    /// # Panics
    /// If the number of rows differs from that of the mask.
    pub fn into_tokens(self, mask: &[Vec<bool>]) -> Vec<Vec<f64>> {
        let n_rows = match &self {
            Self::PerResponse(values) => values.len(),
            Self::PerToken(rows) => rows.len(),
        };
        assert_eq!(
            n_rows,
            mask.len(),
            "advantages: {n_rows} rows, but {} in the mask",
            mask.len()
        );
        let pick = |value: f64, is_token: bool| if is_token { value } else { 0.0 };
        match self {
            Self::PerResponse(values) => (values.into_iter().zip(mask))
                .map(|(value, row)| row.iter().map(|is_token| pick(value, *is_token)).collect())
                .collect(),
            Self::PerToken(rows) => (rows.into_iter().zip(mask))
                .map(|(values, row)| {
                    let pairs = values.into_iter().zip(row);
                    pairs
                        .map(|(value, is_token)| pick(value, *is_token))
                        .collect()
                })
                .collect(),
        }
    }
}

/// The advantages of a step's responses, as the objective prescribes: the [`advantages`] of the configured
/// form, with what the kind and `kl_placement` change.
///
/// - `kl_placement = "reward"` (the preset of `reinforce_pp`): each token's reward is
///   `-beta*k(exp(-(lp_old - lp_ref)))`, and the sum of its and all later ones (gamma 1; at the sequence levels of
///   all) is added to the token's advantage: after the statistics of a group, before those of the batch, which
///   then are over all tokens (at the sequence levels: responses). Without `log_probs` the penalty is 0, as it is
///   where the reference is the sampling policy.
/// - `reinforce_pp`: the batch forms are over tokens, wherever the KL term is.
/// - `reinforce_pp_baseline`: all this, then whitened over tokens: `(A - mean) / sqrt(variance + 1e-8)`, where a
///   response counts as often as it has tokens.
///
/// # Panics
/// If `rewards`, `groups` (where used), `mask` and `log_probs` do not fit together.
pub fn step_advantages(
    config: &ObjectiveConfig,
    rewards: &[f64],
    groups: &[usize],
    mask: &[Vec<bool>],
    log_probs: Option<TokenLogProbs<'_>>,
) -> Advantages {
    assert_eq!(
        rewards.len(),
        mask.len(),
        "step_advantages: {} rewards, but {} rows in the mask",
        rewards.len(),
        mask.len()
    );
    let is_over_tokens = config.penalizes_rewards()
        || (config.advantage_rule() == AdvantageRule::RewardToGo
            && !config.advantage.needs_groups());
    let values = if is_over_tokens {
        returns_advantages(config, rewards, groups, mask, log_probs)
    } else {
        Advantages::PerResponse(of_responses(config, rewards, groups, mask))
    };
    match config.advantage_rule() {
        AdvantageRule::AsConfigured | AdvantageRule::RewardToGo => values,
        AdvantageRule::ThenWhitened => whitened(values, mask),
    }
}

/// [`step_advantages`], one per token: `[B][T]`, 0 where the mask is false.
///
/// # Panics
/// As [`step_advantages`].
pub fn token_advantages(
    config: &ObjectiveConfig,
    rewards: &[f64],
    groups: &[usize],
    mask: &[Vec<bool>],
    log_probs: Option<TokenLogProbs<'_>>,
) -> Vec<Vec<f64>> {
    step_advantages(config, rewards, groups, mask, log_probs).into_tokens(mask)
}

/// The configured form of the rewards alone.
fn of_responses(
    config: &ObjectiveConfig,
    rewards: &[f64],
    groups: &[usize],
    mask: &[Vec<bool>],
) -> Vec<f64> {
    let length = |row: &Vec<bool>| row.iter().filter(|is_token| **is_token).count();
    let lengths: Vec<usize> = mask.iter().map(length).collect();
    advantages_with_lengths(config.advantage, rewards, groups, &lengths)
}

/// Advantages from the rewards of responses and the KL penalties of their tokens.
fn returns_advantages(
    config: &ObjectiveConfig,
    rewards: &[f64],
    groups: &[usize],
    mask: &[Vec<bool>],
    log_probs: Option<TokenLogProbs<'_>>,
) -> Advantages {
    let of_groups = config.advantage.needs_groups();
    // The groups' statistics are those of rewards alone, the batch's those of whole returns.
    let base = if of_groups {
        of_responses(config, rewards, groups, mask)
    } else {
        rewards.to_vec()
    };
    let mut returns = penalties_to_go(config, mask, log_probs);
    if config.level.is_sequence() {
        let total = |(idx, row): (usize, &Vec<f64>)| {
            let first = mask[idx].iter().position(|is_token| *is_token);
            base[idx] + first.map_or(0.0, |token_idx| row[token_idx])
        };
        let totals: Vec<f64> = returns.iter().enumerate().map(total).collect();
        return Advantages::PerResponse(if of_groups {
            totals
        } else {
            advantages(config.advantage, &totals, &[])
        });
    }
    for (idx, row) in returns.iter_mut().enumerate() {
        for (value, is_token) in row.iter_mut().zip(&mask[idx]) {
            *value = if *is_token { *value + base[idx] } else { 0.0 };
        }
    }
    if !of_groups {
        let (flat, is_token) = (returns.concat(), mask.concat());
        let mut flat = batch_advantages(config.advantage, &flat, &is_token).into_iter();
        let values = returns.iter_mut().flatten();
        values.for_each(|value| *value = flat.next().unwrap_or(0.0));
    }
    Advantages::PerToken(returns)
}

/// The sum of each token's and all later penalties, `[B][T]`.
fn penalties_to_go(
    config: &ObjectiveConfig,
    mask: &[Vec<bool>],
    log_probs: Option<TokenLogProbs<'_>>,
) -> Vec<Vec<f64>> {
    let mut to_go: Vec<Vec<f64>> = mask.iter().map(|row| vec![0.0; row.len()]).collect();
    let Some(log_probs) = log_probs.filter(|_| config.penalizes_rewards()) else {
        return to_go;
    };
    for (row, row_mask) in mask.iter().enumerate() {
        let mut sum = 0.0;
        for idx in (0..row_mask.len()).rev().filter(|idx| row_mask[*idx]) {
            let u = log_probs.logp_old[row][idx] - log_probs.logp_ref[row][idx];
            sum -= config.beta * estimate(config.kl_estimator, u);
            to_go[row][idx] = sum;
        }
    }
    to_go
}

/// The two batch forms over the values that count; 0 for those that do not.
fn batch_advantages(kind: AdvantageKind, values: &[f64], counts: &[bool]) -> Vec<f64> {
    let counted: Vec<f64> = (values.iter().zip(counts))
        .filter_map(|(value, counts)| counts.then_some(*value))
        .collect();
    if all_equal(&counted) {
        return vec![0.0; values.len()];
    }
    let n = counted.len() as f64;
    let mean = counted.iter().sum::<f64>() / n;
    let divisor = match kind {
        AdvantageKind::BatchNorm => standard_deviation(&counted, mean) + BATCH_STD_EPSILON,
        AdvantageKind::BatchMean => 1.0,
        AdvantageKind::GroupMean
        | AdvantageKind::GroupNorm
        | AdvantageKind::LeaveOneOut
        | AdvantageKind::Opo
        | AdvantageKind::MaxRl => {
            unreachable!("{kind} does not compare with the batch")
        }
    };
    (values.iter().zip(counts))
        .map(|(value, counts)| {
            if *counts {
                (value - mean) / divisor
            } else {
                0.0
            }
        })
        .collect()
}

/// `(A - mean) / sqrt(variance + 1e-8)` with mean and variance over all unmasked tokens.
fn whitened(values: Advantages, mask: &[Vec<bool>]) -> Advantages {
    let rows = values.clone().into_tokens(mask).into_iter().zip(mask);
    let of_tokens: Vec<f64> = rows
        .flat_map(|(row, mask)| row.into_iter().zip(mask))
        .filter_map(|(value, is_token)| is_token.then_some(value))
        .collect();
    let (mean, divisor) = if all_equal(&of_tokens) {
        (0.0, f64::INFINITY)
    } else {
        let mean = of_tokens.iter().sum::<f64>() / of_tokens.len() as f64;
        // The root of the sum of squares, without squares that overflow.
        let std = standard_deviation(&of_tokens, mean);
        (mean, std.hypot(WHITENING_EPSILON.sqrt()))
    };
    let white = |value: f64| (value - mean) / divisor;
    match values {
        Advantages::PerResponse(values) => {
            Advantages::PerResponse(values.into_iter().map(white).collect())
        }
        Advantages::PerToken(rows) => {
            let whiten = |(row, mask): (Vec<f64>, &Vec<bool>)| {
                let values = row.into_iter().zip(mask);
                values
                    .map(|(value, is_token)| if *is_token { white(value) } else { 0.0 })
                    .collect()
            };
            Advantages::PerToken(rows.into_iter().zip(mask).map(whiten).collect())
        }
    }
}

/// With `n - 1` in the denominator, for at least two values.
fn standard_deviation(values: &[f64], mean: f64) -> f64 {
    let of_scaled = |scale: f64| {
        let squares = values.iter().map(|v| ((v - mean) / scale).powi(2));
        (squares.sum::<f64>() / (values.len() - 1) as f64).sqrt() * scale
    };
    match of_scaled(1.0) {
        std if std.is_finite() => std,
        // The squares are too large for a float, their root is not.
        _ => of_scaled(2.0_f64.powi(600)),
    }
}

/// Whether no two values differ; then rounding must not invent a difference from their mean.
fn all_equal(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}
