//! Which values a run can start with.

use super::{DataSource, RewardConfig, Task, TrainConfig};
use crate::failure::Failure;
use crate::optim::Schedule;
use rpg_reward::ErrorPolicy;

impl TrainConfig {
    /// Refuses what cannot work: key, what was found, what would be right.
    pub fn check(&self) -> Result<(), Failure> {
        let at_least_one = [
            ("rollout.prompts_per_step", self.rollout.prompts_per_step),
            (
                "rollout.samples_per_prompt",
                self.rollout.samples_per_prompt,
            ),
            ("rollout.max_new_tokens", self.rollout.max_new_tokens),
            ("rollout.max_slots", self.rollout.max_slots),
            ("train.mini_batches", self.train.mini_batches),
            ("train.micro_batch_tokens", self.train.micro_batch_tokens),
            ("evaluate.problems", self.evaluate.problems),
            ("evaluate.samples", self.evaluate.samples),
            ("checkpoint.keep", self.checkpoint.keep),
            ("data.max_prompt_tokens", self.data.max_prompt_tokens),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(bad(key, 0, "at least 1"));
            }
        }
        let positive = [
            ("optimizer.lr", self.optimizer.lr),
            ("optimizer.eps", self.optimizer.eps),
            ("optimizer.max_grad_norm", self.optimizer.max_grad_norm),
            ("rollout.temperature", self.rollout.temperature),
        ];
        for (key, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(bad(key, value, "a number above 0"));
            }
        }
        let decays = self.optimizer.schedule == Schedule::WarmupStableDecay;
        if decays && self.optimizer.decay_steps == 0 {
            let allowed = "at least 1 with the schedule `warmup_stable_decay`";
            return Err(bad("optimizer.decay_steps", 0, allowed));
        }
        self.check_group_size()?;
        self.data.day()?;
        self.reward.check()?;
        if !(self.optimizer.weight_decay >= 0.0 && self.optimizer.weight_decay.is_finite()) {
            return Err(bad(
                "optimizer.weight_decay",
                self.optimizer.weight_decay,
                "0 or above",
            ));
        }
        if !(self.evaluate.temperature >= 0.0 && self.evaluate.temperature.is_finite()) {
            return Err(bad(
                "evaluate.temperature",
                self.evaluate.temperature,
                "0 or above",
            ));
        }
        for beta in self.optimizer.betas {
            if !(0.0..1.0).contains(&beta) {
                return Err(bad("optimizer.betas", beta, "numbers from 0, below 1"));
            }
        }
        self.sampling()
            .check()
            .map_err(|e| Failure::input(format!("rollout.{e}")))?;
        self.objective
            .validate()
            .map_err(|e| Failure::input(format!("objective: {e}")))?;
        match (&self.model.path, &self.model.scratch) {
            (None, None) => Err(
                Failure::input("model: neither `path` nor `scratch` is given")
                    .hint("name a Hugging Face folder: --model DIR, or [model] path = \"DIR\""),
            ),
            (Some(_), Some(_)) => Err(Failure::input("model: both `path` and `scratch` are given")
                .hint("keep one of them")),
            _ => Ok(()),
        }?;
        match (&self.data.train, &self.data.task) {
            (None, None) => Err(Failure::input("data: neither `train` nor `task` is given")
                .hint("name a JSONL file: --data FILE, or [data] train = \"FILE\"")),
            (Some(_), Some(_)) => {
                Err(Failure::input("data: both `train` and `task` are given")
                    .hint("keep one of them"))
            }
            _ => Ok(()),
        }?;
        if self.model.scratch.is_some() && self.data.task.is_none() {
            return Err(Failure::input(
                "model.scratch knows only the characters of a built-in task",
            )
            .hint("give data.task, or a pretrained model with model.path"));
        }
        if self.warm_start.is_some() && self.data.task.is_none() {
            return Err(Failure::input(
                "warm_start needs worked examples, which only data.task has",
            )
            .hint("remove [warm_start]"));
        }
        if let Some(warm_start) = &self.warm_start
            && (warm_start.batch_size == 0 || !(warm_start.lr > 0.0 && warm_start.lr.is_finite()))
        {
            return Err(Failure::input(
                "warm_start: batch_size and lr must be above 0",
            ));
        }
        if let Some(warm_start) = &self.warm_start
            && !(0.0..=1.0).contains(&warm_start.slip)
        {
            return Err(bad("warm_start.slip", warm_start.slip, "a probability"));
        }
        if let Some(Task::ColumnAddition { digits }) = self.data.task
            && !(1..=6).contains(&digits)
        {
            return Err(bad("data.task.digits", digits, "from 1 to 6"));
        }
        Ok(())
    }
}

