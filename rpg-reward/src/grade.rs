//! From a completion and a gold answer to a verdict.

use crate::ast::Expr;
use crate::conditions::{names_range, split_condition};
use crate::equal::{
    Outcome, choice_letter, compare as compare_values, normalized, same_choice, understand,
};
use crate::extract::extract;
use crate::lex::{Tok, Token, lex};
use crate::options::GradeOptions;
use crate::parse::parse;
use crate::verdict::{Failure, Reason, Verdict};
#[cfg(feature = "parallel")]
use rayon::prelude::*;

/// Grades one completion against the gold answer.
///
/// `gold` is just the answer, in LaTeX or plain text; `completion` is the whole output of a model.
pub fn grade(completion: &str, gold: &str, options: &GradeOptions) -> Verdict {
    let Some(extraction) = extract(completion, options) else {
        return Verdict {
            correct: false,
            extracted: None,
            source: None,
            reason: Reason::NoAnswer,
        };
    };
    let source = Some(extraction.source);
    let Some(first) = extraction.readings.first() else {
        return Verdict {
            correct: false,
            extracted: None,
            source,
            reason: Reason::NoAnswer,
        };
    };
    let mut failure = None;
    let letter = choice_letter(gold);
    let last = extraction.readings.len() - 1;
    let content = extraction.content.as_deref().filter(|_| last > 0);
    let repeats = |gold: &str| content.is_some_and(|content| same_text(content, gold));
    for (index, text) in extraction.readings.iter().enumerate() {
        let reading = Answer::read(text);
        let is_stated = letter.is_some_and(|letter| same_choice(letter, text).is_some())
            || (reading.is_words() && same_words(text, gold));
        match reading.expr {
            Err(error) if !is_stated => failure = failure.or(Some(error)),
            // Words that are not those of the gold answer may state a value.
            Ok(Expr::Text(_)) if !is_stated && index < last => {}
            _ => {
                // What a box states may be less than what it says.
                let reason = if repeats(gold) {
                    Reason::Correct
                } else {
                    judge(&reading, &Answer::read(gold))
                };
                return Verdict {
                    correct: reason == Reason::Correct,
                    extracted: Some(shown(text)),
                    source,
                    reason,
                };
            }
        }
    }
    let reason = match failure {
        _ if same_text(first, gold) => Reason::Correct,
        Some(Failure::OverBudget(budget)) => Reason::OverBudget(budget),
        Some(Failure::Undefined) => Reason::Undefined,
        _ => Reason::NotParsed,
    };
    Verdict {
        correct: reason == Reason::Correct,
        extracted: Some(shown(first)),
        source,
        reason,
    }
}

/// Grades one completion against several gold answers, of which one has to match. If none does, the verdict is
/// that of the first.
pub fn grade_any<G: AsRef<str>>(completion: &str, golds: &[G], options: &GradeOptions) -> Verdict {
    let mut first = None;
    for gold in golds {
        let verdict = grade(completion, gold.as_ref(), options);
        if verdict.correct {
            return verdict;
        }
        first.get_or_insert(verdict);
    }
    first.unwrap_or_else(|| grade(completion, "", options))
}

/// Whether the grader understands a gold answer, at least as words. Otherwise only its repetition is right,
/// and the error is the reason.
pub fn check_gold(gold: &str) -> Result<(), Reason> {
    match parse(gold, true) {
        Ok(expr) => {
            understand(&expr).map_err(|failure| match verdict_of(Outcome::Failed(failure)) {
                Reason::Wrong => Reason::GoldNotParsed,
                reason => reason,
            })
        }
        Err(Failure::OverBudget(budget)) => Err(Reason::OverBudget(budget)),
        Err(_) => Err(Reason::GoldNotParsed),
    }
}

/// Grades many pairs of a completion and a gold answer: on all cores with the feature `parallel`, otherwise
/// one by one.
pub fn grade_batch(items: &[(&str, &str)], options: &GradeOptions) -> Vec<Verdict> {
    #[cfg(feature = "parallel")]
    let items = items.par_iter();
    #[cfg(not(feature = "parallel"))]
    let items = items.iter();
    items
        .map(|(completion, gold)| grade(completion, gold, options))
        .collect()
}

/// Whether two answers are equal, by the rules by which an answer is compared with a gold answer. Each is the text of
/// an answer alone, such as [`Verdict::extracted`].
///
/// ```
/// use rpg_reward::same_answer;
/// assert!(same_answer("\\frac{1}{2}", "0.5"));
/// assert!(!same_answer("2", "x"));
/// ```
pub fn same_answer(one: &str, other: &str) -> bool {
    same_text(one, other) || judge(&Answer::read(other), &Answer::read(one)) == Reason::Correct
}

/// An answer as it is written, and what it is read as.
struct Answer<'a> {
    text: &'a str,
    expr: Result<Expr, Failure>,
}

impl<'a> Answer<'a> {
    fn read(text: &'a str) -> Self {
        let expr = parse(text, true);
        Self { text, expr }
    }

    /// Whether it is not understood other than as words.
    fn is_words(&self) -> bool {
        matches!(self.expr, Ok(Expr::Text(_)) | Err(_))
    }
}

