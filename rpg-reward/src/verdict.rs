//! What grading says about a completion.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The outcome of grading one completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the answer is right.
    pub correct: bool,
    /// The text that was taken for the answer.
    pub extracted: Option<String>,
    /// Where that text stood.
    pub source: Option<AnswerSource>,
    /// Why the verdict is what it is.
    pub reason: Reason,
}

/// Where in a completion an answer stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerSource {
    /// `\boxed{}` or `\fbox{}`.
    Boxed,
    /// An `Answer:` line or a sentence such as "the final answer is".
    AnswerLine,
    /// After `####`.
    HashMarks,
    /// Between `<answer>` and `</answer>`.
    AnswerTag,
    /// The last expression in mathematical delimiters, or the whole text where it is one expression.
    LastExpression,
    /// The last number in the prose.
    LastNumber,
}

/// Why a verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The answer equals the gold answer.
    Correct,
    /// The answer was understood and differs.
    Wrong,
    /// The completion gives no answer.
    NoAnswer,
    /// An answer was found, but it is not mathematics that the grader understands.
    NotParsed,
    /// The answer was found and stands for nothing: `0/0`, NaN.
    Undefined,
    /// Too large or too deep to be looked at within the bounds; it is not called equal.
    OverBudget(Budget),
    /// Neither equality nor difference could be shown; it is not called equal.
    Undecided,
    /// The gold answer itself is not understood, and the completion does not repeat it.
    GoldNotParsed,
}

/// The bound that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Characters, tokens or digits of the answer.
    Length,
    /// Nesting.
    Depth,
    /// The size of a number or of an expanded expression.
    Size,
    /// Steps of work.
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
    /// No rule applies to this form.
    Unsupported,
}
