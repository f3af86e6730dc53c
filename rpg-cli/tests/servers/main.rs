//! Training over inference servers: fakes in this process and, where there is one, a real vLLM.

#[path = "../../../rpg-rollout/tests/server/fake.rs"]
#[allow(dead_code)]
mod fake;
mod fakes;
mod refused;
mod runs;
#[cfg(unix)]
mod vllm;
