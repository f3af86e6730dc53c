//! The graded samples of a step.

use super::grading::Grade;
use rpg_core::{Completion, Problem};
use std::sync::Arc;

/// A completion and what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The completion.
    pub completion: Completion,
    /// What it is worth.
    pub grade: Grade,
}

/// A problem and the samples of its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GradedGroup {
    /// The problem.
    pub problem: Problem,
    /// The tokens of its prompt.
    pub prompt_tokens: Arc<[u32]>,
    /// The samples, in the order of their seeds.
    pub samples: Vec<Sample>,
}

/// Everything that a step has sampled.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rollout {
    /// The groups, in the order of the data.
    pub groups: Vec<GradedGroup>,
    /// Which of them the step learns from.
    pub kept: Vec<usize>,
    /// How many batches of prompts were sampled.
    pub n_batches: u64,
}

impl GradedGroup {
    /// The rewards of the samples that have one.
    pub fn rewards(&self) -> impl Iterator<Item = f64> {
        self.samples.iter().filter_map(|sample| sample.grade.reward)
    }

    /// Whether no two rewards differ, so that there is nothing to learn from.
    pub fn has_equal_rewards(&self) -> bool {
        let first = self.rewards().next();
        self.rewards().all(|reward| Some(reward) == first)
    }
}

impl Rollout {
    /// The groups that the step learns from.
    pub fn kept_groups(&self) -> impl Iterator<Item = &GradedGroup> {
        self.kept.iter().map(|&i| &self.groups[i])
    }

    /// All samples.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.groups.iter().flat_map(|group| &group.samples)
    }

    /// Tokens of prompts and completions.
    pub fn n_tokens(&self) -> usize {
        let of_group = |group: &GradedGroup| -> usize {
            let samples = group.samples.iter();
            samples
                .map(|sample| group.prompt_tokens.len() + sample.completion.tokens.len())
                .sum()
        };
        self.groups.iter().map(of_group).sum()
    }
}
