//! Mathematical spans and numbers in prose.

use super::{Extraction, prefix, suffix};
use crate::names;
use crate::verdict::AnswerSource;
use memchr::memmem;

/// The longest span that can be an answer.
const MAX_SPAN: usize = 4_000;
/// The longest text that is read as one expression.
const MAX_EXPRESSION: usize = 1_000;

/// The last expression between mathematical delimiters, or else the last number in the prose.
pub(super) fn last_expression(text: &str) -> Option<Extraction> {
    let trimmed = text.trim();
    let mut readings = Vec::new();
    // Only words are prose, unless the completion is a single word.
    let may_be_answer = trimmed.contains(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\'))
        || (!trimmed.is_empty() && !trimmed.contains(char::is_whitespace));
    if trimmed.len() <= MAX_EXPRESSION
        && !trimmed.contains('\n')
        && may_be_answer
        && !reads_as_prose(trimmed)
    {
        readings.push(trimmed.to_string());
    }
    let span = last_span(text);
    let has_span = span.is_some();
    readings.extend(span);
    if !has_span {
        let line = suffix(trimmed, MAX_EXPRESSION);
        let line = line.rsplit('\n').next().unwrap_or(line);
        // A dollar sign that is escaped is no formula.
        if line.replace("\\$", "").contains('\\') {
            let cut = ["=", " is ", ": ", " are "]
                .iter()
                .filter_map(|s| line.rfind(s).map(|i| i + s.len()))
                .max()
                .unwrap_or(0);
            let mut formula = line[cut..].trim_end_matches('.');
            if reads_as_prose(formula)
                && let Some(command) = formula.find('\\')
            {
                let word = formula[..command]
                    .rsplit(char::is_whitespace)
                    .next()
                    .unwrap_or("");
                let start = command - word.len();
                formula = &formula[start..];
            }
            readings.push(formula.to_string());
        } else if let Some(cut) = line.rfind(
            [" is ", " = ", " are "]
                .iter()
                .find(|v| line.contains(**v))
                .copied()
                .unwrap_or("\0"),
        ) {
            // A point or an interval without delimiters.
            let tail = line[cut..]
                .trim_start_matches(|c: char| c.is_alphabetic() || matches!(c, ' ' | '='));
            if tail.starts_with(['(', '[', '{']) {
                readings.push(tail.trim_end_matches('.').to_string());
            }
        }
    }
    let has_expression = !readings.is_empty();
    // A number inside a formula that is not an answer is not one either.
    if let Some(number) = last_number(suffix(trimmed, 20_000)).filter(|_| !has_span) {
        readings.push(number);
    }
    (!readings.is_empty()).then_some(Extraction {
        source: if has_expression {
            AnswerSource::LastExpression
        } else {
            AnswerSource::LastNumber
        },
        readings,
    })
}

/// One span between delimiters: its start, the range of its content, and its end.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    content: (usize, usize),
    end: usize,
}

/// The spans of `text`, in order; if there are many, only the last ones.
fn spans(text: &str) -> Vec<Span> {
    let bytes = text.as_bytes();
    let mut found: Vec<Span> = Vec::new();
    let mut pos = 0;
    // The position of the next closing delimiter of each kind, searched once and not from every opening.
    let mut closers: [Option<usize>; 2] = [None; 2];
    while let Some(offset) = memchr::memchr2(b'$', b'\\', &bytes[pos..]) {
        let start = pos + offset;
        pos = start + 1;
        let (content, close, width) = if bytes[start] == b'$' {
            if start > 0 && bytes[start - 1] == b'\\' {
                continue;
            }
            let double = bytes.get(start + 1) == Some(&b'$');
            let open = start + 1 + usize::from(double);
            let Some(close) = dollar_close(text, open, double) else {
                continue;
            };
            (open, close, 1 + usize::from(double))
        } else {
            let kind = match bytes.get(start + 1) {
                Some(b'(') => 0,
                Some(b'[') => 1,
                Some(_) => {
                    pos = start + 2;
                    continue;
                }
                None => break,
            };
            let needle: &[u8] = if kind == 0 { b"\\)" } else { b"\\]" };
            if closers[kind].is_none_or(|c| c < start + 2) {
                closers[kind] = Some(
                    memmem::find(&bytes[start + 2..], needle).map_or(usize::MAX, |i| start + 2 + i),
                );
            }
            let close = closers[kind].unwrap_or(usize::MAX);
            if close == usize::MAX {
                pos = start + 2;
                continue;
            }
            (start + 2, close, 2)
        };
        let blank = text[content..close].trim().is_empty();
        if close - content <= MAX_SPAN && !blank {
            if found.len() >= 64 {
                found.drain(..32);
            }
            found.push(Span {
                start,
                content: (content, close),
                end: close + width,
            });
        }
        pos = close + width;
    }
    found
}

