//! The sections of a config, except that of the reward.

use super::data_files::{DataFiles, Examples};
use super::keys::{ConfigType, Values, config_section, one_of, plain_values};
use super::servers::{LogProbs, ServerConfig};
use super::values::{
    Count, Day, DecayRate, Digits, NonNegative, Nucleus, Positive, PositiveTemperature,
    Probability, Staleness, Temperature,
};
use crate::device::DeviceChoice;
use crate::optim::{
    AdamW, AdamW8bit, AdamWConfig, AdamWScheduleFree, Optimizer, OptimizerKind, Schedule,
    ScheduleFreeConfig,
};
use crate::train::{GroupFilter, Transport};
use rpg_core::model::{Activations, AdapterFolder, ModelConfig};
use rpg_core::ops::DecodeBackend;
use rpg_losses::ObjectiveConfig;
use rpg_reward::AnswerStyle;
use rpg_rollout::rollouts::RolloutWeights;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

config_section! {
    /// Where the policy comes from: either `path` or `scratch`.
    pub struct ModelSource {
        /// A Hugging Face folder or a `.gguf` file; for the command also the name of a model on the hub:
        /// `ORGANISATION/NAME`, `ORGANISATION/NAME@REVISION` or `ORGANISATION/NAME/FILE.gguf` (`--model`).
        path: Option<PathBuf> = None,
        /// A Qwen3-like model with random weights and the character tokenizer of the built-in task.
        scratch: Option<ScratchModel> = None,
        /// For models whose context LongRoPE stretched (Phi-3, Phi-4-mini): whether all sequences are rotated with the factors
        /// for long texts, so that they may be longer than the original context.
        long_context: bool = false,
    }
}

config_section! {
    /// The shape of a model that starts from random weights.
    pub struct ScratchModel {
        /// Width of the residual stream.
        hidden_size: Count,
        /// Width of the feed-forward layer.
        intermediate_size: Count,
        /// Number of blocks.
        num_hidden_layers: Count,
        /// Number of query heads.
        num_attention_heads: Count,
        /// Number of key and value heads.
        num_key_value_heads: Count,
    }
}

impl ScratchModel {
    /// The sizes of an existing model.
    ///
    /// # Panics
    /// If one of them is 0; [`ModelConfig::check`] refuses such a model.
    pub fn of(model: &ModelConfig) -> Self {
        Self {
            hidden_size: Count::of(model.hidden_size),
            intermediate_size: Count::of(model.intermediate_size),
            num_hidden_layers: Count::of(model.num_hidden_layers),
            num_attention_heads: Count::of(model.num_attention_heads),
            num_key_value_heads: Count::of(model.num_key_value_heads),
        }
    }

