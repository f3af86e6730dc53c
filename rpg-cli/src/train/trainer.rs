//! The training loop.

use super::batch::{Rollout, mean_advantage, mini_batches, responses};
use super::grading::Grader;
use super::log::{
    Metrics, Timing, all_equal, n_errors, print_errors, print_sample, print_step, sample_line,
};
use super::rollout::Sampler;
use super::start::{Outcome, Start, adamw_config, check_context, generate_options};
use super::step::{Response, UpdateSettings, update};
use super::warm_start;
use crate::checkpoint::{Checkpoint, TrainerState, read_optimizer, read_reference, read_state};
use crate::config::{Task, TrainConfig};
use crate::console::Console;
use crate::data::arithmetic::ColumnAddition;
use crate::data::{self, Data, PromptedProblem};
use crate::evaluate::evaluate;
use crate::failure::{Failure, exit};
use crate::interrupt::Interrupt;
use crate::optim::{AdamW, Schedule, constant_with_warmup, cosine, stable_decay};
use crate::run_folder::RunFolder;
use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::seed::of_sample;
use rpg_core::tokenizer::Tokenizer;
use std::path::PathBuf;
use std::time::Instant;

/// Everything that changes while a run goes on.
struct Trainer<'a, B: DecodeBackend> {
    config: &'a TrainConfig,
    folder: &'a RunFolder,
    interrupt: &'a Interrupt,
    tokenizer: Tokenizer,
    grader: Grader,
    data: Data,
    // `None` only while an update consumes it.
    model: Option<CausalLm<Autodiff<B>>>,
    reference: Option<CausalLm<B>>,
    optimizer: AdamW<B>,
    state: TrainerState,
    // Set while the state is that of no whole step.
    within_step: bool,
    started: Instant,
    seconds_before: f64,
}

/// Runs a config to its end, or to an interruption, and leaves a checkpoint.
pub fn train<B: DecodeBackend>(
    config: &TrainConfig,
    folder: &RunFolder,
    start: Start<B>,
    interrupt: &Interrupt,
) -> Result<Outcome, Failure> {
    let mut trainer = Trainer::new(config, folder, start, interrupt)?;
    match trainer.warm_start() {
        Err(failure) if interrupt.requested() => return trainer.stop(failure),
        done => done?,
    }
    match trainer.reinforce() {
        Err(failure) if interrupt.requested() => trainer.stop(failure),
        Err(failure) if failure.code == exit::REWARD => Err(trainer.keep(failure)),
        done => done,
    }
}

impl<'a, B: DecodeBackend> Trainer<'a, B> {
    fn new(
        config: &'a TrainConfig,
        folder: &'a RunFolder,
        start: Start<B>,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let Start {
            model,
            mut tokenizer,
            grader,
            resume,
        } = start;
        if let Some(enabled) = config.data.thinking {
            tokenizer.set_thinking(enabled);
        }
        if let Some(date) = config.data.day()? {
            tokenizer.set_date(date);
        }
        let n_eval = config.evaluate.problems;
        let mut data = data::load(&config.data, &tokenizer, config.seed, n_eval)?;
        check_context(config, &model, &data)?;
        data.notes.extend(grader.note_on_answers(&data));
        let mut state = TrainerState {
            warm_start_steps: 0,
            steps: 0,
            n_problems: 0,
            seconds: 0.0,
            before: None,
        };
        let mut optimizer = AdamW::new(adamw_config(config));
        let mut reference = None;
        if let Some(dir) = &resume {
            state = read_state(dir)?;
            optimizer = read_optimizer(dir, adamw_config(config), &model)?;
            reference = read_reference(dir, &model.device())?;
            folder.retain_lines(|line| {
                let step = line
                    .get("step")
                    .and_then(serde_json::Value::as_u64)
                    .unwrap_or(0);
                match line.get("phase").and_then(serde_json::Value::as_str) {
                    Some("warm_start") => step <= state.warm_start_steps,
                    _ => step <= state.steps && (step > 0 || state.before.is_some()),
                }
            })?;
        }
        let model = model.into_trainable();
        Ok(Self {
            config,
            folder,
            interrupt,
            tokenizer,
            grader,
            data,
            model: Some(model),
            reference,
            optimizer,
            state,
            within_step: false,
            started: Instant::now(),
            seconds_before: state.seconds,
        })
    }

