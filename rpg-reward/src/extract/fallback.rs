//! The number in a text that is not an expression: `that she has 7 eggs left`.

use super::spans::last_number;
use crate::names;
use crate::names::{changes_value, joins_numbers, rejects_next};

/// The longest sentence that is read.
const MAX_SENTENCE: usize = 600;

/// What follows the last verb of a sentence that has a value as its object: `5 eggs` in `the sum of 2 and
/// 3 is 5 eggs`. `None` if there is no such verb, or if the sentence denies that there is a value.
pub(super) fn value_after_verb(sentence: &str) -> Option<&str> {
    const VERBS: [&str; 23] = [
        " at ",
        " is ",
        " are ",
        " was ",
        " be ",
        " = ",
        " equals ",
        " becomes ",
        " has ",
        " have ",
        " gets ",
        " get ",
        " earns ",
        " makes ",
        " make ",
        " gives ",
        " pays ",
        " pay ",
        " costs ",
        " cost ",
        " takes ",
        " saves ",
        " needs ",
    ];
    if sentence.len() > MAX_SENTENCE {
        return None;
    }
    let denied = ["no solution", "impossible", "cannot", "does not", "do not"];
    let lower = sentence.to_ascii_lowercase();
    let starts = VERBS
        .iter()
        .flat_map(|verb| lower.match_indices(verb).map(|(pos, _)| pos + verb.len()))
        .filter(|&pos| begins_with_value(&sentence[pos..]));
    let starts: Vec<usize> = starts.collect();
    // `The solutions are x = 2 and x = 3`: the last of several values is not the answer.
    let listed = starts
        .iter()
        .filter(|&&pos| lower[..pos].ends_with(" are "))
        .max();
    let start = *listed.or(starts.iter().max())?;
    let tail = &sentence[start..];
    // `x = 5` has no verb: it is an equation.
    let mut lead_words = sentence[..start].split(|c: char| !c.is_alphabetic());
    if lower[..start].ends_with(" = ") && !lead_words.any(|word| word.len() > 2) {
        return None;
    }
    let lead = &lower[..lower.len() - tail.len()];
    let is_denied = denied.iter().any(|words| {
        // "The number of those who do not is 5" has a value.
        lead.contains(words)
            && !lead.trim_end().ends_with(" is")
            && !lead.trim_end().ends_with(" are")
    });
    (!is_denied).then_some(tail)
}

fn begins_with_value(text: &str) -> bool {
    let text = text.trim_start_matches(['$', '€', '£', '-', '−', ' ', '(']);
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '\\' | '√' | 'π'))
        || text.starts_with(|c: char| c.is_ascii_alphabetic())
            && !text[1..].starts_with(|c: char| c.is_alphanumeric() || c == '\'')
            && text[1..].contains(|c: char| c.is_ascii_digit() || matches!(c, '$' | '='))
}

/// The number that a sentence gives as its answer; `None` if it may mean another one, or none.
///
/// A sentence that begins with a number means that number, otherwise its last one. Lists of guesses, words
/// that change the number, relations and formulas mean none.
pub(super) fn number_in_words(sentence: &str) -> Option<String> {
    if sentence.len() > MAX_SENTENCE {
        return None;
    }
    let numbers = numbers(sentence);
    let first = *numbers.first()?;
    let lead = &sentence[..first.0];
    if changes_value(lead) || is_formula(sentence) || is_call(lead) || is_relation(lead) {
        return None;
    }
    let begins = !lead.contains(|c: char| c.is_alphanumeric());
    let mut end = first.1;
    for pair in numbers.windows(2) {
        let gap = &sentence[pair[0].1..pair[1].0];
        if rejects_next(gap) {
            break;
        }
        let chained = gap.trim_end_matches(['$', ' ']).ends_with('=');
        let has_words = gap.contains(|c: char| c.is_alphabetic());
        if !chained && (joins_numbers(gap) || is_relation(gap) || !has_words) {
            return None;
        }
        if chained || !begins {
            end = pair[1].1;
        } else {
            break;
        }
    }
    // A percent sign belongs to the number.
    let suffix = sentence[end..]
        .chars()
        .take_while(|c| matches!(c, ' ' | '%' | '\\'));
    let end = end + suffix.map(char::len_utf8).sum::<usize>();
    let end = if sentence[end..].starts_with("percent") {
        end + "percent".len()
    } else {
        end
    };
    last_number(&sentence[..end])
}

/// The ranges of the numbers, fractions and ratios in a text.
fn numbers(text: &str) -> Vec<(usize, usize)> {
    const MAX_NUMBERS: usize = 64;
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut pos = 0;
    while pos < bytes.len() && found.len() < MAX_NUMBERS {
        if !bytes[pos].is_ascii_digit() {
            pos += 1;
            continue;
        }
        let start = pos;
        while pos < bytes.len()
            && (bytes[pos].is_ascii_digit()
                || (matches!(bytes[pos], b',' | b'.' | b'/' | b':')
                    && bytes.get(pos + 1).is_some_and(u8::is_ascii_digit)))
        {
            pos += 1;
        }
        // The digits of `x1` and `H2` are not separate numbers.
        if start == 0 || !bytes[start - 1].is_ascii_alphabetic() {
            found.push((start, pos));
        }
    }
    found
}

/// Whether a sentence contains mathematics that failed to parse as a whole.
fn is_formula(sentence: &str) -> bool {
    if sentence.contains(['^', '_', '|', '?']) {
        return true;
    }
    let mut rest = sentence;
    while let Some(pos) = rest.find('\\') {
        let body = &rest[pos + 1..];
        let length = body.bytes().take_while(u8::is_ascii_alphabetic).count();
        let name = &body[..length];
        let harmless = length == 0
            || names::is_text_command(name)
            || names::is_layout(name)
            || names::is_font_command(name);
        if !harmless {
            return true;
        }
        rest = body.get(length.max(1)..).unwrap_or("");
    }
    false
}

/// Whether a number after this text is the argument of a call or an index.
fn is_call(lead: &str) -> bool {
    let lead = lead.trim_end_matches(['"', '\'', ' ']);
    lead.ends_with(['(', '[']) || lead.contains("('") || lead.contains("(\"")
}

/// Whether a text ends with a sign of order or inequality, so that the number after it is a bound.
fn is_relation(lead: &str) -> bool {
    let lead = lead.trim_end_matches(['$', ' ']);
    lead.ends_with(['<', '>', '≤', '≥', '≠', '⩽', '⩾', '!', '&', '~'])
        || lead.ends_with("!=")
        || lead.ends_with("<=")
        || lead.ends_with(">=")
}
