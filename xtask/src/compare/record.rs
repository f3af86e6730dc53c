//! What a finished run says of itself, read from its metrics.jsonl.

use super::plan::SAMPLES;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// The steps at the end of a run whose means stand for its end.
const TAIL: usize = 10;

/// The figures of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) seed: u64,
    /// Mean@k by step, before the first step and after the last included.
    pub(super) curve: Vec<(u64, f64)>,
    /// Means over the last steps, and over all steps.
    pub(super) entropy: f64,
    pub(super) response_length: f64,
    pub(super) reward_variance: f64,
    pub(super) grad_norm: f64,
    pub(super) clipped: f64,
}

impl Record {
    /// `None` if the run has not ended.
    pub(super) fn read(run: &Path, seed: u64) -> Result<Option<Self>> {
        let path = run.join("metrics.jsonl");
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(None);
        };
        let lines: Vec<Value> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is not JSONL", path.display()))?;
        Self::of(&lines, seed).with_context(|| path.display().to_string())
    }

    fn of(lines: &[Value], seed: u64) -> Result<Option<Self>> {
        let metric = |line: &Value, name: &str| {
            line[name]
                .as_f64()
                .with_context(|| format!("`{name}` is missing in {line}"))
        };
        if !lines.iter().any(|line| line["phase"] == "final") {
            return Ok(None);
        }
        let accuracy = format!("val-core/column_addition/acc/mean@{SAMPLES}");
        let mut curve = Vec::new();
        for line in lines.iter().filter(|line| line[&accuracy].is_number()) {
            curve.push((line["step"].as_u64().unwrap_or(0), metric(line, &accuracy)?));
        }
        let steps: Vec<&Value> = lines
            .iter()
            .filter(|line| line["phase"] == "train")
            .collect();
        let tail = &steps[steps.len().saturating_sub(TAIL)..];
        // A step without an update has no metrics of the policy.
        let mean = |lines: &[&Value], name: &str| -> f64 {
            let values: Vec<f64> = lines
                .iter()
                .filter_map(|line| line[name].as_f64())
                .collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let rewards: Vec<f64> = tail
            .iter()
            .map(|line| metric(line, "critic/rewards/mean"))
            .collect::<Result<_>>()?;
        // Of rewards that are 1 or -1.
        let variances = rewards.iter().map(|mean| 1.0 - mean * mean);
        Ok(Some(Self {
            seed,
            curve,
            entropy: mean(tail, "actor/entropy"),
            response_length: mean(tail, "response_length/mean"),
            reward_variance: variances.sum::<f64>() / rewards.len() as f64,
            grad_norm: mean(&steps, "actor/grad_norm"),
            clipped: mean(&steps, "actor/pg_clipfrac"),
        }))
    }

    /// Mean@k after the last step.
    pub(super) fn last(&self) -> f64 {
        self.curve.last().map_or(f64::NAN, |point| point.1)
    }

    /// The highest Mean@k.
    pub(super) fn best(&self) -> f64 {
        self.curve
            .iter()
            .map(|point| point.1)
            .fold(f64::NAN, f64::max)
    }

    /// The first step at which Mean@k reaches `level`, on the straight lines between measurements.
    pub(super) fn steps_to(&self, level: f64) -> Option<f64> {
        if self.curve.first()?.1 >= level {
            return Some(0.0);
        }
        let pair = self.curve.windows(2).find(|pair| pair[1].1 >= level)?;
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        Some(x0 as f64 + (level - y0) / (y1 - y0) * (x1 - x0) as f64)
    }
}

/// The mean over seeds, and half the width of its 95% interval by Student's t.
pub(super) fn interval(values: &[f64]) -> (f64, Option<f64>) {
    // Two-sided, for 1 to 9 degrees of freedom.
    const T: [f64; 9] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
    ];
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let Some(t) = n.checked_sub(2).and_then(|i| T.get(i)) else {
        return (mean, None);
    };
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, Some(t * (squares / (n - 1) as f64 / n as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record() -> Record {
        let acc = "val-core/column_addition/acc/mean@8";
        let train = |step: u64, reward: f64| {
            json!({"step": step, "phase": "train", "critic/rewards/mean": reward, "actor/entropy": 0.5,
                   "response_length/mean": 30.0, "actor/grad_norm": 0.25, "actor/pg_clipfrac": 0.125})
        };
        let mut measured = train(10, 0.0);
        measured[acc] = 0.5.into();
        let mut lines = vec![
            json!({"step": 0, "phase": "initial", acc: 0.3}),
            measured,
            train(11, 0.6),
        ];
        assert_eq!(
            Record::of(&lines, 0).unwrap(),
            None,
            "the run has not ended"
        );
        lines.push(json!({"step": 20, "phase": "final", acc: 0.9}));
        Record::of(&lines, 0).unwrap().unwrap()
    }

    #[test]
    fn a_run_is_read_from_its_metrics() {
        let record = record();
        assert_eq!(record.curve, [(0, 0.3), (10, 0.5), (20, 0.9)]);
        assert_eq!((record.last(), record.best()), (0.9, 0.9));
        assert!((record.reward_variance - (1.0 + 0.64) / 2.0).abs() < 1e-15);
        assert_eq!(
            (record.entropy, record.grad_norm, record.clipped),
            (0.5, 0.25, 0.125)
        );
    }

    #[test]
    fn a_level_is_reached_between_measurements() {
        let record = record();
        assert!((record.steps_to(0.8).unwrap() - 17.5).abs() < 1e-12);
        assert_eq!(record.steps_to(0.3), Some(0.0));
        assert_eq!(record.steps_to(0.95), None);
    }

    #[test]
    fn an_interval_needs_two_seeds() {
        let (mean, half) = interval(&[1.0, 2.0, 3.0]);
        assert_eq!(mean, 2.0);
        assert!((half.unwrap() - 4.303 / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(interval(&[1.0]), (1.0, None));
    }
}
