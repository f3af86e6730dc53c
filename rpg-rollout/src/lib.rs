//! Sampling a causal language model in batches.
//!
//! [`generate`](generate::generate) keeps a fixed number of slots busy (continuous batching) and keeps the
//! log-probability of every token under the definition that [`rpg_core::score`] uses.

pub mod generate;
pub mod rollouts;
pub mod sampling;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
