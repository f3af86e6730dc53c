//! Answers in words, and multiple-choice letters.

use crate::names;

/// The longest answer that is compared as words.
const MAX_WORDS: usize = 2_000;

/// The longest answer that is only the letter of a choice, with its brackets and commands.
const MAX_CHOICE: usize = 100;

/// The words of an answer: lower case, without commands or the brackets and punctuation around them.
pub(crate) fn normalized(raw: &str) -> Option<String> {
    if raw.len() > MAX_WORDS {
        return None;
    }
    let plain = names::words_only(raw)?.to_lowercase();
    let mut out = String::with_capacity(plain.len());
    for word in plain.split(|c: char| c.is_whitespace() || matches!(c, '-' | '_' | ',' | ';')) {
        let word = word.trim_matches(|c: char| {
            matches!(
                c,
                '.' | '!' | '?' | ':' | '"' | '\'' | '(' | ')' | '[' | ']' | '*' | '“' | '”'
            )
        });
        if !word.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    let out = out.strip_prefix("the ").map_or(out.clone(), str::to_string);
    out.chars().any(char::is_alphabetic).then_some(out)
}

/// Whether two answers are the same words. If they contain a command other than layout, they must be
/// written alike.
pub(crate) fn equal_words(a: &str, b: &str) -> bool {
    match (normalized(a), normalized(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a == b && a.chars().any(char::is_alphabetic),
        _ => false,
    }
}

/// The letter, if the gold answer is a multiple-choice letter: a single capital, apart from brackets.
pub(crate) fn choice_letter(gold: &str) -> Option<char> {
    if gold.len() > MAX_CHOICE {
        return None;
    }
    let plain = names::words_only(gold)?;
    let inner = plain
        .trim()
        .trim_matches(|c| matches!(c, '(' | ')' | '.' | '[' | ']' | ' '));
    let mut chars = inner.chars();
    let letter = chars.next().filter(char::is_ascii_uppercase)?;
    chars.next().is_none().then_some(letter)
}

/// Whether a text begins with a dash between blanks and a word: ` - the mean`.
fn is_dash_before_words(text: &str) -> bool {
    let dash = [" - ", " – ", " — "]
        .iter()
        .find_map(|dash| text.strip_prefix(dash));
    let is_letter = |c: char| c.is_alphabetic();
    dash.is_some_and(|words| words.chars().take_while(|&c| is_letter(c)).count() > 1)
}

/// Whether an answer chooses `letter`: `B`, `(B)`, `B.`, `(B) 12`, `option B`.
pub(crate) fn same_choice(letter: char, answer: &str) -> Option<bool> {
    if answer.len() > MAX_WORDS {
        return None;
    }
    let plain = names::words_only(answer)?;
    let mut text = plain.trim().trim_start_matches(['*', ' ']);
    for lead in ["option", "choice", "answer", "case"] {
        if text
            .get(..lead.len())
            .is_some_and(|h| h.eq_ignore_ascii_case(lead))
        {
            text = text[lead.len()..].trim_start_matches([' ', ':']);
        }
    }
    let bracketed = text.starts_with(['(', '[']);
    let body = text.trim_start_matches(['(', '[', ' ']);
    let chosen = body.chars().next().filter(char::is_ascii_alphabetic)?;
    let after = body[1..].trim_start_matches([' ', '*']);
    let equal = chosen.eq_ignore_ascii_case(&letter);
    if after
        .trim_matches([')', ']', '.', ' ', '*', ':'])
        .is_empty()
    {
        return Some(equal);
    }
    // If more follows, the letter must be set off, and no other letter may be offered.
    let set_off = (bracketed && after.starts_with([')', ']']))
        || (body[1..].starts_with([')', ':']) || body[1..].starts_with(". "))
        || is_dash_before_words(&body[1..]);
    if !set_off || !chosen.is_ascii_uppercase() {
        return None;
    }
    // `(B), 5` is a list.
    if after.trim_start_matches([')', ']', ' ']).starts_with(',') {
        return None;
    }
    let others = after.split(|c: char| !c.is_alphanumeric()).any(|w| {
        w.len() == 1 && w.chars().all(|c| c.is_ascii_uppercase()) || w == "or" || w == "and"
    });
    (!others).then_some(equal)
}
