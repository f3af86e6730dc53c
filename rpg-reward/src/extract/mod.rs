//! Finds the answer in a completion.
//!
//! Everything here takes time linear in the length of the completion. What is found is text; whether it
//! is mathematics is decided later, so an answer consists of a few readings in order of preference.

mod boxes;
mod fallback;
mod phrases;
mod spans;

use crate::names;
use crate::options::GradeOptions;
use crate::verdict::AnswerSource;
use memchr::memmem;
use std::collections::VecDeque;

/// An answer as found in the completion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extraction {
    /// Where it was found.
    pub(crate) source: AnswerSource,
    /// The readings of the text, from the most literal to the most lenient.
    pub(crate) readings: Vec<String>,
}

/// Finds the answer in `completion` by the first rule that applies.
pub(crate) fn extract(completion: &str, options: &GradeOptions) -> Option<Extraction> {
    let text = after_thinking(completion, options.unclosed_thinking)?;
    if options.boxed
        && let Some(found) = boxes::last_boxes(text)
    {
        let readings = if found.trim().is_empty() {
            Vec::new()
        } else {
            vec![found]
        };
        return Some(Extraction {
            source: AnswerSource::Boxed,
            readings,
        });
    }
    let text =
        memmem::find(text.as_bytes(), b"I hope it is correct").map_or(text, |pos| &text[..pos]);
    if let Some(found) = marked(text, options) {
        return Some(found);
    }
    if options.last_expression {
        spans::last_expression(text)
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

/// The number that a sentence in a box gives as its answer.
pub(crate) fn number_in_sentence(content: &str) -> Option<String> {
    let words = names::words_only(prefix(content, 200))?;
    let sentence = words.trim().trim_end_matches('.');
    let said = sentence
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| word.len() > 1)
        .count();
    let begins = sentence.starts_with(|c: char| c.is_alphabetic());
    if let Some((label, value)) = sentence.split_once(':')
        && ["answer", "final answer"]
            .iter()
            .any(|l| label.eq_ignore_ascii_case(l))
    {
        return Some(value.trim().to_string());
    }
    (begins && said >= 3)
        .then(|| fallback::number_in_words(sentence))
        .flatten()
}

/// The last answer after a marker.
fn marked(text: &str, options: &GradeOptions) -> Option<Extraction> {
    let mut best: Option<(usize, Extraction)> = None;
    let mut offer = |found: Option<(usize, Vec<String>)>, source| {
        if let Some((pos, readings)) = found
            && best.as_ref().is_none_or(|(other, _)| pos > *other)
        {
            best = Some((pos, Extraction { source, readings }));
        }
    };
    if options.answer_line {
        offer(phrases::answer_phrase(text), AnswerSource::AnswerLine);
    }
    if options.hash_marks {
        offer(phrases::hash_marks(text), AnswerSource::HashMarks);
    }
    if options.answer_tag {
        offer(phrases::answer_tag(text), AnswerSource::AnswerTag);
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
