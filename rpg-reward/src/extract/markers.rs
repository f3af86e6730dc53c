//! Answers introduced by words or marks: `Answer: 5`, "the final answer is 5", `#### 5`.

use super::numbers::last_value;
use super::prose::{Kind, Prose, Token};
use super::statement::{is_remark, readings, sentence_end};
use super::{last_position, last_positions, prefix, suffix};
use crate::lexicon::Class;
use memchr::memmem;

/// The longest answer that is read after a marker.
const MAX_LINE: usize = 8_000;
/// How many markers are tried, from the last one.
const MAX_MARKERS: usize = 24;
/// The longest text between the word "answer" and its verb, and before "is the answer".
const MAX_SUBJECT: usize = 200;
/// The longest line before the word that makes a heading of it.
const MAX_HEADING: usize = 24;
/// The longest text before the word "answer" that may deny what follows.
const MAX_SUPPOSITION: usize = 60;

/// Where the last marked answer starts, and its readings.
type Found = Option<(usize, Vec<String>)>;

/// The text after the last `####`.
pub(super) fn hash_marks(text: &str) -> Found {
    let pos = last_position(text, "####")? + 4;
    let line = prefix(&text[pos..], MAX_LINE).lines().next().unwrap_or("");
    // `#### Final answer` is a heading, not a mark.
    let has_value =
        line.bytes().any(|b| b.is_ascii_digit() || b == b'\\') || line.trim().len() < 12;
    let readings = readings(line);
    // "#### not 7" gives no answer, and no other rule must find 7.
    let is_denied = readings.is_empty() && Prose::read(line).tokens.iter().any(Token::is_value);
    (has_value && (is_denied || !readings.is_empty())).then_some((pos, readings))
}

/// The text in the last `<answer>` tag.
pub(super) fn answer_tag(text: &str) -> Found {
    const OPEN: &str = "<answer>";
    let pos = last_position(text, OPEN)? + OPEN.len();
    let body = prefix(&text[pos..], MAX_LINE);
    let body = memmem::find(body.as_bytes(), b"</answer>").map_or(body, |end| &body[..end]);
    let body = body.trim();
    let mut found = readings(body);
    if found.is_empty() && !body.is_empty() {
        found.push(body.to_string());
    }
    Some((pos, found))
}

/// The answer in the last sentence or line with the word "answer".
pub(super) fn answer_phrase(text: &str) -> Found {
    let mut positions: Vec<(usize, usize)> = Vec::new();
    for word in ["nswer", "NSWER", "答案"] {
        let found = last_positions(text, word, MAX_MARKERS).into_iter();
        positions.extend(found.map(|pos| (pos, pos + word.len())));
    }
    positions.sort_unstable_by(|a, b| b.cmp(a));
    positions.truncate(MAX_MARKERS);
    let mut without_value = None;
    // The word in a tag is no marker.
    let is_tag = |start: usize| {
        text[..start]
            .trim_end_matches(['a', 'A'])
            .ends_with(['<', '/'])
    };
    for (start, end) in positions.into_iter().filter(|(start, _)| !is_tag(*start)) {
        let found = if is_supposed(&text[..start]) {
            Some(Vec::new())
        } else {
            after_word(text, start, &text[end..])
                .or_else(|| before_word(&text[..start]))
                .or_else(|| is_missing(&text[..start], &text[end..]).then(Vec::new))
        };
        match found {
            Some(readings) if readings.is_empty() => {
                // A sentence that was cut off denies nothing: any other marker takes precedence.
                let said = text[end..].trim();
                let is_cut_off = said.len() < 16 && !said.contains(|c: char| c.is_ascii_digit());
                let pos = if is_cut_off { 0 } else { start };
                if without_value.as_ref().is_none_or(|(other, _)| *other < pos) {
                    without_value = Some((pos, readings));
                }
            }
            Some(readings) if is_remark(&readings[0]) => {}
            Some(readings) => return Some((start, readings)),
            None => {}
        }
    }
    // "The answer is not 5" gives no answer, and no other rule must find 5.
    without_value
}

/// Whether a text ends with a sentence that denies that there is an answer: "I do not know the answer."
fn is_missing(before: &str, after: &str) -> bool {
    let prose = Prose::read(last_part(before, &['\n', '.', ',']));
    let is_word = |index: &usize| !prose.class(*index).is(Class::DETERMINER);
    let verb = (0..prose.tokens.len()).rfind(is_word);
    let is_end = after.trim().len() <= 2;
    is_end
        && verb.is_some_and(|verb| {
            prose.class(verb).is(Class::KNOW) && prose.says(0..verb, Class::DENY)
        })
}

