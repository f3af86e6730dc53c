//! Finds the answer in a completion.
//!
//! Everything here takes time linear in the length of the completion. What is found is text; whether it
//! is mathematics is decided later, so an answer consists of a few readings in order of preference.

mod boxes;
mod markers;
mod numbers;
mod prose;
mod spans;
mod statement;
mod unmarked;

use crate::names;
use crate::options::GradeOptions;
use crate::verdict::AnswerSource;
use memchr::{memchr, memmem};
use prose::{Kind, Prose, Token};
use std::borrow::Cow;
use std::collections::VecDeque;

/// An answer as found in the completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extraction {
    /// Where it was found.
    pub(crate) source: AnswerSource,
    /// The readings of the text, from the most literal to the most lenient.
    pub(crate) readings: Vec<String>,
    /// The whole content of a box.
    pub(crate) content: Option<String>,
}

/// Finds the answer in `completion` by the first rule that applies.
pub(crate) fn extract(completion: &str, options: &GradeOptions) -> Option<Extraction> {
    let text = after_thinking(completion, options.unclosed_thinking)?;
    let text = &*without_comments(text);
    if options.boxed
        && let Some(found) = boxes::last_boxes(text)
    {
        let readings = boxed_readings(&found);
        return Some(Extraction {
            source: AnswerSource::Boxed,
            readings,
            content: Some(found),
        });
    }
    let text =
        memmem::find(text.as_bytes(), b"I hope it is correct").map_or(text, |pos| &text[..pos]);
    if let Some(found) = marked(text, options) {
        return Some(found);
    }
    if options.last_expression {
        unmarked::last_expression(text)
    } else {
        None
    }
}

/// The text after the last mark that ends the thinking. Thinking that is never ended has no answer, unless
/// `unclosed`.
fn after_thinking(text: &str, unclosed: bool) -> Option<&str> {
    const CLOSES: [&str; 4] = ["</think>", "</thought>", "</reasoning>", "<|channel|>final"];
    // Most completions have none of them.
    let Some(first) = memmem::find(text.as_bytes(), b"<") else {
        return Some(text);
    };
    let end = CLOSES
        .iter()
        .filter_map(|close| {
            last_position(&text[first..], close).map(|pos| first + pos + close.len())
        })
        .max()
        .unwrap_or(0);
    let rest = &text[end..];
    let is_open = rest.contains("<think>");
    (unclosed || !is_open).then_some(rest)
}

/// The text without HTML comments, which nobody sees. One that is never ended hides the rest.
fn without_comments(text: &str) -> Cow<'_, str> {
    let (open, close) = ("<!--", "-->");
    // Most texts have no tag.
    if memchr(b'<', text.as_bytes()).is_none() || !text.contains(open) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memmem::find(rest.as_bytes(), open.as_bytes()) {
        shown.push_str(&rest[..at]);
        let hidden = &rest[at..];
        let end = memmem::find(hidden.as_bytes(), close.as_bytes());
        rest = end.map_or("", |end| &hidden[end + close.len()..]);
    }
    shown.push_str(rest);
    shown.into()
}

/// The readings of the content of a box: as it is, and what it states if it is a sentence.
fn boxed_readings(content: &str) -> Vec<String> {
    /// The longest box that may be a sentence, and the fewest words of one.
    const MAX_SENTENCE: usize = 200;
    const MIN_WORDS: usize = 3;
    if content.trim().is_empty() {
        return Vec::new();
    }
    let text = prefix(content, MAX_SENTENCE);
    if let Some(verdict) = statement::leading_verdict(text) {
        return vec![verdict.to_string(), content.to_string()];
    }
    // `5; the expected answer is 4` states 5.
    let begins = |end: usize| !Prose::read(&text[..end]).tokens.iter().any(Token::is_value);
    if let Some((start, stated)) = markers::answer_phrase(text)
        && begins(start)
    {
        return stated.into_iter().chain([content.to_string()]).collect();
    }
    let prose = Prose::read(text);
    let is_word = |token: &&Token| matches!(token.kind, Kind::Word(_)) && !token.is_letter();
    let is_sentence = prose
        .tokens
        .first()
        .is_some_and(|token| matches!(token.kind, Kind::Word(_)))
        && prose.tokens.iter().filter(is_word).count() >= MIN_WORDS;
    if !is_sentence {
        return vec![content.to_string()];
    }
    let words = names::words_only(text);
    let stated = statement::readings(words.as_deref().unwrap_or(text));
    // Words in `\text{}` belong to the answer; other words do not.
    if statement::reads_as_prose(&prose, 0..prose.tokens.len()) {
        stated.into_iter().chain([content.to_string()]).collect()
    } else {
        std::iter::once(content.to_string()).chain(stated).collect()
    }
}

/// The last answer after a marker.
fn marked(text: &str, options: &GradeOptions) -> Option<Extraction> {
    let mut best: Option<(usize, Extraction)> = None;
    let mut offer = |found: Option<(usize, Vec<String>)>, source| {
        if let Some((pos, readings)) = found
            && best.as_ref().is_none_or(|(other, _)| pos > *other)
        {
            best = Some((
                pos,
                Extraction {
                    source,
                    readings,
                    content: None,
                },
            ));
        }
    };
    if options.answer_line {
        offer(markers::answer_phrase(text), AnswerSource::AnswerLine);
    }
    if options.hash_marks {
        offer(markers::hash_marks(text), AnswerSource::HashMarks);
    }
    if options.answer_tag {
        offer(markers::answer_tag(text), AnswerSource::AnswerTag);
    }
    best.map(|(_, extraction)| extraction)
}

/// The last `count` occurrences of `needle`, in reverse order.
fn last_positions(text: &str, needle: &str, count: usize) -> Vec<usize> {
    let mut ring = VecDeque::with_capacity(count);
    for pos in memmem::find_iter(text.as_bytes(), needle.as_bytes()) {
        if ring.len() == count {
            ring.pop_front();
        }
        ring.push_back(pos);
    }
    ring.into_iter().rev().collect()
}

/// The last occurrence of `needle`. Searching forward is faster than searching backward.
fn last_position(text: &str, needle: &str) -> Option<usize> {
    memmem::find_iter(text.as_bytes(), needle.as_bytes()).last()
}

/// The longest prefix of at most `bytes` bytes.
fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The longest suffix of at most `bytes` bytes.
fn suffix(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}
