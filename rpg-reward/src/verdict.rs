//! The result of grading a completion.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The result of grading one completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether the answer is right.
    pub correct: bool,
    /// The text that was taken as the answer, truncated if it is long.
    pub extracted: Option<String>,
    /// Where that text was found.
    pub source: Option<AnswerSource>,
    /// The reason for the verdict.
    pub reason: Reason,
}

/// Where in a completion an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerSource {
    /// `\boxed{}` or `\fbox{}`.
    Boxed,
    /// An `Answer:` line or a sentence such as "the final answer is".
    AnswerLine,
    /// After `####`.
    HashMarks,
    /// Between `<answer>` and `</answer>`.
    AnswerTag,
    /// The last expression between mathematical delimiters, or the whole text if it is one expression.
    LastExpression,
    /// The last number in the prose.
    LastNumber,
}

/// The reason for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The answer equals the gold answer.
    Correct,
    /// The answer was understood and differs.
    Wrong,
    /// The completion contains no answer.
    NoAnswer,
    /// An answer was found, but the grader cannot parse it.
    NotParsed,
    /// The answer has no value: `0/0`, NaN.
    Undefined,
    /// The answer is too large or nested too deeply to be compared within the bounds; it counts as wrong.
    OverBudget(Budget),
    /// Neither equality nor difference could be shown; the answer counts as wrong.
    Undecided,
    /// The gold answer itself cannot be parsed, and the completion does not repeat it.
    GoldNotParsed,
}

/// The bound that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Budget {
    /// Characters, tokens or digits of the answer.
    Length,
    /// The depth of nesting.
    Depth,
    /// The size of a number or of an expanded expression.
    Size,
    /// The number of steps.
    Work,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Correct => "correct",
            Self::Wrong => "wrong",
            Self::NoAnswer => "no answer",
            Self::NotParsed => "not parsed",
            Self::Undefined => "undefined value",
            Self::OverBudget(Budget::Length) => "over budget: too long",
            Self::OverBudget(Budget::Depth) => "over budget: nested too deeply",
            Self::OverBudget(Budget::Size) => "over budget: too large",
            Self::OverBudget(Budget::Work) => "over budget: too much work",
            Self::Undecided => "undecided",
            Self::GoldNotParsed => "gold answer not parsed",
        })
    }
}

impl fmt::Display for AnswerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boxed => "box",
            Self::AnswerLine => "answer line",
            Self::HashMarks => "hash marks",
            Self::AnswerTag => "answer tag",
            Self::LastExpression => "last expression",
            Self::LastNumber => "last number",
        })
    }
}

/// Why an expression has no value that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    NotParsed,
    Undefined,
    OverBudget(Budget),
    /// No rule covers this form.
    Unsupported,
}
