//! Loads a model folder, samples from it and scores what was sampled.
//!
//! `cargo run --release -p rpg-rollout --example sample_and_score -- MODEL_DIR "What is 2 + 3?"`

use burn::backend::Flex;
use rpg_core::model::CausalLm;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Message, Prompt};
use rpg_rollout::generate::{GenerateOptions, Request, generate};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(question)) = (args.next(), args.next()) else {
        return Err("usage: sample_and_score MODEL_DIR QUESTION".into());
    };
    let dir = Path::new(&dir);
    let model = CausalLm::<Flex>::load_hf(dir, &Default::default())?;
    let tokenizer = Tokenizer::load(dir)?;

    let prompt = if tokenizer.has_chat_template() {
        Prompt::Chat(vec![Message::user(question)])
    } else {
        Prompt::Text(question)
    };
    let prompt_tokens = tokenizer.encode_prompt(&prompt)?;
    let requests = [Request::new(prompt_tokens, [1, 2, 3])];
    let mut options = GenerateOptions::default();
    options.max_new_tokens = 40;
    let groups = generate(&model, &tokenizer, &requests, &options)?;

    for completion in &groups[0].completions {
        let item = ScoreItem::response(&groups[0].prompt_tokens, &completion.tokens);
        let scores = score(&model, &[item], 1.0);
        let scored: f32 = scores.logprobs.into_data().iter::<f32>().sum();
        let sampled: f32 = completion.logprobs.iter().sum();
        println!(
            "log-prob {sampled:.4} sampled, {scored:.4} scored: {:?}",
            completion.text
        );
    }
    Ok(())
}
