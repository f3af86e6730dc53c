//! Time and memory of a training pass that is dominated by the vocabulary: forward and backward of the log-probs of
//! 8 x 512 tokens under a model with 151,936 tokens (the width of Qwen2.5-0.5B, two blocks).
//!
//! `cargo run --release -p rpg-core --example bench_scorer -- chunked|whole` prints one JSON object.
//!
//! - `chunked`: [`score`], which holds a part of the logits at a time, in both directions;
//! - `whole`: the same blocks, then all logits at once: a product, a log-softmax and a gather.

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use rpg_core::model::{CausalLm, ModelConfig};
use rpg_core::ops::Packing;
use rpg_core::score::{ScoreItem, score};
use std::time::Instant;

// As in `rpg`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type B = Autodiff<Flex>;

const N_SEQUENCES: usize = 8;
const LENGTH: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chunked = match std::env::args().nth(1).as_deref() {
        Some("chunked") => true,
        Some("whole") => false,
        _ => return Err("usage: bench_scorer chunked|whole".into()),
    };
    let config = ModelConfig::from_hf_json(
        r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
            "num_hidden_layers": 2, "num_attention_heads": 14, "num_key_value_heads": 2,
            "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": true, "eos_token_id": 151645}"#,
    )?;
    let model = CausalLm::<Flex>::init(&config, 0, &Default::default()).into_trainable();
    let items: Vec<ScoreItem> = (0..N_SEQUENCES)
        .map(|i| ScoreItem {
            tokens: (0..LENGTH)
                .map(|j| ((7919 * (LENGTH * i + j) + 11) % config.vocab_size) as u32)
                .collect(),
            scored: 1..LENGTH,
        })
        .collect();
    let mut seconds = Vec::new();
    let mut report = serde_json::Value::Null;
    for _ in 0..2 {
        let start = Instant::now();
        let logprobs = if chunked {
            score::<B>(&model, &items, 1.0).logprobs
        } else {
            whole(&model, &items)
        };
        let loss = -logprobs.mean();
        let grads = loss.backward();
        seconds.push(start.elapsed().as_secs_f64());
        let head = model.head().tensor().ok_or("the head is packed")?;
        let grad = head.grad(&grads).ok_or("the head has no gradient")?;
        drop(grads);
        let grad = grad.into_data();
        let squares = grad.as_slice::<f32>().map_err(|e| format!("{e:?}"))?.iter();
        let norm = squares.map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        report = serde_json::json!({"loss": loss.into_scalar(), "grad_norm": norm});
    }
    report["seconds"] = seconds.iter().copied().fold(f64::INFINITY, f64::min).into();
    report["peak_mib"] = peak_mib().into();
    println!("{report}");
    Ok(())
}

fn whole(model: &CausalLm<B>, items: &[ScoreItem]) -> Tensor<B, 1> {
    let packing = Packing::new(items.iter().map(|item| item.tokens.len()));
    let tokens: Vec<u32> = items.iter().flat_map(|item| item.tokens.clone()).collect();
    let hidden = model.hidden(&tokens, &packing);
    let device = hidden.device();
    let of_scored = |offset: usize| -> Vec<usize> {
        let ranges = packing.ranges();
        ranges
            .flat_map(|range| range.start + offset..range.end - 1 + offset)
            .collect()
    };
    let ints = |values: Vec<i32>| Tensor::<B, 1, Int>::from_ints(values.as_slice(), &device);
    let sources = ints(of_scored(0).into_iter().map(|i| i as i32).collect());
    let targets = ints(of_scored(1).into_iter().map(|i| tokens[i] as i32).collect());
    let logits = model.logits(hidden.select(0, sources));
    let logprobs = log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1));
    logprobs.squeeze_dim(1)
}

/// The most memory that the process has had, where the system tells.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