    /// Supervised steps on worked examples.
    fn warm_start(&mut self) -> Result<(), Failure> {
        let (Some(config), Some(Task::ColumnAddition { digits })) =
            (&self.config.warm_start, &self.config.data.task)
        else {
            return Ok(());
        };
        let task = ColumnAddition::new(*digits, self.config.seed);
        if self.state.warm_start_steps >= config.steps {
            return Ok(());
        }
        let console = Console::new(config.steps, "warm start");
        console.line(&format!(
            "warm start: {} supervised steps of {} worked examples",
            config.steps, config.batch_size
        ));
        for step in self.state.warm_start_steps + 1..=config.steps {
            self.stop_if_asked()?;
            let mut timing = Timing::start();
            let model = self.model.take().expect("the model is there between steps");
            let (model, loss) = warm_start::step(
                model,
                &mut self.optimizer,
                config,
                &task,
                &self.tokenizer,
                step,
                self.config.train.micro_batch_tokens,
            )?;
            self.model = Some(model);
            self.state.warm_start_steps = step;
            timing.lap("update_actor");
            let mut metrics = Metrics::new(step, "warm_start");
            metrics.add("warm_start/nll", loss);
            timing.add_to(&mut metrics, config.batch_size);
            self.folder.append("metrics.jsonl", &metrics.into_json())?;
            console.position(step);
            console.status(format!("nll {loss:.4}"));
            if step == 1 || step % 50 == 0 || step == config.steps {
                console.line(&format!(
                    "warm start {step:>4}/{} | nll {loss:.4}",
                    config.steps
                ));
            }
        }
        console.done();
        self.state.n_problems = config.steps * config.batch_size as u64;
        // Reinforcement learning starts with moments of its own.
        self.optimizer = AdamW::new(adamw_config(self.config));
        Ok(())
    }

    /// Algorithm 2: sample from pi_old, grade, advantages, several updates, reference := policy.
    fn reinforce(&mut self) -> Result<Outcome, Failure> {
        let config = self.config;
        let steps = config.train.steps;
        let console = Console::new(steps, "train");
        for note in &self.data.notes {
            console.line(&format!("note: {note}"));
        }
        let mut held_out = match self.state.before {
            Some(before) => self.last_evaluation()?.unwrap_or(before),
            None => {
                let mut metrics = Metrics::new(0, "initial");
                let before = self.evaluate(0, self.data.eval.len(), &console, &mut metrics)?;
                self.folder.append("metrics.jsonl", &metrics.into_json())?;
                self.state.before = Some(before);
                self.save()?;
                before
            }
        };
        if config.reference.update_every != 1 && self.reference.is_none() {
            self.reference = Some(self.policy());
        }
        console.position(self.state.steps);
        for step in self.state.steps + 1..=steps {
            let mut timing = Timing::start();
            let mut metrics = Metrics::new(step, "train");

            // Sample from the current policy, pi_old, and grade.
            let (kept, sampled, n_batches) = self.sample(step, &console, &mut timing)?;
            self.within_step = true;
            metrics.add_rollout(&sampled.groups, self.grader.has_command());
            metrics.add("train/num_gen_batches", n_batches as f64);

            // Log-probs under the reference, where that is not pi_old; advantages.
            let responses = responses(config, self.reference.as_ref(), &kept);
            timing.lap("ref");
            metrics.add("critic/advantages/mean", mean_advantage(&responses));

            // Several updates, each from its share of the groups.
            let settings = UpdateSettings {
                objective: &config.objective,
                max_grad_norm: config.optimizer.max_grad_norm,
                temperature: config.rollout.temperature,
                max_length: config.rollout.max_new_tokens,
                micro_batch_tokens: config.train.micro_batch_tokens,
            };
            let mut reports = Vec::new();
            for part in mini_batches(config, step, kept.groups.len()) {
                let mini_batch: Vec<Response> = part
                    .iter()
                    .flat_map(|&group| responses[group].clone())
                    .collect();
                let lr = self.learning_rate(step);
                let model = self
                    .model
                    .take()
                    .expect("the model is there between updates");
                let (model, report) =
                    update(model, &mut self.optimizer, &mini_batch, lr, &settings);
                self.model = Some(model);
                reports.push(report);
                console.status(format!(
                    "update {}/{}",
                    reports.len(),
                    config.train.mini_batches
                ));
            }
            metrics.add_updates(&reports);
            timing.lap("update_actor");

            // Reference := policy. Where that happens at every step it is pi_old by definition.
            let every = config.reference.update_every;
            if every > 1 && step % every == 0 {
                self.reference = Some(self.policy());
            }

            // Measure, log, keep.
            self.state.steps = step;
            let every = config.evaluate.every;
            if every > 0 && step % every == 0 && step < steps {
                let n = config.evaluate.problems_during.unwrap_or(usize::MAX);
                let n = n.min(self.data.eval.len());
                held_out = self.evaluate(step, n, &console, &mut metrics)?;
                timing.lap("testing");
            }
            let n_tokens = sampled.n_tokens();
            metrics.add("training/epoch", self.epoch());
            metrics.add("perf/total_num_tokens", n_tokens as f64);
            timing.add_to(&mut metrics, n_tokens);
            print_step(&console, step, steps, &metrics, held_out);
            self.log_samples(step, &sampled, &console)?;
            self.folder.append("metrics.jsonl", &metrics.into_json())?;
            self.within_step = false;
            console.position(step);
            let every = config.checkpoint.every;
            if every > 0 && step % every == 0 && step < steps {
                self.save()?;
            }
        }
        let mut metrics = Metrics::new(steps, "final");
        let after = self.evaluate(steps, self.data.eval.len(), &console, &mut metrics)?;
        self.folder.append("metrics.jsonl", &metrics.into_json())?;
        console.done();
        let checkpoint = self.save()?;
        Ok(self.outcome(after, checkpoint, false))
    }

