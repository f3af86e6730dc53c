//! What a training run does, as a TOML file.
//!
//! A config comes from a built-in recipe or a file, then `--set key=value` changes single keys. A value that its
//! key does not allow is refused when the config is read, and so is an unknown key; [`TrainConfig::check`] adds what
//! several keys must say together.

mod check;
mod commands;
mod data_files;
mod keys;
mod lora;
mod recipes;
mod reference;
mod reference_policy;
mod reward;
mod sections;
mod servers;
mod sets;
mod values;

pub(crate) use check::check_completions;
pub use commands::Commands;
pub use data_files::{DataFile, DataFiles, Example, Examples};
pub use keys::{BadKey, Checked, ConfigType, ForeignSection, KeyDoc, Values};
pub use lora::{BaseWeights, LoraSection, TargetModules};
pub use recipes::{METHODS, MODELS, Recipe, recipes};
pub(crate) use reference::default_of;
pub use reference::reference;
pub use reference_policy::{AdaptiveBeta, ReferenceConfig};
pub use reward::{NamedCommand, RewardConfig, RewardWeights};
pub use sections::{
    CheckpointConfig, ColumnNames, DataSource, DistributedConfig, EvaluateConfig,
    GradientCheckpointing, LoopConfig, ModelSource, OptimizerConfig, RolloutConfig, ScratchModel,
    Task, TaskKeys, TaskName, WarmStart,
};
pub use servers::{LogProbs, ServerConfig};
pub use values::{
    Count, Day, DecayRate, Digits, Finite, NonNegative, NotAllowed, Nucleus, Positive,
    PositiveTemperature, Probability, Share, Staleness, Temperature,
};

use crate::device::DeviceChoice;
use crate::failure::{AtPath, Failure};
use crate::optim::{Place, Schedule, constant_with_warmup, cosine, stable_decay};
use keys::{at_path, config_section};
use rpg_losses::ObjectiveConfig;
use rpg_rollout::generate::GenerateOptions;
use rpg_rollout::sampling::SamplingParams;
use std::path::Path;

config_section! {
    /// A whole training run.
    ///
    /// In code, start from a recipe or a file and change keys; each section can also be read from TOML by itself.
    ///
    /// ```
    /// use rpg_cli::config::{Count, TrainConfig};
    /// # fn main() -> Result<(), rpg_cli::failure::Failure> {
    /// let mut config = TrainConfig::recipe("arithmetic", &["optimizer.lr=1e-5".to_owned()])?;
    /// config.train.steps = Some(10);
    /// config.rollout.prompts_per_step = Count::of(8);
    /// config.check()?;
    /// # Ok(())
    /// # }
    /// ```
    pub struct TrainConfig {
        /// The seed of every random draw of the run (`--seed`).
        seed: u64,
        /// Where to compute (`--backend`).
        backend: DeviceChoice = DeviceChoice::default(),
        /// Where the policy comes from: either `path` or `scratch`.
        model: ModelSource,
        /// A low-rank adapter that is trained in place of the weights.
        lora: Option<LoraSection> = None,
        /// Where the problems come from: either a file, `train`, or a built-in task.
        data: DataSource,
        /// Supervised steps on worked examples of the built-in task, before reinforcement learning.
        warm_start: Option<WarmStart> = None,
        /// How the policy is sampled.
        rollout: RolloutConfig,
        /// How completions are scored.
        reward: RewardConfig = RewardConfig::default(),
        /// The loss.
        objective: ObjectiveConfig,
        /// The reference policy of the KL term.
        reference: ReferenceConfig = ReferenceConfig::default(),
        /// How parameters are updated: the optimizer, the learning rate and the limit on gradients.
        optimizer: OptimizerConfig,
        /// The training loop.
        train: LoopConfig,
        /// How progress is measured.
        evaluate: EvaluateConfig,
        /// What the run folder keeps.
        checkpoint: CheckpointConfig = CheckpointConfig::default(),
        /// Several processes that train one policy; see [ranks](ranks.md).
        distributed: DistributedConfig = DistributedConfig::default(),
    }
}

impl TrainConfig {
    /// Reads a config from TOML text; `origin` names it in errors. `sets` are `key=value` changes.
    pub fn from_toml(text: &str, origin: &str, sets: &[String]) -> Result<Self, Failure> {
        let table: toml::Table = text
            .parse()
            .map_err(|e| Failure::input(format!("{origin}: {e}")).hint("the file must be TOML"))?;
        Self::with_sets(table, origin, sets)
    }

