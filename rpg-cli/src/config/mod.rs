//! What a training run does, as a TOML file.
//!
//! A config comes from a built-in recipe or a file, then `--set key=value` changes single keys, and the
//! whole is checked before the first token is sampled. Unknown keys are errors.

mod check;

use crate::device::DeviceChoice;
use crate::failure::{AtPath, Failure};
use crate::optim::{AdamWConfig, Schedule, constant_with_warmup, cosine, stable_decay};
use crate::train::ReferenceRule;
use rpg_core::model::ModelConfig;
use rpg_losses::ObjectiveConfig;
use rpg_reward::command::CommandConfig;
use rpg_reward::shaping::{OverlongPenalty, RepetitionPenalty};
use rpg_reward::{AnswerStyle, GradeOptions, ScoreScale};
use rpg_rollout::generate::GenerateOptions;
use rpg_rollout::sampling::SamplingParams;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// The built-in recipes: name, what it is for, text.
pub const RECIPES: [(&str, &str, &str); 2] = [
    (
        "arithmetic",
        "a small policy learns to add, from scratch: the default of `rpg train`",
        include_str!("../recipes/arithmetic.toml"),
    ),
    (
        "finetune",
        "a pretrained model on a JSONL file: the default with `--model` and `--data`",
        include_str!("../recipes/finetune.toml"),
    ),
];

/// A whole training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Every random draw of the run derives from it.
    pub seed: u64,
    /// Where to compute.
    #[serde(default)]
    pub backend: DeviceChoice,
    /// The policy.
    pub model: ModelSource,
    /// The problems.
    pub data: DataSource,
    /// Supervised steps before reinforcement learning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<WarmStart>,
    /// How the policy is sampled.
    pub rollout: RolloutConfig,
    /// How completions are scored.
    #[serde(default)]
    pub reward: RewardConfig,
    /// The loss.
    pub objective: ObjectiveConfig,
    /// The reference policy of the KL term.
    #[serde(default)]
    pub reference: ReferenceConfig,
    /// How parameters are updated.
    pub optimizer: OptimizerConfig,
    /// The loop.
    pub train: LoopConfig,
    /// How progress is measured.
    pub evaluate: EvaluateConfig,
    /// What is kept.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
}

/// Where the policy comes from: one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    /// A Hugging Face folder, a `.gguf` file or a name on the hub: the last only for the command, which fetches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A Qwen3-like model with random weights and the character tokenizer of the built-in task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<ScratchModel>,
}

/// The shape of a model that starts from random weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScratchModel {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
}

impl ScratchModel {
    /// The sizes of an existing model.
    pub fn of(model: &ModelConfig) -> Self {
        Self {
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            num_hidden_layers: model.num_hidden_layers,
            num_attention_heads: model.num_attention_heads,
            num_key_value_heads: model.num_key_value_heads,
        }
    }

    /// The sizes by their keys.
    pub fn sizes(&self) -> [(&'static str, usize); 5] {
        [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
        ]
    }
}

/// Where the problems come from: a file or a built-in task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// JSONL with `question` or `problem`, and `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// Problems to evaluate on; without it, some of `train` are held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<PathBuf>,
    /// A built-in task: generated problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// How the answer is asked for: this style's instruction follows the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_style: Option<AnswerStyle>,
    /// What follows the question in place of the style's instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// A system message before every question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Whether the model thinks before it answers, where its chat template knows of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
    /// The day that chat templates such as Llama 3.2's write into the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Problems whose prompt has more tokens are left out, counted and reported.
    #[serde(default = "default_max_prompt_tokens")]
    pub max_prompt_tokens: usize,
}

fn default_max_prompt_tokens() -> usize {
    1024
}

/// A built-in task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Addition of two numbers, written column by column.
    ColumnAddition {
        /// Digits of each number.
        digits: u32,
    },
}

