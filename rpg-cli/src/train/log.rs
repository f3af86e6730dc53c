//! What a step reports: to metrics.jsonl, to samples.jsonl and to the reader of the terminal.

use super::grading::{Grade, Sampled};
use super::step::UpdateReport;
use crate::console::Console;
use rpg_core::StopReason;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// The metrics of a step in the order in which they are logged.
#[derive(Debug, Default)]
pub(super) struct Metrics(Map<String, Value>);

impl Metrics {
    pub(super) fn new(step: u64, phase: &str) -> Self {
        let mut map = Map::new();
        map.insert("step".into(), step.into());
        map.insert("phase".into(), phase.into());
        Self(map)
    }

    pub(super) fn add(&mut self, name: &str, value: f64) {
        self.0.insert(name.into(), json!(value));
    }

    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    pub(super) fn into_json(self) -> Value {
        Value::Object(self.0)
    }

    /// Mean, largest and least; nothing where there are no values.
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
    pub(super) fn add_rollout(&mut self, groups: &[Sampled], has_command: bool) {
        let grades = || groups.iter().flat_map(|group| &group.grades);
        let scores: Vec<f64> = grades()
            .filter_map(|grade| grade.correct)
            .map(|correct| f64::from(u8::from(correct)))
            .collect();
        self.add_spread("critic/score", &scores);
        let rewards: Vec<f64> = grades().filter_map(|grade| grade.reward).collect();
        self.add_spread("critic/rewards", &rewards);
        self.add_reward_parts(grades());
        if has_command {
            self.add("reward/errors", n_errors(groups) as f64);
        }
        let completions: Vec<_> = groups
            .iter()
            .flat_map(|group| &group.group.completions)
            .collect();
        let lengths: Vec<f64> = completions.iter().map(|c| c.tokens.len() as f64).collect();
        self.add_spread("response_length", &lengths);
        let cut = completions
            .iter()
            .filter(|c| c.stop == StopReason::Length)
            .count();
        self.add(
            "response_length/clip_ratio",
            cut as f64 / completions.len().max(1) as f64,
        );
        let prompts: Vec<f64> = groups
            .iter()
            .map(|group| group.problem.prompt_tokens.len() as f64)
            .collect();
        self.add_spread("prompt_length", &prompts);
        let equal = groups
            .iter()
            .filter(|group| all_equal(&group.rewards()))
            .count();
        self.add(
            "frac_reward_zero_std",
            equal as f64 / groups.len().max(1) as f64,
        );
    }

    /// Means of the parts of the reward, before weighting, over the completions that have them.
    fn add_reward_parts<'a>(&mut self, grades: impl Iterator<Item = &'a Grade>) {
        let mut means: Vec<(String, f64, usize)> = Vec::new();
        for (name, value) in grades.flat_map(named_parts) {
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

    /// Means over the updates of a step; the difference to the sampler's log-probs is that of the first
    /// update, before which the policy is the one that sampled.
    pub(super) fn add_updates(&mut self, reports: &[UpdateReport]) {
        self.add("train/num_updates", reports.len() as f64);
        let Some(first) = reports.first() else { return };
        for name in first.metrics.keys() {
            let sum: f64 = reports
                .iter()
                .filter_map(|report| report.metrics.get(name))
                .sum();
            self.add(name, sum / reports.len() as f64);
        }
        let (mean, max) = first.logprob_difference;
        self.add("sampling/sampling_logp_difference/mean", mean);
        self.add("sampling/sampling_logp_difference/max", max);
    }
}

/// The parts of a reward, those of the command as `command/NAME`.
fn named_parts(grade: &Grade) -> impl Iterator<Item = (String, f64)> {
    let parts = grade.parts.parts().iter();
    let own = grade.command_parts.iter();
    parts
        .map(|part| (part.name.clone(), part.value))
        .chain(own.map(|(name, value)| (format!("command/{name}"), *value)))
}

/// Completions that the reward command gave no score.
pub(super) fn n_errors(groups: &[Sampled]) -> usize {
    let grades = groups.iter().flat_map(|group| &group.grades);
    grades.filter(|grade| grade.error.is_some()).count()
}

/// Says which completions the reward command gave no score, if any.
pub(super) fn print_errors(console: &Console, when: &str, groups: &[Sampled]) {
    let all = || {
        groups
            .iter()
            .flat_map(|group| group.grades.iter().map(move |grade| (group, grade)))
    };
    let mut errors = all().filter_map(|(group, grade)| Some((group, grade.error.as_ref()?)));
    if let Some((group, error)) = errors.next() {
        console.line(&format!(
            "{when}: {} of {} completions have no score; the first, of problem {}: {error}",
            errors.count() + 1,
            all().count(),
            group.problem.problem.id
        ));
    }
}

pub(super) fn all_equal(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// Seconds per part of a step. They stand last in a line, under `timing_s/` and `perf/`: all that
/// differs between two runs with the same seed.
pub(super) struct Timing {
    start: Instant,
    last: Instant,
    parts: Vec<(&'static str, f64)>,
}

impl Timing {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            last: now,
            parts: Vec::new(),
        }
    }

    /// Ends a part.
    pub(super) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        match self.parts.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.parts.push((name, seconds)),
        }
    }

    pub(super) fn add_to(&self, metrics: &mut Metrics, n_tokens: usize) -> f64 {
        let total = self.start.elapsed().as_secs_f64();
        for (name, seconds) in &self.parts {
            metrics.add(&format!("timing_s/{name}"), *seconds);
        }
        metrics.add("timing_s/step", total);
        metrics.add("perf/throughput", n_tokens as f64 / total);
        total
    }
}

