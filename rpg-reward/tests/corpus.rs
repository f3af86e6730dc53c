//! The corpus of the fuzzer, one text per file, as an ordinary test: no panic, no overflow of a small stack,
//! no text that takes long, and what the fuzz targets assert.

mod fuzz_checks;

use std::path::Path;
use std::time::{Duration, Instant};

/// Far more than any text needs, because machines that run tests are busy.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 6000 } else { 300 });

/// The texts of a folder, sorted by name.
fn corpus(target: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut texts: Vec<(String, String)> = files
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a file");
            let name = path.file_name().unwrap_or_default();
            // The fuzz targets skip what is not UTF-8, so the corpus is text.
            let text = String::from_utf8(bytes).expect("UTF-8");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect();
    texts.sort();
    texts
}

fn check(target: &'static str, body: fn(&str)) {
    let texts = corpus(target);
    assert!(texts.len() > 10, "the corpus of {target} is missing");
    let worker = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            for (name, text) in &texts {
                let fast_enough = (0..5)
                    .map(|_| {
                        let start = Instant::now();
                        body(text);
                        start.elapsed()
                    })
                    .find(|elapsed| *elapsed < LIMIT);
                assert!(
                    fast_enough.is_some(),
                    "{target}/{name} took more than {LIMIT:?}"
                );
            }
        });
    worker.expect("a thread").join().expect("no panic");
}

#[test]
fn the_completions_of_the_corpus_pass_the_checks() {
    check("grade", fuzz_checks::completion);
}

#[test]
fn the_answers_of_the_corpus_pass_the_checks() {
    check("answer", fuzz_checks::answer);
}
