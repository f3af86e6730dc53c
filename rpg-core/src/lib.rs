//! The policy, and what travels between the crates of the RPG workspace.
//!
//! [`model::CausalLm`] runs Llama-like models (Llama, SmolLM, Mistral, Qwen, Gemma, OLMo, Granite, Phi), and hybrids with
//! gated delta networks (Qwen3.5), read from a Hugging Face folder or a GGUF file; [`score`](score::score) gives differentiable log-probabilities. A [`Problem`] is
//! read from a data set, a rollout turns it into a [`Group`] of [`Completion`]s, a grader turns those into
//! rewards. [`seed`] is the rule by which every random draw gets its seed.

pub mod batch;
pub mod cache;
#[cfg(feature = "chat")]
pub mod chat;
mod completion;
mod files;
#[cfg(feature = "gguf")]
pub mod gguf;
pub mod model;
pub mod ops;
mod problem;
pub mod score;
pub mod seed;
#[cfg(feature = "tokenizer")]
pub mod tokenizer;

pub use completion::{Completion, Group, StopReason};
pub use problem::{Columns, Message, Problem, Prompt, Role};

/// The examples of the README compile.
#[cfg(all(doctest, feature = "cpu", feature = "tokenizer", feature = "chat"))]
#[doc = include_str!("../README.md")]
struct Readme;
