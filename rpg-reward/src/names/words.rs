//! Words that change or negate the value next to them.

/// Whether words before a value change it: `at least 5`, `not 5`, `twice 5`.
pub(crate) fn changes_value(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let phrases = [
        "one of",
        "sum of",
        "product of",
        "difference of",
        "multiple of",
        "factor of",
        "square of",
        "cube of",
        "divisible by",
        "different from",
        "no longer",
        "such as",
        "up to",
        "between",
    ];
    phrases.iter().any(|phrase| lower.contains(phrase))
        || words(&lower).any(|word| {
            negates(word)
                || offers_another(word)
                || matches!(
                    word,
                    "than"
                        | "least"
                        | "most"
                        | "less"
                        | "fewer"
                        | "below"
                        | "outside"
                        | "half"
                        | "twice"
                        | "thrice"
                        | "double"
                        | "triple"
                        | "reciprocal"
                        | "inverse"
                        | "opposite"
                        | "minus"
                        | "negative"
                        | "neg"
                        | "plus"
                        | "times"
                        | "root"
                )
        })
}

/// Whether words after a value offer another one or negate it.
pub(crate) fn offers_more(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    words(&lower).any(|word| {
        word.starts_with(|c: char| c.is_ascii_digit())
            || word == "and"
            || negates(word)
            || offers_another(word)
    })
}

/// Whether the words between two numbers leave open which of them is meant, or compute with both.
pub(crate) fn joins_numbers(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    words(&lower).any(|word| {
        offers_another(word)
            || matches!(
                word,
                "and"
                    | "vs"
                    | "versus"
                    | "to"
                    | "through"
                    | "plus"
                    | "minus"
                    | "times"
                    | "by"
                    | "over"
                    | "out"
                    | "choose"
                    | "than"
                    | "more"
                    | "less"
            )
    })
}

/// Whether the words between two numbers reject the second: `8, not 7`, `8 rather than 7`.
pub(crate) fn rejects_next(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    words(&lower).any(|word| matches!(word, "not" | "rather" | "instead"))
}

fn words(lower: &str) -> impl Iterator<Item = &str> {
    lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

fn negates(word: &str) -> bool {
    matches!(
        word,
        "not"
            | "cannot"
            | "isn"
            | "aren"
            | "wasn"
            | "doesn"
            | "never"
            | "neither"
            | "nor"
            | "wrong"
            | "incorrect"
            | "false"
            | "but"
            | "except"
            | "excluding"
            | "other"
    )
}

fn offers_another(word: &str) -> bool {
    matches!(word, "or" | "either" | "maybe" | "perhaps" | "或" | "和")
}
