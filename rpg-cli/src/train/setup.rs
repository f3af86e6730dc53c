//! What a run begins with, and what it returns.

use super::evaluation::Best;
use super::grading::Grader;
use super::origin::Origin;
use super::ranks::{Team, check_alike};
use super::reference::{ReferenceRule, check_shapes, check_vocabulary};
use super::report::{MetricsFile, Reporter, SamplesFile, TensorBoardFile};
#[cfg(feature = "server")]
use super::servers;
use super::updates::UpdateCounts;
use crate::config::{TrainConfig, check_completions};
use crate::data::{self, Data, PromptedProblem, Reading, TrainData, files};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models::long_context;
use crate::optim::Optimizer;
use crate::run_folder::RunFolder;
use rpg_core::model::{CausalLm, ModelConfig};
use rpg_core::ops::{DecodeBackend, Int8Matrix};
use rpg_core::tokenizer::Tokenizer;
use rpg_reward::Reward;
use rpg_rollout::rollouts::{LocalRollouts, RolloutWeights, Rollouts};
#[cfg(feature = "server")]
use rpg_rollout::server::fleet::Servers;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// What a run begins with: a policy, and problems that fit it.
pub struct Start<B: DecodeBackend> {
    pub(super) policy: CausalLm<B>,
    pub(super) tokenizer: Tokenizer,
    pub(super) data: Data,
    pub(super) reference: Option<CausalLm<B>>,
    pub(super) resume: Option<PathBuf>,
}

impl<B: DecodeBackend> Start<B> {
    /// Loads the problems of a config, as the tokenizer renders them, and refuses prompts that do not fit into the
    /// policy's context.
    pub fn new(
        config: &TrainConfig,
        policy: CausalLm<B>,
        tokenizer: Tokenizer,
    ) -> Result<Self, Failure> {
        let reading = Reading {
            locate: &files::matching,
            on_progress: &mut |_, _| {},
        };
        Self::reading(config, policy, tokenizer, reading)
    }

    /// The same, with another way to find files, or a look at the progress.
    pub fn reading(
        config: &TrainConfig,
        mut policy: CausalLm<B>,
        mut tokenizer: Tokenizer,
        reading: Reading<'_>,
    ) -> Result<Self, Failure> {
        if config.model.long_context {
            policy = long_context("model.long_context", policy)?;
        }
        set_up_tokenizer(config, &mut tokenizer);
        let mut data = data::load(
            &config.data,
            &tokenizer,
            config.seed,
            config.evaluate.problems,
            reading,
        )?;
        check_completions(
            "evaluate.problems * evaluate.samples",
            data.eval.len() * config.evaluate.samples.get(),
        )?;
        check_context(config, policy.config(), "the model", &mut data)?;
        Ok(Self {
            policy,
            tokenizer,
            data,
            reference: None,
            resume: None,
        })
    }

    /// Begins with the model that `reference.path` names, whose tokens must be the policy's, into whose context the
    /// problems must fit, and whose weights a moving average must be able to mix with the policy's. A resumed run needs
    /// it too.
    pub fn reference(
        mut self,
        config: &TrainConfig,
        mut reference: CausalLm<B>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Failure> {
        if config.model.long_context {
            reference = reference.with_long_context();
        }
        check_vocabulary(
            (&self.tokenizer, self.policy.config().vocab_size),
            (tokenizer, reference.config().vocab_size),
        )?;
        if let ReferenceRule::MovingAverage { .. } = config.reference.rule {
            check_shapes(self.policy.config(), reference.config())?;
            if self.policy.lora().is_some() {
                return Err(Failure::input(
                    "reference.rule: found moving_average together with reference.path and an adapter; expected another \
                     rule, as what is trained has no counterpart in that model",
                ));
            }
        }
        check_context(config, reference.config(), "reference.path", &mut self.data)?;
        self.reference = Some(reference);
        Ok(self)
    }

    /// Resumes from a checkpoint, from which `policy` was read.
    pub fn resume(mut self, checkpoint: PathBuf) -> Self {
        self.resume = Some(checkpoint);
        self
    }

    /// Refuses a config that does not go with the sampler of [`Parts::new`], and servers that cannot sample for it; returns what
    /// the servers say they are, a line for each.
    pub fn check_sampler(&self, config: &TrainConfig) -> Result<Vec<String>, Failure> {
        config.check_ahead()?;
        #[cfg(feature = "server")]
        if let Some(servers) = self.servers(config, &Team::alone())? {
            return Ok(servers.descriptions());
        }
        if config.rollout.weights == RolloutWeights::Int8 {
            check_int8(&self.policy)?;
        }
        check_correction::<B>(config, &self.local_rollouts(config))?;
        Ok(Vec::new())
    }

    #[cfg(feature = "server")]
    fn servers(&self, config: &TrainConfig, team: &Team) -> Result<Option<Servers>, Failure> {
        let rank = self.policy.lora().map(|lora| lora.rank);
        let longest = servers::longest_prompt(&self.data)?;
        servers::ask(config, self.policy.config(), longest, rank, team)
    }

    /// The sampler that the config asks for: this process, or servers.
    fn rollouts<'a>(
        &self,
        config: &TrainConfig,
        folder: &RunFolder,
        team: &Team,
    ) -> Result<Box<dyn Rollouts<B> + 'a>, Failure>
    where
        B: 'a,
    {
        #[cfg(feature = "server")]
        if let Some(asked) = self.servers(config, team)? {
            return Ok(servers::rollouts(asked, config, self, folder, team));
        }
        #[cfg(not(feature = "server"))]
        let _ = (folder, team);
        Ok(Box::new(self.local_rollouts(config)))
    }

