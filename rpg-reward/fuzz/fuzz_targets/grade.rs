//! Any completion against any gold answer.
#![no_main]

#[path = "../../tests/fuzz_checks/mod.rs"]
mod fuzz_checks;

libfuzzer_sys::fuzz_target!(|text: &str| fuzz_checks::completion(text));
