//! What must hold for every text: the bodies of the fuzz targets, which the tests also run over the corpus.

// Each fuzz target uses one of them.
#![allow(dead_code)]

use rpg_reward::{GradeOptions, Reason, grade};

/// Any completion against any gold answer; the first line is the gold answer.
pub(crate) fn completion(text: &str) {
    let (gold, completion) = text.split_once('\n').unwrap_or((text, text));
    let verdict = grade(completion, gold, &GradeOptions::default());
    assert_eq!(verdict.correct, verdict.reason == Reason::Correct);
    // A right answer was found somewhere, and nothing equals a blank gold answer.
    if verdict.correct {
        assert!(verdict.extracted.is_some() && !gold.trim().is_empty());
    }
}

/// The parser and the comparison: a text in a box against itself, against the next number, and, if it has
/// two lines, against the first line as the gold answer.
pub(crate) fn answer(text: &str) {
    let options = GradeOptions::default();
    let (gold, answer) = text.split_once('\n').unwrap_or((text, text));
    let boxed = format!("\\boxed{{{answer}}}");
    let _ = grade(&boxed, gold, &options);
    let same = grade(&boxed, answer, &options);
    if is_plain(answer) {
        assert_ne!(
            same.reason,
            Reason::Wrong,
            "{answer} is not equal to itself"
        );
    }
    let next = grade(&boxed, &format!("({answer})+1"), &options);
    // A text of digits, operators and pairs of round brackets has one finite value or none.
    if is_arithmetic(answer) && same.correct {
        assert!(!next.correct, "{answer} is called equal to the next number");
    }
}

/// Whether a text is a complete answer without relations: no brace in it ends the box, and there is no
/// other box or marker in it. A relation is excluded because one without solutions equals nothing.
fn is_plain(text: &str) -> bool {
    let mut depth = 0;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            // An escaped brace neither opens nor closes.
            b'\\' => _ = bytes.next(),
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' => return false,
            _ => {}
        }
    }
    let is_relation = |character: char| "=＝<＜>＞≤⩽≦≥⩾≧≠≈≃≅≡∈∉⊂⊆→".contains(character);
    depth == 0
        && !text.contains("box")
        && !text.contains("think")
        && !text.contains(is_relation)
        && !commands(text).any(|name| RELATIONS.contains(&name))
}

const RELATIONS: [&str; 27] = [
    "leq",
    "le",
    "leqslant",
    "leqq",
    "geq",
    "ge",
    "geqslant",
    "geqq",
    "lt",
    "gt",
    "neq",
    "ne",
    "approx",
    "simeq",
    "thickapprox",
    "doteq",
    "equiv",
    "sim",
    "cong",
    "in",
    "notin",
    "subset",
    "subseteq",
    "to",
    "rightarrow",
    "longrightarrow",
    "mapsto",
];

/// The names after backslashes.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    text.split('\\').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic());
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn is_arithmetic(text: &str) -> bool {
    let mut depth = 0;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'+' | b'-' | b'*' | b'/' | b'^' => {}
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    depth == 0
}
