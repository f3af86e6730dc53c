//! The last `\boxed{}`, or the last few that form one list.

use super::prefix;
use memchr::memmem;

/// A box: the start of its command, the range of its content, and its end.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    content: (usize, usize),
    end: usize,
}

/// The longest text between two boxes of one list.
const MAX_GAP: usize = 48;
/// The maximum number of words between two boxes of one list.
const MAX_GAP_WORDS: usize = 3;
/// The maximum number of boxes that are considered, from the end.
const MAX_STARTS: usize = 4_096;
/// The maximum number of boxes of one list.
const MAX_BOXES: usize = 256;

/// The content of the last box, or of the boxes that form one list with it, joined by commas.
pub(super) fn last_boxes(text: &str) -> Option<String> {
    let mut boxes = outermost(text)?;
    // `\boxed{8}, not \boxed{7}`
    while let [.., before, rejected] = boxes.as_slice()
        && ends_with_denial(&text[before.end..rejected.start])
    {
        boxes.pop();
    }
    let last = *boxes.last()?;
    let content = text[last.content.0..last.content.1].trim();
    if content.is_empty() || is_retracted(&text[last.end..]) {
        return Some(String::new());
    }
    let mut first = boxes.len() - 1;
    while first > 0
        && boxes.len() - first < MAX_BOXES
        && joins(&text[boxes[first - 1].end..boxes[first].start])
    {
        first -= 1;
    }
    let mut items: Vec<&str> = Vec::new();
    for span in &boxes[first..] {
        let item = text[span.content.0..span.content.1].trim();
        if !items.contains(&item) || items.len() > 16 {
            items.push(item);
        }
    }
    if items.iter().any(|item| item.is_empty()) && items.len() > 1 {
        items.retain(|item| !item.is_empty());
    }
    let mut answer = items.join(", ");
    if items.len() == 1 && percent_follows(&text[last.end..]) && !answer.contains('%') {
        answer.push_str("\\%");
    }
    Some(answer)
}

/// All boxes that are not inside another one, in order. `None` if there is none; a last box that is never
/// closed counts as empty.
fn outermost(text: &str) -> Option<Vec<Span>> {
    let bytes = text.as_bytes();
    let mut starts: Vec<(usize, usize)> = Vec::new();
    for command in ["\\boxed", "\\fbox", "\\framebox"] {
        for pos in memmem::find_iter(bytes, command.as_bytes()) {
            let after = pos + command.len();
            let rest = text[after..].trim_start_matches([' ', '\n', '\t']);
            if rest.starts_with('{') {
                starts.push((pos, text.len() - rest.len()));
            } else if let Some(token) = unbraced(&text[after..]) {
                starts.push((pos, usize::MAX - token));
            }
        }
    }
    if starts.is_empty() {
        return None;
    }
    starts.sort_unstable();
    // Only the last boxes matter; a box that contains thousands of others may be missed.
    let starts = &starts[starts.len().saturating_sub(MAX_STARTS)..];
    let openings: Vec<usize> = starts.iter().map(|(_, open)| *open).collect();
    let closers = matching_braces(bytes, starts[0].0, &openings);
    let mut boxes: Vec<Span> = Vec::new();
    for (&(start, open), close) in starts.iter().zip(closers) {
        if boxes.last().is_some_and(|outer| start < outer.end) {
            continue;
        }
        boxes.push(if open > text.len() {
            let length = text.len() - (usize::MAX - open);
            let content = text[start..].find(' ').map_or(length, |i| start + i);
            Span {
                start,
                content: (content, length),
                end: length,
            }
        } else if let Some(close) = close {
            Span {
                start,
                content: (open + 1, close),
                end: close + 1,
            }
        } else {
            Span {
                start,
                content: (text.len(), text.len()),
                end: text.len(),
            }
        });
    }
    Some(boxes)
}

