//! What is wrong only in several keys together.

use super::{NamedCommand, OptimizerConfig, RewardConfig, ScratchModel, TrainConfig};
use crate::failure::Failure;
use crate::optim::{OptimizerKind, Schedule};
use rpg_losses::{AdvantageKind, Clip};
use rpg_reward::ScoreScale;
use rpg_rollout::rollouts::RolloutWeights;
use std::fmt;

impl TrainConfig {
    /// Refuses keys that do not go together. Single values have checked themselves, except those of the objective,
    /// which code can set freely.
    pub fn check(&self) -> Result<(), Failure> {
        if i64::try_from(self.seed).is_err() {
            return Err(bad("seed", self.seed, SEEDS));
        }
        self.check_sources()?;
        self.check_length()?;
        self.check_group_size()?;
        self.check_sizes()?;
        self.check_reference()?;
        self.check_servers()?;
        self.reward.check()?;
        self.optimizer.check()?;
        self.check_signal()?;
        self.objective
            .validate()
            .map_err(|e| Failure::input(format!("objective: {e}")))
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (updates, groups) = (
            self.train.mini_batches.get(),
            self.rollout.prompts_per_step.get(),
        );
        if updates > groups {
            warnings.push(format!(
                "train.mini_batches: found {updates}, but a step has {groups} groups (rollout.prompts_per_step), \
                 so there are at most {groups} updates per step and epoch"
            ));
        }
        if let Some(overlong) = &self.reward.overlong {
            let (max_length, buffer) = (overlong.max_length, overlong.buffer);
            let longest = self.rollout.max_new_tokens.get();
            if buffer > max_length {
                warnings.push(format!(
                    "reward.overlong.buffer: found {buffer}, more than reward.overlong.max_length = {max_length}, \
                     so every completion is penalised"
                ));
            } else if max_length - buffer >= longest {
                warnings.push(format!(
                    "reward.overlong: no completion is penalised, as none is longer than \
                     rollout.max_new_tokens = {longest}"
                ));
            }
        }
        let weight = self.reward.weights.correct(self.reward.has_command());
        let is_signed = self.reward.scale == ScoreScale::PlusMinusOne && weight != 0.0;
        if self.objective.advantage == AdvantageKind::MaxRl && is_signed {
            warnings.push(
                "objective.advantage: found maxrl, which is 0 where the mean reward of a group is not above 0; \
                 reward.scale = \"zero_one\" goes with it"
                    .into(),
            );
        }
        warnings.extend(self.warning_on_mass());
        if self.rollout.weights == RolloutWeights::Int8
            && self.objective.rollout_correction.is_none()
        {
            warnings.push(
                "rollout.weights: found int8 without objective.rollout_correction, so that the importance weights are \
                 those from the rounded policy; objective.rollout_correction = {} takes that apart"
                    .into(),
            );
        }
        if self.rollout_correction().is_some() && self.rollout.top_p.get() < 1.0 {
            warnings.push(format!(
                "objective.rollout_correction: it does not make up for rollout.top_p = {}, as what is outside the \
                 nucleus is never sampled",
                self.rollout.top_p
            ));
        }
        if !self.data.columns.extra.is_empty() && !self.reward.has_command() {
            warnings.push(
                "data.columns.extra: nothing reads these columns, as there is no reward.command"
                    .into(),
            );
        }
        if self.evaluate.problems == 0 && self.evaluate.every > 0 {
            warnings.push(format!(
                "evaluate.every: found {}, but evaluate.problems = 0 leaves nothing to measure on",
                self.evaluate.every
            ));
        }
        warnings.extend(self.warning_on_servers());
        warnings.extend(self.reference_warnings());
        warnings
    }

    /// Whether steps are sampled before those before them are done.
    pub fn samples_ahead(&self) -> bool {
        self.rollout.max_staleness.get() > 0
    }

    /// Refuses to sample ahead in this process.
    pub(crate) fn check_ahead(&self) -> Result<(), Failure> {
        if !self.samples_ahead() || self.rollout.servers().is_some() {
            return Ok(());
        }
        let expected =
            "0, as sampling in this process would only take the cores from the training beside it";
        let key = "rollout.max_staleness";
        Err(bad(key, self.rollout.max_staleness, expected)
            .hint("name inference servers that sample, in rollout.server.urls"))
    }

