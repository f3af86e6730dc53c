#![doc = include_str!("../README.md")]

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
