//! What a run was started with, so that it is not resumed with something else.

use super::reference;
use crate::checksums;
use crate::config::{TrainConfig, default_of};
use crate::data::{Data, PromptedProblem, TrainData};
use crate::failure::Failure;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The config and the problems that a run was started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The config, by the names of its keys.
    config: BTreeMap<String, Value>,
    /// The checksum of the problems to train on; `None` for a built-in task.
    train: Option<String>,
    /// The checksum of the problems to evaluate on.
    eval: String,
    /// The checksum of the weights of the model that `reference.path` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// The checksum of the weights that an adapter is added to; the checkpoints of such a run do not hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

/// What becomes of a resumed run whose config has another value for a key.
enum Change {
    /// The run takes the new value.
    Allowed,
    /// So it does, and says so.
    Noted,
    /// Numbers before and after would not belong to one run.
    Refused,
}

fn on_change(key: &str) -> Change {
    let section = key.split('.').next().unwrap_or_default();
    let is_of = |section: &&str| {
        let rest = key.strip_prefix(section);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // Of the data, the problems count, not where their files are or how they are read; of the reference, its weights; of
    // servers, what they answer.
    if ["data.train", "data.eval", "rollout.server"]
        .iter()
        .any(is_of)
    {
        return Change::Allowed;
    }
    match key {
        "backend"
        | "data.columns.question"
        | "data.columns.answer"
        | "data.columns.source"
        | "data.deduplicate"
        | "reference.path"
        | "rollout.max_slots"
        | "train.steps"
        | "train.data_epochs"
        | "train.gradient_checkpointing"
        | "train.micro_batch_tokens" => Change::Allowed,
        "evaluate.problems"
        | "evaluate.problems_during"
        | "evaluate.samples"
        | "evaluate.temperature"
        | "optimizer.kind"
        | "rollout.max_new_tokens" => Change::Refused,
        _ => match section {
            "checkpoint" | "distributed" => Change::Allowed,
            "seed" | "model" | "data" | "warm_start" | "lora" => Change::Refused,
            _ => Change::Noted,
        },
    }
}

impl Origin {
    /// What a run with this config, these problems, this policy and this model for `reference.path` starts with.
    pub(super) fn new<B: DecodeBackend>(
        config: &TrainConfig,
        data: &Data,
        policy: &CausalLm<B>,
        reference: Option<&CausalLm<B>>,
    ) -> Result<Self, Failure> {
        let has_adapter = policy.lora().is_some();
        Ok(Self {
            config: keys_of(config)?,
            train: match &data.train {
                TrainData::Files(problems) => {
                    Some(checksum(problems.problems(), problems.weights()))
                }
                TrainData::Task { .. } => None,
            },
            eval: checksum(&data.eval, []),
            reference: reference.map(reference::checksum),
            base: has_adapter.then(|| reference::checksum(&policy.clone().without_adapter())),
        })
    }

    /// All of it, by names that a user knows.
    pub(super) fn parts(&self) -> BTreeMap<String, String> {
        let keys = self.config.iter();
        let mut parts: BTreeMap<String, String> = keys
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect();
        for (name, checksum) in [
            ("the problems to train on", &self.train),
            ("the problems to evaluate on", &Some(self.eval.clone())),
            ("the weights of reference.path", &self.reference),
            ("the weights of the adapter's base", &self.base),
        ] {
            let part = checksum.iter().map(|sum| (name.to_owned(), sum.clone()));
            parts.extend(part);
        }
        parts
    }

    /// Refuses to resume with `now` a run that was started with `self`; otherwise says what is different. `file`
    /// is the config's.
    pub(super) fn check(&self, now: &Self, file: &Path) -> Result<Vec<String>, Failure> {
        let file = file.display();
        let hint = "undo the change, or start a new run, without --resume";
        let mut notes = Vec::new();
        let keys: BTreeSet<&String> = self.config.keys().chain(now.config.keys()).collect();
        let shown = |value: Option<&Value>| value.map_or("absent".into(), Value::to_string);
        for key in keys {
            let (before, found) = (self.config.get(key), now.config.get(key));
            if before == found {
                continue;
            }
            if before.is_none() && found == default_of(key).as_ref() {
                // An older version has started the run.
                if !matches!(on_change(key), Change::Allowed) {
                    let found = shown(found);
                    notes.push(format!("{key} is {found} from here on; the version that started the run did not have it"));
                }
                continue;
            }
            let (before, found) = (shown(before), shown(found));
            match on_change(key) {
                Change::Allowed => {}
                Change::Noted => {
                    notes.push(format!("{key} is {found} from here on; it was {before}"))
                }
                Change::Refused => {
                    return Err(Failure::input(format!(
                        "{file}: {key}: found {found}; expected {before}, which the run has"
                    ))
                    .hint(hint));
                }
            }
        }
        let problems = |key: &str| {
            Failure::input(format!(
                "{file}: {key}: the problems are not those that the run was started with"
            ))
            .hint(hint)
        };
        if self.train != now.train {
            return Err(problems("data.train"));
        }
        if self.eval != now.eval {
            return Err(problems("data.eval"));
        }
        let model = |key: &str| {
            Failure::input(format!(
                "{file}: {key}: the model is not the one that the run was started with"
            ))
            .hint(hint)
        };
        if self.reference != now.reference {
            return Err(model("reference.path"));
        }
        // A version that did not keep it has left none.
        if self.base.is_some() && self.base != now.base {
            return Err(model("model.path"));
        }
        Ok(notes)
    }
}

/// Whether another value for this key is noted by [`Origin::check`].
pub(super) fn is_noted(key: &str) -> bool {
    matches!(on_change(key), Change::Noted)
}

/// Whether a run is not resumed with another value for this key.
pub(super) fn is_refused(key: &str) -> bool {
    matches!(on_change(key), Change::Refused)
}

/// A key, and its values in two configs.
type Difference = (String, Option<Value>, Option<Value>);

/// The keys in which two configs differ.
pub(super) fn differences(
    one: &TrainConfig,
    other: &TrainConfig,
) -> Result<Vec<Difference>, Failure> {
    let (one, other) = (keys_of(one)?, keys_of(other)?);
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = keys
        .into_iter()
        .filter(|&key| one.get(key) != other.get(key));
    Ok(differ
        .map(|key| (key.clone(), one.get(key).cloned(), other.get(key).cloned()))
        .collect())
}

/// The keys of a config, in which sections are separated by dots.
fn keys_of(config: &TrainConfig) -> Result<BTreeMap<String, Value>, Failure> {
    let mut keys = BTreeMap::new();
    let table = serde_json::to_value(config).map_err(Failure::internal)?;
    flatten("", table, &mut keys);
    Ok(keys)
}

/// The values of a table by the names of their keys, in which sections are separated by dots.
fn flatten(prefix: &str, value: Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() {
                    key
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&key, value, keys);
            }
        }
        Value::Null => {}
        value => {
            keys.insert(prefix.to_owned(), value);
        }
    }
}

