//! Parts of a reward other than correctness: penalties, the format reward, and weighted sums of named parts.

pub use crate::reward::ScoreScale;

use crate::extract::extract;
use crate::options::GradeOptions;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::hash::Hash;

/// DAPO's soft penalty on long completions.
///
/// Zero up to `max_length - buffer` tokens, then linear down to `-penalty` at `max_length`, and constant
/// from there:
///
/// `min(0, (max_length - buffer - length) / buffer * penalty)`, at least `-penalty`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlongPenalty {
    /// The length at which the full penalty applies, in tokens.
    pub max_length: usize,
    /// The number of tokens before that length over which the penalty grows.
    pub buffer: usize,
    /// The full penalty, a positive number.
    pub penalty: f64,
}

impl OverlongPenalty {
    /// The penalty, zero or negative, of a completion of `length` tokens.
    ///
    /// With a buffer of zero the penalty is a step after `max_length`.
    pub fn penalty(&self, length: usize) -> f64 {
        let over = length as f64 - (self.max_length as f64 - self.buffer as f64);
        if over <= 0.0 {
            return 0.0;
        }
        if self.buffer == 0 {
            return -self.penalty;
        }
        -(over / self.buffer as f64).min(1.0) * self.penalty
    }
}

/// Whether a completion has the requested format.
///
/// 1 if there is an answer where `options` expect one, otherwise 0. The last expression does not count as
/// a format: use the options of [`GradeOptions::only`].
pub fn format_reward(completion: &str, options: &GradeOptions) -> f64 {
    let marked = GradeOptions {
        last_expression: false,
        ..options.clone()
    };
    let found = extract(completion, &marked);
    f64::from(u8::from(found.is_some_and(|e| !e.readings.is_empty())))
}

/// A penalty on completions that repeat themselves.
///
/// The fraction of n-grams that occurred earlier in the completion, times `-penalty`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepetitionPenalty {
    /// The length of the n-grams in tokens.
    pub ngram: usize,
    /// The penalty of a completion that consists of repetition only, a positive number.
    pub penalty: f64,
}

impl RepetitionPenalty {
    /// The penalty, zero or negative, of a completion as tokens or words.
    pub fn penalty<T: Eq + Hash>(&self, tokens: &[T]) -> f64 {
        if self.ngram == 0 || tokens.len() < self.ngram {
            return 0.0;
        }
        let mut seen = HashSet::new();
        let total = tokens.len() - self.ngram + 1;
        let repeated = tokens
            .windows(self.ngram)
            .filter(|gram| !seen.insert(*gram))
            .count();
        -self.penalty * repeated as f64 / total as f64
    }
}

/// A reward as a weighted sum of named parts, so that each can be logged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RewardParts {
    parts: Vec<RewardPart>,
}

/// One part of a reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RewardPart {
    /// The name under which it is logged.
    pub name: String,
    /// Its value before weighting.
    pub value: f64,
    /// Its weight in the sum.
    pub weight: f64,
}

impl RewardParts {
    /// No parts; the total is zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64, weight: f64) -> Self {
        self.parts.push(RewardPart {
            name: name.into(),
            value,
            weight,
        });
        self
    }

    /// The weighted sum.
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|part| part.value * part.weight).sum()
    }

    /// The parts in the order in which they were added.
    pub fn parts(&self) -> &[RewardPart] {
        &self.parts
    }

    /// The value, before weighting, of the part with this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.parts
            .iter()
            .find(|part| part.name == name)
            .map(|part| part.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::AnswerStyle;

    #[test]
    fn the_overlong_penalty_grows_over_the_buffer() {
        let penalty = OverlongPenalty {
            max_length: 100,
            buffer: 20,
            penalty: 1.0,
        };
        let rows = [
            (0, 0.0),
            (79, 0.0),
            (80, 0.0),
            (85, -0.25),
            (90, -0.5),
            (100, -1.0),
            (500, -1.0),
        ];
        for (length, expected) in rows {
            assert_eq!(penalty.penalty(length), expected, "length {length}");
        }
        let step = OverlongPenalty {
            max_length: 100,
            buffer: 0,
            penalty: 0.5,
        };
        assert_eq!((step.penalty(100), step.penalty(101)), (0.0, -0.5));
        let all_buffer = OverlongPenalty {
            max_length: 10,
            buffer: 20,
            penalty: 2.0,
        };
        assert_eq!(
            (all_buffer.penalty(0), all_buffer.penalty(10)),
            (-1.0, -2.0)
        );
    }

    #[test]
    fn the_repetition_penalty_counts_repeated_ngrams() {
        let penalty = RepetitionPenalty {
            ngram: 2,
            penalty: 1.0,
        };
        let rows = [
            ("", 0.0),
            ("a", 0.0),
            ("a b c", 0.0),
            ("a b a b", -1.0 / 3.0),
            ("a a a a a", -0.75),
        ];
        for (text, expected) in rows {
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(penalty.penalty(&words), expected, "{text}");
        }
    }

    #[test]
    fn a_weighted_sum_keeps_the_names_of_its_parts() {
        let parts = RewardParts::new()
            .with("correct", 1.0, 1.0)
            .with("overlong", -0.5, 0.5);
        assert_eq!(parts.total(), 0.75);
        assert_eq!(parts.get("overlong"), Some(-0.5));
        assert_eq!(parts.get("format"), None);
    }

    #[test]
    fn the_format_reward_requires_the_style() {
        let boxed = GradeOptions::only(AnswerStyle::Boxed);
        let rows = [
            ("so \\boxed{5}", 1.0),
            ("Answer: 5", 0.0),
            ("\\boxed{}", 0.0),
            ("5", 0.0),
        ];
        for (completion, expected) in rows {
            assert_eq!(format_reward(completion, &boxed), expected, "{completion}");
        }
    }
}
