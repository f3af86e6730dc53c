//! `rpg score`: the log-probability of every token of texts.

use super::{input, output};
use crate::backend::{OnBackend, on_backend};
use crate::cli::args::ScoreArgs;
use crate::cli::policy;
use crate::failure::Failure;
use rpg_core::batch::TokenBudget;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::json;
use std::io::Write;

/// Tokens per forward pass.
const PASS_TOKENS: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: Option<String>,
    completion: Option<String>,
    text: Option<String>,
    prompt_tokens: Option<Vec<u32>>,
    completion_tokens: Option<Vec<u32>>,
}

pub(super) fn run(args: ScoreArgs) -> Result<(), Failure> {
    if !(args.temperature > 0.0 && args.temperature.is_finite()) {
        let found = args.temperature;
        return Err(Failure::input(format!(
            "--temperature: found {found}; expected a number above 0"
        )));
    }
    let backend = args.backend;
    on_backend(backend, Scoring(args))?.0
}

/// A command line on a backend that is chosen later.
struct Scoring(ScoreArgs);

impl OnBackend for Scoring {
    type Output = Result<(), Failure>;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output {
        let Self(args) = self;
        let (model, tokenizer) = policy::load::<B>(&args.model, &device)?;
        let mut pending: Vec<ScoreItem> = Vec::new();
        let mut budget = TokenBudget::new(PASS_TOKENS);
        for line in input::lines(&args.input)? {
            let (number, line) = line?;
            let item = item(&line, &model, &tokenizer).map_err(|e| {
                Failure::input(format!("{}, line {number}: {e}", input::name(&args.input))).hint(
                    "each line contains {\"prompt\", \"completion\"}, {\"text\"} or {\"prompt_tokens\", \"completion_tokens\"}",
                )
            })?;
            if budget.cuts_before(item.tokens.len()) {
                let written = write(&model, &std::mem::take(&mut pending), args.temperature);
                if output::checked(written)?.is_break() {
                    return Ok(());
                }
            }
            pending.push(item);
        }
        output::checked(write(&model, &pending, args.temperature)).map(|_| ())
    }
}

fn item<B: DecodeBackend>(
    line: &str,
    model: &CausalLm<B>,
    tokenizer: &Tokenizer,
) -> Result<ScoreItem, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let encode = |text: &str, special| tokenizer.encode(text, special).map_err(|e| e.to_string());
    let item = match line {
        Line {
            text: Some(text),
            prompt: None,
            completion: None,
            ..
        } => {
            let tokens = encode(&text, true)?;
            let scored = 1.min(tokens.len())..tokens.len();
            ScoreItem { tokens, scored }
        }
        Line {
            prompt: Some(prompt),
            completion: Some(completion),
            text: None,
            ..
        } => ScoreItem::response(&encode(&prompt, true)?, &encode(&completion, false)?),
        Line {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            text: None,
            ..
        } => ScoreItem::response(&prompt, &completion),
        _ => return Err("these keys do not belong together".into()),
    };
    let (context, vocab_size) = (
        model.config().max_position_embeddings,
        model.config().vocab_size,
    );
    if item.scored.start == 0 && !item.scored.is_empty() {
        return Err(
            "the prompt has no tokens, so the first token of the completion has nothing to follow"
                .into(),
        );
    }
    if item.tokens.len() > context {
        let n = item.tokens.len();
        return Err(format!(
            "{n} tokens are more than the model's context of {context}"
        ));
    }
    match item
        .tokens
        .iter()
        .find(|&&token| token as usize >= vocab_size)
    {
        Some(token) => Err(format!(
            "token {token} is not in the vocabulary of {vocab_size}"
        )),
        None => Ok(item),
    }
}

fn write<B: DecodeBackend>(
    model: &CausalLm<B>,
    items: &[ScoreItem],
    temperature: f64,
) -> std::io::Result<()> {
    let scores = score(model, items, temperature);
    let logprobs: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
    let entropy: Vec<f32> = scores.entropy.into_data().iter::<f32>().collect();
    let mut out = std::io::stdout().lock();
    let mut start = 0;
    for item in items {
        let range = start..start + item.scored.len();
        start = range.end;
        let line = json!({
            "tokens": item.tokens[item.scored.clone()],
            "logprobs": logprobs[range.clone()],
            "entropy": entropy[range.clone()],
            "sum": logprobs[range].iter().map(|&x| f64::from(x)).sum::<f64>(),
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}
