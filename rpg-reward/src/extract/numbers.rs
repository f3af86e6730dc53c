//! The numbers of prose.

use super::prose::{Kind, Prose, Token};
use super::statement::MAX_SENTENCE;
use crate::lexicon::Class;
use crate::names;
use std::ops::Range;

/// The signs that compute with the values on both sides.
pub(super) const OPERATORS: &[char] = &['+', '*', '×', '·', '÷', '/'];
/// The most numbers in a sentence whose words are read.
const MAX_NUMBERS: usize = 64;

/// The number that a sentence gives as its answer; `None` if it may mean another one, or none.
///
/// A sentence that begins with a number means that number, otherwise its last one. Lists of guesses, words
/// that change the number, relations and formulas mean none.
pub(super) fn number_in_words(prose: &Prose, range: Range<usize>) -> Option<String> {
    let tokens = &prose.tokens[range.clone()];
    let is_formula = |token: &Token| {
        matches!(
            token.kind,
            Kind::Formula | Kind::Math(..) | Kind::Mark('|' | '?')
        )
    };
    let mut numbers = range
        .clone()
        .filter(|&index| prose.tokens[index].kind == Kind::Number)
        .take(MAX_NUMBERS);
    let first = numbers.next()?;
    let is_sentence = prose.text.len() <= MAX_SENTENCE && !tokens.iter().any(is_formula);
    let is_argument = first > range.start && {
        let before = (range.start..first)
            .rev()
            .find(|&index| !prose.is_mark(index, &['"', '\'']));
        before.is_some_and(|index| prose.is_mark(index, &['(', '[']))
    };
    let lead = range.start..first;
    if !is_sentence
        || is_argument
        || is_operand(prose, first)
        || is_bound(prose, first)
        || prose.says(lead.clone(), Class::ALTERS)
    {
        return None;
    }
    let begins = !lead
        .into_iter()
        .any(|index| matches!(prose.tokens[index].kind, Kind::Word(_)));
    let mut answer = first;
    let mut last = first;
    for next in numbers {
        let gap = last + 1..next;
        if prose.says(gap.clone(), Class::PREFER) {
            break;
        }
        let is_result = gap
            .clone()
            .rev()
            .find(|&index| !prose.is_mark(index, &['$']));
        let is_result = is_result.is_some_and(|index| prose.is_mark(index, &['=']));
        let has_words = gap
            .clone()
            .any(|index| matches!(prose.tokens[index].kind, Kind::Word(_)));
        let computes = gap.clone().any(|index| prose.is_mark(index, OPERATORS));
        let joins = computes || prose.says(gap, Class::OFFER | Class::AND | Class::COMBINE);
        if !is_result && (joins || is_bound(prose, next) || !has_words) {
            return None;
        }
        if !is_result && begins {
            break;
        }
        (answer, last) = (next, next);
    }
    // `7 squared`, `7+`
    let after = answer + 1;
    let goes_on = after < range.end
        && (prose.class(after).is(Class::LIMIT) || prose.is_mark(after, OPERATORS));
    (!goes_on).then(|| number(prose, answer))
}

/// Whether the number at `index` follows a sign of order or inequality.
pub(super) fn is_bound(prose: &Prose, index: usize) -> bool {
    let signs = ['<', '>', '≤', '≥', '≠', '⩽', '⩾', '!', '&', '~', '¬'];
    let before = (0..index).rfind(|&index| !prose.is_mark(index, &['$', '-', '−']));
    before.is_some_and(|sign| {
        let is_sign = |index: usize| prose.is_mark(index, &signs);
        is_sign(sign) || (prose.is_mark(sign, &['=']) && sign > 0 && is_sign(sign - 1))
    })
}

/// The number at `index` with its sign, and with its percent sign or half of the day.
fn number(prose: &Prose, index: usize) -> String {
    let token = &prose.tokens[index];
    let currency = ['$', '€', '£'];
    let mut start = index;
    while start > 0 && prose.is_mark(start - 1, &currency) {
        start -= 1;
    }
    let is_negative = start > 0 && prose.is_mark(start - 1, &['-', '−']) && {
        let sign = &prose.tokens[start - 1];
        let is_operand = |before: &Token| {
            matches!(before.kind, Kind::Number | Kind::Mark(')'))
                || (matches!(before.kind, Kind::Word(_)) && before.end == sign.start)
        };
        let is_tight = sign.end == prose.tokens[start].start;
        is_tight && !(start > 1 && is_operand(&prose.tokens[start - 2]))
    };
    let sign = if is_negative { "-" } else { "" };
    let after = if prose.is_mark(index + 1, &['$']) {
        index + 2
    } else {
        index + 1
    };
    let is_percent = prose.is_mark(after, &['%']) || prose.class(after).is(Class::PERCENT);
    let is_hour = prose.class(after).is(Class::HOUR);
    let end = if is_hour {
        prose.tokens[after].end
    } else {
        token.end
    };
    let percent = if is_percent { "\\%" } else { "" };
    format!("{sign}{}{percent}", &prose.text[token.start..end])
}

/// Whether the number at `index` is the second operand of a sign: `7q+2`.
fn is_operand(prose: &Prose, index: usize) -> bool {
    let before = (0..index).rfind(|&index| !prose.is_mark(index, &['$']));
    let Some(sign) = before.filter(|&sign| sign > 0) else {
        return false;
    };
    let first = &prose.tokens[sign - 1];
    let is_tight = first.end == prose.tokens[sign].start;
    let is_name = matches!(first.kind, Kind::Word(_)) && is_tight;
    let is_value = first.is_value() || first.is_letter() || prose.is_mark(sign - 1, &[')']);
    // A hyphen may also be a dash or a sign.
    let computes = prose.is_mark(sign, OPERATORS) || (prose.is_mark(sign, &['-', '−']) && is_tight);
    computes && (is_name || is_value)
}

/// The last number in running text, with its sign and percent sign, unless it is a part of a computation.
pub(super) fn last_number(prose: &Prose) -> Option<String> {
    let is_number = |token: &Token| token.kind == Kind::Number;
    let index = prose.tokens.iter().rposition(is_number)?;
    (!is_operand(prose, index)).then(|| number(prose, index))
}

/// The value that ends before token `end`: mathematics, the letter of a choice, an expression, values that are
/// joined by `and`.
pub(super) fn last_value(prose: &Prose, end: usize) -> Option<String> {
    let mut end = end;
    while end > 0 && prose.is_mark(end - 1, &['*', '_', '"']) {
        end -= 1;
    }
    let mut brackets = 0usize;
    let is_part = |index: &usize| {
        let token = &prose.tokens[*index];
        match token.kind {
            Kind::Mark(')' | ']' | '}') => brackets += 1,
            Kind::Mark('(' | '[' | '{') => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        match token.kind {
            Kind::Number | Kind::Math(..) | Kind::Formula => true,
            Kind::Word(class) => {
                let word = &prose.text[token.start..token.end];
                token.is_letter() || class.is(Class::AND | Class::OFFER) || names::is_unit(word)
            }
            Kind::Mark(',' | ';') => brackets > 0,
            Kind::Mark(mark) => !matches!(mark, '.' | ':' | '*' | '_' | '"'),
            Kind::Break => false,
        }
    };
    let count = (0..end).rev().take_while(is_part).count();
    let is_joint = |index: &usize| prose.class(*index).is(Class::AND | Class::OFFER);
    let start = (end - count..end).find(|index| !is_joint(index))?;
    let is_said = |token: &Token| token.is_value() || token.is_letter();
    let value = prose.tokens[start..end].iter().any(is_said);
    value.then(|| prose.slice(start..end).to_string())
}
