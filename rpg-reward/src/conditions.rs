//! Conditions that an answer states beside its value: `x = k\\pi, k\\in\\mathbb{Z}`, `2^n \\text{ for } n \\ge 2`.

/// The longest answer that is searched.
const MAX_LENGTH: usize = 400;

/// The commands that set a condition off.
const SPACES: [&str; 5] = ["\\qquad", "\\quad", "\\,", "\\;", "\\ "];

/// The words that introduce a condition.
const WORDS: [&str; 12] = [
    "for all integers",
    "for integers",
    "for integer",
    "for every",
    "for each",
    "for some",
    "for all",
    "for any",
    "where",
    "with",
    "for",
    "given",
];

/// The value and the condition, if the text has both.
pub(crate) fn split_condition(text: &str) -> Option<(&str, &str)> {
    if text.len() > MAX_LENGTH || !is_relation(text) {
        return None;
    }
    let (value, condition) = after_words(text)
        .or_else(|| in_brackets(text))
        .or_else(|| after_comma(text))?;
    let value = trim(value);
    let condition = trim(condition);
    (!value.is_empty() && is_relation(condition)).then_some((value, condition))
}

/// Whether a text describes a range of numbers.
pub(crate) fn names_range(text: &str) -> bool {
    let is_range = |command: &str| {
        let relation = ["le", "ge", "lt", "gt", "ne"]
            .iter()
            .any(|r| command.starts_with(r));
        relation && !command.starts_with("left") && !command.starts_with("neg")
    };
    text.contains(['<', '>', '≤', '≥', '≠']) || text.split('\\').skip(1).any(is_range)
}

fn is_relation(text: &str) -> bool {
    names_range(text) || text.contains('∈') || text.contains("\\in ") || text.contains("\\in\\")
}

fn trim(text: &str) -> &str {
    let is_mark = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '.' | '~');
    let mut text = text;
    loop {
        let trimmed = text.trim_matches(is_mark).trim_end_matches('\\');
        let trimmed = SPACES.iter().fold(trimmed, |text, space| {
            let text = text.strip_prefix(space).unwrap_or(text);
            text.strip_suffix(space).unwrap_or(text)
        });
        if trimmed == text {
            return text;
        }
        text = trimmed;
    }
}

/// `\\text{ for } n \\ge 2`, ` where n > 2`.
fn after_words(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("\\text{").map(|i| from + i) {
        let body = &text[at + 6..];
        let close = body.find('}')?;
        let words = body[..close].trim_matches([' ', ',', '~']);
        if WORDS.contains(&words) {
            return Some((&text[..at], &body[close + 1..]));
        }
        from = at + 6 + close;
    }
    WORDS.iter().find_map(|words| {
        let at = text.find(&format!(" {words} "))?;
        Some((&text[..at], &text[at + words.len() + 2..]))
    })
}

/// `(k \\in \\mathbb{Z})` at the end.
fn in_brackets(text: &str) -> Option<(&str, &str)> {
    let body = text.trim_end().strip_suffix(')')?;
    let open = body.rfind('(')?;
    let before = text[..open].trim_end_matches("\\left");
    if !before.ends_with([' ', ',', '\\', '~']) && !before.ends_with("quad") {
        return None;
    }
    let value = trim(before);
    let condition = body[open + 1..].trim_end_matches("\\right");
    names_variable(condition).then_some((value, condition))
}

/// `, k \\in \\mathbb{Z}` at the end.
fn after_comma(text: &str) -> Option<(&str, &str)> {
    let at = text.rfind(',')?;
    let (value, condition) = (&text[..at], trim(&text[at + 1..]));
    let balanced =
        |part: &str| part.matches(['(', '[', '{']).count() == part.matches([')', ']', '}']).count();
    (names_variable(condition) && balanced(value)).then_some((value, condition))
}

/// Whether a condition begins with a variable and a relation.
fn names_variable(condition: &str) -> bool {
    let mut chars = condition.trim_start().chars();
    chars.next().is_some_and(char::is_alphabetic) && {
        let rest = chars.as_str().trim_start();
        rest.starts_with(['<', '>', '∈', '≥', '≤', '≠'])
            || ["\\in", "\\ge", "\\le", "\\ne", "\\gt", "\\lt"]
                .iter()
                .any(|sign| rest.starts_with(sign))
    }
}

#[cfg(test)]
mod tests {
    use super::split_condition;

    #[test]
    fn a_condition_is_what_follows_its_words_or_a_comma() {
        let rows = [
            ("n^2 \\text{ where } n \\ge 2", Some(("n^2", "n \\ge 2"))),
            (
                "k\\pi, k\\in\\mathbb{Z}",
                Some(("k\\pi", "k\\in\\mathbb{Z}")),
            ),
            (
                "k\\pi \\ (k\\in\\mathbb{Z})",
                Some(("k\\pi", "k\\in\\mathbb{Z}")),
            ),
            ("2^n for n > 1", Some(("2^n", "n > 1"))),
            ("\\text{for } n > 1", None),
            ("f(x < 3)", None),
            ("(1, x > 2)", None),
            ("5", None),
        ];
        for (text, expected) in rows {
            assert_eq!(split_condition(text), expected, "{text}");
        }
    }
}
