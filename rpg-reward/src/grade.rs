//! From a completion and a gold answer to a verdict.

use crate::ast::Expr;
use crate::conditions::{names_range, split_condition};
use crate::equal::{Comparer, Outcome, choice_letter, normalized, same_choice};
use crate::extract::{extract, number_in_sentence};
use crate::lex::{Tok, Token, lex};
use crate::names::{are_introduced_apart, are_opposed, without_multiplier};
use crate::options::GradeOptions;
use crate::parse::parse;
use crate::verdict::{AnswerSource, Failure, Reason, Verdict};
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
    // A sentence in a box, where a number is asked for.
    let stated = (extraction.source == AnswerSource::Boxed
        && !gold.contains(|c: char| c.is_alphabetic()))
    .then(|| number_in_sentence(first))
    .flatten();
    for reading in stated.iter().chain(&extraction.readings) {
        let choice = letter.is_some_and(|letter| same_choice(letter, reading).is_some());
        match read(reading) {
            Err(error) if !choice && !same_words(reading, gold) => {
                failure = failure.or(Some(error));
            }
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
        Ok(expr) => Comparer::new().understand(&expr).map_err(|failure| {
            match verdict_of(Outcome::Failed(failure)) {
                Reason::Wrong => Reason::GoldNotParsed,
                reason => reason,
            }
        }),
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

fn read(text: &str) -> Result<Expr, Failure> {
    parse(text, true)
}

/// Compares an answer that can be parsed with the gold answer: their values, and the words around them.
fn judge(answer: &str, gold: &str) -> Reason {
    match compare(answer, gold) {
        Reason::Correct if have_other_words(gold, answer) => Reason::Wrong,
        reason @ (Reason::Correct | Reason::Undefined) => reason,
        _ if same_text(answer, gold) || same_under_conditions(answer, gold) => Reason::Correct,
        reason => reason,
    }
}

/// Whether the words around two equal values give them different meanings.
fn have_other_words(gold: &str, answer: &str) -> bool {
    // Most answers have no words.
    let has_letters = |text: &str| text.bytes().any(|b| b.is_ascii_alphabetic());
    gold != answer
        && has_letters(gold)
        && has_letters(answer)
        && (are_opposed(gold, answer) || are_introduced_apart(gold, answer))
}

/// Compares answers of which one at least states a condition, such as `k\in\mathbb{Z}`. The answer may add
/// one; of the gold answer's only one that names whole numbers may be missing.
fn same_under_conditions(answer: &str, gold: &str) -> bool {
    let same = |answer: &str, gold: &str| {
        compare(answer, gold) == Reason::Correct || same_text(answer, gold)
    };
    match (split_condition(gold), split_condition(answer)) {
        (Some(gold), Some(answer)) => {
            // Together, the letter of a parameter does not matter.
            let joined = |(value, condition): (&str, &str)| format!("{value}, {condition}");
            same(answer.0, gold.0) && same(answer.1, gold.1)
                || compare(&joined(answer), &joined(gold)) == Reason::Correct
        }
        // A range with a condition is a smaller range.
        (None, Some(answer)) => !names_range(gold) && same(answer.0, gold),
        (Some(gold), None) => {
            gold.1.contains("\\in") && gold.1.contains("{Z}") && same(answer, gold.0)
        }
        (None, None) => false,
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
        Err(_) if same_words(answer, gold) => return Reason::Correct,
        Err(_) => return Reason::GoldNotParsed,
    };
    let answer_expr = match parse(answer, true) {
        Ok(expr) => expr,
        Err(_) if same_words(answer, gold) => return Reason::Correct,
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

/// Whether two texts are the same apart from white space and LaTeX that only changes the appearance.
fn same_text(a: &str, b: &str) -> bool {
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
