//! Control tokens in what people write: in a conversation, only those that the chat template writes are tokens.

#[cfg(feature = "chat")]
use std::borrow::Cow;

/// Around a control token in a message: code points that no text contains.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// A message with marks around the control tokens; of several in one place, the longest.
#[cfg(feature = "chat")]
pub(crate) fn mark<'a>(content: &'a str, control: &[String]) -> Cow<'a, str> {
    if first(content, control).is_none() && !content.contains([OPEN, CLOSE]) {
        return content.into();
    }
    // Marks that are there already could forge others.
    let content = content.replace([OPEN, CLOSE], "");
    let mut marked = String::with_capacity(content.len() + 8);
    let mut rest = content.as_str();
    // One pass, however many there are.
    while let Some(next) = rest.chars().next() {
        let here = control
            .iter()
            .filter(|token| rest.starts_with(token.as_str()));
        let n = match here.max_by_key(|token| token.len()) {
            Some(token) => {
                marked.extend([OPEN]);
                marked.push_str(token);
                marked.extend([CLOSE]);
                token.len()
            }
            None => {
                marked.extend([next]);
                next.len_utf8()
            }
        };
        rest = &rest[n..];
    }
    marked.into()
}

/// The first control token of a text and where it is; of several there, the longest.
pub(crate) fn first<'a>(text: &str, control: &'a [String]) -> Option<(usize, &'a str)> {
    control
        .iter()
        .filter_map(|token| Some((text.find(token.as_str())?, token.as_str())))
        .min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.len())))
}

/// A text without the marks.
pub(crate) fn unmarked(text: String) -> String {
    if text.contains([OPEN, CLOSE]) {
        text.replace([OPEN, CLOSE], "")
    } else {
        text
    }
}

/// The parts of a text between marks, and whether each is a control token that is meant as text. A template may tear
/// marks apart; a lone one still separates.
pub(crate) fn pieces(text: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut is_marked = false;
    while let Some(at) = rest.find([OPEN, CLOSE]) {
        let is_closed = rest[at..].starts_with(CLOSE);
        pieces.push((&rest[..at], is_marked && is_closed));
        is_marked = !is_closed;
        rest = &rest[at + OPEN.len_utf8()..];
    }
    pieces.push((rest, false));
    pieces
}

#[cfg(all(test, feature = "chat"))]
mod tests {
    use super::*;

    #[test]
    fn marks_separate_control_tokens_from_the_text() {
        let control = ["<|im_end|>", "<|im|>", "<s>"].map(String::from);
        for (content, expected) in [
            ("plain", &[("plain", false)][..]),
            ("a<s>b", &[("a", false), ("<s>", true), ("b", false)]),
            (
                "<s><|im_end|>",
                &[
                    ("", false),
                    ("<s>", true),
                    ("", false),
                    ("<|im_end|>", true),
                    ("", false),
                ],
            ),
            // What is there already is no mark.
            (
                "\u{FDD0}<s>\u{FDD1}x",
                &[("", false), ("<s>", true), ("x", false)],
            ),
            (
                "<|im_\u{FDD0}end|><s>",
                &[
                    ("", false),
                    ("<|im_end|>", true),
                    ("", false),
                    ("<s>", true),
                    ("", false),
                ],
            ),
        ] {
            let marked = mark(content, &control);
            assert_eq!(pieces(&marked), expected, "{content}");
        }
        assert_eq!(pieces("a\u{FDD0}<s>"), [("a", false), ("<s>", false)]);
        assert_eq!(unmarked("a\u{FDD0}<s>\u{FDD1}".into()), "a<s>");
    }
}