    /// The same from a table.
    fn with_sets(mut table: toml::Table, origin: &str, sets: &[String]) -> Result<Self, Failure> {
        sets::apply_all(&mut table, sets)?;
        let config = Self::from_table(table, origin)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a config file.
    pub fn from_file(path: &Path, sets: &[String]) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).at(path)?;
        Self::from_toml(&text, &path.display().to_string(), sets)
    }

    /// The resolved config as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every config is a TOML table")
    }

    /// The sampling of rollouts.
    pub fn sampling(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.rollout.temperature.get(),
            top_p: self.rollout.top_p.get(),
            ..Default::default()
        }
    }

    /// How completions are generated with this sampling.
    pub fn generate_options(&self, sampling: SamplingParams) -> GenerateOptions {
        let mut options = GenerateOptions::default();
        options.sampling = sampling;
        options.max_new_tokens = self.rollout.max_new_tokens.get();
        options.max_slots = self.rollout.max_slots.get();
        options.ignore_eos = self.rollout.ignore_eos;
        options
    }

    /// The learning rate of an update, counted from 1 over the whole run, in a step.
    pub fn learning_rate(&self, place: Place, update: u64) -> f64 {
        let OptimizerConfig {
            lr,
            schedule,
            decay_steps,
            warmup_updates,
            warmup_steps,
            ..
        } = self.optimizer;
        // At most one of the two is above 0.
        let lr = constant_with_warmup(lr.get(), warmup_updates, update);
        let lr = constant_with_warmup(lr, warmup_steps, place.step);
        match schedule {
            Schedule::Constant => lr,
            Schedule::Cosine => lr * cosine(0.0, place.done),
            Schedule::WarmupStableDecay => lr * stable_decay(decay_steps, place.steps, place.step),
        }
    }

    /// Errors name the key by its place in the table.
    fn from_table(table: toml::Table, origin: &str) -> Result<Self, Failure> {
        serde_path_to_error::deserialize(table).map_err(|error| {
            let path = error.path().to_string();
            let error = error.into_inner();
            let message = error.message().trim_end();
            // The path of the whole config is a dot.
            let message = if path == "." {
                message.to_owned()
            } else {
                at_path(&path, message)
            };
            let failure = Failure::input(format!("{origin}: {message}"));
            if message.contains("unknown field") {
                failure.hint("use one of the keys that the message names")
            } else {
                failure
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::ReferenceRule;
    use std::num::NonZeroU64;

    #[test]
    fn an_optional_section_is_written_and_read() {
        let corrected = "objective.rollout_correction={mode='mask', reject={kl='k3', max=0.1}}";
        let config = TrainConfig::recipe("arithmetic", &[corrected.to_owned()]).unwrap();
        let again = TrainConfig::from_toml(&config.to_toml(), "round trip", &[]).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn single_keys_can_be_set() {
        let sets = ["optimizer.lr=0.5", "objective.kl=rkl", "checkpoint.every=3"];
        let config = TrainConfig::recipe("arithmetic", &sets.map(String::from)).unwrap();
        assert_eq!(config.optimizer.lr, Positive::of(0.5));
        assert_eq!(config.objective.kl, rpg_losses::Divergence::Rkl);
        assert_eq!(config.checkpoint.every, 3);
        // A day can be a TOML date or a text.
        for set in ["data.date=2026-03-05", "data.date='2026-03-05'"] {
            let config = TrainConfig::recipe("arithmetic", &[set.to_owned()]).unwrap();
            assert_eq!(
                config.data.date,
                Some(Day::from(jiff::civil::date(2026, 3, 5)))
            );
        }
    }

    #[test]
    fn the_warm_up_counts_updates_or_steps() {
        let rate = |sets: &[&str], step: u64, update: u64| {
            let sets: Vec<String> = ["optimizer.schedule=constant", "optimizer.lr=1"]
                .iter()
                .chain(sets)
                .map(|set| (*set).to_owned())
                .collect();
            let config = TrainConfig::recipe("arithmetic", &sets);
            config.map(|c| c.learning_rate(Place::of(step, 300), update))
        };
        let steps = ["optimizer.warmup_updates=0", "optimizer.warmup_steps=10"];
        for (step, update, by_updates, by_steps) in [
            (1, 1, 0.1, 0.1),
            (1, 4, 0.4, 0.1),
            (5, 17, 1.0, 0.5),
            (10, 40, 1.0, 1.0),
            (11, 41, 1.0, 1.0),
        ] {
            let found = rate(&["optimizer.warmup_updates=10"], step, update).unwrap();
            assert_eq!(found, by_updates, "{step} {update}");
            assert_eq!(
                rate(&steps, step, update).unwrap(),
                by_steps,
                "{step} {update}"
            );
        }
        let error = rate(&["optimizer.warmup_steps=10"], 1, 1).unwrap_err();
        let expected =
            "optimizer.warmup_steps: found 10; expected 0, as optimizer.warmup_updates = 10";
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn finetune_has_the_numbers_of_the_paper() {
        let sets = ["model.path=m".to_owned(), "data.train=d".to_owned()];
        let config = TrainConfig::recipe("finetune", &sets).unwrap();
        // The warm-up is over after ten steps, however many updates a step has.
        let rate = |step| config.learning_rate(Place::of(step, 400), 1000 * step);
        let rates = [1, 5, 10, 100].map(|step| rate(step) / 1e-6);
        assert!((rates[0] - 0.1).abs() < 1e-12 && (rates[1] - 0.5).abs() < 1e-12);
        assert_eq!(rates[2..], [1.0, 1.0]);
        // Its scores are 1 and -1, to which its beta belongs.
        let scale = config.reward.scale;
        assert_eq!((scale.score(true), scale.score(false)), (1.0, -1.0));
        assert_eq!(config.objective.beta, 1e-4);
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
            (
                "reference.rule={every_steps=0}",
                "reference.rule.every_steps: invalid value: integer `0`, expected a nonzero",
            ),
            (
                "reference={rule='never', update_every=4}",
                "reference: both `rule` and `update_every` are given; keep `rule`",
            ),
            (
                "reference={rule={kl_above=0.5}, update_every=4}",
                "keep `rule`: found { kl_above = 0.5, window = 10 } and 4",
            ),
            (
                "reference.rule={window=4}",
                "reference.rule: `window` is given without `kl_above`",
            ),
            (
                "reference.rule={kl_above=-1}",
                "reference.rule.kl_above: found -1; expected a number above 0",
            ),
            (
                "reference.kl_above=0.5",
                "reference.kl_above: unknown field `kl_above`, expected one of `rule`",
            ),
        ] {
            let error = rule(set).unwrap_err();
            assert!(error.message.contains(message), "{set}: {error}");
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let warnings = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            TrainConfig::recipe("arithmetic", &sets).unwrap().warnings()
        };
        assert_eq!(warnings(&[]), Vec::<String>::new());
        for (sets, expected) in [
            (
                &["train.mini_batches=1000", "rollout.prompts_per_step=4"][..],
                "at most 4 updates per step",
            ),
            (
                &["reward.overlong={max_length=8, buffer=9, penalty=1}"],
                "every completion is penalised",
            ),
            (
                &["reward.overlong={max_length=8000, buffer=9, penalty=1}"],
                "no completion is penalised",
            ),
            (
                &["objective.advantage=maxrl", "reward.scale=plus_minus_one"],
                "reward.scale = \"zero_one\" goes with it",
            ),
            (
                &["objective.z=1.7"],
                "first update are 0.588, outside the trust region from 0.800 to 1.280",
            ),
            (
                &["objective.rollout_correction={}", "rollout.top_p=0.9"],
                "it does not make up for rollout.top_p = 0.9",
            ),
            (
                &["evaluate.problems=0", "evaluate.every=2"],
                "nothing to measure on",
            ),
            (
                &["reference.path='teacher'", "objective.beta=0"],
                "so the divergence from the model is only measured",
            ),
            (
                &[
                    "reference.adaptive_beta.target_kl=1",
                    "train.mini_batches=1",
                ],
                "the divergence is always 0",
            ),
        ] {
            let found = warnings(sets);
            assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
        }
    }

    #[test]
    fn a_run_needs_something_to_learn_from() {
        let read = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            TrainConfig::recipe("arithmetic", &sets).map(|_| ())
        };
        let (nothing, teacher) = ("reward.weights.correct=0", "reference.path='teacher'");
        let (all, one) = (
            "train.max_generation_batches=0",
            "rollout.samples_per_prompt=1",
        );
        assert_eq!(read(&[nothing, teacher, all]), Ok(()));
        // Without rewards nothing is compared.
        assert_eq!(read(&[nothing, teacher, all, one]), Ok(()));
        for (sets, expected) in [
            (
                &[nothing, all][..],
                "reward.weights: every part of the reward",
            ),
            (
                &[nothing, all, "reference.rule=never"],
                "reward.weights: every",
            ),
            (
                &[nothing, teacher, all, "objective.beta=0"],
                "reward.weights: every",
            ),
            (
                &[nothing, teacher],
                "train.max_generation_batches: found 1; expected 0, as every part of the reward has",
            ),
            (&[teacher, all, one], "rollout.samples_per_prompt: found 1"),
        ] {
            let error = read(sets).unwrap_err().message;
            assert!(error.contains(expected), "{sets:?}: {error}");
        }
    }

    #[test]
    fn groups_of_one_need_an_advantage_over_the_batch() {
        let mut sets = vec![
            "rollout.samples_per_prompt=1".to_owned(),
            "objective.advantage=batch_norm".to_owned(),
        ];
        let error = TrainConfig::recipe("arithmetic", &sets).unwrap_err();
        let expected = "found 1; expected at least 2, as train.max_generation_batches leaves";
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
        check(
            "optimizer.lr=fast",
            "optimizer.lr: invalid type: string \"fast\"",
        );
        check(
            "optimizer.betas=[0.9, 1]",
            "optimizer.betas[1]: found 1; expected a number from 0, below 1",
        );
        check(
            "optimizer=3",
            "optimizer: invalid type: integer `3`, expected a table",
        );
        check(
            "warm_start.lr=0",
            "warm_start.lr: found 0; expected a number above 0",
        );
        check(
            "evaluate.problems_during=0",
            "evaluate.problems_during: found 0; expected a whole number, at least 1",
        );
        check(
            "data.task={name='column_addition'}",
            "data.task: missing field `digits`",
        );
        check(
            "rollout.samples_per_prompt=0",
            "rollout.samples_per_prompt: found 0",
        );
        check(
            "rollout.samples_per_prompt=1",
            "found 1; expected at least 2, as objective.advantage = \"group_mean\" compares",
        );
        check("rollout.top_p=1.5", "rollout.top_p: found 1.5");
        check(
            "rollout.max_staleness=9",
            "rollout.max_staleness: found 9; expected a whole number from 0 to 8",
        );
        check("objective.eps_low=2.0", "objective: `eps_low` is 2");
        check(
            "objective.rollout_correction={ max = -3.0 }",
            "objective: `rollout_correction.max` is -3",
        );
        check("objective.kl=jsd", "objective.kl: unknown variant `jsd`");
        check("model.path=somewhere", "both `path` and `scratch`");
        check("data.train=file", "both `train` and `task`");
        check(
            "warm_start.slip=1.5",
            "warm_start.slip: found 1.5; expected a probability",
        );
        check(
            "data.task.digits=9",
            "data.task.digits: found 9; expected a whole number from 1 to 6",
        );
        check(
            "data.date=2026-03-32",
            "data.date: found 2026-03-32; expected a day",
        );
        check(
            "optimizer.decay_steps=0",
            "optimizer.decay_steps: found 0; expected at least 1",
        );
        check(
            "optimizer.kind=sgd",
            "optimizer.kind: unknown variant `sgd`, expected one of `adamw`, `adamw_8bit`, `adamw_schedule_free`",
        );
        check(
            "optimizer.kind=adamw_schedule_free",
            "optimizer.schedule: found warmup_stable_decay; expected constant, as the kind `adamw_schedule_free`",
        );
        check(
            "optimizer={kind='adamw_schedule_free', lr=0.1, schedule='cosine'}",
            "optimizer.schedule: found cosine; expected constant",
        );
        check(
            "optimizer={kind='adamw_schedule_free', lr=0.1, betas=[0.0, 0.9]}",
            "optimizer.betas[0]: found 0; expected a number above 0 with the kind `adamw_schedule_free`",
        );
        check(
            "optimizer.r=1",
            "optimizer.r: found 1; expected none with the kind `adamw`",
        );
        check(
            "optimizer.weight_lr_power=0.5",
            "optimizer.weight_lr_power: found 0.5; expected none with the kind `adamw`",
        );
        check(
            "optimizer={kind='adamw_8bit', lr=0.1, r=1.0}",
            "optimizer.r: found 1; expected none with the kind `adamw_8bit`",
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
        check(
            "reward.command.processes=2",
            "reward.command: missing field `program`",
        );
        check(
            "reward.command={program=['a'], processes=0}",
            "reward.command.processes: found 0; expected a whole number, at least 1",
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
            "reward.repetition.ngram: found 0; expected a whole number, at least 1",
        );
        check(
            "reward.overlong={max_length=48, buffer=12, penalty=-1}",
            "reward.overlong.penalty: found -1; expected a number, at least 0",
        );
        for seed in ["9223372036854775808", "18446744073709551616"] {
            check(
                &format!("seed={seed}"),
                &format!(
                    "seed: found {seed}; expected a whole number from 0 to 9223372036854775807"
                ),
            );
        }
        check("lonely", "expected KEY=VALUE");
    }
}
