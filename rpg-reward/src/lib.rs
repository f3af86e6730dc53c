//! Grades mathematical answers of language models.
//!
// The example for the feature `command` compiles only with it.
#![cfg_attr(any(not(doctest), feature = "command"), doc = include_str!("../README.md"))]

mod ast;
#[cfg(feature = "command")]
pub mod command;
mod conditions;
mod equal;
mod exact;
mod extract;
mod grade;
mod lex;
mod lexicon;
mod names;
mod numeric;
mod options;
mod parse;
pub mod reward;
#[cfg(feature = "shaping")]
pub mod shaping;
#[cfg(feature = "suite")]
pub mod suite;
mod verdict;

pub use grade::{check_gold, grade, grade_any, grade_batch, same_answer};
pub use options::{AnswerStyle, GradeOptions};
pub use reward::{ErrorPolicy, MathReward, Reward, RewardError, RewardItem, Score, ScoreScale};
pub use verdict::{AnswerSource, Budget, Reason, Verdict};
