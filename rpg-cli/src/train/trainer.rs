//! The training loop.

use super::ahead::Sampler;
use super::collector::{Collected, Collector, Measurement};
use super::evaluation::HeldOut;
use super::grading::Grader;
use super::learner::Learner;
use super::length::Length;
use super::loss::{UpdateLoss, UpdateReport, UpdateSums};
use super::origin::Origin;
use super::prepare::{Batch, Response, prepare};
use super::ranks::Ranks;
use super::reference::Reference;
use super::report::{Activity, Event, Metrics, Moment, Progress, Reporters, Timing};
use super::setup::{Outcome, Parts, Start, check_correction};
use super::stops::{Pace, Stops};
use super::versions::Versions;
use crate::best;
use crate::checkpoint::{Checkpoint, TrainerState, read_optimizer, read_state};
use crate::config::TrainConfig;
use crate::data::PromptedProblem;
use crate::failure::{Failure, FailureKind};
use crate::interrupt::Interrupt;
use crate::run_folder::RunFolder;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::passes;
use rpg_core::tokenizer::Tokenizer;
use rpg_losses::StepTotals;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// A training run.
pub struct Trainer<'a, B: DecodeBackend> {
    pub(super) config: &'a TrainConfig,
    folder: &'a RunFolder,
    pub(super) tokenizer: Tokenizer,
    eval: Vec<PromptedProblem>,
    // What the user should know of the data.
    notes: Vec<String>,
    length: Length,
    held_out: HeldOut,
    pub(super) learner: Learner<B>,
    reference: Reference<'a, B>,
    sampler: Sampler<'a, B>,
    versions: Versions<B>,
    grader: Arc<Grader>,
    pub(super) ranks: Box<dyn Ranks<B> + 'a>,
    pub(super) reporters: Reporters<'a>,
    pub(super) interrupt: Interrupt,
    pub(super) state: TrainerState,
    // Set from the first update of a step to its end: the policy and `state` do not match.
    within_step: bool,
    is_new: bool,
    pub(super) pace: Pace,
    started: Instant,
    seconds_before: f64,
}

impl<'a, B: DecodeBackend> Trainer<'a, B> {
    /// A run in `folder`: a new one, or the one that `start` resumes.
    pub fn new(
        config: &'a TrainConfig,
        folder: &'a RunFolder,
        start: Start<B>,
        parts: Parts<'a, B>,
    ) -> Result<Self, Failure> {
        let Start {
            mut policy,
            tokenizer,
            mut data,
            reference,
            resume,
        } = start;
        check_correction(config, parts.rollouts.as_ref())?;
        let mut optimizer = parts.optimizer;
        let mut state = TrainerState::default();
        let length = Length::new(config, &data.train)?;
        let now = Origin::new(config, &data, &policy, reference.as_ref())?;
        let mut reference = Reference::new(config, reference)?;
        let mut versions = Versions::new(config.rollout.max_staleness.get());
        if let Some(dir) = &resume {
            state = read_state(dir)?;
            if let Some(origin) = &state.origin {
                let notes = origin.check(&now, &folder.path("config.toml"))?;
                data.notes.extend(notes);
            }
            length.check(&state)?;
            policy = read_optimizer(dir, policy, optimizer.as_mut())?;
            reference.restore(dir, &state.reference, &policy)?;
            versions.restore(dir, &policy)?;
            let steps = length.steps(&state);
            state.drop_later_lines(folder, |step| config.evaluate.due(step, steps))?;
        } else {
            folder.retain_lines(|_| false)?;
        }
        // Others are of steps that come again.
        best::keep(folder, &state, config)?;
        // What is noted once is noted.
        state.origin = Some(now);
        state.base = (state.base).or_else(|| policy.lora().map(|_| config.model.name()));
        data.notes.extend(parts.grader.note_on_answers(&data));
        let grader = Arc::new(parts.grader);
        let sampler = Sampler::new(Collector {
            config,
            length,
            train: data.train,
            n_problems: state.n_problems,
            rollouts: parts.rollouts,
            grader: Arc::clone(&grader),
        });
        Ok(Self {
            config,
            folder,
            tokenizer,
            held_out: HeldOut::new(&data.eval, config),
            eval: data.eval,
            notes: data.notes,
            length,
            learner: Learner::new(policy, optimizer),
            reference,
            sampler,
            versions,
            grader,
            ranks: parts.ranks,
            reporters: Reporters(parts.reporters),
            interrupt: parts.interrupt,
            seconds_before: state.seconds,
            state,
            within_step: false,
            is_new: resume.is_none(),
            pace: Pace::default(),
            started: Instant::now(),
        })
    }

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
        let failure = match self.warm_start().and_then(|()| self.reinforce()) {
            Ok(after) => {
                let checkpoint = self.save()?;
                return Ok(self.outcome(after, checkpoint, false));
            }
            Err(failure) => failure,
        };
        let interrupted = self.interrupt.requested();
        // An incomplete step cannot be saved: the run resumes from the last checkpoint.
        if self.within_step && failure.kind == FailureKind::Interrupted {
            let checkpoint = self.folder.newest_checkpoint()?;
            self.state = read_state(&checkpoint)?;
            return Ok(self.outcome(f64::NAN, checkpoint, true));
        }
        if self.within_step || !(interrupted || failure.kind.may_pass()) {
            return Err(failure);
        }
        let checkpoint = self.save()?;
        if interrupted {
            Ok(self.outcome(f64::NAN, checkpoint, true))
        } else {
            Err(failure)
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
            let (learner, reference) = (&self.learner, &self.reference);
            let ranks = self.ranks.as_ref();
            let on_progress = &mut |done, total| {
                let progress = Progress::new(Activity::Scoring, done, total);
                self.reporters.on_progress(progress);
                self.interrupt.flow()
            };
            let batch = prepare(config, learner, reference, rollout, ranks, on_progress)?;
            metrics.add_batch(&batch);
            timing.lap("ref");

            if self.pace.asks_for_checkpoint() {
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

            let n_responses = self.ranks.sum(&[batch.responses.len() as f64])?[0];
            self.reference
                .after_step(step, n_responses, &self.learner, &mut metrics);
            self.state.steps = step;
            let steps = self.length.steps(&self.state);
            if config.evaluate.due(step, steps) {
                self.evaluate(Moment::During, &mut metrics)?;
                timing.lap("testing");
            }
            self.report(steps, &collected, &updates, metrics, &timing)?;
            self.within_step = false;
            self.pace.updated(update_started.elapsed());
            if self.is_checkpoint_due(step, steps) {
                self.save()?;
            }
        }
        let mut metrics = Metrics::new(self.state.steps, "final");
        metrics.add_update_counts(&self.state.updates);
        let after = self.evaluate(Moment::After, &mut metrics)?;
        self.reporters.on(&Event::End)?;
        Ok(after.unwrap_or(f64::NAN))
    }