/// The position of the dollar sign that closes the span opened before `open`.
fn dollar_close(text: &str, open: usize, double: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = open;
    loop {
        let close = from + memchr::memchr2(b'$', b'\n', &bytes[from..])?;
        if bytes[close] == b'\n' {
            if !double && bytes.get(close + 1) == Some(&b'\n') {
                return None;
            }
            from = close + 1;
            continue;
        }
        if bytes[close - 1] == b'\\' && close > open {
            from = close + 1;
            continue;
        }
        if double {
            return (bytes.get(close + 1) == Some(&b'$')).then_some(close);
        }
        // `$5 and $7` is money, not mathematics.
        let content = &text[open..close];
        let money = content.starts_with(|c: char| c.is_ascii_digit())
            && content.ends_with([' ', '(', '-', '*'])
            && content.contains(|c: char| c.is_ascii_alphabetic());
        // `$134,000 - $90,000` too.
        let is_amount = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let sums = is_amount(content)
            && content.ends_with([' ', '('])
            && is_amount(&text[close + 1..])
            && !content.contains(['\\', '^', '_']);
        return (!money && !sums).then_some(close);
    }
}

/// The last span, together with the spans before it that are joined to it by `and`, `or` or commas.
fn last_span(text: &str) -> Option<String> {
    let spans = spans(text);
    let last = spans.last()?;
    let mut first = spans.len() - 1;
    while first > 0 && is_joint(&text[spans[first - 1].end..spans[first].start]) {
        first -= 1;
    }
    let mut answer = joined(text, &spans[first..]);
    let after = prefix(&text[last.end..], 16).trim_start();
    if first + 1 == spans.len() && starts_with_percent(after) {
        answer.push_str("\\%");
    }
    Some(answer)
}

/// The first span of a line, together with the spans joined to it, as one list.
pub(super) fn leading_spans(line: &str) -> Option<String> {
    let spans = spans(line);
    spans.first()?;
    let mut last = 0;
    while last + 1 < spans.len() && is_joint(&line[spans[last].end..spans[last + 1].start]) {
        last += 1;
    }
    let mut answer = joined(line, &spans[..=last]);
    if last == 0 && starts_with_percent(prefix(&line[spans[0].end..], 16).trim_start()) {
        answer.push_str("\\%");
    }
    Some(answer)
}

fn joined(text: &str, spans: &[Span]) -> String {
    let items: Vec<&str> = spans
        .iter()
        .map(|s| text[s.content.0..s.content.1].trim())
        .collect();
    items.join(", ")
}

fn is_joint(gap: &str) -> bool {
    let gap = gap.trim().trim_matches(',').trim();
    gap.is_empty() || matches!(gap, "and" | "or" | ";" | "," | ", and")
}

fn starts_with_percent(text: &str) -> bool {
    text.starts_with('%')
        || text.starts_with("\\%")
        || ["percent", "pct"].iter().any(|w| {
            text.get(..w.len())
                .is_some_and(|h| h.eq_ignore_ascii_case(w))
        })
}

/// The value at the very end of `line`: a span, a choice letter in brackets, or a number.
pub(super) fn trailing_value(line: &str) -> Option<String> {
    let line = line.trim_end().trim_end_matches('*');
    if let Some(span) = spans(line).last()
        && span.end == line.len()
    {
        return Some(line[span.content.0..span.content.1].to_string());
    }
    let word = line.rsplit(char::is_whitespace).next()?;
    // An expression is taken as a whole.
    if word.contains(['\\', '^', '+', '√']) || word.trim_start_matches('-').contains('-') {
        return Some(word.to_string());
    }
    word.contains(|c: char| c.is_ascii_digit() || c == '\\' || c == '(')
        .then(|| last_number(word).unwrap_or_else(|| word.to_string()))
        .or_else(|| (word.len() == 1).then(|| word.to_string()))
}

