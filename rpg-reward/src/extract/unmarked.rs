//! Answers without a marker: the last expression, or else the last number.

use super::numbers::last_number;
use super::prose::{Kind, Prose, Token};
use super::spans::last_span;
use super::statement::{denies_last, last_statement, reads_as_prose};
use super::{Extraction, prefix, suffix};
use crate::lexicon::Class;
use crate::verdict::AnswerSource;

/// The longest text that is read as one expression.
const MAX_EXPRESSION: usize = 1_000;
/// How much of the end of a text is searched for a number.
const MAX_SEARCH: usize = 20_000;
/// How many runs of digits may belong to a name, as in `x_1`.
const MAX_TRIES: usize = 16;
/// How much text around a digit is read.
const MAX_AROUND: usize = 64;

/// The last expression between mathematical delimiters, or else the last number in the prose.
pub(super) fn last_expression(text: &str) -> Option<Extraction> {
    let text = text.trim();
    let line = suffix(text, MAX_EXPRESSION);
    let line = line.rsplit('\n').next().unwrap_or(line);
    let prose = Prose::read(line);
    let mut readings = Vec::new();
    if line.len() == text.len() && is_expression(&prose) {
        readings.push(text.to_string());
    }
    let span = last_span(text);
    // A number inside a formula that is not an answer is not one either.
    let is_prose = span.is_none();
    readings.extend(span);
    if is_prose && readings.is_empty() && denies_last(&prose) {
        return None;
    }
    if is_prose {
        readings.extend(last_statement(&prose).or_else(|| bare_formula(&prose)));
    }
    let source = if readings.is_empty() {
        AnswerSource::LastNumber
    } else {
        AnswerSource::LastExpression
    };
    readings.extend(is_prose.then(|| final_number(text)).flatten());
    (!readings.is_empty()).then_some(Extraction {
        source,
        readings,
        content: None,
    })
}

/// Whether a text is one expression or one word: only words are prose.
fn is_expression(prose: &Prose) -> bool {
    let has_value = |c: char| c.is_ascii_digit() || matches!(c, '$' | '\\');
    let may_be = prose.text.contains(has_value) || !prose.text.contains(char::is_whitespace);
    may_be && !prose.text.is_empty() && !reads_as_prose(prose, 0..prose.tokens.len())
}

/// The LaTeX at the end of a line: `So \frac{3}{4}`.
fn bare_formula(prose: &Prose) -> Option<String> {
    let line = prose.text.trim_end_matches('.');
    let is_latex = |token: &Token| {
        token.dressed || (token.kind == Kind::Formula && line[token.start..].starts_with('\\'))
    };
    let count = prose.tokens.len();
    let states =
        |index: &usize| prose.class(*index).is(Class::BE) || prose.is_mark(*index, &['=', ':']);
    let from = (0..count).rfind(states).map_or(0, |index| index + 1);
    let latex = prose.tokens[from..].iter().find(|token| is_latex(token))?;
    let start = if reads_as_prose(prose, from..count) {
        // In a sentence the formula begins with the word that the command is a part of.
        latex.start
            - line[..latex.start]
                .rsplit(char::is_whitespace)
                .next()?
                .len()
    } else {
        prose.tokens[from].start
    };
    Some(line[start..].to_string())
}

/// The last number at the end of a text.
fn final_number(text: &str) -> Option<String> {
    let text = suffix(text, MAX_SEARCH);
    let mut end = text.len();
    for _ in 0..MAX_TRIES {
        let digit = text[..end].rfind(|c: char| c.is_ascii_digit())?;
        // A percent sign may follow it.
        let after = prefix(&text[digit..], MAX_AROUND).len();
        let around = suffix(&text[..digit + after], 2 * MAX_AROUND);
        if let Some(number) = last_number(&Prose::read(around)) {
            return Some(number);
        }
        end = text[..digit]
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .len();
    }
    None
}
