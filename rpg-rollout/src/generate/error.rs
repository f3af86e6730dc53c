//! Why a rollout is refused or fails.

#[cfg(feature = "server")]
use crate::server::error::ServerError;
use rpg_core::tokenizer::TokenizerError;

/// Why a rollout cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// The model computed logits that are not numbers.
    #[error("the model's logits are not finite (prompt {prompt_idx}, after {n_tokens} new tokens)")]
    NotFinite {
        /// Which prompt.
        prompt_idx: usize,
        /// Tokens sampled before it.
        n_tokens: usize,
    },
    /// The tokenizer cannot decode what was sampled.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Completions were asked for before [`Rollouts::sync`](crate::rollouts::Rollouts::sync) gave a policy.
    #[error("there is no policy to sample from yet: `sync` comes first")]
    NoPolicy,
    /// The inference servers cannot be used, or no longer.
    #[cfg(feature = "server")]
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A sampler outside this crate failed.
    #[error("sampler: {0}")]
    External(#[source] Box<dyn std::error::Error + Send + Sync>),
}
