//! Changes of a run's config when it is resumed.

use super::origin::{differences, is_noted, is_refused};
use crate::checkpoint::TrainerState;
use crate::config::TrainConfig;
use crate::failure::Failure;
use crate::optim::{Place, Schedule};
use crate::run_folder::RunFolder;
use serde_json::Value;

/// The config that a run goes on with, and the one that its folder has.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigChange {
    before: TrainConfig,
    now: TrainConfig,
    /// The keys that differ, and their values before and now.
    keys: Vec<(String, Option<Value>, Option<Value>)>,
}

impl ConfigChange {
    /// Refuses keys with which a run cannot go on. What else may not differ, such as the problems, is found when the run
    /// is resumed.
    pub fn new(before: TrainConfig, now: TrainConfig) -> Result<Self, Failure> {
        let keys = differences(&before, &now)?;
        for (key, before, now) in &keys {
            if is_refused(key) {
                return Err(Failure::input(format!(
                    "{key}: found {}; expected {}, which the run has",
                    shown(now.as_ref()),
                    shown(before.as_ref())
                ))
                .hint("leave it as it is, or start a new run, without --resume"));
            }
        }
        Ok(Self { before, now, keys })
    }

    /// What is to be said about the changes to a run that has come so far, besides what it says itself as it is resumed.
    pub fn notes(&self, state: &TrainerState) -> Vec<String> {
        let keys = self.keys.iter().filter(|(key, ..)| !is_noted(key));
        let of_keys = keys.map(|(key, before, now)| {
            format!(
                "{key} is {} from here on; it was {}",
                shown(now.as_ref()),
                shown(before.as_ref())
            )
        });
        of_keys.chain(self.note_on_schedule(state)).collect()
    }

    /// Writes the config into the run's folder, if it has changed.
    pub fn write(&self, folder: &RunFolder) -> Result<(), Failure> {
        if self.keys.is_empty() {
            return Ok(());
        }
        folder.write_config(&self.now.to_toml())
    }

    /// A schedule that ends with the run has another learning rate if the run becomes longer or shorter.
    fn note_on_schedule(&self, state: &TrainerState) -> Option<String> {
        let schedule = match self.now.optimizer.schedule {
            Schedule::Constant => return None,
            Schedule::Cosine => "cosine",
            Schedule::WarmupStableDecay => "warmup_stable_decay",
        };
        let (before, now) = (&self.before.train, &self.now.train);
        if (before.steps, before.data_epochs) == (now.steps, now.data_epochs) {
            return None;
        }
        let what = format!(
            "optimizer.schedule = \"{schedule}\" falls to zero at the end of the run, which is another now"
        );
        let done = state.steps;
        let (Some(all_before), Some(all_now)) = (before.steps, now.steps) else {
            return Some(what);
        };
        if done == 0 || done >= all_now {
            return Some(what);
        }
        // The warm-up in updates is over, or the note errs by it.
        let last = (self.before).learning_rate(Place::of(done, all_before), u64::MAX);
        let next = (self.now).learning_rate(Place::of(done + 1, all_now), u64::MAX);
        Some(format!(
            "{what}: the learning rate was {last:.3e} in step {done} and is {next:.3e} in step {}",
            done + 1
        ))
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".into(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &[&str], now: &[&str]) -> Result<ConfigChange, Failure> {
        let config = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            TrainConfig::recipe("arithmetic", &sets).unwrap()
        };
        ConfigChange::new(config(before), config(now))
    }

    fn notes(before: &[&str], now: &[&str], steps: u64) -> Vec<String> {
        let state = TrainerState {
            steps,
            ..TrainerState::default()
        };
        change(before, now).unwrap().notes(&state)
    }

    #[test]
    fn what_a_run_cannot_go_on_with_is_refused() {
        for (set, expected) in [
            ("seed=9", "seed: found 9; expected 0, which the run has"),
            (
                "data.task.digits=1",
                "data.task.digits: found 1; expected 3",
            ),
            (
                "lora={rank=2}",
                "lora.alpha: found 32.0; expected absent, which the run has",
            ),
        ] {
            let error = change(&[], &[set]).expect_err(set);
            assert!(error.message.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn changes_are_said_with_what_they_do_to_the_learning_rate() {
        assert_eq!(notes(&[], &[], 3), Vec::<String>::new());
        let constant = ["optimizer.schedule=constant", "train.steps=4"];
        let longer = ["optimizer.schedule=constant", "train.steps=8"];
        let steps = "train.steps is 8 from here on; it was 4";
        assert_eq!(notes(&constant, &longer, 4), [steps]);
        let cosine = ["optimizer={schedule='cosine', lr=1.0}", "train.steps=4"];
        let longer = ["optimizer={schedule='cosine', lr=1.0}", "train.steps=8"];
        let falls = "optimizer.schedule = \"cosine\" falls to zero at the end of the run, which is another now";
        // Cosines of 3/4 and of 1/2 of the way.
        let rates = ": the learning rate was 1.464e-1 in step 4 and is 5.000e-1 in step 5";
        assert_eq!(
            notes(&cosine, &longer, 4),
            [steps, &format!("{falls}{rates}")]
        );
        assert_eq!(notes(&cosine, &longer, 0), [steps, falls]);
        // The trainer says it.
        assert_eq!(
            notes(&[], &["reward.weights.format=0.5"], 1),
            Vec::<String>::new()
        );
    }
}
