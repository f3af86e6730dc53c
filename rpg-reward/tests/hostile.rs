//! No hostile input makes the grader hang, overflow a small stack or panic.

mod hostile_inputs;

use hostile_inputs::hostile_inputs;
use rpg_reward::{GradeOptions, grade};
use std::time::{Duration, Instant};

/// Far more than any input needs, because machines that run tests are busy; the example `bench` shows the
/// true times.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 100 });

#[test]
fn every_input_is_graded_quickly_on_a_small_stack() {
    let inputs = hostile_inputs(if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    });
    let worker = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let options = GradeOptions::default();
            let mut slow = Vec::new();
            for (name, gold, text) in &inputs {
                let mut best = Duration::MAX;
                for _ in 0..5 {
                    let start = Instant::now();
                    let _ = grade(text, gold, &options);
                    best = best.min(start.elapsed());
                    if best < LIMIT {
                        break;
                    }
                }
                if best >= LIMIT {
                    slow.push(format!("{name}: {best:?}"));
                }
            }
            slow
        });
    let slow = worker.expect("a thread").join().expect("no panic");
    assert!(
        slow.is_empty(),
        "{} inputs took too long:\n{}",
        slow.len(),
        slow.join("\n")
    );
}

#[test]
fn hostile_gold_answers_are_graded_quickly_too() {
    let options = GradeOptions::default();
    for (name, gold, text) in hostile_inputs(20_000) {
        let start = Instant::now();
        let _ = grade(&gold, &text, &options);
        let _ = grade(&text, &text, &options);
        assert!(start.elapsed() < LIMIT * 10, "{name}");
    }
}
