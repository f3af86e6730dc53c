//! Answers introduced by words or marks: `Answer: 5`, "the final answer is 5", `#### 5`.

use super::fallback::{number_in_words, value_after_verb};
use super::spans::{leading_spans, reads_as_prose};
use super::{last_position, last_positions, prefix, suffix};
use crate::names;
use memchr::memmem;
use std::borrow::Cow;

/// The longest answer that is read after a marker.
const MAX_LINE: usize = 8_000;
/// How many markers are tried, from the last one.
const MAX_MARKERS: usize = 24;

/// Where the last marked answer starts, and its readings.
type Found = Option<(usize, Vec<String>)>;

/// The text after the last `####`.
pub(super) fn hash_marks(text: &str) -> Found {
    let pos = last_position(text, "####")? + 4;
    let line = prefix(&text[pos..], MAX_LINE).lines().next().unwrap_or("");
    // `#### Final answer` is a heading, not a mark.
    let readings = readings(line);
    let has_value =
        line.bytes().any(|b| b.is_ascii_digit() || b == b'\\') || line.trim().len() < 12;
    // "#### not 7" gives no answer, and no other rule must find 7.
    let is_negated = readings.is_empty() && line.bytes().any(|b| b.is_ascii_digit());
    (has_value && (is_negated || !readings.is_empty())).then_some((pos, readings))
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
        positions.extend(
            last_positions(text, word, MAX_MARKERS)
                .into_iter()
                .map(|pos| (pos, pos + word.len())),
        );
    }
    positions.sort_unstable_by(|a, b| b.cmp(a));
    positions.truncate(MAX_MARKERS);
    let mut without_value = None;
    for (start, end) in positions {
        let found = after_word(text, start, &text[end..]).or_else(|| before_word(&text[..start]));
        match found {
            Some(readings) if readings.is_empty() => {
                // A sentence that was cut off negates nothing: any other marker takes precedence.
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

/// The readings of what follows the word "answer", which starts at `start`.
fn after_word(text: &str, start: usize, rest: &str) -> Option<Vec<String>> {
    let decoration: &[char] = &['*', '_', ' ', '\t', '"', '\''];
    let rest = rest.strip_prefix(['s', 'S']).unwrap_or(rest);
    let bare = rest.trim_start_matches(decoration);
    let denials = ["isn't", "isn’t", "wasn't", "can't be", "cannot be"];
    if denials.iter().any(|words| bare.starts_with(words)) {
        return Some(Vec::new());
    }
    if let Some(value) = bare.strip_prefix([':', '：', '=', '是', '为']) {
        return Some(line_readings(value));
    }
    if let Some(value) = after_verb(bare) {
        return Some(line_readings(value));
    }
    if bare.starts_with('$') || bare.starts_with("\\(") || bare.starts_with("\\[") {
        return Some(line_readings(bare));
    }
    // A heading: the answer is on the next line.
    let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
    if bare.starts_with(['\n', '\r']) && start - line_start <= 24 {
        return Some(line_readings(bare));
    }
    // "The answer to the second part is 5."
    let sentence = prefix(bare, 120);
    let sentence = &sentence[..sentence
        .find(['\n', '.', ',', ':', '$'])
        .unwrap_or(sentence.len())];
    let verb = [" is ", " are ", " = "]
        .iter()
        .filter_map(|v| sentence.find(v))
        .min()?;
    after_verb(bare[verb..].trim_start()).map(line_readings)
}

/// What follows "is", "are", "should be" and filler words after them.
fn after_verb(text: &str) -> Option<&str> {
    const VERBS: [&str; 11] = [
        "is",
        "are",
        "=",
        "was",
        "should be",
        "would be",
        "must be",
        "will be",
        "equals",
        "becomes",
        "be",
    ];
    const FILLERS: [&str; 22] = [
        "simply",
        "just",
        "therefore",
        "thus",
        "then",
        "hence",
        "now",
        "indeed",
        "equal to",
        "given by",
        "exactly",
        "approximately",
        "about",
        "clearly",
        "obviously",
        "actually",
        "also",
        "likely",
        "probably",
        "as follows",
        "the following",
        "the number",
    ];
    let verb = VERBS.iter().find(|v| begins_with_word(text, v))?;
    let decoration: &[char] = &['*', '_', ' ', '\t', ':', '：', '"'];
    let mut rest = text[verb.len()..].trim_start_matches(decoration);
    while let Some(word) = FILLERS.iter().find(|w| begins_with_word(rest, w)) {
        rest = rest[word.len()..]
            .trim_start_matches(decoration)
            .trim_start_matches(',')
            .trim_start();
    }
    Some(rest)
}

/// Whether `text` begins with the whole `word`, in any case.
fn begins_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(word))
        && !text[word.len()..].starts_with(|c: char| c.is_alphanumeric())
}

/// "15 is the answer": the readings of what precedes the word.
fn before_word(before: &str) -> Option<Vec<String>> {
    let mut head = before.strip_suffix(['a', 'A'])?.trim_end();
    loop {
        let shorter = [
            "final", "correct", "the", "our", "required", "desired", "my",
        ]
        .iter()
        .find_map(|w| strip_word(head, w));
        match shorter {
            Some(shorter) => head = shorter.trim_end(),
            None => break,
        }
    }
    let head = ["is", "are"]
        .iter()
        .find_map(|w| strip_word(head, w))?
        .trim_end();
    let line = suffix(head, 200);
    let line = line.rsplit('\n').next().unwrap_or(line);
    let number = super::spans::trailing_value(line)?;
    Some(vec![number])
}

/// `text` without the whole `word` at its end.
fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let start = text.len().checked_sub(word.len())?;
    let tail = text.get(start..)?;
    (tail.eq_ignore_ascii_case(word) && text[..start].ends_with(char::is_whitespace))
        .then(|| &text[..start])
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

/// The readings of a line, from the most literal to the most lenient.
fn readings(line: &str) -> Vec<String> {
    // Drop an end-of-turn token that a sampler left in.
    let line = line.split("<|").next().unwrap_or(line);
    let bold = without_bold(line);
    let bold = with_times(&bold);
    let line = bold.trim().trim_matches(['*', '"', ' ', '`', '_']);
    let sentence = first_sentence(line);
    let sentence = sentence.trim_end_matches([' ', '*', '.', '"', ',', ';', '。']);
    let negated = ["not", "n't", "unknown", "none of"]
        .iter()
        .any(|w| begins_with_word(sentence, w))
        || negated_span(sentence)
        || states_none(sentence);
    if sentence.is_empty() || negated {
        return Vec::new();
    }
    // `18 per day`
    const UNIT_TAILS: [&str; 5] = [" per ", " a day", " an hour", " in total", " off"];
    const CLAUSES: &[&str] = &[
        " (see",
        ", which",
        ", where",
        ", because",
        ", since",
        ", as ",
        " if ",
        " because",
        " since ",
        " as ",
        " where ",
        " which ",
        " when ",
        " for ",
        ", so ",
        ", and so",
        " (since",
        " (because",
        " (as ",
        ", with ",
        " by ",
    ];
    // The object of the verb, if the sentence has a verb with words before it.
    let tail = value_after_verb(sentence);
    let from = tail.map_or(0, |tail| sentence.len() - tail.len());
    let clause = UNIT_TAILS
        .iter()
        .chain(CLAUSES)
        .filter_map(|c| sentence[from..].find(c).map(|pos| from + pos))
        // A clause follows a value: `the price fell by 30%` has none before `by`.
        .filter(|&end| {
            let stated = &sentence[from..end];
            stated.contains(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\'))
                || is_letter(stated)
        })
        .min();
    let stated = &sentence[from..clause.unwrap_or(sentence.len())];
    let mut found = Vec::new();
    let is_aside = clause.is_some_and(|end| {
        let aside = &sentence[end..];
        aside.starts_with(',') || UNIT_TAILS.iter().any(|tail| aside.starts_with(tail))
    });
    // `C because ..`: the letter is the answer, and not the whole sentence in words.
    let is_choice = clause.is_some() && is_letter(stated);
    let is_whole = tail.is_none() && !reads_as_prose(sentence) && !is_aside && !is_choice;
    if is_whole || names::is_date(sentence) {
        found.push(sentence.to_string());
    }
    let mut add = |reading: &str| {
        let reading = reading.trim();
        if !reading.is_empty() && !found.iter().any(|f| f == reading) {
            found.push(reading.to_string());
        }
    };
    if (tail.is_some() || clause.is_some()) && !reads_as_prose(stated) {
        add(stated);
    }
    if let Some(spans) = leading_spans(&sentence[from..]) {
        add(&spans);
    } else if let Some(number) = number_in_words(stated) {
        add(&number);
    }
    if found.is_empty() {
        found.push(sentence.to_string());
    }
    found
}

/// Whether a text is the letter of a choice.
fn is_letter(text: &str) -> bool {
    let text = text.trim().trim_matches(['(', ')', ' ']);
    text.len() == 1 && text.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Whether what is said of an answer is a remark about it and not its value: "the answer is unique".
fn is_remark(reading: &str) -> bool {
    const REMARKS: [&str; 19] = [
        "correct",
        "unique",
        "reasonable",
        "consistent",
        "verified",
        "confirmed",
        "rounded",
        "expected",
        "simplified",
        "in simplest form",
        "in the form",
        "in terms of",
        "an integer",
        "a whole number",
        "a positive integer",
        "exact",
        "right",
        "valid",
        "given in",
    ];
    let reading = reading.trim_start();
    let lower = prefix(reading, 24).to_ascii_lowercase();
    REMARKS
        .iter()
        .any(|remark| begins_with_word(&lower, remark))
}

/// `**5** apples` without the asterisks; `2**3` keeps them.
fn without_bold(line: &str) -> Cow<'_, str> {
    let is_power = line.match_indices("**").any(|(pos, mark)| {
        line[..pos].ends_with(|c: char| c.is_alphanumeric() || c == ')')
            && line[pos + mark.len()..]
                .starts_with(|c: char| c.is_alphanumeric() || matches!(c, '(' | '-'))
    });
    if is_power {
        line.into()
    } else {
        line.replace("**", "").into()
    }
}

/// Whether a sentence with a number in it says that there is no answer.
fn states_none(sentence: &str) -> bool {
    let lower = sentence.to_ascii_lowercase();
    let none = [
        "no solution",
        "impossible",
        "does not work",
        "cannot be determined",
    ];
    none.iter().any(|words| lower.contains(words)) && lower.contains(|c: char| c.is_ascii_digit())
}

/// `3 x 4` with a multiplication sign.
fn with_times(line: &str) -> Cow<'_, str> {
    let is_product = |pos: usize| {
        line[..pos].ends_with(|c: char| c.is_ascii_digit())
            && line[pos + 3..].starts_with(|c: char| c.is_ascii_digit() || c == '$')
    };
    if line.match_indices(" x ").all(|(pos, _)| is_product(pos)) {
        line.replace(" x ", " × ").into()
    } else {
        line.into()
    }
}

/// `\textbf{not} $5$`: whether the words before a span negate it.
fn negated_span(sentence: &str) -> bool {
    let lead = sentence.find(['$']).map_or("", |pos| &sentence[..pos]);
    let lead = lead.rsplit(" is ").next().unwrap_or(lead);
    lead.split(|c: char| !c.is_alphanumeric())
        .any(|word| word == "not" || word == "never")
}

/// The text up to the period that ends the first sentence.
fn first_sentence(line: &str) -> &str {
    let mut from = 0;
    while let Some(offset) = line[from..].find(['.', '。']) {
        let pos = from + offset;
        let after = &line[pos..];
        let width = after.chars().next().map_or(1, char::len_utf8);
        let next = after[width..].trim_start_matches(['*', '"', ')']);
        if width > 1
            || next.is_empty()
            || (next.starts_with(' ') && !ends_abbreviation(&line[..pos]))
        {
            return &line[..pos];
        }
        from = pos + width;
    }
    line
}

fn ends_abbreviation(text: &str) -> bool {
    [" approx", " sq", " ft", " in", " vs", " no", " Rs"]
        .iter()
        .any(|w| text.ends_with(w) || text == w.trim_start())
}
