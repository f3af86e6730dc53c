//! The metrics of a step, under the names that verl and TRL use.

use crate::train::grading::Grade;
use crate::train::loss::UpdateReport;
use crate::train::prepare::Batch;
use crate::train::sample::{GradedGroup, GroupFilter, Rollout};
use crate::train::updates::UpdateCounts;
use rpg_core::StopReason;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Metrics in the order in which they are logged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(Map<String, Value>);

impl Metrics {
    /// The metrics of a step of `phase`: `warm_start`, `initial`, `train` or `final`.
    pub fn new(step: u64, phase: &str) -> Self {
        let mut map = Map::new();
        map.insert("step".into(), step.into());
        map.insert("phase".into(), phase.into());
        Self(map)
    }

    /// Adds a metric; a value that is not finite becomes `null`.
    pub fn add(&mut self, name: &str, value: f64) {
        self.0.insert(name.into(), json!(value));
    }

    /// The value of a metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// The metrics by their names, with `step` and `phase`.
    pub fn values(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The metrics as a line of metrics.jsonl.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Mean, maximum and minimum; nothing if there are no values.
    fn add_spread(&mut self, name: &str, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        let n = values.len().max(1) as f64;
        self.add(&format!("{name}/mean"), values.iter().sum::<f64>() / n);
        self.add(
            &format!("{name}/max"),
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        self.add(
            &format!("{name}/min"),
            values.iter().copied().fold(f64::INFINITY, f64::min),
        );
    }

    /// Scores, rewards and lengths of everything that was sampled.
    pub(in crate::train) fn add_rollout(
        &mut self,
        rollout: &Rollout,
        filter: GroupFilter,
        has_own_reward: bool,
    ) {
        let samples: Vec<_> = rollout.samples().collect();
        let grades = || samples.iter().map(|sample| &sample.grade);
        let scores: Vec<f64> = grades()
            .filter_map(|grade| grade.correct)
            .map(|correct| f64::from(u8::from(correct)))
            .collect();
        self.add_spread("critic/score", &scores);
        let rewards: Vec<f64> = grades().filter_map(|grade| grade.reward).collect();
        self.add_spread("critic/rewards", &rewards);
        self.add_reward_parts(grades());
        if has_own_reward {
            self.add("reward/errors", n_errors(&rollout.groups) as f64);
        }
        let completions = || samples.iter().map(|sample| &sample.completion);
        let lengths: Vec<f64> = completions().map(|c| c.tokens.len() as f64).collect();
        self.add_spread("response_length", &lengths);
        let cut = completions()
            .filter(|c| c.stop == StopReason::Length)
            .count();
        self.add(
            "response_length/clip_ratio",
            cut as f64 / samples.len().max(1) as f64,
        );
        let groups = &rollout.groups;
        let prompts: Vec<f64> = groups
            .iter()
            .map(|group| group.prompt_tokens.len() as f64)
            .collect();
        self.add_spread("prompt_length", &prompts);
        let share = |is_equal: &dyn Fn(&GradedGroup) -> bool| {
            let equal = groups.iter().filter(|group| is_equal(group)).count();
            equal as f64 / groups.len().max(1) as f64
        };
        self.add(
            "frac_reward_zero_std",
            share(&GradedGroup::has_equal_rewards),
        );
        self.add(
            "train/frac_equal_groups",
            share(&|group| group.is_equal(filter)),
        );
        self.add("train/num_gen_batches", rollout.n_batches as f64);
    }

    /// The advantages, and how far the sampler is from the policy, where the objective corrects for it.
    pub(in crate::train) fn add_batch(&mut self, batch: &Batch) {
        self.add("critic/advantages/mean", batch.mean_advantage());
        if let Some(n) = batch.n_masked {
            self.add("train/masked_completions", n as f64);
        }
        self.add_all(&batch.of_sampler);
    }

    /// Metrics by their names.
    pub(in crate::train) fn add_all(&mut self, metrics: &BTreeMap<String, f64>) {
        for (name, value) in metrics {
            self.add(name, *value);
        }
    }

    /// Means of the parts of the reward, before weighting, over the completions that have them.
    fn add_reward_parts<'a>(&mut self, grades: impl Iterator<Item = &'a Grade>) {
        let mut means: Vec<(&str, f64, usize)> = Vec::new();
        for (name, value) in grades.flat_map(Grade::named_parts) {
            match means.iter_mut().find(|(other, ..)| *other == name) {
                Some((_, sum, n)) => {
                    *sum += value;
                    *n += 1;
                }
                None => means.push((name, value, 1)),
            }
        }
        for (name, sum, n) in means {
            self.add(&format!("reward/{name}"), sum / n as f64);
        }
    }

    /// Means over the updates of a step. The difference from the log-probs of the `sampler` is that of the first update, before
    /// which the policy is still the one from which the step starts.
    pub(in crate::train) fn add_updates(&mut self, reports: &[UpdateReport], sampler: &str) {
        self.add("train/num_updates", reports.len() as f64);
        let Some(first) = reports.first() else { return };
        for name in first.metrics.keys() {
            let sum: f64 = reports
                .iter()
                .filter_map(|report| report.metrics.get(name))
                .sum();
            self.add(name, sum / reports.len() as f64);
        }
        let name = format!("sampling/{sampler}_logp_difference");
        self.add(&format!("{name}/mean"), first.mean_logprob_difference);
        self.add(&format!("{name}/max"), first.max_logprob_difference);
    }

    /// How many steps old the policy was that has sampled a step, and how far the policy that is trained had come from it by the
    /// first update.
    pub(in crate::train) fn add_staleness(&mut self, staleness: u64, reports: &[UpdateReport]) {
        // All tokens of a step come from one policy.
        self.add("rollout/staleness/mean", staleness as f64);
        self.add("rollout/staleness/max", staleness as f64);
        let is_stale = staleness > 0;
        self.add(
            "rollout/staleness/stale_tokens",
            f64::from(u8::from(is_stale)),
        );
        if let Some(first) = reports.first().filter(|_| is_stale) {
            self.add("rollout/staleness/weight_mean", first.mean_sampler_weight);
            self.add("rollout/staleness/weight_max", first.max_sampler_weight);
        }
    }

    /// All updates of the run, and those that were skipped.
    pub(in crate::train) fn add_update_counts(&mut self, counts: &UpdateCounts) {
        self.add("train/updates_total", counts.all as f64);
        self.add("train/skipped_updates_total", counts.skipped as f64);
    }
}

/// The number of completions without a score from the user's reward.
fn n_errors<'a>(groups: impl IntoIterator<Item = &'a GradedGroup>) -> usize {
    let samples = groups.into_iter().flat_map(|group| &group.samples);
    samples
        .filter(|sample| sample.grade.error.is_some())
        .count()
}

