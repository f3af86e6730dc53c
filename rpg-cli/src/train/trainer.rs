//! The training loop.

use super::log::{Metrics, Timing, all_equal, print_sample, print_step, sample_line};
use super::rollout::{Sampled, sample_groups};
use super::step::{Response, update};
use super::warm_start;
use crate::checkpoint::{Checkpoint, TrainerState, read_optimizer, read_reference, read_state};
use crate::config::{Task, TrainConfig};
use crate::console::Console;
use crate::data::arithmetic::ColumnAddition;
use crate::data::{self, Data, PromptedProblem};
use crate::evaluate::evaluate;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::optim::{AdamW, AdamWConfig, constant_with_warmup};
use crate::run_folder::RunFolder;
use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rpg_core::seed::{derive, of_sample, stream};
use rpg_losses::{TokenLogProbs, token_advantages};
use rpg_rollout::generate::GenerateOptions;
use rpg_rollout::model::CausalLm;
use rpg_rollout::ops::ModelBackend;
use rpg_rollout::score::{ScoreItem, score};
use rpg_rollout::tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a run begins with.
pub struct Start<B: ModelBackend> {
    /// The policy.
    pub model: CausalLm<B>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
}

/// What a run ends with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Mean@k on the held-out problems before the first step.
    pub before: f64,
    /// And behind the last.
    pub after: f64,
    /// k.
    pub k: usize,
    /// Steps of reinforcement learning.
    pub steps: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// Whether the user stopped the run.
    pub interrupted: bool,
}

/// Everything that changes while a run goes on.
struct Trainer<'a, B: ModelBackend> {
    config: &'a TrainConfig,
    folder: &'a RunFolder,
    interrupt: &'a Interrupt,
    tokenizer: Tokenizer,
    data: Data,
    // `None` only while an update consumes it.
    model: Option<CausalLm<Autodiff<B>>>,
    reference: Option<CausalLm<B>>,
    optimizer: AdamW<B>,
    state: TrainerState,
    started: Instant,
    seconds_before: f64,
}

/// Runs a config to its end, or to an interruption, and leaves a checkpoint.
pub fn train<B: ModelBackend>(
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
        done => done,
    }
}

