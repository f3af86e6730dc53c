//! The reporters that write a run folder's lines: metrics.jsonl and samples.jsonl.

use super::{Event, Reporter};
use crate::failure::Failure;
use crate::run_folder::{METRICS, RunFolder, SAMPLES};
use crate::train::sample::{GradedGroup, Sample};
use serde_json::{Map, Value, json};

/// Writes one line per step, and one per evaluation outside the steps, to metrics.jsonl.
#[derive(Debug)]
pub struct MetricsFile(RunFolder);

impl MetricsFile {
    /// Writes into this folder.
    pub fn new(folder: &RunFolder) -> Self {
        Self(folder.clone())
    }
}

impl Reporter for MetricsFile {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let metrics = match event {
            Event::WarmStartStep { metrics, .. } | Event::Step { metrics, .. } => metrics,
            Event::Evaluated {
                metrics: Some(metrics),
                ..
            } => metrics,
            _ => return Ok(()),
        };
        self.0.append(METRICS, &metrics.to_json())
    }
}

/// Writes the first sample of some groups of every step to samples.jsonl.
#[derive(Debug)]
pub struct SamplesFile {
    folder: RunFolder,
    per_step: usize,
}

impl SamplesFile {
    /// Writes `per_step` samples of every step into this folder.
    pub fn new(folder: &RunFolder, per_step: usize) -> Self {
        Self {
            folder: folder.clone(),
            per_step,
        }
    }
}

impl Reporter for SamplesFile {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let Event::Step { step, rollout, .. } = event else {
            return Ok(());
        };
        for group in rollout.groups.iter().take(self.per_step) {
            if let Some(sample) = group.samples.first() {
                self.folder
                    .append(SAMPLES, &sample_line(*step, group, sample))?;
            }
        }
        Ok(())
    }
}

/// A sample as a line of samples.jsonl.
pub fn sample_line(step: u64, group: &GradedGroup, sample: &Sample) -> Value {
    let Sample { completion, grade } = sample;
    let parts: Map<String, Value> = grade
        .named_parts()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let mut line = json!({
        "step": step,
        "id": group.problem.id,
        "prompt": group.problem.prompt.readable(),
        "completion": completion.text,
        "answer": group.problem.answer,
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
