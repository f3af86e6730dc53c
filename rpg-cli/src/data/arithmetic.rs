//! The built-in task: addition written column by column.
//!
//! A problem is `347+586=` and its worked example adds the columns from the right, each with the digit
//! that was carried, before it answers:
//!
//! ```text
//! 7+6=13
//! 4+8+1=13
//! 3+5+1=9
//! Answer: 933
//! ```
//!
//! The teacher of the warm start can be careless: with some probability a column's sum is off by one, and
//! everything after it follows from what was written. Imitation inherits the slips; the reward does not
//! forgive them.
//!
//! A hash assigns each pair of numbers to training or to evaluation, so that no evaluation problem, in either
//! order of its numbers, is ever trained on.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rpg_core::seed::{derive, stream};
use rpg_core::{Problem, Prompt};

/// The `tokenizer.json` of the task: one token per character.
pub const TOKENIZER: &str = include_str!("tokenizer.json");

/// The `tokenizer_config.json` of the task, with which Hugging Face transformers loads the tokenizer.
pub const TOKENIZER_SETTINGS: &str = include_str!("tokenizer_config.json");

/// One pair in this many is held out.
const HELD_OUT: u64 = 10;

/// A problem and its worked solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The problem.
    pub problem: Problem,
    /// The worked solution, without the end-of-sequence token.
    pub solution: String,
}

/// Generates problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnAddition {
    digits: u32,
    seed: u64,
}

impl ColumnAddition {
    /// Numbers of exactly `digits` digits.
    pub fn new(digits: u32, seed: u64) -> Self {
        Self { digits, seed }
    }

    /// A training problem with a solution without slips.
    pub fn train(&self, index: u64) -> Example {
        self.draw(Side::Train, index, 0.0)
    }

    /// A training problem with a solution, each of whose columns is wrong with probability `slip`.
    pub fn worked(&self, index: u64, slip: f64) -> Example {
        self.draw(Side::Train, index, slip)
    }

    /// An evaluation problem.
    pub fn held_out(&self, index: u64) -> Example {
        self.draw(Side::HeldOut, index, 0.0)
    }

    fn draw(&self, side: Side, index: u64, slip: f64) -> Example {
        let seed = derive(self.seed, &[stream::PROBLEMS, side as u64, index]);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let range = 10u64.pow(self.digits - 1)..10u64.pow(self.digits);
        loop {
            let (a, b) = (
                rng.random_range(range.clone()),
                rng.random_range(range.clone()),
            );
            // The split does not depend on the run's seed, so that one run can evaluate the model of another.
            let pair = derive(0, &[stream::SPLIT, a.min(b), a.max(b)]);
            if pair.is_multiple_of(HELD_OUT) == (side == Side::HeldOut) {
                return self.example(a, b, |sum| match rng.random::<f64>() {
                    x if x >= slip => sum,
                    x if x >= slip / 2.0 || sum == 0 => sum + 1,
                    _ => sum - 1,
                });
            }
        }
    }

    /// `write` turns the sum of a column into what is written for it.
    fn example(&self, a: u64, b: u64, mut write: impl FnMut(u64) -> u64) -> Example {
        let mut solution = String::new();
        let (mut carry, mut answer) = (0, 0);
        for column in 0..self.digits {
            let place = 10u64.pow(column);
            let (x, y) = (a / place % 10, b / place % 10);
            let carried = if carry == 1 { "+1" } else { "" };
            // A sum of at most 19 leaves a carry of at most 1.
            let sum = write(x + y + carry).min(19);
            solution += &format!("{x}+{y}{carried}={sum}\n");
            carry = sum / 10;
            answer += sum % 10 * place;
        }
        answer += carry * 10u64.pow(self.digits);
        solution += &format!("Answer: {answer}");
        let problem = Problem {
            id: format!("{a}+{b}"),
            data_source: "column_addition".into(),
            prompt: Prompt::Text(format!("{a}+{b}=\n")),
            answer: (a + b).to_string(),
            columns: None,
        };
        Example { problem, solution }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Train,
    HeldOut,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_core::tokenizer::Tokenizer;
    use std::collections::HashSet;

    #[test]
    fn an_example_is_worked_out_column_by_column() {
        let task = ColumnAddition::new(3, 0);
        let example = task.example(347, 586, |sum| sum);
        assert_eq!(example.solution, "7+6=13\n4+8+1=13\n3+5+1=9\nAnswer: 933");
        assert_eq!(example.problem.prompt, Prompt::Text("347+586=\n".into()));
        assert_eq!(example.problem.answer, "933");
        // A slip in every column: what follows is consistent with it, and the answer is wrong.
        let careless = task.example(347, 586, |sum| sum - 1);
        assert_eq!(careless.solution, "7+6=12\n4+8+1=12\n3+5+1=8\nAnswer: 822");
        assert_eq!(careless.problem, example.problem);
    }

    #[test]
    fn slips_are_as_frequent_as_asked_for() {
        let task = ColumnAddition::new(3, 0);
        let n = 4000;
        let right = (0..n)
            .map(|i| task.worked(i, 0.2))
            .filter(|example| {
                example
                    .solution
                    .ends_with(&format!(" {}", example.problem.answer))
            })
            .count();
        // Three columns without a slip: 0.8^3, within five standard deviations.
        assert!(
            (right as f64 / n as f64 - 0.512).abs() < 0.04,
            "{right} of {n}"
        );
        assert_eq!(task.worked(5, 0.2).problem, task.train(5).problem);
    }

    #[test]
    fn every_example_is_graded_correct_and_survives_tokenization() {
        let tokenizer = Tokenizer::from_json(TOKENIZER, Some(TOKENIZER_SETTINGS)).unwrap();
        for digits in 1..=6 {
            let task = ColumnAddition::new(digits, 3);
            for i in 0..50 {
                let Example { problem, solution } = task.train(i);
                let verdict = rpg_reward::grade(&solution, &problem.answer, &Default::default());
                assert!(verdict.correct, "{solution}");
                let text = format!("{}{solution}", problem.prompt.readable());
                let tokens = tokenizer.encode(&text, false).unwrap();
                assert_eq!(tokens.len(), text.len());
                assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
            }
        }
    }

    #[test]
    fn no_pair_is_on_both_sides() {
        let task = ColumnAddition::new(2, 0);
        let pairs = |draw: &dyn Fn(u64) -> Example| -> HashSet<[u64; 2]> {
            (0..5000)
                .map(|i| {
                    let id = draw(i).problem.id;
                    let mut pair: Vec<u64> = id.split('+').map(|n| n.parse().unwrap()).collect();
                    pair.sort();
                    [pair[0], pair[1]]
                })
                .collect()
        };
        let (train, held_out) = (pairs(&|i| task.train(i)), pairs(&|i| task.held_out(i)));
        assert!(train.is_disjoint(&held_out));
        assert!(
            train.len() > 2000 && held_out.len() > 200,
            "{} {}",
            train.len(),
            held_out.len()
        );
    }
}
