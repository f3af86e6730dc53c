//! Any completion against any gold answer; the first line is the gold answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpg_reward::{GradeOptions, grade};

fuzz_target!(|text: &str| {
    let (gold, completion) = text.split_once('\n').unwrap_or((text, text));
    let verdict = grade(completion, gold, &GradeOptions::default());
    assert_eq!(verdict.correct, verdict.reason == rpg_reward::Reason::Correct);
});
