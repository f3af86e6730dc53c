//! Words that give a value another meaning than the same value has without them.

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
const OPPOSITES: &[&[&str]] = &[
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
    &["north", "south", "east", "west"],
    &["northeast", "northwest", "southeast", "southwest"],
    &["boys", "girls"],
    &["men", "women"],
    &["wins", "loses", "losses"],
    &["win", "lose", "loss"],
    &["older", "younger"],
    &["N", "S"],
    &["E", "W"],
    &["left", "right"],
    &["more", "less", "fewer"],
    &["faster", "slower"],
    &["higher", "lower"],
    &["larger", "smaller"],
    &["earlier", "later"],
    &["inside", "outside"],
    &["ad", "bc"],
    &["ce", "bce"],
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

/// A word as it is among the words with opposites, capital or not unless it is a single letter.
pub(crate) fn with_opposite(word: &str) -> Option<&'static str> {
    let mut known = OPPOSITES.iter().copied().flatten();
    known
        .find(|known| **known == word || (word.len() > 1 && known.eq_ignore_ascii_case(word)))
        .copied()
}

/// Whether a word names a month.
pub(crate) fn is_month(word: &str) -> bool {
    MONTHS.contains(&word)
}

/// Whether one answer says a word whose opposite the other says, and not that word: `10 \text{ m north}` is not
/// `10 \text{ m south}`.
pub(crate) fn are_opposed(a: &[&str], b: &[&str]) -> bool {
    a.iter().filter(|word| !b.contains(word)).any(|word| {
        let groups = OPPOSITES.iter().filter(|group| group.contains(word));
        let mut others = groups.copied().flatten();
        others.any(|other| other != word && b.contains(other) && !a.contains(other))
    })
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

/// The words of a text, without what is between them.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}
