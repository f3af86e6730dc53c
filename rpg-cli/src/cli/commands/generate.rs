//! `rpg generate`: writes completions as JSONL, in the order of the prompts.

use super::{input, output};
use crate::backend::{OnBackend, on_backend};
use crate::cli::args::GenerateArgs;
use crate::cli::console::Console;
use crate::cli::say::say;
use crate::cli::{policy, signals};
use crate::failure::Failure;
use crate::models::{frozen, long_context};
use rpg_core::ops::DecodeBackend;
use rpg_core::seed::of_sample;
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Group, Message, Prompt};
use rpg_rollout::generate::{GenerateError, GenerateOptions, Request, Sampler};
use rpg_rollout::sampling::{SamplingKey, SamplingParams};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

pub(super) fn run(args: GenerateArgs) -> Result<(), Failure> {
    let sampling = SamplingParams {
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
    };
    sampling.check().map_err(|e| {
        let flag = match e.key {
            SamplingKey::Temperature => "--temperature",
            SamplingKey::TopP => "--top-p",
            SamplingKey::MinP => "--min-p",
        };
        Failure::input(format!(
            "{flag}: found {}; expected {}",
            e.found, e.expected
        ))
    })?;
    for (flag, value) in [("-n", args.n), ("--max-new-tokens", args.max_new_tokens)] {
        if value == 0 {
            return Err(Failure::input(format!(
                "{flag}: found 0; expected at least 1"
            )));
        }
    }
    if args.n > MOST_COMPLETIONS {
        return Err(Failure::input(format!(
            "-n: found {}; expected at most {MOST_COMPLETIONS}",
            args.n
        )));
    }
    if args.min_new_tokens > args.max_new_tokens {
        return Err(Failure::input(format!(
            "--min-new-tokens: found {}; expected at most --max-new-tokens, {}",
            args.min_new_tokens, args.max_new_tokens
        )));
    }
    if sampling.truncates() {
        say!(
            "note: log-probs are those of the full distribution; sampling draws from a part of it"
        );
    }
    let backend = args.backend;
    on_backend(backend, Generation { args, sampling })?.0
}

/// The most completions of a prompt, which are all in memory until the last is done.
const MOST_COMPLETIONS: usize = 1 << 20;

/// A command line on a backend that is chosen later.
struct Generation {
    args: GenerateArgs,
    sampling: SamplingParams,
}