    /// Refuses ranks that do not begin with the same config, problems and models as rank 0.
    pub fn check_ranks(&self, config: &TrainConfig, team: &Team) -> Result<(), Failure> {
        if team.is_alone() {
            return Ok(());
        }
        let origin = Origin::new(config, &self.data, &self.policy, self.reference.as_ref())?;
        check_alike(team, &origin, &self.policy)
    }

    fn local_rollouts(&self, config: &TrainConfig) -> LocalRollouts<B> {
        LocalRollouts::new(self.tokenizer.clone()).with_weights(config.rollout.weights)
    }

    /// The policy.
    pub fn policy(&self) -> &CausalLm<B> {
        &self.policy
    }
}

/// The replaceable parts of a run: where completions come from, what they are worth, how gradients become a new
/// policy, who shares the work, and who is told.
pub struct Parts<'a, B: DecodeBackend> {
    /// Where completions come from.
    pub rollouts: Box<dyn Rollouts<B> + 'a>,
    /// What completions are worth.
    pub grader: Grader,
    /// How gradients become a new policy.
    pub optimizer: Box<dyn Optimizer<B>>,
    /// Who shares the work.
    pub team: Team,
    /// Who is told, in this order. Only those of the first rank are.
    pub reporters: Vec<Box<dyn Reporter + 'a>>,
    /// How to stop the run.
    pub interrupt: Interrupt,
}

impl<'a, B: DecodeBackend + 'a> Parts<'a, B> {
    /// The default parts: sampling in this process or, as the config says, by servers; its optimizer, one rank, and the files of the
    /// run folder as reporters. `rewards` are used together with the built-in grader. Servers that cannot sample for the run
    /// are an error.
    pub fn new(
        config: &TrainConfig,
        start: &Start<B>,
        folder: &RunFolder,
        rewards: Vec<Box<dyn Reward>>,
    ) -> Result<Self, Failure> {
        Self::over(Team::alone(), config, start, folder, rewards)
    }

    /// The same for one of several ranks, of which the first gives servers the weights.
    pub fn over(
        team: Team,
        config: &TrainConfig,
        start: &Start<B>,
        folder: &RunFolder,
        rewards: Vec<Box<dyn Reward>>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            rollouts: start.rollouts(config, folder, &team)?,
            grader: Grader::new(config, rewards),
            optimizer: config.optimizer.build(),
            team,
            reporters: files(config, start, folder),
            interrupt: Interrupt::default(),
        })
    }
}

/// The reporters that write the run folder's files.
fn files<'a, B: DecodeBackend>(
    config: &TrainConfig,
    start: &Start<B>,
    folder: &RunFolder,
) -> Vec<Box<dyn Reporter + 'a>> {
    let per_step = config.checkpoint.samples_per_step;
    let mut files: Vec<Box<dyn Reporter>> = vec![Box::new(SamplesFile::new(
        folder,
        per_step,
        &start.tokenizer,
    ))];
    if config.checkpoint.tensorboard {
        files.push(Box::new(TensorBoardFile::new(folder)));
    }
    files.push(Box::new(MetricsFile::new(folder)));
    files
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Mean@k on the held-out problems before the first step; NaN without held-out problems.
    pub before: f64,
    /// Mean@k after the last step; NaN if the run was stopped, and without held-out problems.
    pub after: f64,
    /// k.
    pub k: usize,
    /// The best evaluation that the newest checkpoint knows of.
    pub best: Option<Best>,
    /// Steps of reinforcement learning that the newest checkpoint contains.
    pub steps: u64,
    /// Seconds of work, over all resumptions.
    pub seconds: f64,
    /// Updates so far.
    pub updates: UpdateCounts,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// Whether the user stopped the run.
    pub interrupted: bool,
}

