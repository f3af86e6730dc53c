//! Mean@k: the share of right answers among k samples of every problem.

use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::train::grading::{Grader, Sampled};
use crate::train::rollout::Sampler;
use rpg_core::ops::DecodeBackend;
use rpg_core::seed::{derive, stream};

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Share of right answers among the completions that have a grade.
    pub mean_at_k: f64,
    /// The completions and their grades.
    pub groups: Vec<Sampled>,
}

/// Samples every problem `k` times and grades the answers. The draws depend on the run's seed alone,
/// so that two evaluations differ only by the policy. `go_on` is told what goes on, how much of it is done,
/// and of how much.
pub fn evaluate<B: DecodeBackend>(
    sampler: &Sampler<B>,
    grader: &Grader,
    problems: &[PromptedProblem],
    k: usize,
    seed: u64,
    mut go_on: impl FnMut(&str, usize, usize) -> bool,
) -> Result<Evaluation, Failure> {
    let seed_of = |prompt: usize, sample: usize| {
        derive(seed, &[stream::EVALUATE, prompt as u64, sample as u64])
    };
    let groups = sampler.sample(problems, k, seed_of, |progress| {
        go_on("evaluating", progress.n_finished, progress.n_completions)
    })?;
    let groups = grader.grade(problems, groups, &mut |done, all| {
        go_on("grading", done, all)
    })?;
    let graded = || {
        let grades = groups.iter().flat_map(|group| &group.grades);
        grades.filter_map(|grade| grade.correct)
    };
    let n_graded = graded().count();
    if n_graded == 0 {
        let first = groups.iter().flat_map(|group| &group.grades).next();
        let error = first.and_then(|grade| grade.error.as_ref());
        return Err(Failure::reward(format!(
            "reward.command: no completion of the evaluation has a score; the first: {}",
            error.map_or_else(String::new, ToString::to_string)
        ))
        .hint("what the command wrote on standard error stands above"));
    }
    let mean_at_k = graded().filter(|&correct| correct).count() as f64 / n_graded as f64;
    Ok(Evaluation { mean_at_k, groups })
}
