//! The trainer's evaluations: which problems each measures, what is logged, and which is the best.

use super::{Answers, Best, EvalProblem, Evaluation, Sources, evaluate};
use crate::checkpoint::TrainerState;
use crate::config::{Count, TrainConfig};
use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::run_folder::RunFolder;
use crate::train::grading::Grader;
use crate::train::ranks::Team;
use crate::train::report::{Metrics, Moment, Progress};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_rollout::rollouts::Rollouts;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// The held-out problems of a run.
pub(in crate::train) struct HeldOut {
    sources: Sources,
    k: usize,
    keeps_best: bool,
    /// The places of all problems.
    all: Vec<usize>,
    /// The places of those that every evaluation measures: those of a measurement during training.
    common: Vec<usize>,
    /// The newest Mean@k; NaN before the first.
    pub(in crate::train) last: f64,
}

impl HeldOut {
    pub(in crate::train) fn new(problems: &[PromptedProblem], config: &TrainConfig) -> Self {
        let sources: Vec<&str> = problems
            .iter()
            .map(|prompted| prompted.problem.data_source.as_str())
            .collect();
        let evaluate = &config.evaluate;
        let during = evaluate.problems_during.filter(|_| evaluate.every > 0);
        let k = evaluate.samples.get();
        Self {
            all: (0..problems.len()).collect(),
            common: spread(&sources, during.map_or(usize::MAX, Count::get)),
            sources: Sources::new(sources, k),
            k,
            keeps_best: config.checkpoint.keep_best,
            last: f64::NAN,
        }
    }

    /// Takes over the newest Mean@k of a resumed run; `before` is that before the first step.
    pub(in crate::train) fn resume(
        &mut self,
        folder: &RunFolder,
        before: f64,
    ) -> Result<(), Failure> {
        self.last = self.sources.last(folder)?.unwrap_or(before);
        Ok(())
    }

    /// Measures a policy.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::train) fn measure<B: DecodeBackend>(
        &self,
        policy: CausalLm<B>,
        moment: Moment,
        problems: &[PromptedProblem],
        rollouts: &mut dyn Rollouts<B>,
        grader: &Grader,
        config: &TrainConfig,
        team: &Team,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Evaluation, Failure> {
        rollouts
            .sync_for_evaluation(&policy)
            .map_err(Failure::internal)?;
        drop(policy);
        let problems = self.places(moment).iter().map(|&place| EvalProblem {
            place: place as u64,
            problem: problems[place].clone(),
        });
        let problems = problems.collect();
        let sources = &self.sources;
        let evaluation = evaluate(
            rollouts,
            grader,
            problems,
            sources,
            config,
            team,
            on_progress,
        )?;
        rollouts.release();
        Ok(evaluation)
    }

    /// Adds the scores to the metrics, and the evaluation to the state of the run if it is the best so far; returns whether
    /// it is, and the policy is to be kept.
    pub(in crate::train) fn add(
        &mut self,
        moment: Moment,
        evaluation: &Evaluation,
        grader: &Grader,
        state: &mut TrainerState,
        metrics: &mut Metrics,
    ) -> bool {
        self.last = evaluation.mean_at_k;
        for scores in &evaluation.scores {
            for (name, value) in scores.metrics(grader.has_own_reward()) {
                metrics.add(&name, value);
            }
        }
        let measured = self.places(moment);
        let answers = |&place: &usize| {
            let at = measured.binary_search(&place).ok()?;
            Some(Answers::from(&evaluation.groups[at]))
        };
        let common: Vec<Answers> = self.common.iter().filter_map(answers).collect();
        let candidate = Best::candidate(state.steps, self.k, &common);
        let is_best = candidate.is_some_and(|one| one.compete(&mut state.best, metrics));
        is_best && self.keeps_best
    }

    /// The places of the problems that an evaluation measures, in ascending order.
    fn places(&self, moment: Moment) -> &[usize] {
        match moment {
            Moment::Before | Moment::After => &self.all,
            Moment::During => &self.common,
        }
    }
}

/// The places of `n` problems, in ascending order: the first ones of every source, equally many of each as far as it has so many.
fn spread(sources: &[&str], n: usize) -> Vec<usize> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut places: Vec<(usize, usize)> = sources
        .iter()
        .enumerate()
        .map(|(place, &source)| {
            let n_before = seen.entry(source).or_default();
            *n_before += 1;
            (*n_before, place)
        })
        .collect();
    places.sort_unstable();
    let mut places: Vec<usize> = places.into_iter().take(n).map(|(_, place)| place).collect();
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_problems_has_some_of_every_source() {
        let sources = ["a", "a", "a", "a", "b", "c", "c"];
        for (n, expected) in [
            (0, &[][..]),
            (2, &[0, 4]),
            (4, &[0, 1, 4, 5]),
            (5, &[0, 1, 4, 5, 6]),
            (6, &[0, 1, 2, 4, 5, 6]),
            (usize::MAX, &[0, 1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(spread(&sources, n), expected, "{n}");
        }
        // Of one source, the first.
        assert_eq!(spread(&["a"; 5], 3), [0, 1, 2]);
    }
}
