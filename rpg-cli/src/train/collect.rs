//! Sampling for steps and evaluations.

use super::report::{Activity, Progress};
use crate::data::PromptedProblem;
use crate::failure::Failure;
use rpg_core::Group;
use rpg_core::ops::DecodeBackend;
use rpg_rollout::generate::{GenerateError, GenerateOptions, Request};
use rpg_rollout::rollouts::Rollouts;
use std::ops::ControlFlow;

/// Samples `n_samples` completions of every problem, in the order of the problems.
/// `seed_of(problem, sample)` seeds each completion; `on_progress` may stop the sampling.
pub(super) fn sample<B: DecodeBackend>(
    rollouts: &mut dyn Rollouts<B>,
    problems: &[PromptedProblem],
    n_samples: usize,
    seed_of: impl Fn(usize, usize) -> u64,
    options: &GenerateOptions,
    activity: Activity,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Group>, Failure> {
    let requests: Vec<Request> = problems
        .iter()
        .enumerate()
        .map(|(i, problem)| {
            let seeds = (0..n_samples).map(|j| seed_of(i, j));
            Request::new(problem.prompt_tokens.clone(), seeds)
        })
        .collect();
    rollouts
        .sample(&requests, options, &mut |progress| {
            let (done, total) = (progress.n_finished, progress.n_completions);
            on_progress(Progress::new(activity, done, total))
        })
        .map_err(|e| failure(e, problems))
}

fn failure(error: GenerateError, problems: &[PromptedProblem]) -> Failure {
    let id = |prompt_idx: usize| &problems[prompt_idx].problem.id;
    match &error {
        GenerateError::TooLong { prompt_idx, .. } => {
            Failure::input(format!("problem {}: {error}", id(*prompt_idx)))
                .hint("lower rollout.max_new_tokens or data.max_prompt_tokens")
        }
        GenerateError::EmptyPrompt { prompt_idx }
        | GenerateError::UnknownToken { prompt_idx, .. } => {
            Failure::input(format!("problem {}: {error}", id(*prompt_idx)))
        }
        GenerateError::Interrupted => Failure::interrupted(),
        _ => Failure::internal(error),
    }
}
