//! The problems of an evaluation.

use crate::config::{DataSource, TrainConfig, check_completions};
use crate::data::{self, PromptedProblem, Reading, TrainData};
use crate::failure::Failure;
use crate::models::long_context;
use crate::train::setup::{check_fits, set_up_tokenizer};
use rpg_core::model::{CausalLm, ModelConfig};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::path::Path;

/// A problem and its place, from which its completions' seeds come.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalProblem {
    /// Its place in its set.
    pub place: u64,
    /// The problem.
    pub problem: PromptedProblem,
}

/// Makes a model and its tokenizer ask problems as a config says.
pub fn ask_as<B: DecodeBackend>(
    config: &TrainConfig,
    policy: CausalLm<B>,
    tokenizer: &mut Tokenizer,
) -> Result<CausalLm<B>, Failure> {
    set_up_tokenizer(config, tokenizer);
    if config.model.long_context {
        return long_context("model.long_context", policy);
    }
    Ok(policy)
}

/// Refuses problems whose completions may become longer than the model's context, and more completions than are in
/// memory at a time.
pub fn check_problems(
    problems: &[EvalProblem],
    config: &TrainConfig,
    model: &ModelConfig,
) -> Result<(), Failure> {
    let n_samples = config.evaluate.samples.get();
    check_completions("problems * samples", problems.len() * n_samples)?;
    problems
        .iter()
        .try_for_each(|one| check_fits(config, model, "the model", &one.problem))
}

/// All problems of a file, read as a config says, with what the user should know of them.
pub fn problems_of_file(
    file: &Path,
    config: &TrainConfig,
    tokenizer: &Tokenizer,
    reading: Reading<'_>,
) -> Result<(Vec<PromptedProblem>, Vec<String>), Failure> {
    // A set to train on of which nothing is held out.
    let source = DataSource {
        train: Some(file.into()),
        eval: None,
        task: None,
        ..config.data.clone()
    };
    let data = data::load(&source, tokenizer, config.seed, 0, reading)?;
    let TrainData::Files(train) = data.train else {
        return Err(Failure::internal("a file has given generated problems"));
    };
    Ok((train.problems().to_vec(), data.notes))
}

/// The held-out problems of a run, with what the user should know of them.
pub fn held_out_of_run(
    config: &TrainConfig,
    tokenizer: &Tokenizer,
    reading: Reading<'_>,
) -> Result<(Vec<PromptedProblem>, Vec<String>), Failure> {
    let n = config.evaluate.problems;
    let data = data::load(&config.data, tokenizer, config.seed, n, reading)?;
    Ok((data.eval, data.notes))
}
