//! Causal language models on Burn: load a Hugging Face folder or a GGUF file, sample from it, score text with
//! it.
//!
//! [`model::CausalLm`] runs Llama-like models (Llama 3, SmolLM2, Mistral, Qwen2.5, Qwen3),
//! [`generate`](generate::generate) samples from it in batches, [`score`](score::score) gives
//! differentiable log-probabilities. The sampler keeps the log-probability of every token under the same
//! definition that the scorer uses.

pub mod cache;
pub mod chat;
pub mod generate;
pub mod gguf;
pub mod model;
pub mod ops;
pub mod sampling;
pub mod score;
pub mod tokenizer;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
