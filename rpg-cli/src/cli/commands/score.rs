//! `rpg score`: the log-probability of every token of texts.

use super::{input, output};
use crate::backend::{OnBackend, on_backend};
use crate::cli::args::ScoreArgs;
use crate::cli::policy;
use crate::cli::say::say;
use crate::failure::Failure;
use crate::models::{frozen, long_context};
use rpg_core::Message;
use rpg_core::batch::TokenBudget;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::{Pair, Tokenizer, TokenizerError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;

/// Tokens per forward pass.
const PASS_TOKENS: usize = 4096;

/// Where a line is wrong.
const HINT: &str = "each line contains {\"prompt\", \"completion\"}, {\"messages\", \"completion\"}, {\"text\"} or \
     {\"prompt_tokens\", \"completion_tokens\"}, and may have an \"id\"";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<Value>,
    messages: Option<Vec<Message>>,
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
        let given = policy::of_run(&args.model)?;
        let (mut model, tokenizer) = policy::load::<B>(&given, frozen::<B>(), &device)?;
        if args.long_context {
            model = long_context("--long-context", model)?;
        }
        let mut pending: Vec<Scored> = Vec::new();
        let mut has_noted = false;
        let mut budget = TokenBudget::new(PASS_TOKENS);
        for line in input::lines(&args.input)? {
            let (number, line) = line?;
            let place = format!("{}, line {number}", input::name(&args.input));
            let item = item(&line, &model, &tokenizer)
                .map_err(|e| Failure::input(format!("{place}: {e}")).hint(HINT))?;
            if !item.is_split_between && !has_noted {
                has_noted = true;
                say!(
                    "note: {place}: prompt and completion share a token; it is scored as the completion's \
                     (other lines like this one are not named)"
                );
            }
            if budget.cuts_before(item.item.tokens.len()) {
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

/// A line to score.
struct Scored {
    id: Option<Value>,
    item: ScoreItem,
    is_split_between: bool,
}

fn item<B: DecodeBackend>(
    line: &str,
    model: &CausalLm<B>,
    tokenizer: &Tokenizer,
) -> Result<Scored, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    if !value.is_object() {
        return Err("not a JSON object".into());
    }
    let line: Line = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let line_id = line.id.clone();
    let mut is_split_between = true;
    let mut scored = |pair: Result<Pair, TokenizerError>| {
        let pair = pair.map_err(|e| e.to_string())?;
        is_split_between = pair.is_split_between;
        let scored = pair.n_prompt..pair.tokens.len();
        let tokens = pair.tokens;
        Ok::<_, String>(ScoreItem { tokens, scored })
    };
    let item = match line {
        Line {
            text: Some(text),
            messages: None,
            prompt: None,
            completion: None,
            prompt_tokens: None,
            completion_tokens: None,
            ..
        } => {
            let tokens = tokenizer.encode(&text, true).map_err(|e| e.to_string())?;
            let scored = 1.min(tokens.len())..tokens.len();
            ScoreItem { tokens, scored }
        }
        Line {
            prompt: Some(prompt),
            completion: Some(completion),
            messages: None,
            text: None,
            prompt_tokens: None,
            completion_tokens: None,
            ..
        } => scored(tokenizer.encode_pair(&prompt, &completion, true))?,
        Line {
            messages: Some(messages),
            completion: Some(completion),
            prompt: None,
            text: None,
            prompt_tokens: None,
            completion_tokens: None,
            ..
        } => {
            input::check_messages(&messages)?;
            scored(tokenizer.encode_chat(&messages, &completion))?
        }
        Line {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            messages: None,
            prompt: None,
            completion: None,
            text: None,
            ..
        } => ScoreItem::response(&prompt, &completion),
        _ => return Err("these keys do not belong together".into()),
    };
    let (context, vocab_size) = (model.config().context(), model.config().vocab_size);
    if item.scored.start == 0 && !item.scored.is_empty() {
        return Err(
            "the prompt has no tokens, so the first token of the completion has nothing to follow"
                .into(),
        );
    }
    if item.tokens.len() > context {
        let n = item.tokens.len();
        return Err(format!(
            "{n} tokens are more than {}",
            policy::context(model.config(), context)
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
        None => Ok(Scored {
            id: line_id,
            item,
            is_split_between,
        }),
    }
}

fn write<B: DecodeBackend>(
    model: &CausalLm<B>,
    scored: &[Scored],
    temperature: f64,
) -> std::io::Result<()> {
    let items: Vec<&ScoreItem> = scored.iter().map(|line| &line.item).collect();
    let scores = score(model, &items, temperature);
    let logprobs: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
    let entropy: Vec<f32> = scores.entropy.into_data().iter::<f32>().collect();
    let mut out = std::io::stdout().lock();
    let mut start = 0;
    for Scored { id, item, .. } in scored {
        let range = start..start + item.scored.len();
        start = range.end;
        let mut line = json!({
            "tokens": item.tokens[item.scored.clone()],
            "logprobs": logprobs[range.clone()],
            "entropy": entropy[range.clone()],
            // The sum of nothing is -0.
            "sum": logprobs[range].iter().map(|&x| f64::from(x)).sum::<f64>() + 0.0,
        });
        if let Some(id) = id {
            line["id"] = id.clone();
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}
