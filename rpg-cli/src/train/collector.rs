//! Collects what the loop learns from: samples and grades until a step has its groups, and measures policies.

use super::collect::{of_sampler, sample};
use super::evaluation::{EvalProblem, Evaluation, Sources, evaluate};
use super::grading::Grader;
use super::length::Length;
use super::ranks::{Team, in_shares};
use super::report::{Activity, Progress, Timing};
use super::sample::Rollout;
use super::versions::Order;
use crate::config::TrainConfig;
use crate::data::{PromptedProblem, TrainData};
use crate::failure::Failure;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::seed::of_sample;
use rpg_rollout::rollouts::Rollouts;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Is told how far the sampling or grading is, and may stop it.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// What a step learns from.
pub(super) struct Collected {
    pub(super) rollout: Rollout,
    /// The position in the data after it.
    pub(super) n_problems: u64,
    /// Complete passes over the training file up to there.
    pub(super) epoch: u64,
    /// What the sampler has to say about it.
    pub(super) of_sampler: BTreeMap<String, f64>,
    pub(super) timing: Timing,
}

/// A policy that is to be measured, and on what.
pub(super) struct Measurement<B: DecodeBackend> {
    pub(super) policy: CausalLm<B>,
    pub(super) problems: Vec<EvalProblem>,
    pub(super) sources: Sources,
}

/// Has the sampler, the grader and the problems. It may work in another thread than the loop.
pub(super) struct Collector<'a, B: DecodeBackend> {
    pub(super) config: &'a TrainConfig,
    pub(super) length: Length,
    pub(super) train: TrainData,
    /// The position in the data.
    pub(super) n_problems: u64,
    pub(super) rollouts: Box<dyn Rollouts<B> + 'a>,
    pub(super) grader: Arc<Grader>,
    pub(super) team: Team,
}

impl<B: DecodeBackend> Collector<'_, B> {
    /// Whether the run ends before this step.
    pub(super) fn is_beyond_end(&self, step: u64) -> bool {
        self.length.is_over(step - 1, self.n_problems)
    }

    /// Samples and grades until the step has its groups. Groups that `train.filter` leaves out are replaced as far as
    /// `train.max_generation_batches` allows.
    pub(super) fn step(
        &mut self,
        order: Order<B>,
        on_progress: OnProgress<'_>,
    ) -> Result<Collected, Failure> {
        let mut timing = Timing::start();
        let Order {
            step,
            version,
            policy,
        } = order;
        self.rollouts.sync(&policy).map_err(of_sampler)?;
        drop(policy);
        let config = self.config;
        let wanted = config.rollout.prompts_per_step.get();
        let limit = config.train.max_generation_batches;
        let options = config.generate_options(config.sampling());
        let mut rollout = Rollout {
            version,
            ..Rollout::default()
        };
        while rollout.kept.len() < wanted && rollout.n_batches < limit.max(1) {
            let problems = self.next_problems(wanted as u64)?;
            let first = rollout.groups.len();
            let groups = in_shares(&self.team, problems, |start, problems| {
                let first = first + start;
                let groups = sample(
                    self.rollouts.as_mut(),
                    &problems,
                    config.rollout.samples_per_prompt.get(),
                    |i, j| of_sample(config.seed, step, (first + i) as u64, j as u64),
                    &options,
                    Activity::Sampling,
                    on_progress,
                )?;
                timing.lap("gen");
                self.grader.grade(problems, groups, &mut |done, total| {
                    on_progress(Progress::new(Activity::Grading, done, total))
                })
            })?;
            self.grader
                .check_scored("the first step", &groups, &self.team)?;
            let filter = (limit > 0).then_some(config.train.filter);
            rollout.add(groups, filter, wanted);
            timing.lap("reward");
            rollout.n_batches += 1;
        }
        self.rollouts.release();
        Ok(Collected {
            rollout,
            n_problems: self.n_problems,
            epoch: self.train.epoch(self.n_problems),
            of_sampler: self.rollouts.take_metrics(),
            timing,
        })
    }

    fn next_problems(&mut self, n: u64) -> Result<Vec<PromptedProblem>, Failure> {
        let first = self.n_problems;
        self.n_problems += n;
        (first..first + n)
            .map(|index| self.train.get(index))
            .collect()
    }

    /// Measures a policy.
    pub(super) fn measure(
        &mut self,
        measurement: Measurement<B>,
        on_progress: OnProgress<'_>,
    ) -> Result<Evaluation, Failure> {
        let Measurement {
            policy,
            problems,
            sources,
        } = measurement;
        self.rollouts
            .sync_for_evaluation(&policy)
            .map_err(of_sampler)?;
        drop(policy);
        let evaluation = evaluate(
            self.rollouts.as_mut(),
            &self.grader,
            problems,
            &sources,
            self.config,
            &self.team,
            on_progress,
        )?;
        self.rollouts.release();
        Ok(evaluation)
    }
}
