//! Supervised training on worked examples, before reinforcement learning.

use super::learner::Learner;
use super::ranks::Team;
use super::report::{Event, Metrics, Timing};
use super::trainer::Trainer;
use crate::config::{LoopConfig, Task, WarmStart};
use crate::data::arithmetic::ColumnAddition;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::optim::{cosine, linear_warmup};
use rpg_core::batch::by_tokens;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{Entropy, ScoreItem, score_on_tape};
use rpg_core::tokenizer::Tokenizer;

/// The limit on the norm of all gradients together.
const MAX_GRAD_NORM: f64 = 1.0;

impl<B: DecodeBackend> Trainer<'_, B> {
    /// Supervised steps on worked examples.
    pub(super) fn warm_start(&mut self) -> Result<(), Failure> {
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
            if self.team.any(self.interrupt.requested())? {
                return Err(Failure::interrupted());
            }
            let mut timing = Timing::start();
            let nll = self::step(
                &mut self.learner,
                config,
                &task,
                &self.tokenizer,
                step,
                &self.config.train,
                &self.team,
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
            if self.is_checkpoint_due(step, config.steps)? {
                self.save()?;
            }
        }
        self.reporters.on(&Event::WarmStartEnd)?;
        self.state.n_problems = config.steps * config.batch_size.get() as u64;
        // Reinforcement learning starts with fresh moments.
        self.learner.reset_optimizer()?;
        // The first evaluation may take minutes.
        self.save().map(|_| ())
    }
}

/// One step (counted from 1) on the next examples; returns the mean negative log-likelihood per token.
#[allow(clippy::too_many_arguments)]
fn step<B: DecodeBackend>(
    learner: &mut Learner<B>,
    config: &WarmStart,
    task: &ColumnAddition,
    tokenizer: &Tokenizer,
    step: u64,
    passes: &LoopConfig,
    team: &Team,
    interrupt: &Interrupt,
) -> Result<f64, Failure> {
    let items = examples(learner, config, task, tokenizer, step)?;
    let n_tokens: usize = items.iter().map(|item| item.scored.len()).sum();
    let n_tokens = n_tokens as f64;
    // All examples of a task have nearly the same length: that of the first will do.
    let n_tokens_each = items[0].tokens.len();
    let own = &items[team.share(items.len())];
    let parts = by_tokens(own, passes.micro_batch_tokens.get(), |_| n_tokens_each);
    let activations = passes.activations(learner.model_config());
    // An average needs no falling learning rate.
    let rate = if learner.optimizer().averages() {
        linear_warmup
    } else {
        cosine
    };
    let mut nll = 0.0;
    let report = learner.step(
        parts,
        |policy, part| {
            if interrupt.requested() {
                return Err(Failure::interrupted());
            }
            let (scores, tape) = score_on_tape(policy, part, 1.0, Entropy::Measured, activations);
            let loss = scores.logprobs.sum().neg() / n_tokens;
            nll += loss.clone().into_data().iter::<f64>().sum::<f64>();
            Ok((loss, tape))
        },
        config.lr.get() * rate(0.1, step as f64 / (config.steps + 1) as f64),
        MAX_GRAD_NORM,
    )?;
    if report.skipped {
        return Err(Failure::internal(format!(
            "warm start, step {step}: the norm of the gradient is {}",
            report.grad_norm
        ))
        .hint("lower warm_start.lr"));
    }
    Ok(team.sum(vec![nll])?[0])
}

fn examples<B: DecodeBackend>(
    learner: &Learner<B>,
    config: &WarmStart,
    task: &ColumnAddition,
    tokenizer: &Tokenizer,
    step: u64,
) -> Result<Vec<ScoreItem>, Failure> {
    let eos = *learner
        .model_config()
        .eos_token_ids
        .first()
        .ok_or_else(|| Failure::internal("the model has no end-of-sequence token"))?;
    let first = (step - 1) * config.batch_size.get() as u64;
    (first..first + config.batch_size.get() as u64)
        .map(|index| {
            let example = task.worked(index, config.slip.get());
            let prompt = tokenizer
                .encode_prompt(&example.problem.prompt)
                .map_err(Failure::internal)?;
            let mut answer = tokenizer
                .encode(&example.solution, false)
                .map_err(Failure::internal)?;
            answer.push(eos);
            Ok(ScoreItem::response(&prompt, &answer))
        })
        .collect()
}
