//! Cases that lie in files: the seeds of the fuzzer, and a larger suite where it is at hand.

use rpg_reward::suite::{Summary, Timed, read_line};
use rpg_reward::{GradeOptions, grade};
use std::path::Path;

#[test]
fn the_seeds_of_the_fuzzer_are_survived() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/grade");
    let mut seeds = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of seeds") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a seed");
        let text = String::from_utf8_lossy(&bytes);
        let (gold, completion) = text.split_once('\n').unwrap_or((&text, &text));
        let _ = grade(completion, gold, &GradeOptions::default());
        seeds += 1;
    }
    assert!(seeds >= 10, "{seeds} seeds");
}

#[test]
fn the_public_cases_agree() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/reward/math_cases_public.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let mut summary = Summary::default();
    for (index, line) in text.lines().enumerate() {
        let case = read_line(line, index + 1).expect("a case");
        summary.add(&Timed::grade(&case, &GradeOptions::default()));
    }
    assert_eq!(summary.total.false_positives, 0, "{summary}");
    assert!(summary.total.agreement() >= 0.98, "{summary}");
}
