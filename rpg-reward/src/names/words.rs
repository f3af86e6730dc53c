//! Words that change or negate the value next to them.

/// Words that multiply the number before them, with the base and the exponent of their factor.
const MULTIPLIERS: [(&str, &str, &str); 6] = [
    ("dozen", "12", "1"),
    ("hundred", "10", "2"),
    ("thousand", "10", "3"),
    ("million", "10", "6"),
    ("billion", "10", "9"),
    ("trillion", "10", "12"),
];

/// The base and the exponent of the factor that a word after a number means: 10 and 6 for `million`.
pub(crate) fn multiplier(word: &str) -> Option<(&'static str, &'static str)> {
    let found = MULTIPLIERS.iter().find(|(name, ..)| *name == word)?;
    Some((found.1, found.2))
}

/// The text without the [`multiplier`] after its number, if it has one.
pub(crate) fn without_multiplier(text: &str) -> Option<String> {
    let is_gap = |c: char| matches!(c, ' ' | '~' | ',' | '\\' | '{');
    MULTIPLIERS.iter().find_map(|(name, ..)| {
        let (before, after) = text.split_once(name)?;
        let lead = before.trim_end_matches(is_gap);
        let lead = lead
            .strip_suffix("text")
            .unwrap_or(lead)
            .trim_end_matches(is_gap);
        let after_number = lead.ends_with(|c: char| c.is_ascii_digit());
        after_number.then(|| format!("{before} {after}"))
    })
}

/// Whether a word before a number names a currency.
pub(crate) fn is_currency_word(word: &str) -> bool {
    matches!(
        word,
        "USD"
            | "EUR"
            | "GBP"
            | "INR"
            | "CNY"
            | "RMB"
            | "JPY"
            | "CAD"
            | "AUD"
            | "HKD"
            | "Rs"
            | "US"
            | "HK"
    )
}

/// The months; a word of them before or after a number makes it a date.
const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Words of which an answer means one and not another.
const OPPOSITES: [&[&str]; 25] = [
    &["increasing", "decreasing"],
    &["increases", "decreases"],
    &["increase", "decrease"],
    &["maximum", "minimum"],
    &["max", "min"],
    &["converges", "diverges"],
    &["convergent", "divergent"],
    &["concave", "convex"],
    &["even", "odd"],
    &["up", "down"],
    &["upward", "downward"],
    &["above", "below"],
    &["before", "after"],
    &["am", "pm"],
    &["profit", "loss"],
    &["gain", "loss"],
    &["north", "south"],
    &["east", "west"],
    &["wins", "loses"],
    &["row", "column"],
    &["clockwise", "counterclockwise", "anticlockwise"],
    &["positive", "negative"],
    &["heads", "tails"],
    MONTHS,
    &[
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ],
];

/// Whether one text has a word whose opposite the other has: `increasing on (0, 1)` is not
/// `decreasing on (0, 1)`.
pub(crate) fn are_opposed(a: &str, b: &str) -> bool {
    let plain = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.replace("a.m", "am").replace("p.m", "pm")
    };
    let (a, b) = (plain(a), plain(b));
    let has = |text: &str, word: &str| words(text).any(|w| w == word);
    words(&a).any(|word| {
        OPPOSITES
            .iter()
            .filter(|group| group.contains(&word))
            .any(|group| {
                !has(&b, word)
                    && group
                        .iter()
                        .any(|other| *other != word && has(&b, other) && !has(&a, other))
            })
    })
}

/// Whether both texts have words before their first number, each some that the other lacks:
/// `\text{Alice wins by } 5` is not `\text{Bob wins by } 5`.
pub(crate) fn are_introduced_apart(a: &str, b: &str) -> bool {
    let (a, b) = (lead_words(a), lead_words(b));
    a.iter().any(|word| !b.contains(word)) && b.iter().any(|word| !a.contains(word))
}

/// The words with a meaning before the first number of a text, in lower case; none if there is mathematics
/// among them.
fn lead_words(text: &str) -> Vec<String> {
    let Some(end) = text.find(|c: char| c.is_ascii_digit()) else {
        return Vec::new();
    };
    let lead = &text[..end];
    let is_mathematics = lead.contains("\\begin");
    if is_mathematics
        || lead.len() > 200
        || lead.contains(['=', '<', '>', ':', '(', '^', '_', '+', '≈'])
    {
        return Vec::new();
    }
    let mut said = Vec::new();
    let mut rest = lead;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '\\') {
        let command = rest[start..].starts_with('\\');
        let body = &rest[start + usize::from(command)..];
        let length = body
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(body.len());
        let word = &body[..length];
        if !command && length > 1 && !super::is_unit(word) && !is_currency_word(word) {
            let word = word.to_lowercase();
            if !is_filler(&word) {
                said.push(word);
            }
        }
        rest = body.get(length.max(1)..).unwrap_or("");
    }
    said
}

/// Words that introduce any value.
fn is_filler(word: &str) -> bool {
    matches!(
        word,
        "the"
            | "an"
            | "is"
            | "are"
            | "be"
            | "was"
            | "were"
            | "of"
            | "in"
            | "to"
            | "at"
            | "on"
            | "it"
            | "so"
            | "we"
            | "by"
            | "for"
            | "and"
            | "get"
            | "have"
            | "has"
            | "there"
            | "thus"
            | "therefore"
            | "hence"
            | "approximately"
            | "about"
            | "exactly"
            | "answer"
            | "final"
            | "total"
            | "result"
            | "value"
            | "number"
            | "equals"
            | "equal"
            | "amount"
            | "area"
            | "volume"
            | "length"
            | "sum"
            | "cost"
            | "price"
            | "all"
    )
}

/// Whether a text is a date: `March 14`, `14 March 2020`.
pub(crate) fn is_date(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut months = 0;
    let mut numbers = 0;
    for word in words(&lower) {
        if MONTHS.contains(&word) {
            months += 1;
        } else if word.bytes().all(|b| b.is_ascii_digit()) {
            numbers += 1;
        } else {
            return false;
        }
    }
    months == 1 && matches!(numbers, 1 | 2)
}

/// Whether the argument of `\mathrm` is a product of units: `kg \cdot m/s^2`.
pub(crate) fn is_compound_unit(inner: &str) -> bool {
    const SYMBOLS: [&str; 14] = [
        "m", "s", "g", "h", "N", "J", "W", "V", "K", "L", "A", "C", "F", "T",
    ];
    let plain = inner.replace("\\cdot", " ").replace("\\mu", " micro ");
    let separates = |c: char| c.is_ascii_digit() || " \\,;!~/*.^{}()-·²³".contains(c);
    let mut parts = plain.split(separates).filter(|part| !part.is_empty());
    let is_unit = |part: &str| part == "micro" || SYMBOLS.contains(&part) || super::is_unit(part);
    plain.contains(separates) && parts.all(is_unit)
}

fn words(lower: &str) -> impl Iterator<Item = &str> {
    lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}
