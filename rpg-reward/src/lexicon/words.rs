//! The words of prose, by what they do to the values beside them.

use std::collections::HashMap;
use std::ops::BitOr;
use std::sync::LazyLock;

/// The classes of a word; a word may belong to several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Class(u32);

impl Class {
    /// None.
    pub(crate) const NONE: Self = Self(0);
    /// Denies what follows it: `not 7`.
    pub(crate) const DENY: Self = Self(1);
    /// Prefers what stands before it to what follows: `8 rather than 7`.
    pub(crate) const PREFER: Self = Self(1 << 1);
    /// Says that a value is not right: `7 is wrong`.
    pub(crate) const WRONG: Self = Self(1 << 2);
    /// Takes something away from what is said: `all but 7`.
    pub(crate) const EXCEPT: Self = Self(1 << 3);
    /// Says that there is no value: `no solution`.
    pub(crate) const VOID: Self = Self(1 << 4);
    /// Offers another value: `6 or 7`.
    pub(crate) const OFFER: Self = Self(1 << 5);
    /// Joins values to a list: `6 and 7`.
    pub(crate) const AND: Self = Self(1 << 6);
    /// Makes another value of what follows it: `at least 7`, `half of 7`.
    pub(crate) const CHANGE: Self = Self(1 << 7);
    /// Computes with, or compares, the values on both sides: `6 times 7`, `6 out of 7`.
    pub(crate) const COMBINE: Self = Self(1 << 8);
    /// States what something is: `the sum is 7`.
    pub(crate) const BE: Self = Self(1 << 9);
    /// States a value as the object of a verb: `she has 7`.
    pub(crate) const STATE: Self = Self(1 << 10);
    /// Says nothing between a verb and its value: `is therefore 7`.
    pub(crate) const FILLER: Self = Self(1 << 11);
    /// Goes before the word "answer": `the final answer`.
    pub(crate) const DETERMINER: Self = Self(1 << 12);
    /// Begins a clause after a value: `7 because ..`.
    pub(crate) const CLAUSE: Self = Self(1 << 13);
    /// Begins a clause only after a comma or a bracket: `7, so ..`.
    pub(crate) const ASIDE: Self = Self(1 << 14);
    /// Begins a phrase after a value: `7 for every ..`.
    pub(crate) const PHRASE: Self = Self(1 << 21);
    /// Follows a value as a unit does: `7 per day`.
    pub(crate) const RATE: Self = Self(1 << 15);
    /// Judges an answer and does not state it: `the answer is unique`.
    pub(crate) const REMARK: Self = Self(1 << 16);
    /// Begins another thought: `7. Wait, ..`, `7, so 8`.
    pub(crate) const TURN: Self = Self(1 << 17);
    /// Introduces any value and says nothing about it: `the total is 7`.
    pub(crate) const INTRODUCE: Self = Self(1 << 23);
    /// Makes another value of what stands before it: `7 at most`.
    pub(crate) const LIMIT: Self = Self(1 << 24);
    /// Says whether something is so: `yes`.
    pub(crate) const VERDICT: Self = Self(1 << 25);
    /// Refers to what was said before: `that is wrong`.
    pub(crate) const PRONOUN: Self = Self(1 << 26);
    /// Is done with an answer that is found: `I do not know the answer`.
    pub(crate) const KNOW: Self = Self(1 << 27);
    /// May end with a period inside a sentence: `approx. 7`.
    pub(crate) const ABBREVIATION: Self = Self(1 << 18);
    /// The half of the day that a time belongs to.
    pub(crate) const HOUR: Self = Self(1 << 22);
    /// A percent sign in letters.
    pub(crate) const PERCENT: Self = Self(1 << 19);
    /// A word of a few letters, and not a product of variables.
    pub(crate) const SHORT: Self = Self(1 << 20);

    /// Those that make another value of what follows, or none.
    pub(crate) const ALTERS: Self = Self::DENY
        .or(Self::WRONG)
        .or(Self::EXCEPT)
        .or(Self::VOID)
        .or(Self::OFFER)
        .or(Self::CHANGE);