impl TrainConfig {
    /// Refuses groups of one where the samples of a prompt are compared: nothing would ever be learnt.
    fn check_group_size(&self) -> Result<(), Failure> {
        if self.rollout.samples_per_prompt > 1 {
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
            let expected =
                "at least 2, as train.max_generation_batches keeps the groups whose rewards differ";
            let hint = "raise it, or set train.max_generation_batches to 0";
            return Err(bad(key, 1, expected).hint(hint));
        }
        Ok(())
    }
}

impl RewardConfig {
    fn check(&self) -> Result<(), Failure> {
        if let Some(command) = &self.command {
            if command.program.is_empty() {
                let expected = "a program and its arguments, such as [\"python3\", \"reward.py\"]";
                return Err(bad("reward.command.program", "[]", expected));
            }
            if command.processes == 0 {
                return Err(bad("reward.command.processes", 0, "at least 1"));
            }
            for (key, seconds) in [
                ("reward.command.timeout_seconds", command.timeout_seconds),
                (
                    "reward.command.batch_timeout_seconds",
                    command.batch_timeout_seconds,
                ),
            ] {
                if !(seconds > 0.0 && seconds.is_finite()) {
                    return Err(bad(key, seconds, "a number above 0"));
                }
            }
            if let ErrorPolicy::Score(score) = command.on_error {
                finite("reward.command.on_error.score", score)?;
            }
        } else if let Some(weight) = self.weights.command {
            let expected = "no weight, as there is no reward.command";
            return Err(bad("reward.weights.command", weight, expected));
        }
        let has_command = self.command.is_some();
        let weights = [
            ("reward.weights.correct", self.weights.correct(has_command)),
            (
                "reward.weights.command",
                if has_command { self.weights.own() } else { 0.0 },
            ),
            ("reward.weights.format", self.weights.format()),
        ];
        for (key, weight) in weights {
            finite(key, weight)?;
        }
        if let Some(repetition) = self.repetition
            && repetition.ngram == 0
        {
            return Err(bad("reward.repetition.ngram", 0, "at least 1"));
        }
        let penalties = [
            ("reward.overlong.penalty", self.overlong.map(|o| o.penalty)),
            (
                "reward.repetition.penalty",
                self.repetition.map(|r| r.penalty),
            ),
        ];
        for (key, penalty) in penalties {
            if let Some(penalty) = penalty
                && !(penalty >= 0.0 && penalty.is_finite())
            {
                return Err(bad(key, penalty, "0 or above"));
            }
        }
        let no_weight = weights.iter().all(|(_, weight)| *weight == 0.0);
        if no_weight && self.overlong.is_none() && self.repetition.is_none() {
            let message = "reward.weights: every part of the reward has weight 0";
            return Err(Failure::input(message).hint("give one of them another weight"));
        }
        Ok(())
    }
}

fn finite(key: &str, value: f64) -> Result<(), Failure> {
    match value.is_finite() {
        true => Ok(()),
        false => Err(bad(key, value, "a finite number")),
    }
}

impl DataSource {
    /// `data.date` as a day of the calendar.
    pub fn day(&self) -> Result<Option<jiff::civil::Date>, Failure> {
        let Some(found) = &self.date else {
            return Ok(None);
        };
        let day = found
            .parse()
            .map_err(|_| bad("data.date", found, "a day, such as 2026-03-05"))?;
        Ok(Some(day))
    }
}

fn bad(key: &str, found: impl std::fmt::Display, expected: &str) -> Failure {
    Failure::input(format!("{key}: found {found}; expected {expected}"))
}
