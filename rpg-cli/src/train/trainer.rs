//! The training loop.

use super::collect::{evaluate, sample};
use super::grading::Grader;
use super::learner::Learner;
use super::loss::{UpdateLoss, UpdateReport, UpdateSums};
use super::origin::Origin;
use super::prepare::{Batch, Response, prepare};
use super::ranks::Ranks;
use super::reference::Reference;
use super::report::{Activity, Event, Metrics, Moment, Progress, Reporters, Timing};
use super::sample::Rollout;
use super::setup::{Outcome, Parts, Start, check_correction};
use super::sources::Sources;
use super::stops::{Pace, Stops};
use super::warm_start;
use crate::checkpoint::{Checkpoint, TrainerState, read_optimizer, read_state};
use crate::config::{Count, Task, TrainConfig};
use crate::data::arithmetic::ColumnAddition;
use crate::data::{Data, PromptedProblem};
use crate::failure::{Failure, FailureKind};
use crate::interrupt::Interrupt;
use crate::run_folder::RunFolder;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::passes;
use rpg_core::seed::of_sample;
use rpg_core::tokenizer::Tokenizer;
use rpg_losses::StepTotals;
use rpg_rollout::rollouts::Rollouts;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// A training run.
pub struct Trainer<'a, B: DecodeBackend> {
    config: &'a TrainConfig,
    folder: &'a RunFolder,
    tokenizer: Tokenizer,
    data: Data,
    sources: Sources,
    learner: Learner<B>,
    reference: Reference<'a, B>,
    rollouts: Box<dyn Rollouts<B> + 'a>,
    grader: Grader,
    ranks: Box<dyn Ranks<B> + 'a>,
    reporters: Reporters<'a>,
    interrupt: Interrupt,
    state: TrainerState,
    // The newest Mean@k on the held-out problems.
    held_out: f64,
    // Set from the first update of a step to its end: the policy and `state` do not match.
    within_step: bool,
    is_new: bool,
    pace: Pace,
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
        let now = Origin::new(config, &data, &policy, reference.as_ref())?;
        let mut reference = Reference::new(config, reference)?;
        if let Some(dir) = &resume {
            state = read_state(dir)?;
            if let Some(origin) = &state.origin {
                let notes = origin.check(&now, &folder.path("config.toml"))?;
                data.notes.extend(notes);
            }
            policy = read_optimizer(dir, policy, optimizer.as_mut())?;
            reference.restore(dir, &state.reference, &policy)?;
            state.drop_later_lines(folder)?;
        } else {
            folder.retain_lines(|_| false)?;
        }
        state.origin.get_or_insert(now);
        state.base = (state.base).or_else(|| policy.lora().map(|_| config.model.name()));
        data.notes.extend(parts.grader.note_on_answers(&data));
        Ok(Self {
            config,
            folder,
            tokenizer,
            sources: Sources::new(&data.eval, config.evaluate.samples.get()),
            data,
            learner: Learner::new(policy, optimizer),
            reference,
            rollouts: parts.rollouts,
            grader: parts.grader,
            ranks: parts.ranks,
            reporters: Reporters(parts.reporters),
            interrupt: parts.interrupt,
            seconds_before: state.seconds,
            state,
            held_out: f64::NAN,
            within_step: false,
            is_new: resume.is_none(),
            pace: Pace::default(),
            started: Instant::now(),
        })
    }

    /// Trains until the last step or an interruption, and writes a checkpoint.
    pub fn run(mut self) -> Result<Outcome, Failure> {
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
        if self.within_step || !(interrupted || failure.kind == FailureKind::Reward) {
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
        for step in self.state.steps + 1..=config.train.steps {
            let mut timing = Timing::start();
            let mut metrics = Metrics::new(step, "train");

            // Sample from the current policy, pi_old, and grade.
            self.sync()?;
            let (rollout, n_problems) = self.collect(step, &mut timing)?;
            self.rollouts.release();
            metrics.add_rollout(&rollout, config.train.filter, self.grader.has_own_reward());

            // Log-probs under pi_old and the reference, if those are not the sampler's; advantages.
            let (learner, reference) = (&self.learner, &self.reference);
            let ranks = self.ranks.as_ref();
            let batch = prepare(config, learner, reference, &rollout, ranks, &self.interrupt)?;
            metrics.add_batch(&batch);
            timing.lap("ref");

            if self.pace.asks_for_checkpoint() {
                self.save()?;
                timing.lap("save_checkpoint");
            }

            // Several updates, each from its share of the groups.
            let update_started = Instant::now();
            let updates = self.update(step, &batch)?;
            metrics.add_updates(&updates, self.learner.optimizer().averages());
            timing.lap("update_actor");
            self.within_step = true;
            self.state.n_problems = n_problems;

            let n_responses = self.ranks.sum(&[batch.responses.len() as f64])?[0];
            self.reference
                .after_step(step, n_responses, &self.learner, &mut metrics);
            self.state.steps = step;
            if config.evaluate.due(step, config.train.steps) {
                self.evaluate(Moment::During, &mut metrics)?;
                timing.lap("testing");
            }
            self.report(step, &rollout, &updates, metrics, &timing)?;
            self.within_step = false;
            self.pace.updated(update_started.elapsed());
            if config.checkpoint.due(step, config.train.steps) {
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
            steps: self.config.train.steps,
            notes: &self.data.notes,
        })?;
        match self.state.before {
            Some(before) => self.held_out = self.sources.last(self.folder)?.unwrap_or(before),
            None => {
                let mut metrics = Metrics::new(0, "initial");
                self.state.before = self.evaluate(Moment::Before, &mut metrics)?;
                self.save()?;
            }
        }
        self.reference.begin(&self.learner);
        Ok(())
    }

    /// Makes the next completions come from the current policy.
    fn sync(&mut self) -> Result<(), Failure> {
        let policy = self.learner.policy();
        self.rollouts.sync(&policy).map_err(Failure::internal)
    }

    /// Samples and grades until the step has its groups, and returns them with the position in the data after them. Groups
    /// that `train.filter` leaves out are replaced as far as `train.max_generation_batches` allows.
    fn collect(&mut self, step: u64, timing: &mut Timing) -> Result<(Rollout, u64), Failure> {
        let config = self.config;
        let wanted = config.rollout.prompts_per_step.get();
        let limit = config.train.max_generation_batches;
        let options = config.generate_options(config.sampling());
        let mut rollout = Rollout::default();
        let mut next_problem = self.state.n_problems;
        loop {
            let problems: Vec<PromptedProblem> = (next_problem..next_problem + wanted as u64)
                .map(|index| self.data.train.get(index))
                .collect::<Result<_, _>>()?;
            let first = rollout.groups.len();
            let (reporters, interrupt) = (&mut self.reporters, &self.interrupt);
            let mut on_progress = |progress: Progress| {
                reporters.on_progress(progress);
                interrupt.flow()
            };
            let groups = sample(
                self.rollouts.as_mut(),
                &problems,
                config.rollout.samples_per_prompt.get(),
                |i, j| of_sample(config.seed, step, (first + i) as u64, j as u64),
                &options,
                Activity::Sampling,
                &mut on_progress,
            )?;
            timing.lap("gen");
            let groups = self.grader.grade(problems, groups, &mut |done, total| {
                on_progress(Progress {
                    activity: Activity::Grading,
                    done,
                    total,
                })
            })?;
            self.reporters.on(&Event::Graded {
                step: Some(step),
                groups: &groups,
            })?;
            self.grader.check_scored("the first step", &groups)?;
            let filter = (limit > 0).then_some(config.train.filter);
            rollout.add(groups, filter, wanted);
            timing.lap("reward");
            rollout.n_batches += 1;
            next_problem += wanted as u64;
            if rollout.kept.len() >= wanted || rollout.n_batches >= limit.max(1) {
                return Ok((rollout, next_problem));
            }
        }
    }

    /// The updates of a step.
    fn update(&mut self, step: u64, batch: &Batch<'_>) -> Result<Vec<UpdateReport>, Failure> {
        let mini_batches = batch.mini_batches(self.config, step);
        let mut reports = Vec::with_capacity(mini_batches.len());
        for mini_batch in &mini_batches {
            let (report, skipped) = self.update_once(step, mini_batch)?;
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

    /// One update, and whether it was skipped.
    fn update_once(
        &mut self,
        step: u64,
        responses: &[&Response<'_>],
    ) -> Result<(UpdateReport, bool), Failure> {
        let config = self.config;
        let n_tokens: usize = responses.iter().map(|response| response.len()).sum();
        let all = self.ranks.sum(&[n_tokens as f64, responses.len() as f64])?;
        let totals = StepTotals {
            n_tokens: all[0] as usize,
            n_responses: all[1] as usize,
            max_length: config.rollout.max_new_tokens.get(),
        };
        let lr = config.learning_rate(step, self.learner.optimizer().n_updates() + 1);
        let mut sums: Option<UpdateSums<B>> = None;
        let stops = Stops::new(&self.interrupt, self.within_step);
        let objective = self.reference.objective();
        let loss = UpdateLoss {
            config,
            objective: &objective,
            totals: &totals,
        };
        let update = self.learner.step(
            passes(
                self.learner.model_config(),
                responses,
                config.train.micro_batch_tokens.get(),
                |response| &response.item,
            ),
            |policy, part| {
                if stops.now() {
                    return Err(Failure::interrupted());
                }
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
        Ok((report, update.skipped))
    }

    /// Returns Mean@k of the policy, if there are held-out problems, and adds it to `metrics`.
    fn evaluate(&mut self, moment: Moment, metrics: &mut Metrics) -> Result<Option<f64>, Failure> {
        let config = self.config;
        if self.data.eval.is_empty() {
            return Ok(None);
        }
        let during = config.evaluate.problems_during;
        let n_problems = match moment {
            Moment::Before | Moment::After => usize::MAX,
            Moment::During => during.map_or(usize::MAX, Count::get),
        };
        let policy = self.learner.policy();
        self.rollouts
            .sync_for_evaluation(&policy)
            .map_err(Failure::internal)?;
        drop(policy);
        let problems = &self.data.eval[..n_problems.min(self.data.eval.len())];
        let reporters = &mut self.reporters;
        let stops = Stops::new(&self.interrupt, self.within_step);
        let rollouts = self.rollouts.as_mut();
        let evaluation = evaluate(rollouts, &self.grader, problems, config, &mut |progress| {
            reporters.on_progress(progress);
            if stops.now() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        self.rollouts.release();
        self.reporters.on(&Event::Graded {
            step: None,
            groups: &evaluation.groups,
        })?;
        let has_own_reward = self.grader.has_own_reward();
        self.sources.add(&evaluation, has_own_reward, metrics);
        self.held_out = evaluation.mean_at_k;
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
        step: u64,
        rollout: &Rollout,
        updates: &[UpdateReport],
        mut metrics: Metrics,
        timing: &Timing,
    ) -> Result<(), Failure> {
        let n_tokens = rollout.n_tokens();
        let epoch = self.data.train.epoch(self.state.n_problems);
        metrics.add("training/epoch", epoch as f64);
        metrics.add("perf/total_num_tokens", n_tokens as f64);
        timing.add_to(&mut metrics, n_tokens);
        self.reporters.on(&Event::Step {
            step,
            steps: self.config.train.steps,
            rollout,
            updates,
            metrics: &metrics,
            held_out: self.held_out,
        })
    }

    /// Supervised steps on worked examples.
    fn warm_start(&mut self) -> Result<(), Failure> {
        let (Some(config), Some(Task::ColumnAddition { digits })) =
            (&self.config.warm_start, &self.config.data.task)
        else {
            return Ok(());
        };
        let done = self.state.warm_start_steps;
        if done >= config.steps {
            return Ok(());
        }
        let task = ColumnAddition::new(digits.get(), self.config.seed);
        self.reporters.on(&Event::WarmStart {
            done,
            steps: config.steps,
            batch_size: config.batch_size.get(),
        })?;
        for step in done + 1..=config.steps {
            if self.interrupt.requested() {
                return Err(Failure::interrupted());
            }
            let mut timing = Timing::start();
            let nll = warm_start::step(
                &mut self.learner,
                config,
                &task,
                &self.tokenizer,
                step,
                &self.config.train,
                self.ranks.as_ref(),
                &self.interrupt,
            )?;
            self.state.warm_start_steps = step;
            timing.lap("update_actor");
            let mut metrics = Metrics::new(step, "warm_start");
            metrics.add("warm_start/nll", nll);
            timing.add_to(&mut metrics, config.batch_size.get());
            self.reporters.on(&Event::WarmStartStep {
                step,
                steps: config.steps,
                metrics: &metrics,
            })?;
            if self.config.checkpoint.due(step, config.steps) {
                self.save()?;
            }
        }
        self.reporters.on(&Event::WarmStartEnd)?;
        self.state.n_problems = config.steps * config.batch_size.get() as u64;
        // Reinforcement learning starts with fresh moments.
        self.learner.reset_optimizer();
        // The first evaluation may take minutes.
        self.save().map(|_| ())
    }

    fn save(&mut self) -> Result<PathBuf, Failure> {
        self.state.reference = self.reference.state().clone();
        self.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let checkpoint = Checkpoint {
            learner: &self.learner,
            reference: self.reference.kept_model(),
            tokenizer: &self.tokenizer,
            state: self.state.clone(),
        };
        let written = checkpoint.write(self.folder, self.config.checkpoint.keep.get());
        self.pace.saved();
        written
    }

    fn outcome(&self, after: f64, checkpoint: PathBuf, interrupted: bool) -> Outcome {
        Outcome {
            before: self.state.before.unwrap_or(f64::NAN),
            after,
            k: self.config.evaluate.samples.get(),
            steps: self.state.steps,
            seconds: self.state.seconds,
            updates: self.state.updates,
            checkpoint,
            interrupted,
        }
    }
}
