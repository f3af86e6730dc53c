//! What stands around the loop: what a run begins with, and what it leaves behind.

use super::grading::Grader;
use crate::config::TrainConfig;
use crate::data::{self, Data, PromptedProblem};
use crate::failure::Failure;
use crate::optim::AdamWConfig;
use crate::run_folder::RunFolder;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use rpg_rollout::generate::GenerateOptions;
use rpg_rollout::sampling::SamplingParams;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// What a run begins with.
pub struct Start<B: DecodeBackend> {
    /// The policy.
    pub model: CausalLm<B>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What completions are worth.
    pub grader: Grader,
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
}

/// What a run ends with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Mean@k on the held-out problems before the first step.
    pub before: f64,
    /// And behind the last.
    pub after: f64,
    /// k.
    pub k: usize,
    /// Steps of reinforcement learning.
    pub steps: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// Whether the user stopped the run.
    pub interrupted: bool,
}

/// Refuses prompts that do not fit the model before the first token is sampled.
pub fn check_context<B: DecodeBackend>(
    config: &TrainConfig,
    model: &CausalLm<B>,
    data: &Data,
) -> Result<(), Failure> {
    let context = model.config().max_position_embeddings;
    let fits = |problem: &PromptedProblem| {
        let n = problem.prompt_tokens.len();
        if n + config.rollout.max_new_tokens <= context {
            return Ok(());
        }
        Err(Failure::input(format!(
            "problem {}: its prompt of {n} tokens and rollout.max_new_tokens = {} are more than the \
             model's context of {context}",
            problem.problem.id, config.rollout.max_new_tokens
        ))
        .hint("lower rollout.max_new_tokens or data.max_prompt_tokens"))
    };
    data.eval.iter().try_for_each(fits)?;
    match &data.train {
        data::TrainData::File { problems, .. } => problems.iter().try_for_each(fits),
        data::TrainData::Task { .. } => fits(&data.train.get(0)?),
    }
}

/// Draws the learning curve and writes `summary.json`.
pub fn finish(folder: &RunFolder, outcome: &Outcome) -> Result<PathBuf, Failure> {
    let name = format!("mean@{}", outcome.k);
    let summary = json!({
        "before": {&name: outcome.before},
        "after": {&name: outcome.after},
        "steps": outcome.steps,
        "seconds": outcome.seconds,
    });
    folder.write("summary.json", format!("{summary:#}\n").as_bytes())?;
    crate::report::curve::draw(folder)
}

/// The newest checkpoint of a run.
pub fn newest_checkpoint(folder: &RunFolder) -> Result<PathBuf, Failure> {
    folder.checkpoints()?.pop().ok_or_else(|| {
        Failure::input(format!(
            "{}: no checkpoint to go on from",
            folder.root().display()
        ))
        .hint("start the run again in a new folder")
    })
}

/// The optimizer of a config.
pub(super) fn adamw_config(config: &TrainConfig) -> AdamWConfig {
    let optimizer = &config.optimizer;
    AdamWConfig {
        betas: optimizer.betas,
        eps: optimizer.eps,
        weight_decay: optimizer.weight_decay,
    }
}

/// How a run samples.
pub(super) fn generate_options(config: &TrainConfig, sampling: SamplingParams) -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.sampling = sampling;
    options.max_new_tokens = config.rollout.max_new_tokens;
    options.max_slots = config.rollout.max_slots;
    options
}
