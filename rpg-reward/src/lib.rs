//! Answers to mathematical questions, graded: is what a language model wrote equal to the gold answer?
//!
//! ```
//! use rpg_reward::{GradeOptions, grade};
//!
//! let verdict = grade("Half of them, so \\boxed{\\frac{1}{2}}.", "0.5", &GradeOptions::default());
//! assert!(verdict.correct);
//! ```
//!
//! [`grade`] is a pure function: no I/O, no threads, no signals, no panics, and a bound on its cost
//! for any input. What counts as right is written down in the crate's README.

mod ast;
mod equal;
mod exact;
pub mod external;
mod extract;
mod grade;
mod lex;
mod names;
mod numeric;
mod options;
mod parse;
pub mod shaping;
pub mod suite;
mod verdict;

pub use grade::{grade, grade_batch};
pub use options::{AnswerStyle, GradeOptions};
pub use verdict::{AnswerSource, Budget, Reason, Verdict};
