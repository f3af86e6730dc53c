//! Mean@k: the share of right answers among k samples of every problem.

use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::train::rollout::{Sampled, sample_groups};
use rpg_core::seed::{derive, stream};
use rpg_reward::GradeOptions;
use rpg_rollout::generate::{GenerateOptions, Progress};
use rpg_rollout::model::CausalLm;
use rpg_rollout::ops::ModelBackend;
use rpg_rollout::tokenizer::Tokenizer;

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Share of right answers.
    pub mean_at_k: f64,
    /// The completions and their grades.
    pub groups: Vec<Sampled>,
}

/// Samples every problem `k` times and grades the answers. The draws depend on the run's seed alone,
/// so that two evaluations differ only by the policy.
pub fn evaluate<B: ModelBackend>(
    model: &CausalLm<B>,
    tokenizer: &Tokenizer,
    problems: &[PromptedProblem],
    k: usize,
    seed: u64,
    options: &GenerateOptions,
    grade: &GradeOptions,
    on_progress: impl FnMut(Progress) -> bool,
) -> Result<Evaluation, Failure> {
    let seed_of = |prompt: usize, sample: usize| {
        derive(seed, &[stream::EVALUATE, prompt as u64, sample as u64])
    };
    let groups = sample_groups(
        model,
        tokenizer,
        problems,
        k,
        seed_of,
        options,
        grade,
        on_progress,
    )?;
    let n_right: usize = groups
        .iter()
        .flat_map(|group| &group.verdicts)
        .filter(|verdict| verdict.correct)
        .count();
    let n_all: usize = groups.iter().map(|group| group.verdicts.len()).sum();
    Ok(Evaluation {
        mean_at_k: n_right as f64 / n_all.max(1) as f64,
        groups,
    })
}
