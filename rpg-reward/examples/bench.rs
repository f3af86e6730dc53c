//! How fast the grader is, and how slow it can be made: cases per second on a mixture of ordinary
//! answers, in one thread and on all cores, and the slowest of about two thousand hostile inputs.
//!
//! `cargo run --release -p rpg-reward --all-features --example bench [-- --slowest N]`

use rpg_reward::{GradeOptions, grade, grade_batch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Counts the bytes that are allocated now, and the most since the last reset.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let allocated = ALLOCATED.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(allocated, Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[path = "../tests/hostile_inputs/mod.rs"]
mod hostile_inputs;

/// Ordinary answers: the gold answer and the content of the box.
const ORDINARY: [(&str, &str); 20] = [
    ("42", "42"),
    ("42", "41"),
    ("\\frac{3}{4}", "0.75"),
    ("\\frac{3}{4}", "\\dfrac{6}{8}"),
    ("1234", "1,234"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"),
    ("x^2-1", "(x-1)(x+1)"),
    ("x^2-1", "(x-1)^2"),
    ("(1,2)", "(1, 2)"),
    ("[0,1)", "0 \\le x < 1"),
    ("\\{1,2,3\\}", "3,2,1"),
    ("y=2x+1", "2x-y+1=0"),
    ("\\frac{\\pi}{6}", "30^\\circ"),
    ("\\log_2 3", "\\frac{\\ln 3}{\\ln 2}"),
    ("\\cos 36^\\circ", "\\frac{1+\\sqrt5}{4}"),
    (
        "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
        "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
    ),
    ("B", "\\text{(B)}"),
    ("28\\%", "0.28"),
    ("1+\\sqrt{19}, 1-\\sqrt{19}", "1\\pm\\sqrt{19}"),
];

fn main() {
    let slowest: usize = std::env::args()
        .skip_while(|a| a != "--slowest")
        .nth(1)
        .map_or(5, |n| n.parse().unwrap_or(5));
    let options = GradeOptions::default();
    let reasoning =
        "Let us see. First, $a = 3 \\cdot 4$, and then the other side follows. ".repeat(40);
    let completions: Vec<(String, &str)> = ORDINARY
        .iter()
        .map(|(gold, answer)| {
            (
                format!("{reasoning}\n\nTherefore the answer is $\\boxed{{{answer}}}$."),
                *gold,
            )
        })
        .collect();
    let items: Vec<(&str, &str)> = completions.iter().map(|(c, g)| (c.as_str(), *g)).collect();

    let rounds = 2_000;
    let start = Instant::now();
    let mut correct = 0usize;
    for _ in 0..rounds {
        correct += items
            .iter()
            .filter(|(c, g)| grade(c, g, &options).correct)
            .count();
    }
    let single = (rounds * items.len()) as f64 / start.elapsed().as_secs_f64();
    println!(
        "ordinary answers, one thread: {single:>9.0} cases/s ({} of {} correct)",
        correct / rounds,
        items.len()
    );

    let many: Vec<(&str, &str)> = items
        .iter()
        .copied()
        .cycle()
        .take(rounds * items.len())
        .collect();
    let start = Instant::now();
    let verdicts = grade_batch(&many, &options);
    let batch = verdicts.len() as f64 / start.elapsed().as_secs_f64();
    println!("ordinary answers, all cores:  {batch:>9.0} cases/s");

    let inputs = hostile_inputs::hostile_inputs(1_000_000);
    let mut most_memory = (0, "");
    let mut times: Vec<(Duration, &str)> = inputs
        .iter()
        .map(|(name, gold, text)| {
            // The fastest of a few runs, so that other load on the machine does not count.
            let mut best = Duration::MAX;
            for round in 0..5 {
                let before = ALLOCATED.load(Relaxed);
                PEAK.store(before, Relaxed);
                let start = Instant::now();
                let _ = grade(text, gold, &options);
                best = best.min(start.elapsed());
                most_memory = most_memory.max((PEAK.load(Relaxed) - before, name.as_str()));
                if round == 0 && best < Duration::from_millis(2) {
                    break;
                }
            }
            (best, name.as_str())
        })
        .collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    println!(
        "hostile inputs of up to 1 MB: {} of them, the slowest:",
        times.len()
    );
    for (time, name) in times.iter().take(slowest) {
        println!("  {:>8.2} ms  {name}", time.as_secs_f64() * 1e3);
    }
    println!(
        "most memory: {:.1} MB  {}",
        most_memory.0 as f64 / 1e6,
        most_memory.1
    );
}
