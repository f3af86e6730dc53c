//! Exact bias and variance of every estimator on an enumerated policy, as Markdown.
//!
//! `cargo run --release -p rpg-losses --example gradient_study -- [LEARNING_RATE] [BETA]`

use rpg_losses::verify::{StudyOptions, study};

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().expect("a number"));
    let default = StudyOptions::default();
    let options = StudyOptions {
        learning_rate: args.next().unwrap_or(default.learning_rate),
        beta: args.next().unwrap_or(default.beta),
        ..default
    };
    print!("{}", study(&options).markdown());
}
