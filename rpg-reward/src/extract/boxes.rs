//! The last `\boxed{}`, or the last few that form one list.

use super::prose::{Kind, Prose};
use super::spans::percent_follows;
use super::statement::denies_before;
use super::{prefix, suffix};
use crate::lexicon::Class;
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

/// The longest judgement of a box that is read.
const MAX_VERDICT: usize = 60;

/// The content of the last box, or of the boxes that form one list with it, joined by commas.
pub(super) fn last_boxes(text: &str) -> Option<String> {
    let mut boxes = outermost(text)?;
    // `\boxed{8}, not \boxed{7}`
    while let [.., before, rejected] = boxes.as_slice()
        && rejects_second(&text[before.end..rejected.start])
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
    let kept = starts.len().saturating_sub(MAX_STARTS);
    starts.drain(..kept);
    starts.retain(|(start, _)| !is_commented(&text[..*start]));
    if starts.is_empty() {
        return None;
    }
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

/// Whether a line begins with the sign of a comment in LaTeX.
fn is_commented(before: &str) -> bool {
    let line = suffix(before, MAX_GAP);
    let line = line.rsplit('\n').next().unwrap_or(line);
    line.len() < MAX_GAP && line.trim_start().starts_with('%')
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
    if gap.len() > MAX_GAP || gap.contains("\n\n") {
        return false;
    }
    let prose = Prose::read(gap);
    // `y`, `x_2`
    let names_value = |index: usize| {
        prose.tokens[index].is_letter() || prose.slice(index..index + 1).starts_with('_')
    };
    let separates = |index: usize| match prose.tokens[index].kind {
        Kind::Word(class) => class.is(Class::TURN | Class::PREFER),
        // `y =` names the next value.
        Kind::Mark('=') => index == 0 || !names_value(index - 1),
        Kind::Mark(mark) => ".!?:+-*/<>".contains(mark),
        Kind::Number => true,
        Kind::Math(..) | Kind::Formula | Kind::Break => false,
    };
    let is_said = |index: &usize| match prose.tokens[*index].kind {
        Kind::Word(class) => !class.is(Class::AND | Class::OFFER),
        _ => false,
    };
    let count = prose.tokens.len();
    !(0..count).any(separates) && (0..count).filter(is_said).count() <= MAX_GAP_WORDS
}

/// Whether the text between two boxes rejects the second one: `\boxed{8}, not \boxed{7}`.
fn rejects_second(gap: &str) -> bool {
    let prose = Prose::read(gap);
    let is_word = |index: &usize| matches!(prose.tokens[*index].kind, Kind::Word(_));
    let last = (0..prose.tokens.len()).rev().find(is_word);
    gap.len() <= MAX_GAP && last.is_some_and(|last| prose.class(last).is(Class::PREFER))
}

/// Whether the text after a box says that its content is not the answer.
fn is_retracted(after: &str) -> bool {
    let after = prefix(after, MAX_VERDICT);
    let words = after.trim_start_matches(|c: char| !c.is_alphabetic());
    let is_new_line = after[..after.len() - words.len()].contains('\n');
    let prose = Prose::read(words);
    judges_wrong(&prose) || (!is_new_line && denies_before(&prose, 0..prose.tokens.len()))
}

/// Whether the first words are a judgement and nothing else: `not correct`, `No, that is wrong.`
fn judges_wrong(prose: &Prose) -> bool {
    let words: Vec<Class> = (0..prose.tokens.len())
        .take_while(|&index| !prose.is_mark(index, &['.', ':']))
        .filter(|&index| matches!(prose.tokens[index].kind, Kind::Word(_)))
        .map(|index| prose.class(index))
        .collect();
    let Some((judgement, before)) = words.split_last() else {
        return false;
    };
    let says_nothing = Class::TURN | Class::PRONOUN | Class::BE | Class::FILLER | Class::DETERMINER;
    let denied = before.iter().any(|class| class.is(Class::DENY));
    let leads = before
        .iter()
        .all(|class| class.is(says_nothing | Class::DENY));
    let is_judged = match denied {
        _ if judgement.is(Class::WRONG) => !denied,
        denied => denied && judgement.is(Class::REMARK),
    };
    leads && is_judged
}
