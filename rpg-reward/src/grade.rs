//! From a completion and a gold answer to a verdict.

use crate::ast::Expr;
use crate::equal::{Comparer, Outcome, choice_letter, normalized, same_choice};
use crate::extract::extract;
use crate::names::{are_opposed, without_multiplier};
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
    for reading in &extraction.readings {
        let choice = letter.is_some_and(|letter| same_choice(letter, reading).is_some());
        match read(reading) {
            Err(error) if !choice => failure = failure.or(Some(error)),
            _ => {
                let reason = judge(reading, gold);
                let extracted = Some(shown(reading));
                return Verdict {
                    correct: reason == Reason::Correct,
                    extracted,
                    source,
                    reason,
                };
            }
        }
    }
    let reason = match failure {
        _ if same_text(first, gold) || same_words(first, gold) => Reason::Correct,
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

fn read(text: &str) -> Result<Expr, Failure> {
    parse(text, true)
}

/// Compares an answer that can be parsed with the gold answer: their values, and the words around them.
fn judge(answer: &str, gold: &str) -> Reason {
    match compare(answer, gold) {
        Reason::Correct if are_opposed(gold, answer) => Reason::Wrong,
        reason => reason,
    }
}

fn compare(answer: &str, gold: &str) -> Reason {
    // Multiple-choice letters are compared as written.
    if let Some(letter) = choice_letter(gold)
        && let Some(same) = same_choice(letter, answer)
    {
        return if same { Reason::Correct } else { Reason::Wrong };
    }
    let gold_expr = match parse(gold, true) {
        Ok(expr) => expr,
        Err(_) if same_text(answer, gold) || same_words(answer, gold) => return Reason::Correct,
        Err(_) => return Reason::GoldNotParsed,
    };
    let answer_expr = match parse(answer, true) {
        Ok(expr) => expr,
        Err(_) => return Reason::NotParsed,
    };
    if matches!(gold_expr, Expr::Text(_)) != matches!(answer_expr, Expr::Text(_))
        && same_words(answer, gold)
    {
        return Reason::Correct;
    }
    let first = verdict_of(Comparer::new().compare(&gold_expr, &answer_expr));
    // `5 million` where the question asks for millions: a multiplier on only one side is a unit.
    if first != Reason::Correct {
        let plain = match (without_multiplier(gold), without_multiplier(answer)) {
            (Some(gold), None) => parse(&gold, true).map(|gold| (gold, answer_expr.clone())),
            (None, Some(answer)) => parse(&answer, true).map(|answer| (gold_expr.clone(), answer)),
            _ => Err(Failure::NotParsed),
        };
        if let Ok((gold, answer)) = plain
            && verdict_of(Comparer::new().compare(&gold, &answer)) == Reason::Correct
        {
            return Reason::Correct;
        }
    }
    if first == Reason::Correct || !(grouped(gold) || grouped(answer)) {
        return first;
    }
    // `1,000` may also be two numbers, if both sides mean that.
    match (parse(gold, false), parse(answer, false)) {
        (Ok(gold), Ok(answer)) => {
            let second = verdict_of(Comparer::new().compare(&gold, &answer));
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

/// Whether two texts are the same apart from the amount of white space.
fn same_text(a: &str, b: &str) -> bool {
    let mut a = a.split_whitespace().peekable();
    a.peek().is_some() && a.eq(b.split_whitespace())
}

/// The answer as shown in a verdict: at most a few hundred bytes.
fn shown(text: &str) -> String {
    const MAX_BYTES: usize = 512;
    text[..text.floor_char_boundary(MAX_BYTES)].to_string()
}
