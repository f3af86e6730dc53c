//! Completions from inference servers: vLLM's and SGLang's own HTTP interfaces, tokens in, tokens and log-probs out.
//!
//! [`ServerRollouts`](rollouts::ServerRollouts) is what a trainer uses. Servers are started by whoever runs them; they read
//! new weights from a folder that they share with the trainer.

mod board;
pub mod engine;
pub mod error;
pub mod fleet;
mod http;
mod keeper;
pub mod options;
pub mod rollouts;
mod sglang;
mod vllm;
mod weights;