    /// Samples until the step has its groups. Where groups of equal rewards are left out, the first
    /// result has only the others, and the second everything that was sampled.
    fn sample(
        &mut self,
        step: u64,
        console: &Console,
        timing: &mut Timing,
    ) -> Result<(Rollout, Rollout, u64), Failure> {
        let config = self.config;
        let wanted = config.rollout.prompts_per_step;
        let limit = config.train.max_generation_batches;
        let policy = self.policy();
        let options = generate_options(config, config.sampling());
        let sampler = Sampler {
            model: &policy,
            tokenizer: &self.tokenizer,
            options: &options,
        };
        let (mut kept, mut everything) = (Rollout::default(), Rollout::default());
        let mut n_batches = 0;
        // The run's place in the data moves when the step is whole, not when it is interrupted.
        let mut next_problem = self.state.n_problems;
        loop {
            let problems = (0..wanted as u64)
                .map(|i| self.data.train.get(next_problem + i))
                .collect::<Result<Vec<PromptedProblem>, _>>()?;
            let first = everything.groups.len();
            let sampled = sampler.sample(
                &problems,
                config.rollout.samples_per_prompt,
                |i, j| of_sample(config.seed, step, (first + i) as u64, j as u64),
                |progress| {
                    let (done, all) = (progress.n_finished, progress.n_completions);
                    console.status(format!("sampling {done}/{all}"));
                    !self.interrupt.requested()
                },
            )?;
            timing.lap("gen");
            n_batches += 1;
            let sampled = self.grader.grade(&problems, sampled, &mut |done, all| {
                console.status(format!("grading {done}/{all}"));
                !self.interrupt.requested()
            })?;
            print_errors(console, &format!("step {step}"), &sampled);
            for group in sampled {
                let rewards = group.rewards();
                let learns = !all_equal(&rewards) && kept.groups.len() < wanted;
                if learns || (limit == 0 && !rewards.is_empty()) {
                    kept.groups.push(group.rewarded());
                }
                everything.groups.push(group);
            }
            timing.lap("reward");
            next_problem += wanted as u64;
            if kept.groups.len() >= wanted || n_batches >= limit.max(1) {
                self.state.n_problems = next_problem;
                return Ok((kept, everything, n_batches));
            }
        }
    }

    /// The learning rate of the next update.
    fn learning_rate(&self, step: u64) -> f64 {
        let optimizer = &self.config.optimizer;
        let update = self.optimizer.n_updates() + 1;
        let lr = constant_with_warmup(optimizer.lr, optimizer.warmup_updates, update);
        match optimizer.schedule {
            Schedule::Constant => lr,
            Schedule::Cosine => {
                lr * cosine(0.0, (step - 1) as f64 / self.config.train.steps as f64)
            }
            Schedule::WarmupStableDecay => {
                lr * stable_decay(optimizer.decay_steps, self.config.train.steps, step)
            }
        }
    }

