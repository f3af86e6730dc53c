//! Measuring a policy on problems: the trainer's held-out ones and those of `rpg eval`.

mod best;
mod held_out;
mod problems;
mod regrade;
mod scores;
pub mod statistics;

pub use best::Best;
pub(super) use held_out::HeldOut;
pub use problems::{EvalProblem, ask_as, check_problems, held_out_of_run, problems_of_file};
pub use regrade::{Regraded, SampleLine, by_problem, regrade, sample_lines};
pub use scores::{Answer, Answers, Pass, Scores, Sources, mean_at_k};

use super::collect::sample;
use super::grading::Grader;
use super::ranks::{Team, in_shares};
use super::report::{Activity, Progress};
use super::sample::GradedGroup;
use crate::config::TrainConfig;
use crate::data::PromptedProblem;
use crate::failure::Failure;
use rpg_core::ops::DecodeBackend;
use rpg_core::seed::{derive, stream};
use rpg_rollout::rollouts::Rollouts;
use rpg_rollout::sampling::SamplingParams;
use std::ops::ControlFlow;

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Mean@k over all problems.
    pub mean_at_k: f64,
    /// The scores of all problems, then those by source if there are several.
    pub scores: Vec<Scores>,
    /// The completions and their grades.
    pub groups: Vec<GradedGroup>,
}

/// Samples every problem `evaluate.samples` times and grades the answers. The draws depend on the run's seed and the
/// problem's place alone, so that two evaluations differ only by the policy. `rollouts` has the policy already. Each rank of the
/// team has a share of the problems, and all get the result.
pub fn evaluate<B: DecodeBackend>(
    rollouts: &mut dyn Rollouts<B>,
    grader: &Grader,
    problems: Vec<EvalProblem>,
    sources: &Sources,
    config: &TrainConfig,
    team: &Team,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Evaluation, Failure> {
    let (places, problems): (Vec<u64>, Vec<PromptedProblem>) = problems
        .into_iter()
        .map(|one| (one.place, one.problem))
        .unzip();
    let sampling = SamplingParams {
        temperature: config.evaluate.temperature.get(),
        ..Default::default()
    };
    let groups = in_shares(team, problems, |first, problems| {
        let seed_of = |prompt: usize, sample: usize| {
            let path = [stream::EVALUATE, places[first + prompt], sample as u64];
            derive(config.seed, &path)
        };
        let groups = sample(
            rollouts,
            &problems,
            config.evaluate.samples.get(),
            seed_of,
            &config.generate_options(sampling),
            Activity::Evaluating,
            on_progress,
        )?;
        grader.grade(problems, groups, &mut |done, total| {
            on_progress(Progress::new(Activity::Grading, done, total))
        })
    })?;
    let answers: Vec<Answers> = groups.iter().map(Answers::from).collect();
    let scores = sources.scores(&answers, config.seed);
    let Some(mean) = scores.first().and_then(|all| all.mean) else {
        let first = groups.iter().flat_map(|group| &group.samples).next();
        let error = first.and_then(|sample| sample.grade.error.as_ref());
        return Err(grader.no_score("the evaluation", error));
    };
    Ok(Evaluation {
        mean_at_k: mean.value,
        scores,
        groups,
    })
}
