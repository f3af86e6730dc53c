//! The training loop.

use super::ahead::Sampler;
use super::collector::{Collected, Measurement};
use super::evaluation::HeldOut;
use super::grading::Grader;
use super::learner::Learner;
use super::length::Length;
use super::loss::{UpdateLoss, UpdateReport, UpdateSums};
use super::prepare::{Batch, Response, prepare};
use super::ranks::Team;
use super::reference::Reference;
use super::report::{Activity, Event, Metrics, Moment, Progress, Reporters, Timing};
use super::setup::Outcome;
use super::stops::{Pace, Stops};
use super::versions::Versions;
use crate::best;
use crate::checkpoint::TrainerState;
use crate::config::TrainConfig;
use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::run_folder::RunFolder;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::passes;
use rpg_core::tokenizer::Tokenizer;
use rpg_losses::StepTotals;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// A training run.
pub struct Trainer<'a, B: DecodeBackend> {
    pub(super) config: &'a TrainConfig,
    pub(super) folder: &'a RunFolder,
    pub(super) tokenizer: Tokenizer,
    pub(super) eval: Vec<PromptedProblem>,
    // What the user should know of the data.
    pub(super) notes: Vec<String>,
    pub(super) length: Length,
    pub(super) held_out: HeldOut,
    pub(super) learner: Learner<B>,
    pub(super) reference: Reference<'a, B>,
    pub(super) sampler: Sampler<'a, B>,
    pub(super) versions: Versions<B>,
    pub(super) grader: Arc<Grader>,
    pub(super) team: Team,
    pub(super) reporters: Reporters<'a>,
    pub(super) interrupt: Interrupt,
    pub(super) state: TrainerState,
    // Set from the first update of a step to its end: the policy and `state` do not match.
    pub(super) within_step: bool,
    pub(super) is_new: bool,
    pub(super) pace: Pace,
    pub(super) started: Instant,
    pub(super) seconds_before: f64,
}

