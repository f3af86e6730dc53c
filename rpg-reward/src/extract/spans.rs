//! Mathematics between delimiters.

use super::prefix;
use super::prose::{Kind, Prose};
use crate::lexicon::Class;
use memchr::{memchr2, memmem};

/// The longest span that can be an answer.
const MAX_SPAN: usize = 4_000;
/// How many spans at the end of a text may form one list.
const MAX_SPANS: usize = 64;

/// One span between delimiters: its start, the range of its content, and its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) content: (usize, usize),
    pub(super) end: usize,
}

/// The delimiters of a text. The next closing ones are searched once and not from every opening.
pub(super) struct Delimiters<'a> {
    text: &'a str,
    closers: [Option<usize>; 2],
}

impl<'a> Delimiters<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            closers: [None; 2],
        }
    }

    /// The span that is opened at `start`, where there is a dollar sign or a backslash.
    pub(super) fn span_at(&mut self, start: usize) -> Option<Span> {
        let bytes = self.text.as_bytes();
        let (open, close, width) = if bytes[start] == b'$' {
            let width = 1 + usize::from(bytes.get(start + 1) == Some(&b'$'));
            let open = start + width;
            (open, dollar_close(self.text, open, width == 2)?, width)
        } else {
            let kind = match bytes.get(start + 1)? {
                b'(' => 0,
                b'[' => 1,
                _ => return None,
            };
            let open = start + 2;
            let close = self.closers[kind].filter(|close| *close >= open);
            let close = close.unwrap_or_else(|| {
                let needle = [&b"\\)"[..], b"\\]"][kind];
                memmem::find(&bytes[open..], needle).map_or(usize::MAX, |at| open + at)
            });
            self.closers[kind] = Some(close);
            (open, close, 2)
        };
        (close != usize::MAX).then(|| Span {
            start,
            content: (open, close),
            end: close + width,
        })
    }
}

/// The last spans of a text that can be answers, in order.
fn last_spans(text: &str) -> Vec<Span> {
    let bytes = text.as_bytes();
    let mut delimiters = Delimiters::new(text);
    let mut found: Vec<Span> = Vec::new();
    let mut pos = 0;
    while let Some(offset) = memchr2(b'$', b'\\', &bytes[pos..]) {
        let start = pos + offset;
        let Some(span) = delimiters.span_at(start) else {
            // What a backslash escapes opens nothing.
            pos = start + 1 + usize::from(bytes[start] == b'\\' && start + 1 < bytes.len());
            continue;
        };
        let content = &text[span.content.0..span.content.1];
        if content.len() <= MAX_SPAN && !content.trim().is_empty() {
            if found.len() >= MAX_SPANS {
                found.drain(..MAX_SPANS / 2);
            }
            found.push(span);
        }
        pos = span.end;
    }
    found
}

/// The position of the dollar sign that closes the span opened before `open`.
fn dollar_close(text: &str, open: usize, double: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = open;
    loop {
        let close = from + memchr2(b'$', b'\n', bytes.get(from..)?)?;
        let is_blank_line = bytes[close] == b'\n' && bytes.get(close + 1) == Some(&b'\n');
        if is_blank_line && !double {
            return None;
        }
        if bytes[close] == b'\n' || (close > open && bytes[close - 1] == b'\\') {
            from = close + 1;
            continue;
        }
        if double {
            return (bytes.get(close + 1) == Some(&b'$')).then_some(close);
        }
        return (!is_money(&text[open..close], &text[close + 1..])).then_some(close);
    }
}

/// Whether what stands between two dollar signs belongs to an amount: `$5 and $7`, `$134,000 - $90,000`.
fn is_money(content: &str, after: &str) -> bool {
    let is_amount = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let in_words = content.ends_with([' ', '(', '-', '*'])
        && content.contains(|c: char| c.is_ascii_alphabetic());
    let in_sum =
        content.ends_with([' ', '(']) && is_amount(after) && !content.contains(['\\', '^', '_']);
    is_amount(content) && (in_words || in_sum)
}

/// The last span, together with the spans before it that are joined to it by `and`, `or` or commas.
pub(super) fn last_span(text: &str) -> Option<String> {
    let spans = last_spans(text);
    let last = spans.last()?;
    let mut first = spans.len() - 1;
    while first > 0 && is_joint(&text[spans[first - 1].end..spans[first].start]) {
        first -= 1;
    }
    let contents = spans[first..].iter().map(|span| span.content);
    Some(joined(text, contents, &text[last.end..]))
}

/// The first span of some prose from a token on, together with the spans joined to it, as one list, and where
/// it ends.
pub(super) fn leading_spans(prose: &Prose, from: usize) -> Option<(String, usize)> {
    let math = |token: &super::prose::Token| match token.kind {
        Kind::Math(start, end) => Some(((start, end), token.start, token.end)),
        _ => None,
    };
    let mut spans = prose.tokens[from..].iter().filter_map(math);
    let (content, _, mut end) = spans.next()?;
    let mut contents = vec![content];
    for (content, start, next) in spans {
        if !is_joint(&prose.text[end..start]) {
            break;
        }
        contents.push(content);
        end = next;
    }
    let list = joined(prose.text, contents.into_iter(), &prose.text[end..]);
    Some((list, end))
}

/// The contents of spans as a list. A percent sign after a single one belongs to it.
fn joined(text: &str, contents: impl Iterator<Item = (usize, usize)>, after: &str) -> String {
    let items: Vec<&str> = contents
        .map(|(start, end)| text[start..end].trim())
        .collect();
    let mut answer = items.join(", ");
    if items.len() == 1 && percent_follows(after) && !answer.contains('%') {
        answer.push_str("\\%");
    }
    answer
}

/// Whether nothing but commas and the words of a list stands between two spans.
fn is_joint(gap: &str) -> bool {
    gap.len() <= 16
        && !gap.contains("\n\n")
        && Prose::read(gap)
            .tokens
            .iter()
            .all(|token| match token.kind {
                Kind::Word(class) => class.is(Class::AND | Class::OFFER),
                Kind::Mark(mark) => matches!(mark, ',' | ';'),
                Kind::Break => true,
                _ => false,
            })
}

/// Whether a percent sign or the word "percent" directly follows a value.
pub(super) fn percent_follows(after: &str) -> bool {
    let after = prefix(after, 24).trim_start_matches([' ', '$', '*', '\\', ')', ']']);
    let prose = Prose::read(after);
    prose.is_mark(0, &['%']) || prose.class(0).is(Class::PERCENT)
}
