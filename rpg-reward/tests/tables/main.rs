//! What counts as right, as tables of rows.

mod collections;
mod completions;
mod kinds;
mod many;
mod numbers;
mod prose;
mod quantities;
mod readings;
mod series;
mod words;

use rpg_reward::{GradeOptions, grade};

/// Rows of a gold answer, a boxed answer, and whether they are equal.
fn check_boxed<G: AsRef<str>, A: AsRef<str>>(rows: &[(G, A, bool)]) {
    let in_text = |answer: &A| format!("So we get $\\boxed{{{}}}$.", answer.as_ref());
    let rows: Vec<(String, &str, bool)> = rows
        .iter()
        .map(|(gold, answer, expected)| (in_text(answer), gold.as_ref(), *expected))
        .collect();
    check_completions(&rows);
}

/// Rows of a completion, a gold answer, and whether it is right.
fn check_completions<C: AsRef<str>>(rows: &[(C, &str, bool)]) {
    let options = GradeOptions::default();
    let failed: Vec<String> = rows
        .iter()
        .filter_map(|(completion, gold, expected)| {
            let completion = completion.as_ref();
            let verdict = grade(completion, gold, &options);
            (verdict.correct != *expected)
                .then(|| format!("{completion:?} for {gold:?}, expected {expected}: {verdict:?}"))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} rows failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