impl OnBackend for Generation {
    type Output = Result<(), Failure>;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output {
        let Self { args, sampling } = self;
        let given = policy::of_run(&args.model)?;
        let (mut model, mut tokenizer) = policy::load::<B>(&given, frozen::<B>(), &device)?;
        if args.long_context {
            model = long_context("--long-context", model)?;
        }
        if !args.ignore_eos && args.stop.is_empty() && args.stop_token.is_empty() {
            policy::note_on_ends(&model, &tokenizer);
        }
        let model = model.compact();
        if let Some(enabled) = args.thinking {
            tokenizer.set_thinking(enabled);
        }
        if let Some(date) = args.date {
            tokenizer.set_date(date);
        }
        if args.system.is_some() && !tokenizer.has_chat_template() {
            return Err(Failure::input(format!(
                "--system: the model in {} has no chat template",
                args.model.display()
            )));
        }
        let mut requests = Vec::new();
        let mut line_numbers = Vec::new();
        for line in input::lines(&args.prompts)? {
            let (number, line) = line?;
            let in_line = |e: String| {
                Failure::input(format!(
                    "{}, line {number}: {e}",
                    input::name(&args.prompts)
                ))
            };
            let prompt = prompt(&line, &args, &tokenizer).map_err(in_line)?;
            let prompt_tokens = tokenizer
                .encode_prompt(&prompt)
                .map_err(|e| in_line(e.to_string()))?;
            let index = requests.len() as u64;
            let seeds = (0..args.n as u64).map(|i| of_sample(args.seed, 0, index, i));
            requests.push(Request::new(prompt_tokens, seeds));
            line_numbers.push(number);
        }
        if args.stop.iter().any(String::is_empty) {
            return Err(Failure::input(
                "--stop: found an empty text; expected at least one character",
            ));
        }
        for text in &args.stop {
            if let Some(token) = tokenizer
                .special_token_in(text)
                .filter(|token| token != text)
            {
                return Err(Failure::input(format!(
                    "--stop: found {text:?} with the special token {token}, which is not part of a text; expected text, or \
                     the token alone"
                )));
            }
        }
        let vocab_size = model.config().vocab_size;
        if let Some(token) = args.stop_token.iter().find(|&&t| t as usize >= vocab_size) {
            return Err(Failure::input(format!(
                "--stop-token: found {token}; expected a token of the model's vocabulary of {vocab_size}"
            )));
        }
        let mut options = GenerateOptions::default();
        options.sampling = sampling;
        options.max_new_tokens = args.max_new_tokens;
        options.min_new_tokens = args.min_new_tokens;
        options.stop_token_ids = args.stop_token.clone();
        options.stop_strings = args.stop.clone();
        options.ignore_eos = args.ignore_eos;
        let interrupt = signals::listen();
        let n_completions = requests.len() * args.n;
        let console = Console::new(n_completions as u64, "generate");
        let start = Instant::now();
        let failure = |e| {
            console.done();
            let name = input::name(&args.prompts);
            let line = |prompt_idx: usize| format!("{name}, line {}", line_numbers[prompt_idx]);
            match e {
                GenerateError::NotFinite { .. } => Failure::internal(e),
                GenerateError::TooLong {
                    prompt_idx,
                    n_tokens,
                    max_new_tokens,
                    context,
                } => Failure::input(format!(
                    "{}: the prompt has {n_tokens} tokens; with {max_new_tokens} new ones that is more than {}",
                    line(prompt_idx),
                    policy::context(model.config(), context)
                ))
                .hint("a lower --max-new-tokens leaves more room for the prompt"),
                GenerateError::EmptyPrompt { prompt_idx } => Failure::input(format!(
                    "{}: the prompt has no tokens",
                    line(prompt_idx)
                ))
                .hint("a model without a token that begins each text has nothing to continue"),
                GenerateError::UnknownToken {
                    prompt_idx,
                    token,
                    vocab_size,
                } => Failure::input(format!(
                    "{}: token {token} is not in the model's vocabulary of {vocab_size}",
                    line(prompt_idx)
                )),
                _ => Failure::input(format!("{name}: {e}")),
            }
        };
        let mut sampler = Sampler::new(&model, &tokenizer, &requests, &options).map_err(failure)?;
        while !sampler.is_done() {
            let groups = sampler.step().map_err(failure)?;
            let written = groups.iter().try_for_each(|group| write(group, args.json));
            let progress = sampler.progress();
            console.position(progress.n_finished as u64);
            let rate = progress.n_new_tokens as f64 / start.elapsed().as_secs_f64();
            console.status(|| format!("{rate:.0} tokens/s"));
            let reader = output::checked(written).inspect_err(|_| console.done())?;
            if reader.is_break() {
                console.done();
                return Ok(());
            }
            if interrupt.requested() {
                console.done();
                return Err(Failure::interrupted());
            }
        }
        console.done();
        let n_new_tokens = sampler.progress().n_new_tokens;
        let seconds = start.elapsed().as_secs_f64();
        say!(
            "{n_completions} completions, {n_new_tokens} new tokens in {seconds:.1} s: {:.1} tokens/s",
            n_new_tokens as f64 / seconds
        );
        Ok(())
    }
}

/// A line is text, or JSON with a `prompt` or `messages`.
fn prompt(line: &str, args: &GenerateArgs, tokenizer: &Tokenizer) -> Result<Prompt, String> {
    let system = args.system.iter().map(Message::system);
    let text = match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(object)) => {
            if let Some(messages) = object.get("messages") {
                let messages: Vec<Message> = serde_json::from_value(messages.clone())
                    .map_err(|e| format!("`messages`: {e}"))?;
                input::check_messages(&messages)?;
                return Ok(Prompt::Chat(system.chain(messages).collect()));
            }
            let text = ["prompt", "question", "problem"]
                .iter()
                .find_map(|key| object.get(*key));
            match text {
                Some(Value::String(text)) => text.clone(),
                Some(other) => return Err(format!("`prompt`: found {other}; expected text")),
                None => return Err("an object needs `prompt` or `messages`".into()),
            }
        }
        Ok(Value::String(text)) => text,
        Err(error) if line.trim_start().starts_with('{') => {
            return Err(format!("not a JSON object: {error}"));
        }
        _ => line.to_owned(),
    };
    Ok(if tokenizer.has_chat_template() && !args.raw {
        Prompt::Chat(system.chain([Message::user(text)]).collect())
    } else {
        Prompt::Text(text)
    })
}

fn write(group: &Group, with_tokens: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (sample_idx, completion) in group.completions.iter().enumerate() {
        let mut line = json!({
            "prompt_idx": group.prompt_idx,
            "sample_idx": sample_idx,
            "text": completion.text,
            "stop": completion.stop,
        });
        if with_tokens {
            line["prompt_tokens"] = json!(group.prompt_tokens);
            line["tokens"] = json!(completion.tokens);
            line["logprobs"] = json!(completion.logprobs);
        }
        writeln!(out, "{line}")?;
    }
    out.flush()
}