impl Outcome {
    /// Writes `summary.json`.
    pub fn write_summary(&self, folder: &RunFolder) -> Result<(), Failure> {
        let name = format!("mean@{}", self.k);
        let best = self
            .best
            .as_ref()
            .map(|best| json!({&name: best.score, "step": best.step, "problems": best.problems}));
        let summary = json!({
            "before": {&name: self.before},
            "after": {&name: self.after},
            "best": best,
            "steps": self.steps,
            "updates": self.updates.all,
            "skipped_updates": self.updates.skipped,
            "seconds": self.seconds,
        });
        folder.write("summary.json", format!("{summary:#}\n").as_bytes())
    }
}

/// Refuses a correction for a sampler that needs none: one with the policy itself.
pub(super) fn check_correction<B: DecodeBackend>(
    config: &TrainConfig,
    rollouts: &dyn Rollouts<B>,
) -> Result<(), Failure> {
    let is_policy = rollouts.is_exact() && !config.samples_ahead();
    if config.rollout_correction().is_none() || !is_policy {
        return Ok(());
    }
    Err(Failure::input(
        "objective.rollout_correction: found one; expected none, as this sampler's log-probs are those of the policy, \
         so that every weight is 1",
    )
    .hint("remove it: it makes up for samplers whose log-probs differ, such as rollout.weights = \"int8\" or a server"))
}

/// Refuses 8-bit integers where they are not faster, and where they would not be right.
fn check_int8<B: DecodeBackend>(policy: &CausalLm<B>) -> Result<(), Failure> {
    let refused = |why: String| {
        let message = format!("rollout.weights: found int8; expected exact, as {why}");
        Err(Failure::input(message))
    };
    if !B::MULTIPLIES_INT8 {
        return refused("only the CPU backend has products of 8-bit integers".into());
    }
    let widest = policy.config().widest_input();
    if widest > Int8Matrix::MAX_INPUTS {
        return refused(format!(
            "this model multiplies {widest} inputs, and sums of products of 8-bit integers fit for {}",
            Int8Matrix::MAX_INPUTS
        ));
    }
    Ok(())
}

/// Makes the chat template render prompts as the config says.
pub(super) fn set_up_tokenizer(config: &TrainConfig, tokenizer: &mut Tokenizer) {
    if let Some(enabled) = config.data.thinking {
        tokenizer.set_thinking(enabled);
    }
    if let Some(date) = config.data.date {
        tokenizer.set_date(date.get());
    }
}

/// Refuses the first problem whose completions may become longer than a model's context.
pub(crate) fn check_context(
    config: &TrainConfig,
    model: &ModelConfig,
    name: &str,
    data: &mut Data,
) -> Result<(), Failure> {
    let fits = |problem: &PromptedProblem| check_fits(config, model, name, problem);
    data.eval.iter().try_for_each(fits)?;
    match &mut data.train {
        TrainData::Files(file) => file.problems().iter().try_for_each(fits),
        task => fits(&task.get(0)?),
    }
}

/// Refuses a problem whose completions may become longer than a model's context.
pub(super) fn check_fits(
    config: &TrainConfig,
    model: &ModelConfig,
    name: &str,
    problem: &PromptedProblem,
) -> Result<(), Failure> {
    let context = model.context();
    let n = problem.prompt_tokens.len();
    if n + config.rollout.max_new_tokens.get() <= context {
        return Ok(());
    }
    let may_be_longer = model.has_long_context() && !model.long_context;
    Err(Failure::input(format!(
        "problem {}: its prompt of {n} tokens plus rollout.max_new_tokens = {} exceeds {name}'s context of {context}",
        problem.problem.id, config.rollout.max_new_tokens
    ))
    .hint(if may_be_longer {
        "lower rollout.max_new_tokens or data.max_prompt_tokens, or set model.long_context"
    } else {
        "lower rollout.max_new_tokens or data.max_prompt_tokens"
    }))
}