/// Whether a sentence denies what it says about the answer: "It is false that the answer ..".
fn is_supposed(before: &str) -> bool {
    let sentence = last_part(before, &['\n', '.']);
    // Most sentences have no such word.
    if !sentence.contains("that ") {
        return false;
    }
    let prose = Prose::read(sentence);
    let mut end = prose.tokens.len();
    while end > 0 && prose.class(end - 1).is(Class::DETERMINER) {
        end -= 1;
    }
    let that = end.checked_sub(1);
    that.is_some_and(|that| {
        let judgement = prose.class(that.wrapping_sub(1));
        let is_denied =
            judgement.is(Class::REMARK | Class::VERDICT) && prose.says(0..that, Class::DENY);
        prose.slice(that..end) == "that" && (judgement.is(Class::WRONG) || is_denied)
    })
}

/// What precedes the word "answer", of which only the first letter is in the text, after the last of some marks.
fn last_part<'a>(before: &'a str, marks: &[char]) -> &'a str {
    let before = before.strip_suffix(['a', 'A']).unwrap_or(before);
    let before = suffix(before, MAX_SUPPOSITION);
    before.rsplit(marks).next().unwrap_or(before)
}

/// The readings of what follows the word "answer", which starts at `start`.
fn after_word(text: &str, start: usize, rest: &str) -> Option<Vec<String>> {
    let rest = rest.strip_prefix(['s', 'S']).unwrap_or(rest);
    let line = prefix(rest, MAX_SUBJECT).lines().next().unwrap_or("");
    let prose = Prose::read(line);
    let first = prose.skip_decoration(0);
    let Some(token) = prose.tokens.get(first) else {
        // A heading: the answer is on the next line.
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let is_heading = rest.contains('\n') && start - line_start <= MAX_HEADING;
        return is_heading.then(|| line_readings(rest));
    };
    let is_dash = |mark: char| {
        matches!(mark, '-' | '–' | '—') && rest[token.end..].starts_with(char::is_whitespace)
    };
    match token.kind {
        Kind::Mark(mark) if matches!(mark, ':' | '：' | '=') || is_dash(mark) => {
            return Some(line_readings(&rest[token.end..]));
        }
        Kind::Math(..) => return Some(line_readings(&rest[token.start..])),
        Kind::Word(class) if class.is(Class::DENY) => {
            // `The answer isn't 5 but 6.`
            let corrects = prose.says(first..prose.tokens.len(), Class::EXCEPT);
            return Some(if corrects {
                line_readings(&rest[token.start..])
            } else {
                Vec::new()
            });
        }
        _ => {}
    }
    // "The answer to the second part is 5.", "Answer (in metres): 5"
    let is_verb =
        |index: &usize| prose.class(*index).is(Class::BE) || prose.is_mark(*index, &[':', '：']);
    let sentence = first..sentence_end(&prose, first);
    let Some(verb) = sentence.clone().find(is_verb) else {
        // `The answer does not exist.`
        let is_denied = first == 0 && prose.says(sentence.start..sentence.end.min(2), Class::DENY);
        return is_denied.then(Vec::new);
    };
    Some(line_readings(&rest[prose.tokens[verb].end..]))
}

/// "15 is the answer": the readings of what precedes the word.
fn before_word(before: &str) -> Option<Vec<String>> {
    let before = suffix(before.strip_suffix(['a', 'A'])?, MAX_SUBJECT);
    let line = before.rsplit('\n').next().unwrap_or(before);
    let prose = Prose::read(line);
    let mut end = prose.tokens.len();
    let is_wrong = |index: usize| prose.class(index).is(Class::WRONG);
    while end > 0 && (prose.class(end - 1).is(Class::DETERMINER) || is_wrong(end - 1)) {
        end -= 1;
    }
    let verb = end.checked_sub(1)?;
    // `7 is not the answer`, `7 cannot be the answer`, `7 is the wrong answer`
    let is_verb = |index: usize| prose.class(index).is(Class::BE);
    let denied = |index: usize| prose.class(index).is(Class::DENY);
    let is_denied = denied(verb) && verb > 0 && is_verb(verb - 1)
        || is_verb(verb)
            && (verb > 0 && denied(verb - 1) || (end..prose.tokens.len()).any(is_wrong));
    if is_denied {
        return Some(Vec::new());
    }
    let value = prose
        .class(verb)
        .is(Class::BE)
        .then(|| last_value(&prose, verb));
    Some(vec![value??])
}

/// The readings of the line that begins at `text`, or of the next one that is not blank.
fn line_readings(text: &str) -> Vec<String> {
    let text = prefix(text, MAX_LINE);
    let begun = text.trim_start_matches(['*', '_', ' ', '\t', '\n', '\r', ':']);
    // At the start of a line `>` is a quotation mark; elsewhere it is a relation.
    let is_new_line = text[..text.len() - begun.len()].contains('\n');
    let text = if is_new_line {
        text.trim_start_matches(['*', '_', ' ', '\t', '\n', '\r', ':', '>'])
    } else {
        begun
    };
    for (open, close) in [("$$", "$$"), ("\\[", "\\]")] {
        if let Some(body) = text.strip_prefix(open)
            && let Some(end) = body.find(close)
        {
            return readings(body[..end].trim());
        }
    }
    readings(text.lines().next().unwrap_or(""))
}
