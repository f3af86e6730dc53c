//! The section of several reward commands.

use super::keys::{Checked, ConfigType, KeyDoc, Values};
use super::reward::NamedCommand;
use super::values::Finite;
use rpg_reward::command::CommandConfig;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The key of a command's weight, besides those that say how it is run.
const WEIGHT: &str = "weight";

/// Names of other parts of the reward, and of metrics beside them.
const TAKEN: [&str; 6] = [
    super::reward::COMMAND,
    "correct",
    "errors",
    "format",
    "overlong",
    "repetition",
];

/// Reward commands by their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Weighted>")]
pub struct Commands(BTreeMap<String, Weighted>);

/// A command and the weight of its score.
#[derive(Debug, Clone, PartialEq)]
struct Weighted {
    weight: Finite,
    command: Checked<CommandConfig>,
}

impl Commands {
    /// The commands in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = NamedCommand<'_>> {
        self.0.iter().map(|(name, weighted)| NamedCommand {
            name,
            weight: weighted.weight.get(),
            command: &weighted.command,
        })
    }
}

impl TryFrom<BTreeMap<String, Weighted>> for Commands {
    type Error = String;

    fn try_from(commands: BTreeMap<String, Weighted>) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_bad = |name: &&String| {
            name.is_empty() || !name.chars().all(is_plain) || TAKEN.contains(&name.as_str())
        };
        match commands.keys().find(is_bad) {
            Some(name) => Err(format!(
                "found a command called `{name}`; expected a name of letters, digits, `_` and `-`, and none of {}",
                TAKEN.map(|name| format!("`{name}`")).join(", ")
            )),
            None => Ok(Self(commands)),
        }
    }
}

impl<'de> Deserialize<'de> for Weighted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let weight = match table.remove(WEIGHT) {
            Some(weight) => Finite::deserialize(weight)
                .map_err(|e| D::Error::custom(format!(".{WEIGHT}: {}", e.message().trim_end())))?,
            None => Finite::of(1.0),
        };
        let command = Checked::deserialize(table)
            .map_err(|e: toml::de::Error| D::Error::custom(e.message().trim_end()))?;
        Ok(Self { weight, command })
    }
}

impl Serialize for Weighted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = toml::Table::try_from(&self.command).map_err(serde::ser::Error::custom)?;
        table.insert(WEIGHT.to_owned(), self.weight.get().into());
        table.serialize(serializer)
    }
}

/// The weight, then the keys of a command.
static KEYS: LazyLock<Vec<KeyDoc>> = LazyLock::new(|| {
    let weight = KeyDoc {
        name: WEIGHT,
        doc: "The weight of the command's score in the reward.",
        values: Finite::values,
        default: Some(|| Some(1.0.into())),
    };
    let Values::Table(keys) = CommandConfig::values() else {
        unreachable!("a section is a table");
    };
    [&[weight], keys].concat()
});

impl ConfigType for Commands {
    fn values() -> Values {
        Values::Named(&KEYS)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::TrainConfig;
    use crate::failure::Failure;

    fn read(set: &str) -> Result<TrainConfig, Failure> {
        TrainConfig::recipe("arithmetic", &[set.to_owned()])
    }

    #[test]
    fn every_command_has_its_name_its_weight_and_its_own_keys() {
        let config = read(
            "reward={correct_by='tests', weights={command=3}, command={program=['one']}, commands={\
             tests={program=['t', '1'], weight=2, on_error={score=-1.5}, timeout_seconds=9}, \
             judge={program=['j'], processes=7}}}",
        )
        .unwrap();
        let reward = &config.reward;
        let all = reward.all_commands();
        let found: Vec<(&str, f64)> = all.iter().map(|c| (c.name, c.weight)).collect();
        assert_eq!(found, [("command", 3.0), ("judge", 1.0), ("tests", 2.0)]);
        assert_eq!(all[1].command.processes, 7);
        assert_eq!(all[2].command.program, ["t", "1"]);
        assert_eq!(all[2].command.timeout_seconds, 9.0);
        assert_eq!(reward.weight_of("tests"), 2.0);
        assert_eq!(reward.weight_of("command"), 3.0);
        assert_eq!(reward.section_of("judge"), "reward.commands.judge");
        assert_eq!(reward.section_of("command"), "reward.command");
        let again = TrainConfig::from_toml(&config.to_toml(), "again", &[]).unwrap();
        assert_eq!(again, config);
        // A key of one command.
        let sets = ["reward.commands.tests.weight=5".to_owned()];
        let changed = TrainConfig::from_toml(&config.to_toml(), "again", &sets).unwrap();
        assert_eq!(changed.reward.weight_of("tests"), 5.0);
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said_with_its_name() {
        for (set, message) in [
            (
                "reward.commands.a.weight=1",
                "reward.commands.a: missing field `program`",
            ),
            (
                "reward.commands.a={program=['a'], weight='much'}",
                "reward.commands.a.weight: invalid type: string \"much\"",
            ),
            (
                "reward.commands.a={program=['a'], weight=inf}",
                "reward.commands.a.weight: found inf; expected a finite number",
            ),
            (
                "reward.commands.a={program=['a'], processes=0}",
                "reward.commands.a.processes: found 0; expected a whole number, at least 1",
            ),
            (
                "reward.commands.a={program=['a'], speed=1}",
                "reward.commands.a: unknown field `speed`",
            ),
            (
                "reward.commands.a={program=['a'], processes=99999}",
                "reward.commands.a.processes: found 99999; expected at most 1024",
            ),
            (
                "reward.commands={format={program=['a']}}",
                "reward.commands: found a command called `format`; expected a name of letters",
            ),
            (
                "reward.commands={'a/b'={program=['a']}}",
                "reward.commands: found a command called `a/b`",
            ),
            (
                "reward={correct_by='b', commands={a={program=['a']}, c={program=['c']}}}",
                "reward.correct_by: found b; expected one of the commands: a, c",
            ),
            (
                "reward.correct_by=b",
                "reward.correct_by: found b; expected nothing, as there is no command",
            ),
            (
                "reward.commands.a={program=['a'], weight=0}",
                "reward.weights: every part of the reward has weight 0",
            ),
        ] {
            let error = read(set).expect_err(set).message;
            assert!(error.contains(message), "{set}: {error}");
        }
    }
}