/// The last number, fraction or ratio in running text, with its sign, separators and percent sign.
pub(super) fn last_number(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    for _ in 0..16 {
        let last = bytes[..end].iter().rposition(u8::is_ascii_digit)? + 1;
        let mut start = last;
        while start > 0 {
            let b = bytes[start - 1];
            let inside = b.is_ascii_digit()
                || (matches!(b, b',' | b'.' | b'/' | b':')
                    && bytes.get(start).is_some_and(u8::is_ascii_digit)
                    && (start >= 2 && bytes[start - 2].is_ascii_digit() || b == b'.'));
            if !inside {
                break;
            }
            start -= 1;
        }
        let before = text[..start].chars().next_back();
        // The digits of `cm^2`, `x_1` and `H2` are not separate numbers.
        if before.is_some_and(|c| c == '^' || c == '_' || c.is_ascii_alphabetic()) && start > 0 {
            end = start;
            continue;
        }
        let head = text[..start].trim_end_matches(['$', '€', '£', ' ']);
        let signed = head.ends_with(['-', '−']) && {
            let before_sign = head.trim_end_matches(['-', '−']);
            let tight = head.len() == start || text[head.len()..start].trim().len() == 1;
            tight
                && !before_sign.ends_with(|c: char| c.is_alphanumeric() || c == ')')
                && !(before_sign
                    .trim_end()
                    .ends_with(|c: char| c.is_ascii_digit() || c == ')'))
        };
        let mut number = String::from(if signed { "-" } else { "" });
        let digits = &text[start..last];
        // `1, 2` and `3,5` are two numbers; only groups of three digits belong together.
        let groups_ok = digits.split('.').next().is_some_and(|whole| {
            whole
                .split(['/'])
                .all(|part| part.split(',').skip(1).all(|g| g.len() == 3))
        });
        number.push_str(if groups_ok {
            digits
        } else {
            digits.rsplit(',').next().unwrap_or(digits)
        });
        if starts_with_percent(text[last..].trim_start_matches([' ', '$'])) {
            number.push_str("\\%");
        }
        return Some(number);
    }
    None
}

/// Whether a text is a sentence rather than one expression: it has words that are not mathematical names,
/// and they are more than a unit at the end.
pub(super) fn reads_as_prose(text: &str) -> bool {
    let mut words = 0;
    let mut after_value = false;
    let mut trailing = false;
    let mut in_math = false;
    let mut separated = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '$' => {
                if trailing && !in_math {
                    return true;
                }
                in_math = !in_math;
                after_value = true;
            }
            '\\' => {
                let body = &rest[1..];
                let name = body.bytes().take_while(u8::is_ascii_alphabetic).count();
                let command = &body[..name];
                length += name.max(body.chars().next().map_or(0, char::len_utf8));
                match body.chars().next() {
                    Some('(' | '[') => in_math = true,
                    Some(')' | ']') => in_math = false,
                    _ => {}
                }
                if names::is_text_command(command) || names::is_font_command(command) {
                    // The parser looks at the words of `\text{}`.
                    let skip = rest[length..].find('}').map_or(0, |i| i + 1);
                    length += skip;
                }
                after_value = true;
                if trailing {
                    return true;
                }
            }
            _ if c.is_ascii_alphabetic() => {
                let run = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
                let word = &rest[..run];
                length = run;
                let known =
                    run == 1 || in_math || names::plain(word).is_some() || names::is_unit(word);
                if !known {
                    words += 1;
                    if !after_value && !trailing {
                        words += 1;
                    }
                    trailing = true;
                }
                after_value = false;
            }
            _ if c.is_ascii_digit() || matches!(c, ')' | ']' | '}' | '%') => {
                if trailing || separated {
                    return true;
                }
                after_value = true;
            }
            ',' => {
                separated |= trailing;
                after_value = false;
            }
            // What precedes an equals sign is a name.
            '=' if !in_math && !separated => {
                (words, trailing, after_value) = (0, false, false);
            }
            _ if c.is_whitespace() || matches!(c, '.' | '*') => {}
            _ => after_value = false,
        }
        rest = &rest[length..];
    }
    // Only words are an answer in words; words before a value, or many after it, make a sentence.
    let has_value = text.contains(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\'));
    has_value && words > 3
}
