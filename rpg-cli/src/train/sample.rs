//! The graded samples of a step.

use super::grading::Grade;
use rpg_core::{Completion, Problem};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// By what dynamic sampling tells groups from which there is nothing to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupFilter {
    /// Their answers are all right or all wrong, as in the paper and DAPO.
    #[default]
    Accuracy,
    /// Their rewards are all equal.
    Reward,
}

/// A completion and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The number of steps after which the policy was the one that has sampled all of it.
    pub version: u64,
}

impl GradedGroup {
    /// The rewards of the samples that have one.
    pub fn rewards(&self) -> impl Iterator<Item = f64> {
        self.samples.iter().filter_map(|sample| sample.grade.reward)
    }

    /// Whether no two rewards differ.
    pub fn has_equal_rewards(&self) -> bool {
        all_equal(self.rewards())
    }

    /// Whether there is nothing to learn from the group, by `filter`. Samples without a reward do not count. A group
    /// in which the accuracy of another is not known is judged by its rewards.
    pub fn is_equal(&self, filter: GroupFilter) -> bool {
        let with_reward = self.samples.iter().map(|sample| &sample.grade);
        let accuracies: Option<Vec<bool>> = with_reward
            .filter(|grade| grade.reward.is_some())
            .map(|grade| grade.accuracy)
            .collect();
        match (filter, accuracies) {
            (GroupFilter::Accuracy, Some(accuracies)) => all_equal(accuracies),
            (GroupFilter::Accuracy, None) | (GroupFilter::Reward, _) => self.has_equal_rewards(),
        }
    }
}

impl Rollout {
    /// Adds groups. With a filter, the step learns from those that are not equal until it has `wanted`; without one,
    /// from all that have a reward.
    pub(super) fn add(
        &mut self,
        groups: Vec<GradedGroup>,
        filter: Option<GroupFilter>,
        wanted: usize,
    ) {
        for group in groups {
            let is_kept = match filter {
                Some(filter) => !group.is_equal(filter) && self.kept.len() < wanted,
                None => group.rewards().next().is_some(),
            };
            if is_kept {
                self.kept.push(self.groups.len());
            }
            self.groups.push(group);
        }
    }

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

fn all_equal<T: PartialEq>(values: impl IntoIterator<Item = T>) -> bool {
    let mut values = values.into_iter();
    let first = values.next();
    values.all(|value| first.as_ref() == Some(&value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_core::{Prompt, StopReason};
    use rpg_reward::shaping::RewardParts;
    use rpg_reward::{GradeOptions, grade};

    fn group(grades: &[(Option<bool>, Option<f64>)]) -> GradedGroup {
        let sample = |&(accuracy, reward): &(Option<bool>, Option<f64>)| Sample {
            completion: Completion {
                tokens: vec![],
                logprobs: vec![],
                text: String::new(),
                stop: StopReason::Eos,
            },
            grade: Grade {
                verdict: grade("1", "1", &GradeOptions::default()),
                correct: accuracy,
                accuracy,
                parts: RewardParts::new(),
                own_parts: vec![],
                reward,
                error: None,
            },
        };
        GradedGroup {
            problem: Problem {
                id: "1".into(),
                data_source: "test".into(),
                prompt: Prompt::Text("?".into()),
                answer: "1".into(),
                columns: None,
            },
            prompt_tokens: [].into(),
            samples: grades.iter().map(sample).collect(),
        }
    }

    #[test]
    fn a_filter_keeps_as_many_groups_as_are_wanted() {
        let (right, wrong) = ((Some(true), Some(1.0)), (Some(false), Some(0.0)));
        let groups = || {
            vec![
                group(&[right, right]),
                group(&[right, wrong]),
                group(&[(None, None)]),
                group(&[wrong, right]),
                group(&[wrong, right]),
            ]
        };
        let accuracy = Some(GroupFilter::Accuracy);
        for (filter, wanted, kept) in [
            (accuracy, 2, &[1, 3][..]),
            (accuracy, 9, &[1, 3, 4]),
            (None, 2, &[0, 1, 3, 4]),
        ] {
            let mut rollout = Rollout::default();
            rollout.add(groups(), filter, wanted);
            assert_eq!(rollout.kept, kept, "{filter:?} {wanted}");
            assert_eq!(rollout.groups.len(), 5);
        }
    }

    #[test]
    fn equal_groups_by_accuracy_and_by_reward() {
        let (right, wrong, unknown) = (Some(true), Some(false), None);
        // The grades; whether they are equal by accuracy, and by reward.
        for (grades, by_accuracy, by_reward) in [
            (&[(right, Some(1.0)), (right, Some(1.0))][..], true, true),
            (&[(wrong, Some(0.0)), (right, Some(1.0))], false, false),
            // A penalty tells right answers apart, which accuracy does not see.
            (&[(right, Some(1.0)), (right, Some(0.5))], true, false),
            (&[(wrong, Some(1.0)), (right, Some(1.0))], false, true),
            // Rewards decide where the accuracy of some is not known.
            (&[(unknown, Some(1.0)), (right, Some(0.5))], false, false),
            (&[(unknown, Some(1.0)), (right, Some(1.0))], true, true),
            // Without a reward a sample is left out.
            (
                &[(unknown, None), (right, Some(1.0)), (right, Some(0.5))],
                true,
                false,
            ),
            (&[(wrong, None), (right, Some(1.0))], true, true),
            (&[(wrong, None), (right, None)], true, true),
            (&[], true, true),
        ] {
            let group = group(grades);
            assert_eq!(
                group.is_equal(GroupFilter::Accuracy),
                by_accuracy,
                "{grades:?}"
            );
            assert_eq!(group.is_equal(GroupFilter::Reward), by_reward, "{grades:?}");
        }
    }
}