    fn evaluate(
        &self,
        step: u64,
        n: usize,
        console: &Console,
        metrics: &mut Metrics,
    ) -> Result<f64, Failure> {
        let config = &self.config.evaluate;
        let sampling = rpg_rollout::sampling::SamplingParams {
            temperature: config.temperature,
            ..Default::default()
        };
        let sampler = Sampler {
            model: &self.policy(),
            tokenizer: &self.tokenizer,
            options: &generate_options(self.config, sampling),
        };
        let problems = &self.data.eval[..n];
        let seed = self.config.seed;
        // A step that has updated the policy is finished, its line written, before the run stops.
        let go_on = |what: &str, done: usize, all: usize| {
            console.status(format!("{what} {done}/{all}"));
            !self.interrupt.requested() || self.within_step
        };
        let k = config.samples;
        let evaluation = evaluate(&sampler, &self.grader, problems, k, seed, go_on)?;
        print_errors(console, "evaluation", &evaluation.groups);
        metrics.add(&self.validation_name(), evaluation.mean_at_k);
        if self.grader.has_command() {
            let name = format!("val-aux/{}/reward_errors", self.validation_source());
            metrics.add(&name, n_errors(&evaluation.groups) as f64);
        }
        if step == 0 {
            console.line(&format!(
                "held-out mean@{} before training: {:.3} ({n} problems); two samples:",
                config.samples, evaluation.mean_at_k
            ));
        } else if step == self.config.train.steps {
            console.line("two samples of the trained policy:");
        }
        if step == 0 || step == self.config.train.steps {
            for sampled in evaluation.groups.iter().take(2) {
                print_sample(console, sampled, 0);
            }
        }
        Ok(evaluation.mean_at_k)
    }

    fn validation_source(&self) -> &str {
        let first = self.data.eval.first();
        first.map_or("", |p| p.problem.data_source.as_str())
    }

    fn validation_name(&self) -> String {
        let k = self.config.evaluate.samples;
        format!("val-core/{}/acc/mean@{k}", self.validation_source())
    }

    /// The newest measurement of a run that is resumed.
    fn last_evaluation(&self) -> Result<Option<f64>, Failure> {
        let name = self.validation_name();
        let lines = self.folder.lines("metrics.jsonl")?;
        Ok(lines
            .iter()
            .rev()
            .find_map(|line| line.get(&name)?.as_f64()))
    }

    fn log_samples(&self, step: u64, sampled: &Rollout, console: &Console) -> Result<(), Failure> {
        let n = self.config.checkpoint.samples_per_step;
        for group in sampled.groups.iter().take(n) {
            self.folder
                .append("samples.jsonl", &sample_line(step, group, 0))?;
        }
        if step.is_multiple_of(25)
            && let Some(group) = sampled.groups.first()
        {
            print_sample(console, group, 0);
        }
        Ok(())
    }

    fn epoch(&self) -> f64 {
        match &self.data.train {
            data::TrainData::File { problems, .. } => {
                (self.state.n_problems / problems.len() as u64) as f64
            }
            data::TrainData::Task { .. } => 0.0,
        }
    }

    /// The policy without its graph.
    fn policy(&self) -> CausalLm<B> {
        self.model
            .as_ref()
            .expect("the model is there between updates")
            .valid()
    }

    fn save(&mut self) -> Result<PathBuf, Failure> {
        self.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let checkpoint = Checkpoint {
            model: &self.policy(),
            reference: self.reference.as_ref(),
            tokenizer: &self.tokenizer,
            optimizer: &self.optimizer,
            state: self.state,
        };
        checkpoint.write(self.folder, self.config.checkpoint.keep)
    }

    fn stop_if_asked(&self) -> Result<(), Failure> {
        match self.interrupt.requested() {
            true => Err(Failure::interrupted("interrupted")),
            false => Ok(()),
        }
    }

    /// Leaves a checkpoint of the last whole step, if the state is that, for a run that cannot go on.
    fn keep(&mut self, failure: Failure) -> Failure {
        if !self.within_step
            && let Err(worse) = self.save()
        {
            return worse;
        }
        let root = self.folder.root().display();
        let hint = failure.hint.clone().unwrap_or_default();
        failure.hint(format!("{hint}; go on with: rpg train --resume {root}"))
    }

    /// Ends an interrupted run with a checkpoint of the last whole step.
    fn stop(&mut self, failure: Failure) -> Result<Outcome, Failure> {
        if self.model.is_none() {
            return Err(failure);
        }
        let checkpoint = self.save()?;
        Ok(self.outcome(f64::NAN, checkpoint, true))
    }

    fn outcome(&self, after: f64, checkpoint: PathBuf, interrupted: bool) -> Outcome {
        Outcome {
            before: self.state.before.unwrap_or(f64::NAN),
            after,
            k: self.config.evaluate.samples,
            steps: self.state.steps,
            seconds: self.state.seconds,
            checkpoint,
            interrupted,
        }
    }
}