    /// What comes before the first step of a new or resumed run.
    fn begin(&mut self) -> Result<(), Failure> {
        self.reporters.on(&Event::Start {
            done: self.state.steps,
            steps: self.length.steps(&self.state),
            notes: &self.notes,
        })?;
        match self.state.before {
            Some(before) => self.held_out.resume(self.folder, before)?,
            None => {
                let mut metrics = Metrics::new(0, "initial");
                self.state.before = self.evaluate(Moment::Before, &mut metrics)?;
                self.save()?;
            }
        }
        self.reference.begin(&self.learner);
        self.sampler.begin(self.state.n_problems);
        Ok(())
    }

    /// Has the steps sampled that the current policy is for, and waits for the next one.
    fn collect(&mut self, timing: &mut Timing) -> Result<Collected, Failure> {
        let policy = self.learner.policy();
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

    /// One update, and whether it was skipped; none if no rank has a response.
    fn update_once(
        &mut self,
        responses: &[&Response<'_>],
    ) -> Result<Option<(UpdateReport, bool)>, Failure> {
        let config = self.config;
        let n_tokens: usize = responses.iter().map(|response| response.len()).sum();
        let all = self.ranks.sum(&[n_tokens as f64, responses.len() as f64])?;
        if all[1] == 0.0 {
            return Ok(None);
        }
        let totals = StepTotals {
            n_tokens: all[0] as usize,
            n_responses: all[1] as usize,
            max_length: config.rollout.max_new_tokens.get(),
        };
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
            self.ranks.as_ref(),
        )?;
        let mut report = UpdateSums::read(sums, responses, totals.n_tokens, self.ranks.as_ref())?;
        report.add_step(&update, lr);
        Ok(Some((report, update.skipped)))
    }

    /// Returns Mean@k of the policy, if there are held-out problems, and adds it to `metrics`.
    fn evaluate(&mut self, moment: Moment, metrics: &mut Metrics) -> Result<Option<f64>, Failure> {
        let config = self.config;
        if self.eval.is_empty() {
            return Ok(None);
        }
        let reporters = &mut self.reporters;
        let stops = Stops::new(&self.interrupt, self.within_step);
        let measurement = Measurement {
            policy: self.learner.policy(),
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
            best::write(self.folder, &self.state, &self.learner, &self.tokenizer)?;
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

    /// Whether a checkpoint is written after this step of so many.
    pub(super) fn is_checkpoint_due(&self, step: u64, steps: u64) -> bool {
        let config = &self.config.checkpoint;
        config.due(step, steps) || (step < steps && self.pace.has_passed(config.every_minutes))
    }

    pub(super) fn save(&mut self) -> Result<PathBuf, Failure> {
        self.state.reference = self.reference.state().clone();
        self.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let checkpoint = Checkpoint {
            learner: &self.learner,
            reference: self.reference.kept_model(),
            past: self.versions.past(self.state.steps).collect(),
            tokenizer: &self.tokenizer,
            state: self.state.clone(),
        };
        let written = checkpoint.write(self.folder, self.config.checkpoint.keep.get())?;
        self.pace.saved();
        best::keep(self.folder, &self.state, self.config)?;
        Ok(written)
    }

    fn outcome(&self, after: f64, checkpoint: PathBuf, interrupted: bool) -> Outcome {
        Outcome {
            before: self.state.before.unwrap_or(f64::NAN),
            after,
            k: self.config.evaluate.samples.get(),
            best: self.state.best.clone(),
            steps: self.state.steps,
            seconds: self.state.seconds,
            updates: self.state.updates,
            checkpoint,
            interrupted,
        }
    }
}
