//! What a rollout is asked for.

use super::error::GenerateError;
use crate::sampling::SamplingParams;
use rpg_core::model::ModelConfig;
use std::sync::Arc;

/// One prompt, and a seed for each completion of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The prompt's tokens, at least one; shared with the [`Group`](rpg_core::Group) that comes back.
    pub prompt_tokens: Arc<[u32]>,
    /// The seed of each sample; their number is the size of the group.
    pub seeds: Vec<u64>,
}

impl Request {
    /// Asks for one completion per seed.
    pub fn new(prompt_tokens: impl Into<Arc<[u32]>>, seeds: impl IntoIterator<Item = u64>) -> Self {
        Self {
            prompt_tokens: prompt_tokens.into(),
            seeds: seeds.into_iter().collect(),
        }
    }
}

/// Settings of a rollout; start from the default and assign what differs.
///
/// ```
/// # use rpg_rollout::generate::GenerateOptions;
/// let mut options = GenerateOptions::default();
/// options.max_new_tokens = 40;
/// options.sampling.temperature = 0.7;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// A completion ends after this many tokens.
    pub max_new_tokens: usize,
    /// Until it has this many, no token that would end it is drawn. Log-probs stay those of the full distribution.
    pub min_new_tokens: usize,
    /// Tokens that end a completion, besides the end-of-sequence tokens of the model and the tokenizer.
    pub stop_token_ids: Vec<u32>,
    /// Texts that end a completion, which keeps the tokens in which the text appeared; a special token's text stands for
    /// the token.
    pub stop_strings: Vec<String>,
    /// Does not stop at an end-of-sequence token (for measurements).
    pub ignore_eos: bool,
    /// At most this many completions are sampled at a time.
    pub max_slots: usize,
    /// Upper limit on the memory for keys, values and states, in bytes. Where it is reached, fewer completions are sampled
    /// at a time.
    pub max_cache_bytes: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingParams::default(),
            max_new_tokens: 256,
            min_new_tokens: 0,
            stop_token_ids: Vec::new(),
            stop_strings: Vec::new(),
            ignore_eos: false,
            max_slots: 512,
            max_cache_bytes: 2 << 30,
        }
    }
}

impl GenerateOptions {
    /// How many of so many completions, of up to `capacity` tokens with their prompts, a model samples at a time.
    pub fn n_slots(&self, model: &ModelConfig, n_completions: usize, capacity: usize) -> usize {
        // Beside the slots there is room for what the next completions of a prompt begin with.
        let for_slots = self.max_cache_bytes.saturating_sub(model.state_bytes());
        let affordable = for_slots / model.cache_bytes(capacity).max(1);
        self.max_slots.min(n_completions).min(affordable).max(1)
    }
}

/// Refuses prompts that cannot be continued.
pub(crate) fn check(
    model: &ModelConfig,
    requests: &[Request],
    options: &GenerateOptions,
) -> Result<(), GenerateError> {
    let (context, vocab_size) = (model.context(), model.vocab_size);
    let max_new_tokens = options.max_new_tokens;
    for (prompt_idx, request) in requests.iter().enumerate() {
        let tokens = &request.prompt_tokens;
        let n_tokens = tokens.len();
        if n_tokens == 0 {
            return Err(GenerateError::EmptyPrompt { prompt_idx });
        }
        if n_tokens + max_new_tokens > context {
            return Err(GenerateError::TooLong {
                prompt_idx,
                n_tokens,
                max_new_tokens,
                context,
            });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(GenerateError::UnknownToken {
                prompt_idx,
                token,
                vocab_size,
            });
        }
    }
    Ok(())
}
