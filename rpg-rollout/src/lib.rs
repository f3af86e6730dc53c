//! Sampling causal language models in batches.
//!
//! [`generate`](generate::generate) keeps a fixed number of slots busy (continuous batching) and returns the
//! log-probability of every token, as [`rpg_core::score`] defines it. [`Rollouts`](rollouts::Rollouts) is what a
//! trainer asks for completions.

pub mod generate;
pub mod rollouts;
pub mod sampling;
#[cfg(feature = "server")]
pub mod server;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