impl<B: DecodeBackend> Trainer<'_, B> {
    /// Trains until the last step or an interruption, and writes a checkpoint.
    pub fn run(self) -> Result<Outcome, Failure> {
        thread::scope(|scope| {
            let sampler = self.sampler.start(scope);
            Self { sampler, ..self }.train()
        })
    }

    fn train(mut self) -> Result<Outcome, Failure> {
        if self.is_new {
            // However early the run is killed, it can be resumed.
            self.save()?;
        }
        match self.warm_start().and_then(|()| self.reinforce()) {
            Ok(after) => {
                let checkpoint = self.save()?;
                Ok(self.outcome(after, checkpoint, false))
            }
            Err(failure) => self.stopped(failure),
        }
    }

    /// The paper's Algorithm 2: sample from pi_old, grade, advantages, several updates, reference := policy.
    /// Returns Mean@k after the last step.
    fn reinforce(&mut self) -> Result<f64, Failure> {
        let config = self.config;
        self.begin()?;
        while !(self.length).is_over(self.state.steps, self.state.n_problems) {
            let step = self.state.steps + 1;
            let mut timing = Timing::start();
            let mut metrics = Metrics::new(step, "train");

            // Samples of pi_old, the current policy or one a few steps before it, and their grades.
            let collected = self.collect(&mut timing)?;
            let rollout = &collected.rollout;
            metrics.add_rollout(rollout, config.train.filter, self.grader.has_own_reward());
            metrics.add_all(&collected.of_sampler);

            // Log-probs under pi_old and the reference, if those are not the sampler's; advantages.
            let (learner, reference, team) = (&self.learner, &self.reference, &self.team);
            let on_progress = &mut |done, total| {
                let progress = Progress::new(Activity::Scoring, done, total);
                self.reporters.on_progress(progress);
                self.interrupt.flow()
            };
            let batch = prepare(config, learner, reference, rollout, team, on_progress)?;
            metrics.add_batch(&batch);
            timing.lap("ref");

            if self.team.first(|| Ok(self.pace.asks_for_checkpoint()))? {
                self.save()?;
                timing.lap("save_checkpoint");
            }

            // Several updates, each from its share of the groups.
            let update_started = Instant::now();
            let updates = self.update(step, &batch)?;
            metrics.add_updates(&updates, self.name_of_sampler());
            if config.samples_ahead() {
                metrics.add_staleness(step - 1 - rollout.version, &updates);
            }
            timing.lap("update_actor");
            self.within_step = true;
            self.state.n_problems = collected.n_problems;

            let n_responses = batch.responses.len() as f64;
            self.reference
                .after_step(step, n_responses, &self.learner, &mut metrics)?;
            self.state.steps = step;
            let steps = self.length.steps(&self.state);
            if config.evaluate.due(step, steps) {
                self.evaluate(Moment::During, &mut metrics)?;
                timing.lap("testing");
            }
            self.report(steps, &collected, &updates, metrics, &timing)?;
            self.within_step = false;
            self.pace.updated(update_started.elapsed());
            if self.is_checkpoint_due(step, steps)? {
                self.save()?;
            }
        }
        let mut metrics = Metrics::new(self.state.steps, "final");
        metrics.add_update_counts(&self.state.updates);
        let after = self.evaluate(Moment::After, &mut metrics)?;
        self.reporters.on(&Event::End)?;
        Ok(after.unwrap_or(f64::NAN))
    }

    /// Has the steps sampled that the current policy is for, and waits for the next one.
    fn collect(&mut self, timing: &mut Timing) -> Result<Collected, Failure> {
        let policy = self.learner.policy()?;
        for order in self.versions.orders(self.state.steps, policy) {
            self.sampler.order(order);
        }
        let (reporters, interrupt) = (&mut self.reporters, &self.interrupt);
        let collected = self.sampler.step(&mut |progress| {
            reporters.on_progress(progress);
            interrupt.flow()
        })?;
        if self.config.samples_ahead() {
            timing.lap("wait_for_samples");
        }
        timing.take_over(&collected.timing);
        self.reporters.on(&Event::Graded {
            step: Some(self.state.steps + 1),
            groups: &collected.rollout.groups,
        })?;
        Ok(collected)
    }

    /// What the policy that has sampled is to the one that is trained: the same, unless the optimizer averages or steps are sampled
    /// ahead.
    fn name_of_sampler(&self) -> &'static str {
        if self.config.samples_ahead() {
            "stale"
        } else if self.learner.optimizer().averages() {
            "averaged"
        } else {
            "sampling"
        }
    }

    /// The updates of a step.
    fn update(&mut self, step: u64, batch: &Batch<'_>) -> Result<Vec<UpdateReport>, Failure> {
        let mini_batches = batch.mini_batches(self.config, step);
        let mut reports = Vec::with_capacity(mini_batches.len());
        for mini_batch in &mini_batches {
            // One whose completions are all masked teaches nothing.
            let Some((report, skipped)) = self.update_once(mini_batch)? else {
                continue;
            };
            self.state.updates.add(skipped);
            let is_last = report.is_beyond(self.config.train.stop_at_kl);
            reports.push(report);
            self.within_step = true;
            self.reporters.on(&Event::Updated {
                update: reports.len(),
                updates: mini_batches.len(),
            })?;
            if is_last {
                break;
            }
        }
        Ok(reports)
    }

    /// One update, and whether it was skipped; none without responses.
    fn update_once(
        &mut self,
        responses: &[&Response<'_>],
    ) -> Result<Option<(UpdateReport, bool)>, Failure> {
        let config = self.config;
        if responses.is_empty() {
            return Ok(None);
        }
        let totals = StepTotals {
            n_tokens: responses.iter().map(|response| response.len()).sum(),
            n_responses: responses.len(),
            max_length: config.rollout.max_new_tokens.get(),
        };
        // This rank's share of the gradient of the whole.
        let responses = &responses[self.team.share(responses.len())];
        let place = self.length.place(&self.state);
        let lr = config.learning_rate(place, self.learner.optimizer().n_updates() + 1);
        let mut sums: Option<UpdateSums<B>> = None;
        let stops = Stops::new(&self.interrupt, self.within_step);
        let objective = self.reference.objective();
        let loss = UpdateLoss {
            config,
            objective: &objective,
            totals: &totals,
        };
        let model = self.learner.model_config().clone();
        let micro_batches = || {
            let tokens = config.train.micro_batch_tokens.get();
            passes(&model, responses, tokens, |response| &response.item)
        };
        let (mut done, total) = (0, micro_batches().count());
        let reporters = &mut self.reporters;
        let update = self.learner.step(
            micro_batches(),
            |policy, part| {
                if stops.now() {
                    return Err(Failure::interrupted());
                }
                reporters.on_progress(Progress::new(Activity::Updating, done, total));
                done += 1;
                let (loss, part) = loss.of(policy, part);
                part.add_to(&mut sums);
                Ok(loss)
            },
            lr,
            config.optimizer.max_grad_norm.get(),
        )?;
        let mut report = UpdateSums::read(sums, responses, totals.n_tokens, &self.team)?;
        report.add_step(&update, lr);
        Ok(Some((report, update.skipped)))
    }

    /// Returns Mean@k of the policy, if there are held-out problems, and adds it to `metrics`.
    pub(super) fn evaluate(
        &mut self,
        moment: Moment,
        metrics: &mut Metrics,
    ) -> Result<Option<f64>, Failure> {
        let config = self.config;
        if self.eval.is_empty() {
            return Ok(None);
        }
        let reporters = &mut self.reporters;
        let stops = Stops::new(&self.interrupt, self.within_step);
        let measurement = Measurement {
            policy: self.learner.policy()?,
            problems: self.held_out.problems(moment, &self.eval),
            sources: self.held_out.sources().clone(),
        };
        let evaluation = self.sampler.measure(measurement, &mut |progress| {
            reporters.on_progress(progress);
            stops.flow()
        })?;
        self.reporters.on(&Event::Graded {
            step: None,
            groups: &evaluation.groups,
        })?;
        let held_out = &mut self.held_out;
        if held_out.add(moment, &evaluation, &self.grader, &mut self.state, metrics) {
            let policy = self.learner.policy()?;
            let (state, tokenizer) = (&self.state, &self.tokenizer);
            self.team
                .first(|| best::write(self.folder, state, &policy, tokenizer))?;
        }
        self.reporters.on(&Event::Evaluated {
            moment,
            step: self.state.steps,
            evaluation: &evaluation,
            k: config.evaluate.samples.get(),
            metrics: (moment != Moment::During).then_some(metrics),
        })?;
        Ok(Some(evaluation.mean_at_k))
    }

    fn report(
        &mut self,
        steps: u64,
        collected: &Collected,
        updates: &[UpdateReport],
        mut metrics: Metrics,
        timing: &Timing,
    ) -> Result<(), Failure> {
        let rollout = &collected.rollout;
        let n_tokens = rollout.n_tokens();
        metrics.add("training/epoch", collected.epoch as f64);
        if let Some(passes) = self.length.passes(&self.state) {
            metrics.add("train/epoch", passes);
        }
        metrics.add("perf/total_num_tokens", n_tokens as f64);
        timing.add_to(&mut metrics, n_tokens);
        self.reporters.on(&Event::Step {
            step: self.state.steps,
            steps,
            rollout,
            updates,
            metrics: &metrics,
            held_out: self.held_out.last,
        })
    }
}