    /// The sizes by their keys.
    pub fn sizes(&self) -> [(&'static str, usize); 5] {
        [
            ("hidden_size", self.hidden_size.get()),
            ("intermediate_size", self.intermediate_size.get()),
            ("num_hidden_layers", self.num_hidden_layers.get()),
            ("num_attention_heads", self.num_attention_heads.get()),
            ("num_key_value_heads", self.num_key_value_heads.get()),
        ]
    }
}

config_section! {
    /// Where the problems come from: either a file, `train`, or a built-in task.
    pub struct DataSource {
        /// Files of problems (`--data`): JSONL, plain or compressed with gzip, or Parquet, or names of data sets; see
        /// [problems from files](#problems-from-files).
        train: Option<DataFiles> = None,
        /// The problems to evaluate on, as such files; without them, some problems of `train` are held out.
        eval: Option<DataFiles> = None,
        /// A built-in task, which generates problems.
        task: Option<Task> = None,
        /// Where the parts of a problem are in the rows of the files.
        columns: ColumnNames = ColumnNames::default(),
        /// Whether rows with the same prompt, answer and source are one problem; how many were left out is reported. Without
        /// it each of them is a problem, so that a repeated one is trained on more often.
        deduplicate: bool = true,
        /// Worked examples before every question, each of them two turns of the chat, of the user and of the assistant.
        examples: Option<Examples> = None,
        /// The text that comes before the question.
        prefix: Option<String> = None,
        /// The form that the answer is asked for in: the style's instruction follows the question.
        answer_style: Option<AnswerStyle> = None,
        /// The text that follows the question instead of the style's instruction.
        instruction: Option<String> = None,
        /// A system message before every question.
        system_prompt: Option<String> = None,
        /// Whether the model thinks before it answers: `enable_thinking` of chat templates such as Qwen3's.
        /// Without it, the template decides.
        thinking: Option<bool> = None,
        /// The day that chat templates such as Llama 3.2's write into the prompt. Without it, that of the
        /// template: prompts are the same on every day.
        date: Option<Day> = None,
        /// Problems with longer prompts are left out, counted and reported.
        max_prompt_tokens: Count = Count::of(1024),
    }
}

config_section! {
    /// Where the parts of a problem are in the rows of the files. A name with dots leads into columns that hold columns:
    /// `extra_info.raw_problem`.
    pub struct ColumnNames {
        /// The question, as text or as a list of messages `{role, content}`. Without it, the first that there is of
        /// `question`, `problem` and `prompt`.
        question: Option<String> = None,
        /// The expected answer. Without it, `answer` or `reward_model.ground_truth`.
        answer: Option<String> = None,
        /// The source, by which metrics are reported. Without it, `data_source`, or the name of the file where that is
        /// missing.
        source: Option<String> = None,
        /// Other columns that reward commands are given, by their names; a row without one of them is an error.
        extra: Vec<String> = Vec::new(),
    }
}

/// A built-in task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", from = "TaskKeys")]
#[non_exhaustive]
pub enum Task {
    /// Addition of two numbers, written column by column.
    ColumnAddition {
        /// The number of digits of each number.
        digits: Digits,
    },
}

/// The names of the built-in tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskName {
    /// [`Task::ColumnAddition`].
    ColumnAddition,
}

config_section! {
    /// A built-in task, as users write it.
    pub struct TaskKeys {
        /// The task: `column_addition` is the addition of two numbers, written column by column.
        name: TaskName,
        /// The number of digits of each number.
        digits: Digits,
    }
}

impl From<TaskKeys> for Task {
    fn from(keys: TaskKeys) -> Self {
        match keys.name {
            TaskName::ColumnAddition => Self::ColumnAddition {
                digits: keys.digits,
            },
        }
    }
}

impl ConfigType for Task {
    fn values() -> Values {
        TaskKeys::values()
    }
}

impl ModelSource {
    /// The model by a name that holds in every folder: a path from the root, or a name on the hub; nothing for one from
    /// scratch. Of an adapter it is the model that it belongs to.
    pub fn name(&self) -> String {
        let Some(path) = &self.path else {
            return String::new();
        };
        let base = AdapterFolder::open(path)
            .ok()
            .and_then(|adapter| adapter.base);
        let path = base.map_or_else(|| path.clone(), PathBuf::from);
        let path = path.canonicalize().unwrap_or(path);
        path.display().to_string()
    }
}

config_section! {
    /// Supervised training on worked examples of the built-in task.
    pub struct WarmStart {
        /// The number of optimizer steps.
        steps: u64,
        /// Examples per step.
        batch_size: Count,
        /// The peak of the learning rate, which rises from zero over the first tenth of the steps, then falls
        /// along half a cosine; with `optimizer.kind = "adamw_schedule_free"` it stays.
        lr: Positive,
        /// The probability with which each column of a worked example is wrong. The teacher is careless, and
        /// imitation alone inherits that.
        slip: Probability = Probability::of(0.0),
    }
}