    /// Says that the weights of the first update, `1/z`, are outside the trust region.
    fn warning_on_mass(&self) -> Option<String> {
        let coefficients = self.objective.coefficients();
        let (bounds, weight) = (coefficients.bounds, 1.0 / coefficients.z);
        let has_bounds = self.objective.clip != Clip::None;
        if !has_bounds || (bounds.low..=bounds.high).contains(&weight) {
            return None;
        }
        Some(format!(
            "objective.z: found {}, so that the weights of a step's first update are {weight:.3}, outside the trust \
             region from {:.3} to {:.3}; objective.clip = \"none\" has none",
            coefficients.z, bounds.low, bounds.high
        ))
    }

    /// Refuses a run that nothing could teach.
    fn check_signal(&self) -> Result<(), Failure> {
        if !self.reward.is_nothing() {
            return Ok(());
        }
        if !self.is_distillation() {
            let message = "reward.weights: every part of the reward has weight 0";
            return Err(Failure::input(message).hint(
                "give one of them another weight, or, to learn from another model alone, name it in reference.path and \
                 give the objective a KL term with a beta above 0",
            ));
        }
        let batches = self.train.max_generation_batches;
        if batches > 0 {
            let expected = "0, as every part of the reward has weight 0, and without differing rewards every group would \
                            be left out";
            return Err(bad("train.max_generation_batches", batches, expected));
        }
        Ok(())
    }

    /// Refuses anything but one policy and one source of problems that fit each other.
    fn check_sources(&self) -> Result<(), Failure> {
        match (&self.model.path, &self.model.scratch) {
            (None, None) => Err(
                Failure::input("model: neither `path` nor `scratch` is given")
                    .hint("name a Hugging Face folder: --model DIR, or [model] path = \"DIR\""),
            ),
            (Some(_), Some(_)) => Err(Failure::input("model: both `path` and `scratch` are given")
                .hint("keep one of them")),
            (Some(_), None) | (None, Some(_)) => Ok(()),
        }?;
        match (&self.data.train, &self.data.task) {
            (None, None) => Err(Failure::input("data: neither `train` nor `task` is given")
                .hint("name a JSONL file: --data FILE, or [data] train = \"FILE\"")),
            (Some(_), Some(_)) => {
                Err(Failure::input("data: both `train` and `task` are given")
                    .hint("keep one of them"))
            }
            (Some(_), None) | (None, Some(_)) => Ok(()),
        }?;
        if self.model.scratch.is_some() && self.data.task.is_none() {
            return Err(Failure::input(
                "model.scratch knows only the characters of a built-in task",
            )
            .hint("give data.task, or a pretrained model with model.path"));
        }
        if self.data.task.is_some() && !self.data.columns.extra.is_empty() {
            let found = format!("{:?}", self.data.columns.extra);
            let expected = "none, as the problems of data.task have no columns";
            return Err(bad("data.columns.extra", found, expected));
        }
        if self.warm_start.is_some() && self.data.task.is_none() {
            return Err(Failure::input(
                "warm_start needs worked examples, which only data.task has",
            )
            .hint("remove [warm_start]"));
        }
        Ok(())
    }

    /// Refuses anything but one length of the run, and a run that would train on nothing.
    fn check_length(&self) -> Result<(), Failure> {
        match (self.train.steps, self.train.data_epochs) {
            (None, None) => Err(Failure::input(
                "train: neither `steps` nor `data_epochs` is given",
            )
            .hint("--steps N, or --set train.data_epochs=3")),
            (Some(_), Some(_)) => Err(Failure::input(
                "train: both `steps` and `data_epochs` are given",
            )
            .hint("keep one of them")),
            (None, Some(epochs)) if self.data.task.is_some() => {
                let expected = "train.steps in its place, as the problems of data.task never end";
                Err(bad("train.data_epochs", epochs, expected))
            }
            _ => Ok(()),
        }?;
        if self.train.mask_truncated_completions && self.rollout.ignore_eos {
            let expected = "false with rollout.ignore_eos, which has every completion cut";
            return Err(bad("train.mask_truncated_completions", true, expected));
        }
        Ok(())
    }