/// Supervised training on worked examples of the built-in task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmStart {
    /// Optimizer steps.
    pub steps: u64,
    /// Examples per step.
    pub batch_size: usize,
    /// Peak learning rate; over the first tenth of the steps it rises from zero, then it falls along a
    /// cosine.
    pub lr: f64,
    /// Probability with which each column of a worked example is wrong: the teacher is careless, and
    /// imitation alone inherits that.
    #[serde(default)]
    pub slip: f64,
}

/// How the policy is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// Prompts per step, P.
    pub prompts_per_step: usize,
    /// Samples per prompt, G.
    pub samples_per_prompt: usize,
    /// A completion ends after this many tokens.
    pub max_new_tokens: usize,
    /// Logits are divided by this, in sampling and in training.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Nucleus sampling; below 1 the sampled distribution is not the one that training scores.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Completions sampled at a time.
    #[serde(default = "default_max_slots")]
    pub max_slots: usize,
}

fn one() -> f64 {
    1.0
}

fn default_max_slots() -> usize {
    512
}

/// How completions are scored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Numbers for right and wrong.
    pub scale: ScoreScale,
    /// What the parts of the reward count for in its sum.
    pub weights: RewardWeights,
    /// A program of the user's that scores completions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandConfig>,
    /// A penalty on long completions, added to the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlong: Option<OverlongPenalty>,
    /// A penalty on completions that repeat themselves, added to the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition: Option<RepetitionPenalty>,
    /// Where the answer may stand.
    pub grade: GradeOptions,
}

/// What the parts of the reward count for in its sum; penalties have factors of their own.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardWeights {
    /// Whether the answer is right, on `reward.scale`. Without a value 1, or 0 where there is a command:
    /// the command then takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<f64>,
    /// The score of the command. Without a value 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<f64>,
    /// Whether the answer stands in the form that was asked for. Without a value 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<f64>,
}

impl RewardWeights {
    /// The weight of the answer's being right; a reward of the user's takes its place.
    pub fn correct(&self, has_own_reward: bool) -> f64 {
        self.correct
            .unwrap_or(if has_own_reward { 0.0 } else { 1.0 })
    }

    /// The weight of a reward of the user's, if there is one.
    pub fn own(&self) -> f64 {
        self.command.unwrap_or(1.0)
    }

    /// The weight of the form.
    pub fn format(&self) -> f64 {
        self.format.unwrap_or(0.0)
    }
}

/// The reference policy of the KL term.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "RawReference")]
pub struct ReferenceConfig {
    /// When the reference becomes the policy.
    pub rule: ReferenceRule,
}

/// As users write it: `update_every` is the older spelling of `rule`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "reference")]
struct RawReference {
    rule: Option<ReferenceRule>,
    update_every: Option<u64>,
}

impl TryFrom<RawReference> for ReferenceConfig {
    type Error = String;

    fn try_from(raw: RawReference) -> Result<Self, String> {
        let rule = match (raw.rule, raw.update_every) {
            (Some(_), Some(_)) => {
                return Err(
                    "reference: both `rule` and `update_every` are given; keep `rule`".into(),
                );
            }
            (Some(rule), None) => rule,
            (None, None | Some(1)) => ReferenceRule::EveryRollout,
            (None, Some(k)) => {
                NonZeroU64::new(k).map_or(ReferenceRule::Never, ReferenceRule::EverySteps)
            }
        };
        Ok(Self { rule })
    }
}

/// AdamW and what surrounds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// What the learning rate does then: `constant`, `cosine`, which ends at zero, or
    /// `warmup_stable_decay`, which falls to zero over the last `decay_steps` steps.
    #[serde(default)]
    pub schedule: Schedule,
    /// Steps over which it falls with the schedule `warmup_stable_decay`; others do not read it.
    #[serde(default)]
    pub decay_steps: u64,
    /// Optimizer updates over which the learning rate rises from zero.
    #[serde(default)]
    pub warmup_updates: u64,
    /// Decay rates of the moments.
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// The gradient of all parameters together is scaled down to this norm.
    #[serde(default = "one")]
    pub max_grad_norm: f64,
}

