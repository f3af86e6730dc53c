//! Verifies every objective on the CPU and prints the table.
//!
//! `cargo run --release -p rpg-losses --features verify --example verify_gradients -- [CASES] [SEED]`

use burn::backend::{Autodiff, Flex};
use rpg_losses::verify::{Precision, VerifyOptions, run};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut options = VerifyOptions::<Autodiff<Flex>>::new(Default::default(), Precision::F64);
    if let Some(n_cases) = args.next() {
        options.n_cases = n_cases.parse().expect("CASES");
    }
    if let Some(seed) = args.next() {
        options.seed = seed.parse().expect("SEED");
    }
    let start = Instant::now();
    let report = run(&options);
    print!("{}", report.summary());
    eprintln!("{:.1} s", start.elapsed().as_secs_f64());
    if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
