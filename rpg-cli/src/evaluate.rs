//! Mean@k: the share of right answers among k samples of every problem.

use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::train::rollout::{Sampled, Sampler};
use rpg_core::seed::{derive, stream};
use rpg_rollout::generate::Progress;
use rpg_rollout::ops::ModelBackend;

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
    sampler: &Sampler<B>,
    problems: &[PromptedProblem],
    k: usize,
    seed: u64,
    on_progress: impl FnMut(Progress) -> bool,
) -> Result<Evaluation, Failure> {
    let seed_of = |prompt: usize, sample: usize| {
        derive(seed, &[stream::EVALUATE, prompt as u64, sample as u64])
    };
    let groups = sampler.sample(problems, k, seed_of, on_progress)?;
    let verdicts = || groups.iter().flat_map(|group| &group.verdicts);
    let n_right = verdicts().filter(|verdict| verdict.correct).count();
    let mean_at_k = n_right as f64 / verdicts().count().max(1) as f64;
    Ok(Evaluation { mean_at_k, groups })
}
