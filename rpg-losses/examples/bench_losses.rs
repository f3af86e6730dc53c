//! Times forward and backward of Algorithm 2 (RPG-REINFORCE, `urkl`, RPG-Style Clip) on the CPU.
//!
//! `cargo run --release -p rpg-losses --example bench_losses -- [fused|operations] [TOKENS] [RUNS]`
//! prints one JSON object: median and best seconds of one forward and backward pass, and the peak
//! memory of the process. `bench_losses.py`, beside this file, does the same in PyTorch.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Bool, Tensor, TensorData};
use rpg_losses::{
    LossInputs, ObjectiveConfig, StepTotals, policy_loss, policy_loss_from_operations,
};
use std::time::Instant;

type B = Autodiff<Flex>;

const N_COLUMNS: usize = 1024;

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "fused".into());
    let n_tokens: usize = args
        .next()
        .map_or(1 << 21, |arg| arg.parse().expect("TOKENS"));
    let n_runs: usize = args.next().map_or(15, |arg| arg.parse().expect("RUNS"));
    let loss_of = match path.as_str() {
        "fused" => policy_loss::<B>,
        "operations" => policy_loss_from_operations::<B>,
        other => panic!("`{other}` is neither `fused` nor `operations`"),
    };

    let n_rows = n_tokens / N_COLUMNS;
    let totals = StepTotals {
        n_tokens: n_rows * N_COLUMNS,
        n_responses: n_rows,
        max_length: N_COLUMNS,
    };
    let device = Default::default();
    // A cheap, spread sequence; log-ratios within 0.5.
    let values = |salt: usize, low: f32, high: f32| -> Vec<f32> {
        (0..totals.n_tokens)
            .map(|idx| {
                let hash = (idx + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                low + (high - low) * hash as f32 / (1 << 24) as f32
            })
            .collect()
    };
    let tensor = |values: Vec<f32>| {
        Tensor::<B, 2>::from_data(TensorData::new(values, [n_rows, N_COLUMNS]), &device)
    };
    let old = values(1, -3.0, -0.5);
    let moved: Vec<f32> = (old.iter().zip(values(2, -0.5, 0.5)))
        .map(|(a, b)| a + b)
        .collect();
    let logp = tensor(moved);
    let logp_old = tensor(old);
    let advantages = tensor(values(3, -1.0, 1.0));
    let mask: Tensor<B, 2, Bool> = advantages.clone().greater_elem(-2.0);
    let config = ObjectiveConfig::default();

    let mut seconds = Vec::with_capacity(n_runs);
    let mut result = (0.0, 0.0);
    for _ in 0..n_runs {
        let start = Instant::now();
        let leaf = logp.clone().require_grad();
        let inputs = LossInputs {
            logp: leaf.clone(),
            logp_old: logp_old.clone(),
            logp_ref: None,
            advantages: advantages.clone(),
            weights: None,
            mask: mask.clone(),
        };
        let output = loss_of(&config, inputs, &totals);
        let grads = output.loss.backward();
        let grad = leaf.grad(&grads).expect("the leaf has a gradient");
        seconds.push(start.elapsed().as_secs_f64());
        let loss: f32 = output.loss.into_scalar();
        // In f64: a sum of two million squares in f32 loses digits.
        let squares = grad.into_data().iter::<f64>().map(|g| g * g).sum::<f64>();
        let norm = squares.sqrt();
        result = (loss, norm);
    }
    seconds.sort_by(f64::total_cmp);
    let report = serde_json::json!({
        "path": path,
        "tokens": totals.n_tokens,
        "loss": result.0,
        "grad_norm": result.1,
        "median_seconds": seconds[n_runs / 2],
        "best_seconds": seconds[0],
        "peak_mib": peak_mib(),
    });
    println!("{report}");
}

/// Peak resident memory of this process, where the system reports it.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
