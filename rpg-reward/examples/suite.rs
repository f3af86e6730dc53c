//! Grades a file of cases in one thread and prints agreement, speed and the slowest case.
//!
//! `cargo run --release -p rpg-reward --all-features --example suite -- FILE.jsonl [--failures] [--repeat N]`

use rpg_reward::GradeOptions;
use rpg_reward::suite::{Summary, Timed, read_line};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut path = None;
    let mut failures = false;
    let mut repeat = 1;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--failures" => failures = true,
            "--repeat" => repeat = args.next().ok_or("--repeat: expected a number")?.parse()?,
            _ => path = Some(arg),
        }
    }
    let text = std::fs::read_to_string(path.ok_or("usage: suite FILE.jsonl")?)?;
    let mut cases = Vec::new();
    let mut summary = Summary::default();
    for (index, line) in text.lines().enumerate() {
        match read_line(line, index + 1) {
            Ok(case) => cases.push(case),
            Err(bad) => {
                eprintln!("{bad}");
                summary.add_bad_line();
            }
        }
    }
    // The grader promises to need only a small stack.
    let worker = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let options = GradeOptions::default();
            for case in &cases {
                // The fastest of the repetitions, so that other load on the machine does not count.
                let mut timed = Timed::grade(case, &options);
                for _ in 1..repeat {
                    timed.elapsed = timed.elapsed.min(Timed::grade(case, &options).elapsed);
                }
                let wrong = timed
                    .expect
                    .is_some_and(|expect| expect != timed.verdict.correct);
                if failures && wrong {
                    println!(
                        "{} expected {:?}: gold {:.100?}",
                        case.id, case.expect, case.gold
                    );
                    println!("    {:.300?}", timed.verdict);
                }
                summary.add(&timed);
            }
            summary
        })?;
    print!("{}", worker.join().map_err(|_| "the grader panicked")?);
    Ok(())
}
