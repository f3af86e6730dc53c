//! What an inference server must be, and the calls by which it is asked.

/// What a server must be able to do for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Tokens of the longest prompt and its completion.
    pub max_tokens: usize,
    /// Tokens of the policy's vocabulary.
    pub vocab_size: usize,
    /// Whether adapters are loaded, not whole models.
    pub adapter: bool,
    /// The rank of the adapters.
    pub lora_rank: Option<usize>,
}
