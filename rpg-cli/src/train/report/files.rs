//! The reporters that write a run folder's lines: metrics.jsonl and samples.jsonl.

use super::{Event, Reporter};
use crate::failure::Failure;
use crate::run_folder::{METRICS, RunFolder, SAMPLES};
use crate::train::loss::{TrainedResponse, UpdateReport};
use crate::train::prepare::Place;
use crate::train::sample::{GradedGroup, Sample};
use rpg_core::tokenizer::Tokenizer;
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
        match event.metrics() {
            Some(metrics) => self.0.append(METRICS, &metrics.to_json()),
            None => Ok(()),
        }
    }
}

/// Writes the first sample of some groups of every step to samples.jsonl, token by token.
#[derive(Debug)]
pub struct SamplesFile {
    folder: RunFolder,
    per_step: usize,
    tokenizer: Tokenizer,
}

impl SamplesFile {
    /// Writes `per_step` samples of every step into this folder; the tokenizer is the policy's.
    pub fn new(folder: &RunFolder, per_step: usize, tokenizer: &Tokenizer) -> Self {
        Self {
            folder: folder.clone(),
            per_step,
            tokenizer: tokenizer.clone(),
        }
    }
}

impl Reporter for SamplesFile {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let Event::Step {
            step,
            rollout,
            updates,
            ..
        } = event
        else {
            return Ok(());
        };
        for place in Place::written(self.per_step) {
            let Some(group) = rollout.groups.get(place.group) else {
                break;
            };
            let Some(sample) = group.samples.get(place.sample) else {
                continue;
            };
            let mut line = sample_line(*step, group, sample);
            let trained = last_trained(updates, place);
            line["version"] = rollout.version.into();
            line["advantage"] = json!(trained.map(|trained| rounded(trained.advantage)));
            let pieces = self.tokenizer.pieces(&sample.completion.tokens);
            let pieces = pieces.map_err(Failure::internal)?;
            line["tokens"] = tokens(&pieces, &sample.completion.logprobs, trained);
            self.folder.append(SAMPLES, &line)?;
        }
        Ok(())
    }
}

/// What a sample was trained with in the last of these updates that had it.
fn last_trained(updates: &[UpdateReport], place: Place) -> Option<&TrainedResponse> {
    let mut responses = updates.iter().rev().flat_map(|update| &update.responses);
    responses.find(|response| response.place == place)
}

/// The tokens of a completion as columns.
fn tokens(pieces: &[String], logprobs: &[f32], trained: Option<&TrainedResponse>) -> Value {
    let column = |values: &[f32]| -> Vec<f64> {
        let values = values.iter();
        values.map(|&value| rounded(value.into())).collect()
    };
    json!({
        "text": pieces,
        "logp": column(logprobs),
        "weight": trained.map(|trained| column(&trained.weights)),
    })
}

/// Four digits after the point: what people can tell apart, in a third of the bytes.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4 + 0.0 // Not "-0.0".
}

/// A sample as a line of samples.jsonl, without its tokens.
pub fn sample_line(step: u64, group: &GradedGroup, sample: &Sample) -> Value {
    let Sample { completion, grade } = sample;
    let parts: Map<String, Value> = grade
        .named_parts()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let mut line = json!({
        "step": step,
        "id": group.problem.id,
        "source": group.problem.data_source,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_update_of_a_sample_counts() {
        let place = |group| Place { group, sample: 0 };
        let report = |responses: &[(usize, f32)]| UpdateReport {
            responses: (responses.iter())
                .map(|&(group, weight)| TrainedResponse {
                    place: place(group),
                    weights: vec![weight],
                    advantage: 0.0,
                })
                .collect(),
            ..UpdateReport::default()
        };
        let updates = [report(&[(0, 1.0), (1, 1.0)]), report(&[(1, 1.25)])];
        for (group, weight) in [(0, Some(1.0)), (1, Some(1.25)), (2, None)] {
            let found = last_trained(&updates, place(group)).map(|found| found.weights[0]);
            assert_eq!(found, weight, "{group}");
        }
    }

    #[test]
    fn tokens_are_columns_of_equal_length() {
        let trained = TrainedResponse {
            place: Place {
                group: 0,
                sample: 0,
            },
            weights: vec![1.0, 1.234_56],
            advantage: 0.5,
        };
        let pieces = ["4".to_owned(), "<eos>".to_owned()];
        let found = tokens(&pieces, &[-0.123_46, -1e-9], Some(&trained));
        assert_eq!(
            found,
            json!({"text": ["4", "<eos>"], "logp": [-0.1235, 0.0], "weight": [1.0, 1.2346]})
        );
        assert_eq!(tokens(&pieces, &[-1.0, -2.0], None)["weight"], Value::Null);
    }
}