    /// Refuses numbers that no machine has the memory for, which would otherwise be found out by running out of it.
    fn check_sizes(&self) -> Result<(), Failure> {
        let (rollout, evaluate) = (&self.rollout, &self.evaluate);
        let (prompts, samples) = (
            rollout.prompts_per_step.get(),
            rollout.samples_per_prompt.get(),
        );
        let examples = self.warm_start.as_ref().map(|w| w.batch_size.get());
        // Those of a file are as many as it has.
        let problems = self.data.task.as_ref().map(|_| evaluate.problems);
        for (key, value) in [
            ("rollout.prompts_per_step", Some(prompts)),
            ("rollout.samples_per_prompt", Some(samples)),
            ("evaluate.problems", problems),
            ("evaluate.samples", Some(evaluate.samples.get())),
            ("warm_start.batch_size", examples),
        ] {
            if let Some(found) = value.filter(|&value| value > MOST_COMPLETIONS) {
                return Err(bad(key, found, &format!("at most {MOST_COMPLETIONS}")));
            }
        }
        for (factors, n) in [
            (
                "rollout.prompts_per_step * rollout.samples_per_prompt",
                prompts * samples,
            ),
            (
                "evaluate.problems * evaluate.samples",
                problems.unwrap_or(0) * evaluate.samples.get(),
            ),
        ] {
            check_completions(factors, n)?;
        }
        for NamedCommand { name, command, .. } in self.reward.all_commands() {
            let processes = command.processes;
            if processes > MOST_PROCESSES {
                let key = format!("{}.processes", self.reward.section_of(name));
                return Err(bad(&key, processes, &format!("at most {MOST_PROCESSES}")));
            }
        }
        self.model.scratch.as_ref().map_or(Ok(()), check_scratch)
    }

    /// Refuses groups of one where the samples of a prompt are compared: nothing would ever be learned.
    fn check_group_size(&self) -> Result<(), Failure> {
        if self.rollout.samples_per_prompt.get() > 1 || self.is_distillation() {
            return Ok(());
        }
        let key = "rollout.samples_per_prompt";
        if self.objective.advantage.needs_groups() {
            let name = self.objective.advantage.name();
            let expected = format!(
                "at least 2, as objective.advantage = \"{name}\" compares the samples of a prompt"
            );
            let hint = "raise it, or set objective.advantage to \"batch_mean\" or \"batch_norm\"";
            return Err(bad(key, 1, &expected).hint(hint));
        }
        if self.train.max_generation_batches > 0 {
            let expected = "at least 2, as train.max_generation_batches leaves out groups without a difference";
            let hint = "raise it, or set train.max_generation_batches to 0";
            return Err(bad(key, 1, expected).hint(hint));
        }
        Ok(())
    }
}

impl OptimizerConfig {
    /// Refuses keys that the kind of optimizer does not read, and a schedule for one that needs none.
    fn check(&self) -> Result<(), Failure> {
        match self.kind {
            OptimizerKind::Adamw => self.check_no_average("adamw")?,
            OptimizerKind::Adamw8bit => self.check_no_average("adamw_8bit")?,
            OptimizerKind::AdamwScheduleFree => self.check_schedule_free()?,
        }
        if self.schedule == Schedule::WarmupStableDecay && self.decay_steps == 0 {
            let expected = "at least 1 with the schedule `warmup_stable_decay`";
            return Err(bad("optimizer.decay_steps", 0, expected));
        }
        let (updates, steps) = (self.warmup_updates, self.warmup_steps);
        if updates > 0 && steps > 0 {
            let expected = format!("0, as optimizer.warmup_updates = {updates} is the warm-up");
            let hint = "set one of the two to 0";
            return Err(bad("optimizer.warmup_steps", steps, &expected).hint(hint));
        }
        Ok(())
    }

    /// Refuses the keys of an average that this kind does not make.
    fn check_no_average(&self, kind: &str) -> Result<(), Failure> {
        for (key, value) in [("r", self.r), ("weight_lr_power", self.weight_lr_power)] {
            if let Some(value) = value {
                let key = format!("optimizer.{key}");
                let expected = format!("none with the kind `{kind}`");
                let hint = "remove it, or set optimizer.kind to \"adamw_schedule_free\"";
                return Err(bad(&key, value, &expected).hint(hint));
            }
        }
        Ok(())
    }

    fn check_schedule_free(&self) -> Result<(), Failure> {
        let schedule = match self.schedule {
            Schedule::Constant => None,
            Schedule::Cosine => Some("cosine"),
            Schedule::WarmupStableDecay => Some("warmup_stable_decay"),
        };
        if let Some(found) = schedule {
            let expected = "constant, as the kind `adamw_schedule_free` averages the weights in place of \
                            lowering the learning rate";
            return Err(bad("optimizer.schedule", found, expected)
                .hint("set optimizer.schedule to \"constant\"; a warm-up may stay"));
        }
        let beta_1 = self.betas[0].get();
        if beta_1 == 0.0 {
            let expected = "a number above 0 with the kind `adamw_schedule_free`: gradients are taken where the \
                            average has this share";
            return Err(bad("optimizer.betas[0]", beta_1, expected));
        }
        Ok(())
    }
}

