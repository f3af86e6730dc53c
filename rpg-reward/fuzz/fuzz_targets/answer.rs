//! The parser and the comparison.
#![no_main]

#[path = "../../tests/fuzz_checks/mod.rs"]
mod fuzz_checks;

libfuzzer_sys::fuzz_target!(|text: &str| fuzz_checks::answer(text));
