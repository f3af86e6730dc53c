//! Sampling for steps and evaluations.

use super::report::{Activity, Progress};
#[cfg(feature = "server")]
use super::servers;
use crate::data::PromptedProblem;
use crate::failure::Failure;
#[cfg(feature = "server")]
use crate::failure::FailureKind;
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

/// What a sampler's error is to the run.
pub(super) fn of_sampler(error: GenerateError) -> Failure {
    match error {
        #[cfg(feature = "server")]
        GenerateError::Server(error) => servers::failure(FailureKind::Sampler, &error),
        GenerateError::Interrupted => Failure::interrupted(),
        other => Failure::internal(other),
    }
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
        _ => of_sampler(error),
    }
}