/// Compares an answer with the gold answer, also as text and under conditions.
fn judge(answer: &Answer, gold: &Answer) -> Reason {
    match compare(answer, gold) {
        reason @ (Reason::Correct | Reason::Undefined) => reason,
        _ if same_text(answer.text, gold.text) || same_under_conditions(answer, gold) => {
            Reason::Correct
        }
        reason => reason,
    }
}

/// Compares answers of which one at least states a condition, such as `k\in\mathbb{Z}`. The answer may add
/// one; of the gold answer's only one that names whole numbers may be missing.
fn same_under_conditions(answer: &Answer, gold: &Answer) -> bool {
    let same = |answer: &str, gold: &str| {
        let read = (Answer::read(answer), Answer::read(gold));
        compare(&read.0, &read.1) == Reason::Correct || same_text(answer, gold)
    };
    match (split_condition(gold.text), split_condition(answer.text)) {
        (Some(gold), Some(answer)) => {
            // Together, the letter of a parameter does not matter.
            let joined = |(value, condition): (&str, &str)| format!("{value}, {condition}");
            let (one, other) = (joined(answer), joined(gold));
            let together = || compare(&Answer::read(&one), &Answer::read(&other));
            same(answer.0, gold.0) && same(answer.1, gold.1) || together() == Reason::Correct
        }
        // A range with a condition is a smaller range.
        (None, Some(answer)) => !names_range(gold.text) && same(answer.0, gold.text),
        (Some(gold), None) => {
            gold.1.contains("\\in") && gold.1.contains("{Z}") && same(answer.text, gold.0)
        }
        (None, None) => false,
    }
}

fn compare(answer: &Answer, gold: &Answer) -> Reason {
    // Multiple-choice letters are compared as written.
    if let Some(letter) = choice_letter(gold.text)
        && let Some(same) = same_choice(letter, answer.text)
    {
        return if same { Reason::Correct } else { Reason::Wrong };
    }
    let either_is_words = gold.is_words() || answer.is_words();
    if either_is_words && same_words(answer.text, gold.text) {
        return Reason::Correct;
    }
    let (gold_expr, answer_expr) = match (&gold.expr, &answer.expr) {
        (Ok(gold), Ok(answer)) => (gold, answer),
        (Err(_), _) => return Reason::GoldNotParsed,
        (_, Err(_)) => return Reason::NotParsed,
    };
    let first = verdict_of(compare_values(gold_expr, answer_expr));
    if first == Reason::Correct || !(grouped(gold.text) || grouped(answer.text)) {
        return first;
    }
    // `1,000` may also be two numbers, if both sides mean that.
    match (parse(gold.text, false), parse(answer.text, false)) {
        (Ok(gold), Ok(answer)) => {
            let second = verdict_of(compare_values(&gold, &answer));
            if second == Reason::Correct {
                second
            } else {
                first
            }
        }
        _ => first,
    }
}

fn verdict_of(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Equal => Reason::Correct,
        Outcome::Different => Reason::Wrong,
        Outcome::Undecided => Reason::Undecided,
        Outcome::Failed(Failure::OverBudget(budget)) => Reason::OverBudget(budget),
        Outcome::Failed(Failure::Undefined) => Reason::Undefined,
        Outcome::Failed(_) => Reason::Wrong,
    }
}

/// Whether a comma directly precedes three digits that may also be a separate number.
fn grouped(text: &str) -> bool {
    text.as_bytes().windows(4).any(|w| {
        w[0] == b',' && (b'1'..=b'9').contains(&w[1]) && w[2..].iter().all(u8::is_ascii_digit)
    })
}

fn same_words(a: &str, b: &str) -> bool {
    normalized(a).is_some_and(|a| normalized(b) == Some(a))
}

/// Whether two texts are the same apart from white space and LaTeX that only changes the appearance.
fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (trimmed(a), trimmed(b));
    let is_digit = u8::is_ascii_digit;
    if !a.bytes().filter(is_digit).eq(b.bytes().filter(is_digit)) {
        return false;
    }
    match (lex(a, true), lex(b, true)) {
        (Ok(a), Ok(b)) => {
            let is_said = |token: &Token| !matches!(token.tok, Tok::Op(_) | Tok::Rel(_));
            a.len() == b.len()
                && a.iter().any(is_said)
                && a.iter().zip(&b).all(|(a, b)| match (&a.tok, &b.tok) {
                    (Tok::Text(a), Tok::Text(b)) => a.trim() == b.trim(),
                    (a, b) => a == b,
                })
        }
        (Err(_), Err(_)) => {
            let (a, b) = (without_blanks(a), without_blanks(b));
            a == b && !a.is_empty()
        }
        _ => false,
    }
}

/// The text without the space around it, also the one that a backslash at its end makes.
fn trimmed(text: &str) -> &str {
    text.trim().trim_end_matches('\\').trim_end()
}

/// The text without white space, except between letters or digits.
fn without_blanks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let apart = out.ends_with(|c: char| c.is_alphanumeric())
            && word.starts_with(|c: char| c.is_alphanumeric());
        if apart {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The answer as shown in a verdict: at most a few hundred bytes.
fn shown(text: &str) -> String {
    const MAX_BYTES: usize = 512;
    text[..text.floor_char_boundary(MAX_BYTES)].to_string()
}
