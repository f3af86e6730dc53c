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
//! Pairs of numbers are divided between training and evaluation by a hash, so that no evaluation
//! problem - in either order of its numbers - is ever trained on.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rpg_core::seed::{derive, stream};
use rpg_core::{Problem, Prompt};

/// The tokenizer of the task, one token per character.
pub const TOKENIZER: &str = include_str!("tokenizer.json");

/// Its `tokenizer_config.json`, by which Hugging Face transformers loads it.
pub const TOKENIZER_SETTINGS: &str = include_str!("tokenizer_config.json");

/// One in so many pairs is held out.
const HELD_OUT: u64 = 10;

/// A problem and how it is worked out.
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

    /// A training problem.
    pub fn train(&self, index: u64) -> Example {
        self.draw(0, index)
    }

    /// An evaluation problem.
    pub fn held_out(&self, index: u64) -> Example {
        self.draw(1, index)
    }

    fn draw(&self, side: u64, index: u64) -> Example {
        let seed = derive(self.seed, &[stream::PROBLEMS, side, index]);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let range = 10u64.pow(self.digits - 1)..10u64.pow(self.digits);
        loop {
            let (a, b) = (
                rng.random_range(range.clone()),
                rng.random_range(range.clone()),
            );
            // The division does not depend on the run's seed: a model of one run can be evaluated by
            // another.
            let pair = derive(0, &[stream::SPLIT, a.min(b), a.max(b)]);
            let is_held_out = pair % HELD_OUT == 0;
            if is_held_out == (side == 1) {
                return self.example(a, b);
            }
        }
    }

    fn example(&self, a: u64, b: u64) -> Example {
        let problem = Problem {
            id: format!("{a}+{b}"),
            data_source: "column_addition".into(),
            prompt: Prompt::Text(format!("{a}+{b}=\n")),
            answer: (a + b).to_string(),
        };
        Example {
            problem,
            solution: self.solution(a, b),
        }
    }

    fn solution(&self, a: u64, b: u64) -> String {
        let mut text = String::new();
        let mut carry = 0;
        for column in 0..self.digits {
            let digit = |x: u64| x / 10u64.pow(column) % 10;
            let sum = digit(a) + digit(b) + carry;
            let carried = if carry == 1 { "+1" } else { "" };
            text += &format!("{}+{}{carried}={sum}\n", digit(a), digit(b));
            carry = sum / 10;
        }
        text + &format!("Answer: {}", a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_rollout::tokenizer::Tokenizer;
    use std::collections::HashSet;

    #[test]
    fn the_worked_example() {
        let example = ColumnAddition::new(3, 0).example(347, 586);
        assert_eq!(example.solution, "7+6=13\n4+8+1=13\n3+5+1=9\nAnswer: 933");
        assert_eq!(example.problem.prompt, Prompt::Text("347+586=\n".into()));
        assert_eq!(example.problem.answer, "933");
    }

    #[test]
    fn every_example_is_graded_correct_and_survives_the_tokenizer() {
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
