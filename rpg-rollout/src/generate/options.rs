//! What a rollout is asked for, and why it may be refused.

use crate::sampling::SamplingParams;
use rpg_core::model::CausalLm;
use rpg_core::ops::ModelBackend;
use rpg_core::tokenizer::TokenizerError;

/// One prompt and how often to continue it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The prompt's tokens; at least one.
    pub prompt_tokens: Vec<u32>,
    /// The seed of each sample; their number is the size of the group.
    pub seeds: Vec<u64>,
}

/// Settings of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// A completion ends after this many tokens.
    pub max_new_tokens: usize,
    /// Before it has this many, no token that would end it is drawn. Log-probs stay those of the full
    /// distribution.
    pub min_new_tokens: usize,
    /// Tokens that end a completion, besides the model's own end-of-sequence tokens.
    pub stop_token_ids: Vec<u32>,
    /// Texts that end a completion; it keeps the tokens in which the text appeared.
    pub stop_strings: Vec<String>,
    /// Goes on after an end-of-sequence token (for measurements).
    pub ignore_eos: bool,
    /// Completions in flight at a time.
    pub max_slots: usize,
    /// Upper limit on the memory of keys and values, in bytes; lowers the number of slots.
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

/// Why a rollout cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A prompt without tokens has nothing to continue.
    #[error("prompt {prompt_idx} is empty")]
    EmptyPrompt {
        /// Which prompt.
        prompt_idx: usize,
    },
    /// Prompt and completion do not fit the model's context.
    #[error(
        "prompt {prompt_idx} has {n_tokens} tokens; with {max_new_tokens} new ones that is more than the model's context of {context}"
    )]
    TooLong {
        /// Which prompt.
        prompt_idx: usize,
        /// Its tokens.
        n_tokens: usize,
        /// The limit on new tokens.
        max_new_tokens: usize,
        /// The model's context.
        context: usize,
    },
    /// A token id is not in the model's vocabulary.
    #[error("prompt {prompt_idx}: token {token} is not in the model's vocabulary of {vocab_size}")]
    UnknownToken {
        /// Which prompt.
        prompt_idx: usize,
        /// The token.
        token: u32,
        /// The model's vocabulary.
        vocab_size: usize,
    },
    /// The model computes logits that are not numbers.
    #[error("the model's logits are not finite (prompt {prompt_idx}, after {n_tokens} new tokens)")]
    NotFinite {
        /// Which prompt.
        prompt_idx: usize,
        /// Tokens sampled before.
        n_tokens: usize,
    },
    /// The tokenizer cannot decode what was sampled.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Refuses prompts that cannot be continued.
pub(super) fn check<B: ModelBackend>(
    model: &CausalLm<B>,
    requests: &[Request],
    options: &GenerateOptions,
) -> Result<(), GenerateError> {
    let (context, vocab_size) = (
        model.config().max_position_embeddings,
        model.config().vocab_size,
    );
    for (prompt_idx, request) in requests.iter().enumerate() {
        let n_tokens = request.prompt_tokens.len();
        let max_new_tokens = options.max_new_tokens;
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
        if let Some(&token) = request
            .prompt_tokens
            .iter()
            .find(|&&t| t as usize >= vocab_size)
        {
            return Err(GenerateError::UnknownToken {
                prompt_idx,
                token,
                vocab_size,
            });
        }
    }
    Ok(())
}