/// Seconds per part of a step. They come last in a line, under `timing_s/` and `perf/throughput`: only these differ
/// between two runs with the same seed.
#[derive(Debug)]
pub struct Timing {
    start: Instant,
    last: Instant,
    parts: Vec<(&'static str, f64)>,
}

impl Default for Timing {
    fn default() -> Self {
        Self::start()
    }
}

impl Timing {
    /// Starts the clock.
    pub fn start() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            last: now,
            parts: Vec::new(),
        }
    }

    /// Ends a part.
    pub fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        match self.parts.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.parts.push((name, seconds)),
        }
    }

    /// Adds what a part took that has run beside the others.
    pub fn add(&mut self, name: &'static str, time: Duration) {
        self.parts.push((name, time.as_secs_f64()));
    }

    /// Adds the parts of another clock, which has measured the time since the last lap or time beside it.
    pub(in crate::train) fn take_over(&mut self, other: &Self) {
        self.parts.extend_from_slice(&other.parts);
        self.last = Instant::now();
    }

    /// Adds the seconds of all parts, and the throughput of `n_tokens`.
    pub fn add_to(&self, metrics: &mut Metrics, n_tokens: usize) {
        let total = self.start.elapsed().as_secs_f64();
        for (name, seconds) in &self.parts {
            metrics.add(&format!("timing_s/{name}"), *seconds);
        }
        metrics.add("timing_s/step", total);
        metrics.add("perf/throughput", n_tokens as f64 / total);
    }
}