/// `\boxed 5`: the number of bytes after the number that follows.
fn unbraced(after: &str) -> Option<usize> {
    let body = after.strip_prefix(' ')?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | ',')));
    let length = end.unwrap_or(body.len());
    let token = body[..length].trim_end_matches(['.', ',']);
    token
        .bytes()
        .any(|b| b.is_ascii_digit())
        .then(|| after.len() - 1 - token.len())
}

/// Where the braces at the sorted `openings` are closed; escaped braces do not count.
fn matching_braces(bytes: &[u8], from: usize, openings: &[usize]) -> Vec<Option<usize>> {
    let mut closers = vec![None; openings.len()];
    // The open braces: those of boxes by their index, all others as `u32::MAX`.
    let mut open: Vec<u32> = Vec::new();
    let mut next = openings.partition_point(|o| *o < from);
    let mut pos = from;
    while pos < bytes.len() {
        match bytes[pos] {
            b'\\' => pos += 1,
            b'{' => {
                while next < openings.len() && openings[next] < pos {
                    next += 1;
                }
                let is_box = next < openings.len() && openings[next] == pos;
                open.push(if is_box { next as u32 } else { u32::MAX });
            }
            b'}' => {
                if let Some(closer) = open.pop().and_then(|index| closers.get_mut(index as usize)) {
                    *closer = Some(pos);
                }
            }
            _ => {}
        }
        pos += 1;
    }
    closers
}

/// Whether the text between two boxes makes them one list.
fn joins(gap: &str) -> bool {
    if gap.len() > MAX_GAP {
        return false;
    }
    let mut words = 0;
    let mut last_word = 0;
    let mut rest = gap;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            let body = &rest[1..];
            let name = body.len()
                - body
                    .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                    .len();
            rest = if name > 0 {
                &body[name..]
            } else {
                body.get(1..).unwrap_or("")
            };
        } else if c.is_alphabetic() {
            let end = rest
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(rest.len());
            let word = rest[..end].to_lowercase();
            let separates = matches!(
                word.as_str(),
                "not"
                    | "no"
                    | "wait"
                    | "actually"
                    | "but"
                    | "so"
                    | "thus"
                    | "therefore"
                    | "hence"
                    | "then"
                    | "rather"
                    | "instead"
                    | "sorry"
                    | "correction"
                    | "is"
            );
            if separates {
                return false;
            }
            words += usize::from(!matches!(word.as_str(), "and" | "or"));
            last_word = word.len();
            rest = &rest[end..];
        } else if c == '=' && last_word == 1 {
            // `y =` names the next value.
            rest = &rest[1..];
        } else if matches!(
            c,
            '.' | '!' | '?' | ':' | '=' | '+' | '-' | '*' | '/' | '<' | '>'
        ) || c.is_ascii_digit()
        {
            return false;
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    words <= MAX_GAP_WORDS && !gap.contains("\n\n")
}

/// Whether the text between two boxes rejects the second one.
fn ends_with_denial(gap: &str) -> bool {
    let gap = gap.trim_end_matches(|c: char| !c.is_alphabetic());
    gap.len() <= MAX_GAP
        && ["not", "rather than", "instead of"].iter().any(|words| {
            gap.strip_suffix(words)
                .is_some_and(|rest| rest.ends_with([' ', ',', '(']))
        })
}

/// Whether the text after a box says that its content is not the answer.
fn is_retracted(after: &str) -> bool {
    let rest = prefix(after, 40).trim_start_matches(|c: char| !c.is_alphabetic() && c != '\n');
    let rest = rest.to_lowercase();
    [
        "is not",
        "is wrong",
        "is incorrect",
        "is false",
        "isn't",
        "is the wrong",
        "cannot be",
    ]
    .iter()
    .any(|words| rest.starts_with(words))
}

/// Whether a percent sign or the word "percent" directly follows the box.
fn percent_follows(after: &str) -> bool {
    let rest = prefix(after, 24).trim_start_matches([' ', '$', '*', '\\', ')', ']']);
    rest.starts_with('%')
        || ["percent", "pct"].iter().any(|w| {
            rest.get(..w.len())
                .is_some_and(|r| r.eq_ignore_ascii_case(w))
        })
}
