//! What is wrong with a run, in words.
//!
//! Each alarm is a [`Rule`]: when it is given, what it says, what can be done. docs/reports.md has them as a table.

use crate::cli::report::history::{History, Steps, Window};
use crate::cli::report::run::Run;
use serde::Serialize;

/// What is wrong, and what can be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Alarm {
    /// What the rule is called.
    pub(super) name: &'static str,
    /// What was found, as a sentence.
    pub(super) text: String,
    /// When the alarm is given.
    pub(super) when: &'static str,
    /// What can be done.
    pub(super) advice: &'static str,
    /// The metric that shows it.
    pub(super) metric: String,
}

/// When an alarm is given.
struct Rule {
    name: &'static str,
    /// The condition; the newest ten steps are meant where no others are named.
    when: &'static str,
    advice: &'static str,
    /// What is wrong, and the metric that shows it.
    check: fn(&History<'_>) -> Option<(String, String)>,
}

/// The alarms of a run, the gravest first.
pub(super) fn alarms(run: &Run) -> Vec<Alarm> {
    of_history(&History::new(&run.lines, run.steps()))
}

fn of_history(history: &History<'_>) -> Vec<Alarm> {
    let alarm = |rule: &Rule| {
        let (text, metric) = (rule.check)(history)?;
        Some(Alarm {
            name: rule.name,
            text,
            when: rule.when,
            advice: rule.advice,
            metric,
        })
    };
    RULES.iter().filter_map(alarm).collect()
}

const MAX_EQUAL: f64 = 0.9;
const MIN_ENTROPY: f64 = 0.2;
const SOLVED: f64 = 0.9;
const MAX_CUT: f64 = 0.1;
const MAX_CLIPPED: f64 = 0.2;
const MIN_SAMPLE_SIZE: f64 = 0.5;
const MAX_DIFFERENCE: f64 = 0.02;
const MIN_FALL: f64 = 0.05;
const MAX_GROWTH: f64 = 10.0;

/// The gravest first.
const RULES: [Rule; 13] = [
    Rule {
        name: "updates skipped",
        when: "`actor/skipped_updates` above 0 in any of them",
        advice: "A gradient that is not finite comes from weights or log-probs that are not: lower optimizer.lr, and go back \
                 to a checkpoint from before if it goes on.",
        check: updates_skipped,
    },
    Rule {
        name: "no updates",
        when: "`train/num_updates` is 0 in at least half of them",
        advice: "Every group was left out as equal: take problems that are neither too easy nor too hard, more samples per \
                 prompt, or a larger train.max_generation_batches.",
        check: no_updates,
    },
    Rule {
        name: "reward constant",
        when: "`critic/rewards/max` equals `critic/rewards/min` in each, and the value is the same in all",
        advice: "Read some samples: is the answer found (extracted, reason), does the completion end before the limit? A \
                 policy that is never right needs easier problems, worked examples, or a reward for the form.",
        check: reward_constant,
    },
    Rule {
        name: "groups equal",
        when: "the mean of `frac_reward_zero_std` is above 0.9, and the reward is not constant",
        advice: "Equal rewards give no advantage: take problems of medium difficulty, or more samples per prompt.",
        check: groups_equal,
    },
    Rule {
        name: "reward fails",
        when: "`reward/errors` above 0 in any of them",
        advice: "Completions without a score are left out: read the errors of the samples, and see reward.command.timeout_seconds.",
        check: reward_fails,
    },
    Rule {
        name: "held-out falls",
        when: "of at least three held-out accuracies the newest is lower than the best by 0.05 and by a tenth of it, while \
               the mean of `critic/rewards/mean` is higher than it was over the ten steps up to the best",
        advice: "The policy learns what is rewarded, not what is asked: stop at the best step, raise objective.beta, take \
                 more problems, and read samples for what the reward does not see.",
        check: held_out_falls,
    },
    Rule {
        name: "entropy collapses",
        when: "the mean of `actor/entropy` is below a fifth of that of the first ten steps, and that of \
               `critic/score/mean` is below 0.9 and not above that of the ten steps before",
        advice: "The policy has nothing left to try: raise objective.eps_high or train.entropy_coeff, lower optimizer.lr, or \
                 raise objective.beta.",
        check: entropy_collapses,
    },
    Rule {
        name: "lengths at the limit",
        when: "the mean of `response_length/clip_ratio` is above 0.1",
        advice: "Completions that are cut off have no answer: raise rollout.max_new_tokens, ask for short answers, or \
                 give long ones less (reward.overlong); early in a run with that key, wait.",
        check: lengths_at_the_limit,
    },
    Rule {
        name: "clip share high",
        when: "the mean of `actor/pg_clipfrac` is above 0.2",
        advice: "Much of each step has no gradient: lower optimizer.lr, or take fewer train.mini_batches or train.epochs.",
        check: clip_share_high,
    },
    Rule {
        name: "effective sample size low",
        when: "the mean of `actor/eff_sample_size` is below 0.5",
        advice: "A few tokens outweigh the others, as the policy has moved far within the step: lower optimizer.lr, or take \
                 fewer train.mini_batches or train.epochs.",
        check: sample_size_low,
    },
    Rule {
        name: "sampler mismatch",
        when: "the mean of `sampling/sampling_logp_difference/mean` is above 0.02 where nothing corrects for it; with \
               `objective.rollout_correction`, that of `rollout_corr/rollout_is_eff_sample_size` is below 0.5",
        advice: "The sampler draws from another policy than is trained: set objective.rollout_correction, or \
                 rollout.weights = \"exact\".",
        check: sampler_mismatch,
    },
    Rule {
        name: "log-ratios clamped",
        when: "`actor/log_ratio_clamped` above 0 in any of them",
        advice: "Some probability has changed by a factor of e^20 within a step, or lies as far from the reference: lower \
                 optimizer.lr.",
        check: log_ratios_clamped,
    },
    Rule {
        name: "gradient grows",
        when: "the mean of `actor/grad_norm` is more than ten times that of the first ten steps",
        advice: "Often the beginning of the end: lower optimizer.lr or optimizer.max_grad_norm, and look at entropy and \
                 lengths.",
        check: gradient_grows,
    },
];

type Found = Option<(String, String)>;

fn updates_skipped(history: &History<'_>) -> Found {
    let window = history.newest()?;
    let n = window
        .values("actor/skipped_updates")
        .filter(|share| *share > 0.0)
        .count();
    let text = format!(
        "In {n} of {} updates were skipped, as the gradient was not a finite number.",
        window.steps()
    );
    (n > 0).then(|| found(text, "actor/skipped_updates"))
}

fn no_updates(history: &History<'_>) -> Found {
    let window = history.newest()?;
    let (mut n, mut n_without) = (0, 0);
    for updates in window.values("train/num_updates") {
        n += 1;
        n_without += usize::from(updates == 0.0);
    }
    let text = format!("{n_without} of {} had no update.", window.steps());
    (n > 0 && 2 * n_without >= n).then(|| found(text, "train/num_updates"))
}

/// The reward that all completions of the newest steps had.
fn constant_reward(history: &History<'_>) -> Option<(f64, Steps)> {
    let window = history.newest()?;
    let (max, min) = (
        window.max("critic/rewards/max")?,
        window.min("critic/rewards/min")?,
    );
    (max == min).then(|| (max, window.steps()))
}

fn reward_constant(history: &History<'_>) -> Found {
    let (reward, steps) = constant_reward(history)?;
    let text = format!(
        "Every completion of {steps} had the same reward, {}: there is nothing to learn from.",
        shown(reward)
    );
    Some(found(text, "critic/rewards/mean"))
}

fn groups_equal(history: &History<'_>) -> Found {
    let window = history.newest()?;
    let share = window.mean("frac_reward_zero_std")?;
    let text = format!(
        "In {} of the groups of {} all rewards were equal.",
        percent(share),
        window.steps()
    );
    (share > MAX_EQUAL && constant_reward(history).is_none())
        .then(|| found(text, "frac_reward_zero_std"))
}

fn reward_fails(history: &History<'_>) -> Found {
    let window = history.newest()?;
    let n = window.sum("reward/errors");
    let text = format!(
        "{n} completions of {} have no score from the reward command.",
        window.steps()
    );
    (n > 0.0).then(|| found(text, "reward/errors"))
}

fn held_out_falls(history: &History<'_>) -> Found {
    let (name, values) = history.held_out();
    let ((_, last), earlier) = values.split_last()?;
    let (best_step, best) = earlier
        .iter()
        .copied()
        .reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    let fall = best - last;
    if earlier.len() < 2 || fall < MIN_FALL || fall < 0.1 * best {
        return None;
    }
    let reward = |window: Option<Window<'_>>| window?.mean("critic/rewards/mean");
    let (now, then) = (reward(history.newest())?, reward(history.up_to(best_step))?);
    let text = format!(
        "Held-out accuracy has fallen from {} at step {best_step} to {}, while the reward has risen from {} to {}.",
        shown(best),
        shown(*last),
        shown(then),
        shown(now)
    );
    (now > then).then_some((text, name))
}

fn entropy_collapses(history: &History<'_>) -> Found {
    let (window, first) = (history.newest()?, history.oldest()?);
    let (now, then) = (window.mean("actor/entropy")?, first.mean("actor/entropy")?);
    let score = window.mean("critic/score/mean");
    let is_solved = score.is_some_and(|score| score >= SOLVED);
    let before = history.up_to(window.steps().first.saturating_sub(1));
    let before = before.and_then(|before| before.mean("critic/score/mean"));
    // A policy that becomes more certain of what is right learns.
    let rises = score > before;
    let text = format!(
        "The entropy has fallen from {} in the first ten steps to {} in {}.",
        shown(then),
        shown(now),
        window.steps()
    );
    (now < MIN_ENTROPY * then && !is_solved && !rises).then(|| found(text, "actor/entropy"))
}

/// The mean of a metric over the newest steps, if it is bad, in a sentence.
fn bad_mean(
    history: &History<'_>,
    name: &'static str,
    is_bad: impl Fn(f64) -> bool,
    text: impl Fn(f64, Steps) -> String,
) -> Found {
    let window = history.newest()?;
    let mean = window.mean(name).filter(|mean| is_bad(*mean))?;
    Some(found(text(mean, window.steps()), name))
}

fn lengths_at_the_limit(history: &History<'_>) -> Found {
    let name = "response_length/clip_ratio";
    bad_mean(
        history,
        name,
        |share| share > MAX_CUT,
        |share, steps| {
            let share = percent(share);
            format!("{share} of the completions of {steps} were cut off at the limit of tokens.")
        },
    )
}

fn clip_share_high(history: &History<'_>) -> Found {
    let name = "actor/pg_clipfrac";
    bad_mean(
        history,
        name,
        |share| share > MAX_CLIPPED,
        |share, steps| format!("{} of the tokens of {steps} were clipped.", percent(share)),
    )
}

fn sample_size_low(history: &History<'_>) -> Found {
    let name = "actor/eff_sample_size";
    bad_mean(
        history,
        name,
        |share| share < MIN_SAMPLE_SIZE,
        |share, steps| {
            let share = percent(share);
            format!("The importance weights of {steps} are worth {share} of their number.")
        },
    )
}

fn sampler_mismatch(history: &History<'_>) -> Found {
    let window = history.newest()?;
    let corrected = "rollout_corr/rollout_is_eff_sample_size";
    if let Some(share) = window.mean(corrected) {
        let text = format!(
            "The weights that correct for the sampler in {} are worth {} of their number.",
            window.steps(),
            percent(share)
        );
        return (share < MIN_SAMPLE_SIZE).then(|| found(text, corrected));
    }
    let name = "sampling/sampling_logp_difference/mean";
    let difference = window.mean(name)?;
    let text = format!(
        "The log-probs of sampler and trainer differ by {} per token in {}.",
        shown(difference),
        window.steps()
    );
    (difference > MAX_DIFFERENCE).then(|| found(text, name))
}

fn log_ratios_clamped(history: &History<'_>) -> Found {
    let window = history.newest()?;
    let n = window
        .values("actor/log_ratio_clamped")
        .filter(|n| *n > 0.0)
        .count();
    let text = format!(
        "In {n} of {} log-ratios were clamped to [-20, 20].",
        window.steps()
    );
    (n > 0).then(|| found(text, "actor/log_ratio_clamped"))
}

fn gradient_grows(history: &History<'_>) -> Found {
    let (window, first) = (history.newest()?, history.oldest()?);
    let (now, then) = (
        window.mean("actor/grad_norm")?,
        first.mean("actor/grad_norm")?,
    );
    let text = format!(
        "The norm of the gradient has grown from {} in the first ten steps to {} in {}.",
        shown(then),
        shown(now),
        window.steps()
    );
    (now > MAX_GROWTH * then).then(|| found(text, "actor/grad_norm"))
}

fn found(text: String, metric: &str) -> (String, String) {
    (text, metric.to_owned())
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Three digits that count.
fn shown(value: f64) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    rounded.to_string()
}

#[cfg(test)]
mod tests;
