//! The parser and the comparison: a text as the content of a box, against itself and against one more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpg_reward::{GradeOptions, grade};

fuzz_target!(|text: &str| {
    let boxed = format!("\\boxed{{{text}}}");
    let options = GradeOptions::default();
    let _ = grade(&boxed, text, &options);
    let _ = grade(&boxed, &format!("({text})+1"), &options);
});