config_section! {
    /// How the policy is sampled.
    pub struct RolloutConfig {
        /// Prompts per step, P.
        prompts_per_step: Count,
        /// Samples per prompt, G: the size of a group.
        samples_per_prompt: Count,
        /// A completion ends after this many tokens.
        max_new_tokens: Count,
        /// Logits are divided by this, in sampling and in training.
        temperature: PositiveTemperature = PositiveTemperature::of(1.0),
        /// The probability of the nucleus that is sampled from. Below 1, the sampled distribution is not the
        /// one that training scores, and no correction makes up for the tokens outside the nucleus.
        top_p: Nucleus = Nucleus::of(1.0),
        /// The weights to sample with: `int8` rounds them and the inputs of every product to 8-bit integers, which is
        /// faster on x86 CPUs with AVX-512 VNNI or AVX2 (elsewhere it is slower) and samples from another policy, near
        /// the one that is trained; `objective.rollout_correction` makes up for the difference. Evaluations measure the
        /// policy itself.
        weights: RolloutWeights = RolloutWeights::default(),
        /// The largest number of completions that are sampled at a time.
        max_slots: Count = Count::of(512),
        /// Does not end completions at end-of-sequence tokens: each has `max_new_tokens` (for measurements, as
        /// `ignore_eos` of verl's rollouts).
        ignore_eos: bool = false,
        /// For how many steps the sampler may be ahead: so many next steps are sampled while one trains, with a policy that
        /// has had so many steps less than the one that is then trained. With 0 a step is sampled when the one before it is
        /// done. It needs another sampler than this process: [staleness](staleness.md).
        max_staleness: Staleness = Staleness::of(0),
        /// Where servers sample: whose log-probs are those of the policy from which a step starts, `lp_old`. `server`: theirs,
        /// as with the sampler of this process, so that the objective's own weights make up for the difference. `rescored`: those of the
        /// trainer, which scores every completion once more; the weights of `objective.rollout_correction`, or else of its
        /// default, make up for the difference.
        log_probs: LogProbs = LogProbs::default(),
        /// Inference servers that sample in place of this process.
        server: Option<ServerConfig> = None,
    }
}

config_section! {
    /// The optimizer, the learning rate and the limit on gradients.
    pub struct OptimizerConfig {
        /// The optimizer. `adamw_8bit` (Dettmers et al., 2022, arXiv 2110.02861) is AdamW whose moments are kept as 8-bit
        /// codes with a scale per 256 values: 2.03 bytes per parameter in place of 8, for an update that is rounded a
        /// little; parameters of fewer than 4096 values keep f32 moments. It is the `AdamW8bit` of bitsandbytes, except
        /// that a second moment above 0 is never rounded to 0. `adamw_schedule_free` (Defazio et al., 2024, arXiv 2405.15682) averages the weights in place
        /// of lowering the learning rate, and agrees with the Python package `schedulefree`: the averaged weights
        /// sample, are evaluated, saved and exported, and gradients are taken between them and the newest ones, so that
        /// the importance weights of a step's first update are not 1. After a warm start, training goes on from its
        /// average, and a new average begins.
        kind: OptimizerKind = OptimizerKind::default(),
        /// The learning rate after its warm-up.
        lr: Positive,
        /// What the learning rate does after its warm-up: it stays, it falls along half a cosine to zero at the
        /// end of the run, or it stays and falls linearly to zero over the last `decay_steps` steps. With
        /// `adamw_schedule_free` it must stay.
        schedule: Schedule = Schedule::default(),
        /// The number of steps over which the learning rate falls with the schedule `warmup_stable_decay`; the
        /// other schedules ignore it.
        decay_steps: u64 = 0,
        /// The number of updates over which the learning rate rises from zero.
        warmup_updates: u64 = 0,
        /// The same in steps, in place of `warmup_updates`: all updates of a step have one learning rate. Recipes in
        /// papers and verl's `lr_warmup_steps` count so.
        warmup_steps: u64 = 0,
        /// The decay rates of AdamW's moments. With `adamw_schedule_free` the first is the share of the average in the
        /// weights that are trained, above 0.
        betas: [DecayRate; 2] = [DecayRate::of(0.9), DecayRate::of(0.999)],
        /// Added to the root of AdamW's second moment.
        eps: Positive = Positive::of(1e-8),
        /// Decoupled weight decay.
        weight_decay: NonNegative = NonNegative::of(0.0),
        /// For `adamw_schedule_free`: the weight of an update in the average is its number to this power; without
        /// it, 0.
        r: Option<NonNegative> = None,
        /// For `adamw_schedule_free`: the weight of an update in the average is also the largest learning rate so far
        /// to this power, so that the first updates of a warm-up count little; without it, 2.
        weight_lr_power: Option<NonNegative> = None,
        /// The gradient of all parameters together is scaled down to this norm.
        max_grad_norm: Positive = Positive::of(1.0),
    }
}

