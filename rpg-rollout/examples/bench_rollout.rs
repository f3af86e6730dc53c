//! Times sampling and training passes of a model on the CPU.
//!
//! `cargo run --release -p rpg-rollout --example bench_rollout -- MODEL_DIR WORK` prints one JSON object;
//! `bench_rollout.py` in this folder does the same with transformers. WORK is one of
//!
//! - `batch`: 32 sequences of 64 new tokens, 8 from each of 4 prompts; `single`: one sequence of 64. Both with
//!   the matrices kept as `CausalLm::compact` keeps them; `batch-f32` and `single-f32`: all of them as f32;
//!   `batch-int8` and `single-int8`: with products of 8-bit integers (`CausalLm::int8`);
//! - `train`: forward and backward over 8 sequences of 128 tokens.
//! - `curve`: milliseconds per new token as one sequence grows to 1,024 tokens.

use burn::backend::{Autodiff, Flex};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Message, Prompt};
use rpg_rollout::generate::{GenerateOptions, Request, Sampler, generate};
use std::path::Path;
use std::time::Instant;

// As in `rpg`: a pooling allocator gives back what the last step used without asking the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUESTIONS: [&str; 4] = [
    "Tom has 7 apples and buys 5 more. How many apples has he now?",
    "A box holds 12 pencils. How many pencils are in 9 boxes?",
    "Anna read 14 of 40 pages. How many pages are left?",
    "Three friends share 27 marbles equally. How many does each get?",
];

const USAGE: &str = "usage: bench_rollout MODEL_DIR batch|batch-f32|batch-int8|single|single-f32|single-int8|train|curve";

/// Passes of the training measurement.
const N_PASSES: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(what)) = (args.next(), args.next()) else {
        return Err(USAGE.into());
    };
    let dir = Path::new(&dir);
    let model = CausalLm::<Flex>::load_hf(dir, &Default::default())?;
    let tokenizer = Tokenizer::load(dir)?;
    let report = match what.as_str() {
        "batch" => sampling(&model.compact(), &tokenizer, &QUESTIONS, 8)?,
        "batch-f32" => sampling(&model, &tokenizer, &QUESTIONS, 8)?,
        "batch-int8" => sampling(&model.int8(), &tokenizer, &QUESTIONS, 8)?,
        "single-int8" => sampling(&model.int8(), &tokenizer, &QUESTIONS[..1], 1)?,
        "single" => sampling(&model.compact(), &tokenizer, &QUESTIONS[..1], 1)?,
        "single-f32" => sampling(&model, &tokenizer, &QUESTIONS[..1], 1)?,
        // In the pool, as `rpg` runs all of its work.
        "train" => Flex::on_workers(|| training(model)),
        "curve" => curve(&model.compact(), &tokenizer)?,
        other => return Err(format!("`{other}`: {USAGE}").into()),
    };
    println!("{report}");
    Ok(())
}

fn prompt(tokenizer: &Tokenizer, question: &str) -> Result<Vec<u32>, Box<dyn std::error::Error>> {
    let prompt = if tokenizer.has_chat_template() {
        Prompt::Chat(vec![Message::user(question)])
    } else {
        Prompt::Text(question.into())
    };
    Ok(tokenizer.encode_prompt(&prompt)?)
}

fn sampling(
    model: &CausalLm<Flex>,
    tokenizer: &Tokenizer,
    questions: &[&str],
    n: u64,
) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut requests = Vec::new();
    for (i, question) in questions.iter().enumerate() {
        let seeds = (0..n).map(|j| 1000 * i as u64 + j);
        requests.push(Request::new(prompt(tokenizer, question)?, seeds));
    }
    let run = |max_new_tokens: usize| {
        let mut options = GenerateOptions::default();
        options.max_new_tokens = max_new_tokens;
        options.ignore_eos = true;
        let start = Instant::now();
        generate(model, tokenizer, &requests, &options)?;
        Ok::<f64, Box<dyn std::error::Error>>(start.elapsed().as_secs_f64())
    };
    run(4)?;
    let seconds = run(64)?;
    let n_tokens = 64 * n * questions.len() as u64;
    Ok(serde_json::json!({"tokens_per_second": n_tokens as f64 / seconds, "seconds": seconds}))
}

fn training(model: CausalLm<Flex>) -> serde_json::Value {
    let vocab_size = model.config().vocab_size as u32;
    let model = model.into_trainable();
    let items: Vec<ScoreItem> = (0..8u32)
        .map(|i| ScoreItem {
            tokens: (0..128)
                .map(|j| (7919 * (128 * i + j) + 11) % vocab_size)
                .collect(),
            scored: 1..128,
        })
        .collect();
    let mut seconds = Vec::new();
    let mut loss = 0.0;
    for _ in 0..=N_PASSES {
        let start = Instant::now();
        let scores = score::<Autodiff<Flex>>(&model, &items, 1.0);
        let mean = -scores.logprobs.mean();
        let grads = mean.backward();
        seconds.push(start.elapsed().as_secs_f64());
        drop(grads);
        loss = mean.into_scalar();
    }
    // The first pass warms up.
    let best = seconds[1..].iter().copied().fold(f64::INFINITY, f64::min);
    serde_json::json!({"tokens_per_second": 8.0 * 128.0 / best, "seconds": best, "loss": loss})
}

/// Milliseconds per new token in stretches of 128 tokens.
fn curve(
    model: &CausalLm<Flex>,
    tokenizer: &Tokenizer,
) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let requests = [Request::new(prompt(tokenizer, QUESTIONS[0])?, [0])];
    let n_prompt = requests[0].prompt_tokens.len();
    let mut options = GenerateOptions::default();
    options.max_new_tokens = 1024 - n_prompt;
    options.ignore_eos = true;
    let mut times = vec![Instant::now()];
    let mut sampler = Sampler::new(model, tokenizer, &requests, &options)?;
    while !sampler.is_done() {
        sampler.step()?;
        times.push(Instant::now());
    }
    let stretches: Vec<serde_json::Value> = times[1..]
        .chunks_exact(128)
        .enumerate()
        .map(|(i, stretch)| {
            let seconds = (stretch[127] - stretch[0]).as_secs_f64() / 127.0;
            serde_json::json!({"length": n_prompt + 128 * i + 64, "ms": 1e3 * seconds})
        })
        .collect();
    Ok(serde_json::json!({ "stretches": stretches }))
}
