//! Supervised training on worked examples, before reinforcement learning.

use crate::config::WarmStart;
use crate::data::arithmetic::ColumnAddition;
use crate::failure::Failure;
use crate::optim::{AdamW, cosine, global_norm};
use burn::backend::Autodiff;
use burn::optim::{GradientsAccumulator, GradientsParams};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;

/// One step (counted from 1) on the next examples; returns the model and the mean negative
/// log-likelihood per token.
pub fn step<B: DecodeBackend>(
    model: CausalLm<Autodiff<B>>,
    optimizer: &mut AdamW<B>,
    config: &WarmStart,
    task: &ColumnAddition,
    tokenizer: &Tokenizer,
    number: u64,
    micro_batch_tokens: usize,
) -> Result<(CausalLm<Autodiff<B>>, f64), Failure> {
    let eos = *model
        .config()
        .eos_token_ids
        .first()
        .ok_or_else(|| Failure::internal("the model has no end-of-sequence token"))?;
    let first = (number - 1) * config.batch_size as u64;
    let mut items = Vec::with_capacity(config.batch_size);
    for i in 0..config.batch_size as u64 {
        let example = task.worked(first + i, config.slip);
        let prompt = tokenizer
            .encode_prompt(&example.problem.prompt)
            .map_err(Failure::internal)?;
        let mut answer = tokenizer
            .encode(&example.solution, false)
            .map_err(Failure::internal)?;
        answer.push(eos);
        items.push(ScoreItem::response(&prompt, &answer));
    }
    let n_tokens: usize = items.iter().map(|item| item.scored.len()).sum();
    let mut accumulator = GradientsAccumulator::new();
    let mut total = 0.0;
    let per_pass = (micro_batch_tokens / items[0].tokens.len()).max(1);
    for items in items.chunks(per_pass) {
        let loss = score(&model, items, 1.0).logprobs.sum().neg() / n_tokens as f64;
        total += loss.clone().into_data().iter::<f64>().sum::<f64>();
        accumulator.accumulate(&model, GradientsParams::from_grads(loss.backward(), &model));
    }
    let grads = accumulator.grads();
    let norm = global_norm(&model, &grads);
    if !norm.is_finite() {
        return Err(Failure::internal(format!(
            "warm start, step {number}: the gradient is {norm}"
        ))
        .hint("lower warm_start.lr"));
    }
    let lr = config.lr * cosine(0.1, number as f64 / (config.steps + 1) as f64);
    Ok((
        optimizer.step(model, grads, lr, (1.0 / norm).min(1.0)),
        total,
    ))
}