impl OptimizerConfig {
    /// The part that AdamW reads.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
        }
    }
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

/// The loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Rollouts.
    pub steps: u64,
    /// Updates per rollout.
    pub mini_batches: usize,
    /// Tokens per forward and backward pass; the gradient does not depend on it.
    #[serde(default = "default_micro_batch_tokens")]
    pub micro_batch_tokens: usize,
    /// Leaves groups out whose rewards are all equal, and samples further prompts until the step is
    /// full, at most this many rollouts; 1 leaves them out without replacement, 0 keeps them.
    #[serde(default)]
    pub max_generation_batches: u64,
}

fn default_micro_batch_tokens() -> usize {
    4096
}

/// How progress is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Held-out problems, before and after training.
    pub problems: usize,
    /// Samples per problem: k of Mean@k.
    pub samples: usize,
    /// Steps between measurements during training; 0: none.
    #[serde(default)]
    pub every: u64,
    /// Problems of a measurement during training; the default is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems_during: Option<usize>,
    /// Sampling temperature.
    #[serde(default = "one")]
    pub temperature: f64,
}

impl EvaluateConfig {
    /// Whether the policy is measured in this step of so many; after the last it is anyway.
    pub fn due(&self, step: u64, steps: u64) -> bool {
        self.every > 0 && step.is_multiple_of(self.every) && step < steps
    }
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0: only at the end.
    pub every: u64,
    /// Checkpoints that are kept; older ones are removed.
    pub keep: usize,
    /// Completions per step that go to samples.jsonl.
    pub samples_per_step: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 50,
            keep: 1,
            samples_per_step: 4,
        }
    }
}

impl CheckpointConfig {
    /// Whether a checkpoint is written after this step of so many; after the last there is one anyway.
    pub fn due(&self, step: u64, steps: u64) -> bool {
        self.every > 0 && step.is_multiple_of(self.every) && step < steps
    }
}

impl TrainConfig {
    /// Reads a config from TOML text; `origin` names it in errors. `sets` are `key=value` changes.
    pub fn from_toml(text: &str, origin: &str, sets: &[String]) -> Result<Self, Failure> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|e| Failure::input(format!("{origin}: {e}")).hint("the file must be TOML"))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        let config: Self = serde_path(table, origin)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a config file.
    pub fn from_file(path: &Path, sets: &[String]) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).at(path)?;
        Self::from_toml(&text, &path.display().to_string(), sets)
    }

    /// A built-in recipe.
    pub fn recipe(name: &str, sets: &[String]) -> Result<Self, Failure> {
        let Some((_, _, text)) = RECIPES.iter().find(|(n, ..)| *n == name) else {
            let names: Vec<_> = RECIPES.iter().map(|(n, ..)| *n).collect();
            return Err(Failure::input(format!("no recipe is called `{name}`"))
                .hint(format!("the recipes are: {}", names.join(", "))));
        };
        Self::from_toml(text, &format!("recipe {name}"), sets)
    }

    /// The resolved config as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every config is a TOML table")
    }

    /// The sampling of rollouts.
    pub fn sampling(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.rollout.temperature,
            top_p: self.rollout.top_p,
            ..Default::default()
        }
    }

    /// How completions are generated with this sampling.
    pub fn generate_options(&self, sampling: SamplingParams) -> GenerateOptions {
        let mut options = GenerateOptions::default();
        options.sampling = sampling;
        options.max_new_tokens = self.rollout.max_new_tokens;
        options.max_slots = self.rollout.max_slots;
        options
    }

    /// The learning rate of an update, counted from 1 over the whole run, in a step.
    pub fn learning_rate(&self, step: u64, update: u64) -> f64 {
        let OptimizerConfig {
            lr,
            schedule,
            decay_steps,
            warmup_updates,
            ..
        } = self.optimizer;
        let lr = constant_with_warmup(lr, warmup_updates, update);
        let steps = self.train.steps;
        match schedule {
            Schedule::Constant => lr,
            Schedule::Cosine => lr * cosine(0.0, (step - 1) as f64 / steps as f64),
            Schedule::WarmupStableDecay => lr * stable_decay(decay_steps, steps, step),
        }
    }
}

