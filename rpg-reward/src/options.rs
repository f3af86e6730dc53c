//! Where the grader looks for the answer, and the instructions that ask a model for it.

use serde::{Deserialize, Serialize};

/// Where in a completion the answer may be.
///
/// A box is looked for first, then the last of the markers, then the last expression; the first rule that
/// finds something decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GradeOptions {
    /// The last `\boxed{}` or `\fbox{}`, or the last few if they form one list.
    pub boxed: bool,
    /// The last `Answer:` line or sentence such as "the final answer is".
    pub answer_line: bool,
    /// The last `####`.
    pub hash_marks: bool,
    /// The last `<answer>` tag.
    pub answer_tag: bool,
    /// Without a box or a marker: the last mathematical expression, or else the last number.
    pub last_expression: bool,
    /// Whether an answer may be inside `<think>` that is never closed, as in a completion that was cut off.
    pub unclosed_thinking: bool,
}

impl Default for GradeOptions {
    fn default() -> Self {
        Self {
            boxed: true,
            answer_line: true,
            hash_marks: true,
            answer_tag: true,
            last_expression: true,
            unclosed_thinking: false,
        }
    }
}

impl GradeOptions {
    /// Accepts only answers in `style`.
    pub fn only(style: AnswerStyle) -> Self {
        Self {
            boxed: style == AnswerStyle::Boxed,
            answer_line: style == AnswerStyle::AnswerLine,
            hash_marks: style == AnswerStyle::HashMarks,
            answer_tag: style == AnswerStyle::AnswerTag,
            last_expression: false,
            unclosed_thinking: false,
        }
    }
}

/// A form in which a model can be asked to mark its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerStyle {
    /// `\boxed{5}`.
    Boxed,
    /// `Answer: 5` on the last line.
    AnswerLine,
    /// `#### 5` on the last line.
    HashMarks,
    /// `<answer>5</answer>`.
    AnswerTag,
}

impl AnswerStyle {
    /// All styles.
    pub const ALL: &[Self] = &[
        Self::Boxed,
        Self::AnswerLine,
        Self::HashMarks,
        Self::AnswerTag,
    ];

    /// The instruction that asks for this style, to be appended to a prompt.
    pub fn instruction(&self) -> &'static str {
        match self {
            Self::Boxed => {
                "Please reason step by step, and put your final answer within \\boxed{}."
            }
            Self::AnswerLine => {
                "Solve the problem step by step. The last line of your response should be of the \
                 form Answer: $Answer (without quotes), where $Answer is the answer to the problem."
            }
            Self::HashMarks => {
                "Reason step by step, then give the final answer on a last line of its own after \
                 four hash marks, as in: #### 42"
            }
            Self::AnswerTag => {
                "Reason step by step, then give the final answer between tags, as in: \
                 <answer>42</answer>"
            }
        }
    }
}
