//! Training over inference servers: fakes in this process and, where there is one, a real vLLM.

mod runs;
#[cfg(unix)]
mod vllm;