impl<'a, B: ModelBackend> Trainer<'a, B> {
    fn new(
        config: &'a TrainConfig,
        folder: &'a RunFolder,
        start: Start<B>,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let Start {
            model,
            tokenizer,
            resume,
        } = start;
        let n_eval = config.evaluate.problems;
        let data = data::load(&config.data, &tokenizer, config.seed, n_eval)?;
        check_context(config, &model, &data)?;
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
            data,
            model: Some(model),
            reference,
            optimizer,
            state,
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
                let before = self.evaluate(0, self.data.eval.len(), &console)?;
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
            let (groups, rewards, sampled) = self.sample(step, &console, &mut timing)?;
            metrics.add_rollout(&sampled.groups, &sampled.rewards);
            metrics.add("train/num_gen_batches", sampled.n_batches as f64);

            // Log-probs under the reference, where that is not pi_old; advantages.
            let responses = self.responses(&groups, &rewards)?;
            timing.lap("ref");
            metrics.add("critic/advantages/mean", mean_advantage(&responses));

            // Several updates, each from its share of the groups.
            let mut reports = Vec::new();
            for part in self.mini_batches(step, groups.len()) {
                let mini_batch: Vec<Response> = part
                    .iter()
                    .flat_map(|&group| responses[group].clone())
                    .collect();
                let lr = constant_with_warmup(
                    config.optimizer.lr,
                    config.optimizer.warmup_updates,
                    self.optimizer.n_updates() + 1,
                );
                let model = self
                    .model
                    .take()
                    .expect("the model is there between updates");
                let (model, report) = update(
                    model,
                    &mut self.optimizer,
                    &mini_batch,
                    &config.objective,
                    &config.optimizer,
                    lr,
                    config.rollout.temperature,
                    config.rollout.max_new_tokens,
                    config.train.micro_batch_tokens,
                );
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
                held_out = self.evaluate(step, n.min(self.data.eval.len()), &console)?;
                metrics.add(&self.validation_name(), held_out);
                timing.lap("testing");
            }
            let n_tokens = sampled.n_tokens();
            metrics.add("training/epoch", self.epoch());
            metrics.add("perf/total_num_tokens", n_tokens as f64);
            timing.add_to(&mut metrics, n_tokens);
            print_step(&console, step, steps, &metrics, held_out);
            self.log_samples(step, &sampled, &console)?;
            self.folder.append("metrics.jsonl", &metrics.into_json())?;
            console.position(step);
            let every = config.checkpoint.every;
            if every > 0 && step % every == 0 && step < steps {
                self.save()?;
            }
        }
        let after = self.evaluate(steps, self.data.eval.len(), &console)?;
        let mut metrics = Metrics::new(steps, "final");
        metrics.add(&self.validation_name(), after);
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
    ) -> Result<(Vec<Sampled>, Vec<Vec<f64>>, Everything), Failure> {
        let config = self.config;
        let wanted = config.rollout.prompts_per_step;
        let limit = config.train.max_generation_batches;
        let policy = self.policy();
        let options = generate_options(config, config.sampling());
        let mut everything = Everything::default();
        let (mut groups, mut rewards) = (Vec::new(), Vec::new());
        loop {
            let problems = (0..wanted as u64)
                .map(|i| self.data.train.get(self.state.n_problems + i))
                .collect::<Result<Vec<PromptedProblem>, _>>()?;
            let first = everything.groups.len();
            let sampled = sample_groups(
                &policy,
                &self.tokenizer,
                &problems,
                config.rollout.samples_per_prompt,
                |i, j| of_sample(config.seed, step, (first + i) as u64, j as u64),
                &options,
                &config.reward.grade,
                |progress| {
                    console.status(format!(
                        "sampling {}/{}",
                        progress.n_finished, progress.n_completions
                    ));
                    !self.interrupt.requested()
                },
            )?;
            timing.lap("gen");
            everything.n_batches += 1;
            for group in sampled {
                let group_rewards = self.rewards(&group);
                if limit == 0 || (!all_equal(&group_rewards) && groups.len() < wanted) {
                    groups.push(group.clone());
                    rewards.push(group_rewards.clone());
                }
                everything.groups.push(group);
                everything.rewards.push(group_rewards);
            }
            timing.lap("reward");
            self.state.n_problems += wanted as u64;
            if groups.len() >= wanted || everything.n_batches >= limit.max(1) {
                return Ok((groups, rewards, everything));
            }
        }
    }

    fn rewards(&self, group: &Sampled) -> Vec<f64> {
        let config = &self.config.reward;
        group
            .group
            .completions
            .iter()
            .zip(&group.verdicts)
            .map(|(completion, verdict)| {
                let overlong = config
                    .overlong
                    .map_or(0.0, |o| o.penalty(completion.tokens.len()));
                config.scale.score(verdict.correct) + overlong
            })
            .collect()
    }

    /// Groups and rewards as responses to train on, with advantages over the whole step.
    fn responses(
        &self,
        groups: &[Sampled],
        rewards: &[Vec<f64>],
    ) -> Result<Vec<Vec<Response>>, Failure> {
        let items: Vec<Vec<ScoreItem>> = groups
            .iter()
            .map(|sampled| {
                let prompt = &sampled.problem.prompt_tokens;
                let completions = sampled.group.completions.iter();
                completions
                    .map(|c| ScoreItem::response(prompt, &c.tokens))
                    .collect()
            })
            .collect();
        let logp_ref: Option<Vec<Vec<f32>>> = self
            .reference
            .as_ref()
            .map(|reference| self.score(reference, &items.concat()));
        let logp_old: Vec<&Vec<f32>> = groups
            .iter()
            .flat_map(|sampled| sampled.group.completions.iter().map(|c| &c.logprobs))
            .collect();
        let group_of: Vec<usize> = groups
            .iter()
            .enumerate()
            .flat_map(|(i, sampled)| vec![i; sampled.group.completions.len()])
            .collect();
        let mask: Vec<Vec<bool>> = logp_old.iter().map(|logp| vec![true; logp.len()]).collect();
        let wide = |rows: &[Vec<f32>]| -> Vec<Vec<f64>> {
            rows.iter()
                .map(|row| row.iter().map(|&x| x.into()).collect())
                .collect()
        };
        let wide_old: Vec<Vec<f64>> = logp_old
            .iter()
            .map(|row| row.iter().map(|&x| x.into()).collect())
            .collect();
        let wide_ref = logp_ref.as_deref().map(wide);
        let log_probs = wide_ref.as_ref().map(|logp_ref| TokenLogProbs {
            logp_old: &wide_old,
            logp_ref,
        });
        let objective = &self.config.objective;
        let mut advantages =
            token_advantages(objective, &rewards.concat(), &group_of, &mask, log_probs).into_iter();
        let mut logp_ref = logp_ref.map(Vec::into_iter);
        let mut logp_old = logp_old.into_iter();
        Ok(items
            .into_iter()
            .map(|group| {
                group
                    .into_iter()
                    .map(|item| Response {
                        item,
                        logp_old: logp_old.next().cloned().unwrap_or_default(),
                        logp_ref: logp_ref.as_mut().and_then(Iterator::next),
                        advantages: advantages.next().unwrap_or_default(),
                    })
                    .collect()
            })
            .collect())
    }

    /// Log-probs of every item's tokens under a fixed model.
    fn score(&self, model: &CausalLm<B>, items: &[ScoreItem]) -> Vec<Vec<f32>> {
        let mut result = Vec::with_capacity(items.len());
        let longest = items
            .iter()
            .map(|item| item.tokens.len())
            .max()
            .unwrap_or(1);
        let per_pass = (self.config.train.micro_batch_tokens / longest).max(1);
        for part in items.chunks(per_pass) {
            let scores = score(model, part, self.config.rollout.temperature);
            let values: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
            let mut rest = values.as_slice();
            for item in part {
                let (now, later) = rest.split_at(item.scored.len());
                result.push(now.to_vec());
                rest = later;
            }
        }
        result
    }

    /// The groups of each update, in an order that the seed decides.
    fn mini_batches(&self, step: u64, n_groups: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..n_groups).collect();
        let seed = derive(self.config.seed, &[stream::MINI_BATCH, step]);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let n = self.config.train.mini_batches.min(n_groups);
        (0..n)
            .map(|i| order[i * n_groups / n..(i + 1) * n_groups / n].to_vec())
            .collect()
    }

    fn evaluate(&self, step: u64, n: usize, console: &Console) -> Result<f64, Failure> {
        let config = &self.config.evaluate;
        let sampling = rpg_rollout::sampling::SamplingParams {
            temperature: config.temperature,
            ..Default::default()
        };
        let evaluation = evaluate(
            &self.policy(),
            &self.tokenizer,
            &self.data.eval[..n],
            config.samples,
            self.config.seed,
            &generate_options(self.config, sampling),
            &self.config.reward.grade,
            |progress| {
                console.status(format!(
                    "evaluating {}/{}",
                    progress.n_finished, progress.n_completions
                ));
                !self.interrupt.requested()
            },
        )?;
        if step == 0 {
            let mut metrics = Metrics::new(0, "initial");
            metrics.add(&self.validation_name(), evaluation.mean_at_k);
            self.folder.append("metrics.jsonl", &metrics.into_json())?;
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

    fn validation_name(&self) -> String {
        let source = self
            .data
            .eval
            .first()
            .map_or("", |p| p.problem.data_source.as_str());
        format!(
            "val-core/{source}/acc/mean@{}",
            self.config.evaluate.samples
        )
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

    fn log_samples(
        &self,
        step: u64,
        sampled: &Everything,
        console: &Console,
    ) -> Result<(), Failure> {
        let n = self.config.checkpoint.samples_per_step;
        for (group, rewards) in sampled.groups.iter().zip(&sampled.rewards).take(n) {
            self.folder
                .append("samples.jsonl", &sample_line(step, group, 0, rewards[0]))?;
        }
        if step % 25 == 0
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

/// Everything that was sampled for a step, with its rewards.
#[derive(Default)]
struct Everything {
    groups: Vec<Sampled>,
    rewards: Vec<Vec<f64>>,
    n_batches: u64,
}

impl Everything {
    fn n_tokens(&self) -> usize {
        self.groups
            .iter()
            .map(|sampled| {
                let completions = &sampled.group.completions;
                let prompt = sampled.problem.prompt_tokens.len();
                completions
                    .iter()
                    .map(|c| prompt + c.tokens.len())
                    .sum::<usize>()
            })
            .sum()
    }
}

fn mean_advantage(responses: &[Vec<Response>]) -> f64 {
    let all = || {
        responses
            .iter()
            .flatten()
            .flat_map(|response| &response.advantages)
    };
    all().sum::<f64>() / all().count().max(1) as f64
}

fn adamw_config(config: &TrainConfig) -> AdamWConfig {
    let optimizer = &config.optimizer;
    AdamWConfig {
        betas: optimizer.betas,
        eps: optimizer.eps,
        weight_decay: optimizer.weight_decay,
    }
}

fn generate_options(
    config: &TrainConfig,
    sampling: rpg_rollout::sampling::SamplingParams,
) -> GenerateOptions {
    GenerateOptions {
        sampling,
        max_new_tokens: config.rollout.max_new_tokens,
        max_slots: config.rollout.max_slots,
        ..Default::default()
    }
}

/// Refuses prompts that do not fit the model before the first token is sampled.
fn check_context<B: ModelBackend>(
    config: &TrainConfig,
    model: &CausalLm<B>,
    data: &Data,
) -> Result<(), Failure> {
    let context = model.config().max_position_embeddings;
    let fits = |problem: &PromptedProblem| {
        let n = problem.prompt_tokens.len();
        if n + config.rollout.max_new_tokens <= context {
            return Ok(());
        }
        Err(Failure::input(format!(
            "problem {}: its prompt of {n} tokens and rollout.max_new_tokens = {} are more than the \
             model's context of {context}",
            problem.problem.id, config.rollout.max_new_tokens
        ))
        .hint("lower rollout.max_new_tokens or data.max_prompt_tokens"))
    };
    data.eval.iter().try_for_each(fits)?;
    match &data.train {
        data::TrainData::File { problems, .. } => problems.iter().try_for_each(fits),
        data::TrainData::Task { .. } => fits(&data.train.get(0)?),
    }
}

/// Draws the learning curve and writes `summary.json`.
pub fn finish(folder: &RunFolder, outcome: &Outcome) -> Result<PathBuf, Failure> {
    let name = format!("mean@{}", outcome.k);
    let summary = json!({
        "before": {&name: outcome.before},
        "after": {&name: outcome.after},
        "steps": outcome.steps,
        "seconds": outcome.seconds,
    });
    folder.write("summary.json", format!("{summary:#}\n").as_bytes())?;
    crate::report::curve::draw(folder)
}

/// The newest checkpoint of a run.
pub fn newest_checkpoint(folder: &RunFolder) -> Result<PathBuf, Failure> {
    folder.checkpoints()?.pop().ok_or_else(|| {
        Failure::input(format!(
            "{}: no checkpoint to go on from",
            folder.root().display()
        ))
        .hint("start the run again in a new folder")
    })
}

/// Reads a model folder: policy and tokenizer, which must fit each other.
pub fn load_model<B: ModelBackend>(
    dir: &Path,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let hint = "a model folder holds config.json, model.safetensors and tokenizer.json";
    if !dir.is_dir() {
        return Err(Failure::input(format!("{}: no such folder", dir.display())).hint(hint));
    }
    let tokenizer = Tokenizer::load(dir).map_err(|e| Failure::input(e).hint(hint))?;
    let model = CausalLm::<B>::load_hf(dir, device).map_err(|e| Failure::input(e).hint(hint))?;
    let vocab_size = model.config().vocab_size;
    match (tokenizer.max_id() as usize) < vocab_size {
        true => Ok((model, tokenizer)),
        false => Err(Failure::input(format!(
            "{}: the tokenizer has token {}, but the model's vocabulary is {vocab_size}",
            dir.display(),
            tokenizer.max_id()
        ))
        .hint("tokenizer and weights come from different models")),
    }
}