fn serde_path(table: toml::Table, origin: &str) -> Result<TrainConfig, Failure> {
    TrainConfig::deserialize(table).map_err(|e| {
        let message = e.to_string();
        let failure = Failure::input(format!("{origin}: {}", message.trim_end()));
        match message.contains("unknown field") {
            true => failure.hint("the message names the keys that exist there"),
            false => failure,
        }
    })
}

/// Sets one key of a table from `a.b.c=value`; what is no TOML value is taken as a string.
fn apply(table: &mut toml::Table, set: &str) -> Result<(), Failure> {
    let usage = || {
        Failure::input(format!("--set {set}: expected KEY=VALUE"))
            .hint("for example --set optimizer.lr=1e-5")
    };
    let (key, text) = set.split_once('=').ok_or_else(usage)?;
    let value = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()));
    let mut parts: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = parts
        .pop()
        .filter(|last| !last.is_empty())
        .ok_or_else(usage)?;
    let mut at = table;
    for part in parts {
        let entry = at
            .entry(part.to_owned())
            .or_insert_with(|| toml::Table::new().into());
        at = entry
            .as_table_mut()
            .ok_or_else(|| Failure::input(format!("--set {set}: `{part}` is not a table")))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_round_trips() {
        let sets = ["model.path=m".to_owned(), "data.train=d".to_owned()];
        for (name, ..) in RECIPES {
            let sets = if name == "finetune" { &sets[..] } else { &[] };
            let config = TrainConfig::recipe(name, sets).unwrap();
            let again = TrainConfig::from_toml(&config.to_toml(), "round trip", &[]).unwrap();
            assert_eq!(config, again);
        }
    }

    #[test]
    fn single_keys_can_be_set() {
        let sets = ["optimizer.lr=0.5", "objective.kl=rkl", "checkpoint.every=3"];
        let config = TrainConfig::recipe("arithmetic", &sets.map(String::from)).unwrap();
        assert_eq!(config.optimizer.lr, 0.5);
        assert_eq!(config.objective.kl, rpg_losses::Divergence::Rkl);
        assert_eq!(config.checkpoint.every, 3);
        // A day, as TOML writes it or as text.
        for set in ["data.date=2026-03-05", "data.date='2026-03-05'"] {
            let config = TrainConfig::recipe("arithmetic", &[set.to_owned()]).unwrap();
            assert_eq!(
                config.data.day().unwrap(),
                Some(jiff::civil::date(2026, 3, 5))
            );
        }
    }

    #[test]
    fn the_reference_rule_has_two_spellings() {
        let rule = |set: &str| {
            let config = TrainConfig::recipe("arithmetic", &[set.to_owned()]);
            config.map(|config| config.reference.rule)
        };
        let four = ReferenceRule::EverySteps(NonZeroU64::new(4).unwrap());
        for (set, expected) in [
            ("reference.rule=every_rollout", ReferenceRule::EveryRollout),
            ("reference.rule=never", ReferenceRule::Never),
            ("reference.rule={every_steps=4}", four),
            ("reference.update_every=1", ReferenceRule::EveryRollout),
            ("reference.update_every=0", ReferenceRule::Never),
            ("reference.update_every=4", four),
        ] {
            assert_eq!(rule(set).unwrap(), expected, "{set}");
        }
        for (set, message) in [
            ("reference.rule=sometimes", "sometimes"),
            ("reference.rule={every_steps=0}", "nonzero"),
            ("reference={rule='never', update_every=4}", "keep `rule`"),
        ] {
            let error = rule(set).unwrap_err();
            assert!(error.message.contains(message), "{set}: {error}");
        }
    }

    #[test]
    fn groups_of_one_need_an_advantage_over_the_batch() {
        let mut sets = vec![
            "rollout.samples_per_prompt=1".to_owned(),
            "objective.advantage=batch_norm".to_owned(),
        ];
        let error = TrainConfig::recipe("arithmetic", &sets).unwrap_err();
        let expected = "found 1; expected at least 2, as train.max_generation_batches keeps";
        assert!(error.message.contains(expected), "{error}");
        sets.push("train.max_generation_batches=0".to_owned());
        assert!(TrainConfig::recipe("arithmetic", &sets).is_ok());
    }

    #[test]
    fn bad_values_are_named() {
        let check = |set: &str, message: &str| {
            let error = TrainConfig::recipe("arithmetic", &[set.to_owned()]).unwrap_err();
            assert!(error.message.contains(message), "{set}: {error}");
            assert_eq!(error.kind, crate::failure::FailureKind::Input);
        };
        check("train.stepps=3", "stepps");
        check("nonsense=1", "nonsense");
        check(
            "optimizer.lr=-1",
            "optimizer.lr: found -1; expected a number above 0",
        );
        check("optimizer.lr=fast", "invalid type");
        check(
            "rollout.samples_per_prompt=0",
            "rollout.samples_per_prompt: found 0",
        );
        check(
            "rollout.samples_per_prompt=1",
            "found 1; expected at least 2, as objective.advantage = \"group_mean\" compares",
        );
        check("rollout.top_p=1.5", "rollout.top_p: found 1.5");
        check("objective.eps_low=2.0", "eps_low");
        check("objective.kl=jsd", "jsd");
        check("model.path=somewhere", "both `path` and `scratch`");
        check("data.train=file", "both `train` and `task`");
        check(
            "warm_start.slip=1.5",
            "warm_start.slip: found 1.5; expected a probability",
        );
        check("data.task.digits=9", "data.task.digits: found 9");
        check(
            "data.date=2026-03-32",
            "data.date: found 2026-03-32; expected a day",
        );
        check(
            "optimizer.decay_steps=0",
            "optimizer.decay_steps: found 0; expected at least 1",
        );
        check("seed.deep=1", "`seed` is not a table");
        check(
            "reward.command.program=[]",
            "reward.command.program: found []; expected a program and its arguments",
        );
        check(
            "reward.command.program=python3",
            "invalid type: string \"python3\", expected a sequence",
        );
        check("reward.command.processes=2", "missing field `program`");
        check(
            "reward.command={program=['a'], processes=0}",
            "reward.command.processes: found 0; expected at least 1",
        );
        check(
            "reward.command={program=['a'], timeout_seconds=0.0}",
            "reward.command.timeout_seconds: found 0; expected a number above 0",
        );
        check(
            "reward.command={program=['a'], batch_timeout_seconds=-1.0}",
            "reward.command.batch_timeout_seconds: found -1; expected a number above 0",
        );
        check(
            "reward.command={program=['a'], on_error='zero'}",
            "unknown variant `zero`, expected one of `stop`, `skip`, `score`",
        );
        check(
            "reward.command={program=['a'], on_error={score=inf}}",
            "reward.command.on_error.score: found inf; expected a finite number",
        );
        check(
            "reward.weights.command=0.5",
            "reward.weights.command: found 0.5; expected no weight, as there is no reward.command",
        );
        check(
            "reward.weights.format=nan",
            "reward.weights.format: found NaN; expected a finite number",
        );
        check(
            "reward.weights.correct=0",
            "reward.weights: every part of the reward has weight 0",
        );
        check(
            "reward.repetition={ngram=0, penalty=1}",
            "reward.repetition.ngram: found 0; expected at least 1",
        );
        check(
            "reward.overlong={max_length=48, buffer=12, penalty=-1}",
            "reward.overlong.penalty: found -1; expected 0 or above",
        );
        check("lonely", "expected KEY=VALUE");
    }
}