    /// The classes of both.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it shares a class with `other`.
    pub(crate) fn is(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Class {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

/// Words and phrases by class, separated by bars.
const TABLE: &[(Class, &str)] = &[
    (
        Class::DENY,
        "not|cannot|can't|isn't|aren't|wasn't|weren't|doesn't|don't|didn't|won't|n't|never|neither|nor|\
         none of|no longer",
    ),
    (Class::PREFER, "not|rather|instead|rather than|instead of"),
    (Class::WRONG, "wrong|incorrect|false"),
    (Class::EXCEPT, "but|except|excluding|other|different from"),
    (
        Class::VOID,
        "no solution|no solutions|impossible|does not work|cannot be determined|unknown",
    ),
    (Class::OFFER, "or|either|maybe|perhaps|possibly|或|和"),
    (Class::AND, "and"),
    (
        Class::CHANGE,
        "than|least|most|less|fewer|below|under|over|above|near|outside|half|half of|twice|thrice|double|triple|reciprocal|inverse|\
         opposite|minus|negative|neg|plus|times|root|between|up to|at least|at most|at the least|at the most|such as|one of|sum of|product of|\
         difference of|multiple of|factor of|square of|cube of|divisible by",
    ),
    (
        Class::COMBINE,
        "vs|versus|to|through|plus|minus|times|by|over|out|choose|than|more|less",
    ),
    (
        Class::BE,
        "is|are|was|were|be|equals|becomes|should be|would be|must be|will be|是|为",
    ),
    (
        Class::STATE,
        "has|have|gets|get|earns|makes|make|gives|pays|pay|costs|cost|takes|saves|needs",
    ),
    (
        Class::FILLER,
        "simply|just|therefore|thus|then|hence|now|indeed|equal to|given by|exactly|precisely|approximately|\
         approx|about|around|roughly|nearly|clearly|obviously|actually|also|likely|probably|as follows|\
         the following|the number|at",
    ),
    (
        Class::DETERMINER,
        "the|a|an|final|correct|our|my|required|desired|answer|answers",
    ),
    (Class::CLAUSE, "which|where|because|since|as|if|when|for|by"),
    (
        Class::ASIDE,
        "so|and so|with|see|while|whereas|though|although|obtained|found|computed|calculated|using|derived|namely|\
         achieved|attained|reached",
    ),
    (Class::PHRASE, "at"),
    (
        Class::RATE,
        "per|off|a day|an hour|a week|a month|a year|in total|in all",
    ),
    (
        Class::REMARK,
        "correct|unique|reasonable|consistent|verified|confirmed|rounded|expected|simplified|exact|right|\
         valid|in simplest form|in the form|in terms of|an integer|a whole number|a positive integer|\
         given in|wrong|incorrect",
    ),
    (
        Class::TURN,
        "no|wait|actually|but|so|thus|therefore|hence|then|sorry|correction|is",
    ),
    (
        Class::INTRODUCE,
        "of|in|to|on|it|so|we|by|for|get|have|has|there|option|choice|total|result|value|number|equal|amount|\
         area|volume|length|sum|cost|price|all",
    ),
    (
        Class::LIMIT,
        "least|most|at least|at most|at the least|at the most|below|negative|squared|cubed|factorial|th power",
    ),
    (Class::ABBREVIATION, "approx|sq|ft|in|vs|no|rs"),
    (Class::KNOW, "know|find|determine|have|give|see|get|compute"),
    (Class::VERDICT, "yes|no|true|false|maybe|perhaps"),
    (Class::PRONOUN, "this|that|it|which|that's|it's"),
    (Class::HOUR, "am|pm"),
    (Class::PERCENT, "percent|pct|percents|percentage"),
    (
        Class::SHORT,
        "yes|no|odd|all|one|two|six|ten|sun|mon|tue|wed|thu|fri|sat|dne|not|both|red|it|is|the|of|if",
    ),
];

/// The phrases that begin with a word: the rest of each, in order, longest first, and its classes. A word
/// alone has an empty rest.
type Entry = Vec<(Vec<&'static str>, Class)>;

static LEXICON: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let mut lexicon: HashMap<&'static str, Entry> = HashMap::new();
    for (class, phrases) in TABLE {
        for phrase in phrases.split('|') {
            let mut words = phrase.split(' ');
            let first = words.next().unwrap_or_default();
            let rest: Vec<&str> = words.collect();
            let entry = lexicon.entry(first).or_default();
            match entry.iter_mut().find(|(other, _)| *other == rest) {
                Some((_, classes)) => *classes = *classes | *class,
                None => entry.push((rest, *class)),
            }
        }
    }
    for entry in lexicon.values_mut() {
        entry.sort_by_key(|(rest, _)| std::cmp::Reverse(rest.len()));
    }
    lexicon
});

/// The longest entry that begins with `word`, in lower case, and goes on with the words that `next` gives:
/// its classes and the number of further words. `None` if the word is unknown.
pub(crate) fn entry<'a>(
    word: &str,
    next: impl Iterator<Item = &'a str> + Clone,
) -> Option<(Class, usize)> {
    LEXICON.get(word)?.iter().find_map(|(rest, class)| {
        let goes_on = rest.len() == next.clone().zip(rest).take_while(|(a, b)| a == *b).count();
        goes_on.then_some((*class, rest.len()))
    })
}

/// The classes of all words and phrases in a text.
pub(crate) fn said(text: &str) -> Class {
    classes(text, Class::NONE)
}

/// Whether words before a value make another value of it, or deny it. What precedes a verb does not: `the
/// sum of 3 and 4 is 7`.
pub(crate) fn alters(text: &str) -> bool {
    classes(text, Class::BE).is(Class::ALTERS)
}

/// Whether words after a value offer another one or deny it.
pub(crate) fn offers_more(text: &str) -> bool {
    let more = Class::DENY | Class::WRONG | Class::EXCEPT | Class::OFFER | Class::AND;
    let mut words = text.split(|c: char| !c.is_alphanumeric());
    words.any(|word| word.starts_with(|c: char| c.is_ascii_digit())) || said(text).is(more)
}

/// The classes of the words and phrases after the last one of class `last`.
fn classes(text: &str, last: Class) -> Class {
    let lower = text.to_lowercase().replace('’', "'");
    let mut words = lower
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty());
    let mut classes = Class::NONE;
    while let Some(word) = words.next() {
        if let Some((class, further)) = entry(word, words.clone()) {
            classes = if class.is(last) {
                Class::NONE
            } else {
                classes | class
            };
            for _ in 0..further {
                words.next();
            }
        }
    }
    classes
}