impl RewardConfig {
    fn check(&self) -> Result<(), Failure> {
        if let Some(weight) = self.weights.command
            && self.command.is_none()
        {
            let expected = "no weight, as there is no reward.command";
            return Err(bad("reward.weights.command", weight, expected));
        }
        let names: Vec<&str> = self.all_commands().iter().map(|c| c.name).collect();
        match &self.correct_by {
            Some(name) if names.is_empty() => {
                let expected = "nothing, as there is no command";
                Err(bad("reward.correct_by", name, expected))
            }
            Some(name) if !names.contains(&name.as_str()) => {
                let expected = format!("one of the commands: {}", names.join(", "));
                Err(bad("reward.correct_by", name, &expected))
            }
            _ => Ok(()),
        }
    }

    /// Whether every completion has the same reward, 0.
    pub(super) fn is_nothing(&self) -> bool {
        let commands = self.all_commands();
        let has_weight = self.weights.correct(!commands.is_empty()) != 0.0
            || commands.iter().any(|command| command.weight != 0.0)
            || self.weights.format() != 0.0;
        !has_weight && self.overlong.is_none() && self.repetition.is_none()
    }
}

/// The most completions that a step or an evaluation samples.
const MOST_COMPLETIONS: usize = 1 << 20;

/// The most processes of a reward command.
const MOST_PROCESSES: usize = 1024;

/// The most parameters of a model from random weights.
const MOST_PARAMETERS: u128 = 1 << 30;

/// The most blocks of such a model.
const MOST_LAYERS: u128 = 1000;

/// Refuses more completions at a time than fit into memory; `factors` are the keys whose product they are.
pub(crate) fn check_completions(factors: &str, n: usize) -> Result<(), Failure> {
    if n <= MOST_COMPLETIONS {
        return Ok(());
    }
    let expected = format!("at most {MOST_COMPLETIONS} completions at a time");
    Err(bad(factors, n, &expected))
}

fn check_scratch(shape: &ScratchModel) -> Result<(), Failure> {
    for (key, found) in shape.sizes() {
        let most = match key {
            "num_hidden_layers" => MOST_LAYERS,
            _ => MOST_PARAMETERS,
        };
        if found as u128 > most {
            let key = format!("model.scratch.{key}");
            return Err(bad(&key, found, &format!("at most {most}")));
        }
    }
    let [d, f, layers, ..] = shape.sizes().map(|(_, size)| size as u128);
    let parameters = layers * (3 * d * f + 2 * d * d);
    if parameters > MOST_PARAMETERS {
        let expected = format!("sizes with at most {MOST_PARAMETERS}");
        return Err(bad(
            "model.scratch",
            format_args!("{parameters} parameters"),
            &expected,
        ));
    }
    Ok(())
}

/// The seeds that TOML can hold.
pub(super) const SEEDS: &str = "a whole number from 0 to 9223372036854775807";

pub(super) fn bad(key: &str, found: impl fmt::Display, expected: &str) -> Failure {
    Failure::input(format!("{key}: found {found}; expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_every_machine_are_refused_by_their_keys() {
        let read = |set: &str| TrainConfig::recipe("arithmetic", &[set.to_owned()]);
        for (set, expected) in [
            (
                "rollout.samples_per_prompt=100000000",
                "rollout.samples_per_prompt: found 100000000; expected at most",
            ),
            (
                "rollout.prompts_per_step=9223372036854775807",
                "rollout.prompts_per_step: found 9223372036854775807",
            ),
            (
                "rollout={prompts_per_step=2048, samples_per_prompt=1024, max_new_tokens=8}",
                "rollout.prompts_per_step * rollout.samples_per_prompt: found 2097152; expected at most 1048576",
            ),
            (
                "evaluate.samples=100000000",
                "evaluate.samples: found 100000000",
            ),
            (
                "evaluate.problems=100000000",
                "evaluate.problems: found 100000000",
            ),
            (
                "evaluate={problems=2048, samples=1024}",
                "evaluate.problems * evaluate.samples: found 2097152",
            ),
            (
                "warm_start.batch_size=100000000",
                "warm_start.batch_size: found 100000000",
            ),
            (
                "reward.command={program=['a'], processes=100000}",
                "reward.command.processes: found 100000",
            ),
            (
                "model.scratch.hidden_size=9223372036854775807",
                "model.scratch.hidden_size: found 9223372036854775807",
            ),
            (
                "model.scratch.hidden_size=1000000",
                "model.scratch: found 8",
            ),
            (
                "model.scratch.num_hidden_layers=1000000",
                "model.scratch.num_hidden_layers: found 1000000",
            ),
        ] {
            let error = read(set).expect_err(set).message;
            assert!(error.contains(expected), "{set}: {error}");
        }
        for set in ["rollout.samples_per_prompt=1024", "evaluate.problems=10000"] {
            assert!(read(set).is_ok(), "{set}");
        }
    }
}