impl OptimizerConfig {
    /// The part that AdamW reads.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            betas: self.betas.map(DecayRate::get),
            eps: self.eps.get(),
            weight_decay: self.weight_decay.get(),
        }
    }

    /// The part that schedule-free AdamW reads.
    pub fn schedule_free(&self) -> ScheduleFreeConfig {
        ScheduleFreeConfig {
            betas: self.betas.map(DecayRate::get),
            eps: self.eps.get(),
            weight_decay: self.weight_decay.get(),
            r: self.r.map_or(0.0, NonNegative::get),
            weight_lr_power: self.weight_lr_power.map_or(2.0, NonNegative::get),
        }
    }

    /// The optimizer before its first update.
    pub fn build<B: DecodeBackend>(&self) -> Box<dyn Optimizer<B>> {
        match self.kind {
            OptimizerKind::Adamw => Box::new(AdamW::new(self.adamw())),
            OptimizerKind::Adamw8bit => Box::new(AdamW8bit::new(self.adamw())),
            OptimizerKind::AdamwScheduleFree => {
                Box::new(AdamWScheduleFree::new(self.schedule_free()))
            }
        }
    }
}

config_section! {
    /// The training loop.
    pub struct LoopConfig {
        /// The number of steps: each is a rollout and its updates (`--steps`). Either this or `data_epochs` must be given.
        steps: Option<u64> = None,
        /// In place of `steps`: how often the training problems of the files are passed through; the run ends with the step
        /// in which that is done. Dynamic sampling needs fewer steps for it. `total_epochs` of verl, `num_train_epochs` of TRL.
        data_epochs: Option<Positive> = None,
        /// Updates per step and epoch.
        mini_batches: Count,
        /// Passes over the completions of a step, K of the paper's Algorithm 2: each is part of so many updates.
        epochs: Count = Count::of(1),
        /// The updates of a step end early after one whose mean KL divergence from the reference, `actor/kl_loss`,
        /// is above this; without it, they never do.
        stop_at_kl: Option<Positive> = None,
        /// The coefficient of the entropy bonus: the loss is lowered by so much times the mean entropy of the tokens'
        /// distributions, as `objective.aggregation` means it. With 0 there is none.
        entropy_coeff: NonNegative = NonNegative::of(0.0),
        /// Tokens per forward and backward pass; the gradient does not depend on it.
        micro_batch_tokens: Count = Count::of(4096),
        /// Whether the backward pass computes what is inside of a block once more, instead of keeping it since the forward
        /// pass: less memory, more time, the same gradients. `auto`: where a micro-batch would keep more than 256 MiB.
        gradient_checkpointing: GradientCheckpointing = GradientCheckpointing::default(),
        /// Dynamic sampling. Above 0, equal groups (`train.filter`) are left out, and more prompts are sampled until
        /// the step is full, in at most this many rollouts: with 1, nothing replaces what is left out. With 0, all
        /// groups are kept.
        max_generation_batches: u64 = 0,
        /// Whether completions that were cut at `rollout.max_new_tokens` are left out of the loss: their advantages are
        /// computed, and they count in those of their groups, but no update learns from them. TRL has this key; DAPO calls it
        /// overlong filtering.
        mask_truncated_completions: bool = false,
        /// Which groups are equal: those whose answers are all right or all wrong (`accuracy`, as in the paper and
        /// DAPO), or those whose rewards are all equal. Where a command gives the reward and says nothing of what is
        /// right, rewards decide: see [what counts as right](#a-command-of-yours).
        filter: GroupFilter = GroupFilter::default(),
    }
}