/// The checksum of problems and of the weights of the sets that they are in.
fn checksum(
    problems: &[PromptedProblem],
    weights: impl IntoIterator<Item = (f64, usize)>,
) -> String {
    let mut hash = Xxh3::new();
    for (weight, n_problems) in weights {
        hash.update(&weight.to_le_bytes());
        hash.update(&(n_problems as u64).to_le_bytes());
    }
    for PromptedProblem { problem, .. } in problems {
        let parts = [
            problem.prompt.readable(),
            problem.answer.as_str(),
            problem.data_source.as_str(),
        ];
        let columns = problem.columns.iter().map(|columns| columns.as_json());
        for part in parts.into_iter().chain(columns) {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    checksums::as_text(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Reading, files, load};
    use burn::backend::Flex;

    fn origin(sets: &[&str]) -> Origin {
        origin_with(sets, None)
    }

    /// That of a run whose `reference.path` names a model that was initialised with this seed.
    fn origin_with(sets: &[&str], reference: Option<u64>) -> Origin {
        origin_of(sets, 0, reference)
    }

    /// The same with the policy's seed.
    fn origin_of(sets: &[&str], policy: u64, reference: Option<u64>) -> Origin {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = TrainConfig::recipe("arithmetic", &sets).unwrap();
        let shape = config.model.scratch.as_ref().unwrap();
        let (_, tokenizer) = shape.init::<Flex>(0, &Default::default()).unwrap();
        let n_eval = config.evaluate.problems;
        let reading = Reading {
            locate: &files::matching,
            on_progress: &mut |_, _| {},
        };
        let data = load(&config.data, &tokenizer, config.seed, n_eval, reading).unwrap();
        let init = |seed| shape.init::<Flex>(seed, &Default::default()).unwrap().0;
        let policy = match &config.lora {
            None => init(policy),
            Some(lora) => {
                let storage = lora.base.storage();
                let base = shape.init_as::<Flex>(policy, storage, &Default::default());
                let (base, _) = base.unwrap();
                let adapter = lora.adapter(base.config());
                base.with_adapter(&adapter, 0).unwrap()
            }
        };
        Origin::new(&config, &data, &policy, reference.map(init).as_ref()).unwrap()
    }

    #[test]
    fn of_the_reference_its_weights_count_not_where_it_is() {
        let file = Path::new("config.toml");
        let before = origin_with(&["reference.path=here"], Some(1));
        let moved = origin_with(&["reference.path=there"], Some(1));
        assert_eq!(before.check(&moved, file), Ok(vec![]));
        for other in [
            origin_with(&["reference.path=here"], Some(2)),
            origin_with(&["reference.rule=never"], None),
        ] {
            let error = before.check(&other, file).unwrap_err();
            let expected = "config.toml: reference.path: the model is not the one";
            assert!(error.message.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn of_an_adapter_the_base_counts() {
        let file = Path::new("config.toml");
        for lora in ["lora={rank=2}", "lora={rank=2,base='nf4'}"] {
            let before = origin_of(&[lora], 1, None);
            let same = origin_of(&[lora], 1, None);
            assert_eq!(before.check(&same, file), Ok(vec![]), "{lora}");
            let error = before
                .check(&origin_of(&[lora], 2, None), file)
                .unwrap_err();
            let expected = "config.toml: model.path: the model is not the one";
            assert!(error.message.starts_with(expected), "{error}");
            // A version that did not keep its checksum.
            let older = Origin {
                base: None,
                ..before
            };
            let now = origin_of(&[lora], 2, None);
            assert_eq!(older.check(&now, file), Ok(vec![]));
        }
    }

    #[test]
    fn a_run_is_resumed_with_what_it_was_started_with() {
        let before = origin(&[]);
        let file = Path::new("config.toml");
        let again: Origin = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        assert_eq!(again.check(&origin(&[]), file), Ok(vec![]));
        for set in [
            "train.steps=7777",
            "checkpoint.every=7",
            "rollout.max_slots=3",
        ] {
            assert_eq!(before.check(&origin(&[set]), file), Ok(vec![]), "{set}");
        }
        let notes = before.check(&origin(&["optimizer.lr=0.5"]), file).unwrap();
        assert!(
            notes[0].starts_with("optimizer.lr is 0.5 from here on"),
            "{notes:?}"
        );
        for set in [
            "seed=9",
            "evaluate.problems=7",
            "evaluate.problems_during=3",
            "evaluate.samples=77",
            "evaluate.temperature=0.5",
            "warm_start.steps=7",
            "data.task.digits=1",
            "optimizer.kind=adamw_8bit",
            "rollout.max_new_tokens=7",
        ] {
            let error = before.check(&origin(&[set]), file).unwrap_err();
            let key = set.split('=').next().unwrap();
            let expected = format!("config.toml: {key}: found ");
            assert!(error.message.starts_with(&expected), "{error}");
        }
        // A run of a version without some keys.
        let mut older = before.clone();
        for key in [
            "optimizer.lr",
            "train.filter",
            "warm_start.slip",
            "rollout.max_slots",
        ] {
            assert!(older.config.remove(key).is_some(), "{key}");
        }
        let error = older.check(&before, file).unwrap_err();
        assert!(
            error
                .message
                .contains("warm_start.slip: found 0.25; expected absent"),
            "{error}"
        );
        older.config.insert("warm_start.slip".into(), 0.25.into());
        let expected = [
            "optimizer.lr is 0.0001 from here on; it was absent",
            "train.filter is \"accuracy\" from here on; the version that started the run did not have it",
        ];
        assert_eq!(older.check(&before, file).unwrap(), expected);
        let mut other = before.clone();
        other.train = Some(String::new());
        let error = before.check(&other, file).unwrap_err();
        assert!(
            error.message.contains("data.train: the problems"),
            "{error}"
        );
    }
}
