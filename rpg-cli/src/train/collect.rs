//! Sampling for steps and evaluations, and the evaluation itself.

use super::grading::Grader;
use super::report::{Activity, Progress};
use super::sample::GradedGroup;
use crate::config::TrainConfig;
use crate::data::PromptedProblem;
use crate::failure::Failure;
use rpg_core::Group;
use rpg_core::ops::DecodeBackend;
use rpg_core::seed::{derive, stream};
use rpg_rollout::generate::{GenerateError, GenerateOptions, Request};
use rpg_rollout::rollouts::Rollouts;
use rpg_rollout::sampling::SamplingParams;
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

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Share of right answers among the completions that have a grade.
    pub mean_at_k: f64,
    /// The completions and their grades.
    pub groups: Vec<GradedGroup>,
}

/// Samples every problem `evaluate.samples` times and grades the answers. The draws depend on the run's seed
/// alone, so that two evaluations differ only by the policy.
pub(super) fn evaluate<B: DecodeBackend>(
    rollouts: &mut dyn Rollouts<B>,
    grader: &Grader,
    problems: &[PromptedProblem],
    config: &TrainConfig,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Evaluation, Failure> {
    let seed_of = |prompt: usize, sample: usize| {
        derive(
            config.seed,
            &[stream::EVALUATE, prompt as u64, sample as u64],
        )
    };
    let sampling = SamplingParams {
        temperature: config.evaluate.temperature.get(),
        ..Default::default()
    };
    let groups = sample(
        rollouts,
        problems,
        config.evaluate.samples.get(),
        seed_of,
        &config.generate_options(sampling),
        Activity::Evaluating,
        on_progress,
    )?;
    let groups = grader.grade(problems.to_vec(), groups, &mut |done, total| {
        on_progress(Progress::new(Activity::Grading, done, total))
    })?;
    let Some(mean_at_k) = mean_at_k(&groups) else {
        let first = groups.iter().flat_map(|group| &group.samples).next();
        let error = first.and_then(|sample| sample.grade.error.as_ref());
        return Err(grader.no_score("the evaluation", error));
    };
    Ok(Evaluation { mean_at_k, groups })
}

/// The share of right answers among the completions that have a grade, if there are any.
pub(super) fn mean_at_k<'a>(groups: impl IntoIterator<Item = &'a GradedGroup>) -> Option<f64> {
    let samples = groups.into_iter().flat_map(|group| &group.samples);
    let graded = samples.filter_map(|sample| sample.grade.correct);
    let (n_right, n) = graded.fold((0usize, 0usize), |(n_right, n), correct| {
        (n_right + usize::from(correct), n + 1)
    });
    (n > 0).then(|| n_right as f64 / n as f64)
}