/// Whether activations are computed again in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GradientCheckpointing {
    /// Where it saves much memory.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl LoopConfig {
    /// The largest size of the activations of a micro-batch, in bytes, that `gradient_checkpointing = "auto"` keeps.
    const MAX_KEPT: usize = 256 << 20;

    /// What forward passes of a model keep for the backward pass.
    pub fn activations(&self, model: &ModelConfig) -> Activations {
        let recompute = match self.gradient_checkpointing {
            GradientCheckpointing::Auto => {
                model.activation_bytes(self.micro_batch_tokens.get()) > Self::MAX_KEPT
            }
            GradientCheckpointing::On => true,
            GradientCheckpointing::Off => false,
        };
        if recompute {
            Activations::Recompute
        } else {
            Activations::Keep
        }
    }
}

config_section! {
    /// How progress is measured.
    pub struct EvaluateConfig {
        /// The number of held-out problems, on which the policy is measured before and after training; with 0 it
        /// is never measured.
        problems: usize,
        /// Samples per problem: the k of Mean@k.
        samples: Count,
        /// Steps between measurements during training; with 0 there are none.
        every: u64 = 0,
        /// The number of problems of a measurement during training; without it, all.
        problems_during: Option<Count> = None,
        /// The sampling temperature; 0 takes the most probable token.
        temperature: Temperature = Temperature::of(1.0),
    }
}

impl EvaluateConfig {
    /// Whether the policy is measured in this step of so many; after the last it is anyway.
    pub fn due(&self, step: u64, steps: u64) -> bool {
        due(self.every, step, steps)
    }
}

config_section! {
    /// What the run folder keeps.
    pub struct CheckpointConfig {
        /// Steps between checkpoints, in the warm start too; with 0 there are only those at the start, after the warm
        /// start, after the first evaluation and at the end. Where the updates of a step take more than two seconds,
        /// there is one every minute as well.
        every: u64 = 50,
        /// The time between checkpoints, in minutes, beside `every`: the first step that ends later writes one. Without it,
        /// time does not count.
        every_minutes: Option<Positive> = None,
        /// The number of checkpoints that are kept; older ones are removed.
        keep: Count = Count::of(1),
        /// Whether the policy of the best evaluation so far is kept too, as `best/step-N` in the run folder: its weights
        /// alone, in f32, written whenever an evaluation is better than all before it. See [evaluation](evaluation.md).
        keep_best: bool = true,
        /// Completions per step that are written to `samples.jsonl`, token by token.
        samples_per_step: usize = 4,
        /// Whether the metrics are written as a TensorBoard event file as well, into `tensorboard/` of the run folder.
        /// `rpg report --tensorboard` writes it later.
        tensorboard: bool = false,
    }
}

impl CheckpointConfig {
    /// Whether a checkpoint is written after this step of so many; after the last there is one anyway.
    pub fn due(&self, step: u64, steps: u64) -> bool {
        due(self.every, step, steps)
    }
}

config_section! {
    /// Several processes that train one policy; see [ranks](ranks.md).
    pub struct DistributedConfig {
        /// How long a rank waits for the others, in seconds, before it ends the run: longer than the longest difference
        /// between two ranks, in loading the model or sampling a step for example.
        timeout_s: Positive = Positive::of(1800.0),
        /// What moves gradients and weights between ranks: `mpi`, `nccl`, or `auto`, which is NCCL where every rank has a CUDA GPU of
        /// its own and finds the library. The numbers are the same.
        transport: Transport = Transport::default(),
    }
}

fn due(every: u64, step: u64, steps: u64) -> bool {
    every > 0 && step.is_multiple_of(every) && step < steps
}

plain_values! {
    AnswerStyle: one_of::<AnswerStyle>(),
    DeviceChoice: one_of::<DeviceChoice>(),
    GradientCheckpointing: one_of::<GradientCheckpointing>(),
    GroupFilter: one_of::<GroupFilter>(),
    OptimizerKind: one_of::<OptimizerKind>(),
    RolloutWeights: one_of::<RolloutWeights>(),
    Schedule: one_of::<Schedule>(),
    TaskName: one_of::<TaskName>(),
    Transport: one_of::<Transport>(),
}

impl ConfigType for ObjectiveConfig {
    fn values() -> Values {
        Values::Page("rpg-loss.md#the-objective")
    }
}