/// One line per step.
pub(super) fn print_step(console: &Console, step: u64, steps: u64, m: &Metrics, held_out: f64) {
    let number = |name: &str| m.get(name).unwrap_or(f64::NAN);
    let updates = match m.get("train/num_updates") {
        Some(0.0) => "no update, as rewards are equal within every group".into(),
        _ => format!(
            "kl {:.1e} | entropy {:.3} | clip {:.3}",
            number("actor/kl_loss"),
            number("actor/entropy"),
            number("actor/pg_clipfrac"),
        ),
    };
    console.line(&format!(
        "step {step:>4}/{steps} | reward {:.3} | held-out {held_out:.3} | {updates} | length {:.1} | {:.0} tokens/s",
        number("critic/rewards/mean"),
        number("response_length/mean"),
        number("perf/throughput"),
    ));
}

/// A completion as a line of samples.jsonl.
pub(super) fn sample_line(step: u64, sampled: &Sampled, i: usize) -> Value {
    let (completion, grade) = (&sampled.group.completions[i], &sampled.grades[i]);
    let parts: Map<String, Value> = named_parts(grade)
        .map(|(name, value)| (name, json!(value)))
        .collect();
    let mut line = json!({
        "step": step,
        "id": sampled.problem.problem.id,
        "prompt": sampled.problem.problem.prompt.readable(),
        "completion": completion.text,
        "answer": sampled.problem.problem.answer,
        "extracted": grade.verdict.extracted,
        "correct": grade.correct,
        "reason": grade.verdict.reason.to_string(),
        "reward": grade.reward,
        "parts": parts,
        "stop": completion.stop,
        "n_tokens": completion.tokens.len(),
    });
    if let Some(error) = &grade.error {
        line["error"] = error.to_string().into();
    }
    line
}

/// A completion in readable form.
pub(super) fn print_sample(console: &Console, sampled: &Sampled, i: usize) {
    let grade = &sampled.grades[i];
    let prompt = sampled.problem.problem.prompt.readable().trim_end();
    let text = sampled.group.completions[i].text.trim_end();
    let mark = match grade.correct {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "not graded",
    };
    // The command may have decided otherwise than the built-in grader, whose reason this is.
    let by = match grade.correct == Some(grade.verdict.correct) {
        true => "",
        false => "built-in grader: ",
    };
    let extracted = grade.verdict.extracted.as_deref().unwrap_or("nothing");
    let shown = |text: &str| {
        text.lines()
            .map(|line| format!("  | {line}\n"))
            .collect::<String>()
    };
    console.line(&format!(
        "{}{}  {mark}: {extracted} where {} is expected ({by}{})",
        shown(prompt),
        shown(text),
        sampled.problem.problem.answer,
        grade.verdict.reason
    ));
}
