//! Any completion against any gold answer; the first line is the gold answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpg_reward::{GradeOptions, Reason, grade};

fuzz_target!(|text: &str| {
    let (gold, completion) = text.split_once('\n').unwrap_or((text, text));
    let verdict = grade(completion, gold, &GradeOptions::default());
    assert_eq!(verdict.correct, verdict.reason == Reason::Correct);
    // A right answer was found somewhere; blank gold answers have none.
    if verdict.correct {
        assert!(verdict.extracted.is_some() && !gold.trim().is_empty());
    }
});
