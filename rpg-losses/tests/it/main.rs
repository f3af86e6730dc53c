//! All integration tests in one binary, which links once.

mod common;

mod advantages;
mod clip_bounds;
mod config;
mod diagnostics;
mod docs;
mod edge_cases;
mod golden;
mod gradients;
mod kinds;
mod kl_terms;
mod policy_loss;
mod properties;
mod request;
mod rollout;
