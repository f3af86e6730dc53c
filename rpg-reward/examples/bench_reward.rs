//! The grader on a file of cases, for comparison with Math-Verify (`bench_reward.py`): cases per second with
//! one and more threads, agreement with the expected verdicts, the slowest case, peak memory.
//!
//! `cargo run --release -p rpg-reward --all-features --example bench_reward -- CASES.jsonl`, or both sides
//! with `cargo xtask bench reward --cases CASES.jsonl --venv`.

use rpg_reward::suite::{Case, Summary, Timed, read_line};
use rpg_reward::{GradeOptions, grade_batch};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The source of cases that are made to break a grader; they are timed separately.
const HOSTILE: &str = "adversarial";

/// The minimum duration of each measurement.
const MEASURE: Duration = Duration::from_millis(1500);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: bench_reward CASES.jsonl")?;
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut cases = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            cases.push(read_line(line, index + 1).map_err(|error| format!("{path}: {error}"))?);
        }
    }
    let is_hostile = |case: &Case| {
        let source = case.source.as_deref();
        source.is_some_and(|source| source.starts_with(HOSTILE))
    };
    let (hostile, ordinary): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(is_hostile);
    if ordinary.is_empty() {
        return Err(format!("{path}: no case to measure with").into());
    }
    let (first, passes, timed) = one_thread(&ordinary);
    let best = passes.iter().copied().fold(f64::INFINITY, f64::min);
    let n = ordinary.len() as f64;
    let mut answer = json!({
        "cases_per_second": n / best,
        "first_cases_per_second": n / first,
        "peak_mib": peak_mib(),
        "ordinary": summary(&timed),
        "threads": scaling(&ordinary)?,
    });
    if !hostile.is_empty() {
        answer["hostile"] = summary(&pass(&hostile));
        answer["hostile_peak_mib"] = peak_mib().into();
    }
    println!("{answer}");
    Ok(())
}

fn pass(cases: &[Case]) -> Vec<Timed> {
    let options = GradeOptions::default();
    cases
        .iter()
        .map(|case| Timed::grade(case, &options))
        .collect()
}

/// The seconds of the first pass and of every pass, and the cases with their shortest times.
fn one_thread(cases: &[Case]) -> (f64, Vec<f64>, Vec<Timed>) {
    let start = Instant::now();
    let mut least = pass(cases);
    let first = start.elapsed().as_secs_f64();
    let mut passes = vec![first];
    while start.elapsed() < MEASURE {
        let began = Instant::now();
        let timed = pass(cases);
        passes.push(began.elapsed().as_secs_f64());
        for (least, timed) in least.iter_mut().zip(timed) {
            least.elapsed = least.elapsed.min(timed.elapsed);
        }
    }
    (first, passes, least)
}

/// Cases per second with one thread, two, four, and so on up to all cores.
fn scaling(cases: &[Case]) -> Result<Vec<Value>, rayon::ThreadPoolBuildError> {
    // Enough items that waiting for the last case of a thread does not matter.
    let items: Vec<(&str, &str)> = cases
        .iter()
        .map(|case| (case.pred.as_str(), case.gold[0].as_str()))
        .cycle()
        .take(cases.len() * 40)
        .collect();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut counts: Vec<usize> = (0..)
        .map(|power| 1 << power)
        .take_while(|n| *n < n_cores)
        .collect();
    counts.push(n_cores);
    let options = GradeOptions::default();
    let mut measured = Vec::new();
    for n_threads in counts {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()?;
        let start = Instant::now();
        let mut best = f64::INFINITY;
        while start.elapsed() < MEASURE {
            let began = Instant::now();
            let verdicts = pool.install(|| grade_batch(&items, &options));
            assert_eq!(verdicts.len(), items.len());
            best = best.min(began.elapsed().as_secs_f64());
        }
        let rate = items.len() as f64 / best;
        measured.push(json!({ "threads": n_threads, "cases_per_second": rate }));
    }
    Ok(measured)
}

fn summary(timed: &[Timed]) -> Value {
    let mut summary = Summary::default();
    timed.iter().for_each(|timed| summary.add(timed));
    let (seconds, slowest) = summary.slowest;
    json!({
        "cases": timed.len(),
        "judged": summary.total.cases,
        "agree": summary.total.agree,
        "false_positives": summary.total.false_positives,
        "false_negatives": summary.total.false_negatives,
        "slowest_ms": 1e3 * seconds,
        "slowest": slowest,
    })
}

/// The peak memory of this process, where the system reports it.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
