//! What a rollout produces.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// The policy sampled an end-of-sequence token.
    Eos,
    /// The policy sampled one of the caller's stop tokens.
    StopToken,
    /// One of the caller's stop strings appeared.
    StopString,
    /// The limit on new tokens, or the model's context, was reached.
    Length,
}

/// One sampled response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The sampled tokens, with the end-of-sequence token if there was one.
    pub tokens: Vec<u32>,
    /// The log-probability of each sampled token under the distribution that training scores: the full softmax at
    /// the sampling temperature (nats; same length as `tokens`).
    pub logprobs: Vec<f32>,
    /// The tokens as text, without special tokens.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
}

/// All completions of one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Which prompt of the batch this is.
    pub prompt_idx: usize,
    /// The prompt's tokens, those of the request: made once, never tokenised again.
    pub prompt_tokens: Arc<[u32]>,
    /// The samples, in order of their sample index.
    pub completions: Vec<Completion>,
}
