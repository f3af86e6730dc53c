//! The section of the reward.

use super::commands::Commands;
use super::keys::{Checked, config_section, foreign_section, one_of, plain_values};
use super::values::{Count, Finite, NonNegative, NotAllowed, Positive};
use rpg_reward::command::CommandConfig;
use rpg_reward::shaping::{OverlongPenalty, RepetitionPenalty};
use rpg_reward::{ErrorPolicy, GradeOptions, ScoreScale};

config_section! {
    /// How completions are scored.
    pub struct RewardConfig {
        /// The numbers for right and wrong answers: 1 and 0, or 1 and -1.
        scale: ScoreScale = ScoreScale::default(),
        /// Of several commands, the one that says which answers are right, by the part `correct` of its scores. Without it, the
        /// one that does; it is an error if there are more.
        correct_by: Option<String> = None,
        /// The weights of the parts of the reward in its sum; penalties have factors of their own.
        weights: RewardWeights = RewardWeights::default(),
        /// A program of yours that scores completions.
        command: Option<Checked<CommandConfig>> = None,
        /// Several programs of yours, by names of your choice: each score is a part of the reward by that name.
        commands: Option<Commands> = None,
        /// DAPO's penalty on long completions, added to the sum: from 0 at `max_length - buffer` tokens it falls
        /// linearly to `-penalty` at `max_length`.
        overlong: Option<Checked<OverlongPenalty>> = None,
        /// A penalty on completions that repeat themselves, added to the sum: the share of n-grams of tokens that
        /// occurred before, times `-penalty`.
        repetition: Option<Checked<RepetitionPenalty>> = None,
        /// Where the answer may be.
        grade: GradeOptions = GradeOptions::default(),
    }
}

config_section! {
    /// The weights of the parts of the reward in its sum; penalties have factors of their own.
    pub struct RewardWeights {
        /// The weight of the answer's being right, on `reward.scale`. Without it 1, or 0 where there is a command,
        /// which then takes its place.
        correct: Option<Finite> = None,
        /// The weight of the command's score. Without it 1.
        command: Option<Finite> = None,
        /// The weight of the answer's being in the form that was asked for. Without it 0.
        format: Option<Finite> = None,
    }
}

impl RewardConfig {
    /// All commands: `reward.command`, then those of `reward.commands` in the order of their names.
    pub fn all_commands(&self) -> Vec<NamedCommand<'_>> {
        let one = self.command.as_ref().map(|command| NamedCommand {
            name: COMMAND,
            weight: self.weights.own(),
            command,
        });
        let several = self.commands.iter().flat_map(Commands::iter);
        one.into_iter().chain(several).collect()
    }

    /// Whether a program of the user's scores completions.
    pub fn has_command(&self) -> bool {
        !self.all_commands().is_empty()
    }

    /// The weight of the reward of this name.
    pub fn weight_of(&self, name: &str) -> f64 {
        let commands = self.commands.iter().flat_map(Commands::iter);
        let mut weights = commands.filter(|command| command.name == name);
        weights
            .next()
            .map_or_else(|| self.weights.own(), |command| command.weight)
    }

    /// The section of the command of this name.
    pub fn section_of(&self, name: &str) -> String {
        let commands = self.commands.iter().flat_map(Commands::iter);
        let is_named = commands.into_iter().any(|command| command.name == name);
        if is_named {
            format!("reward.commands.{name}")
        } else {
            format!("reward.{name}")
        }
    }
}

/// The name of the command of `reward.command`.
pub(super) const COMMAND: &str = "command";

/// A command, its name and its weight in the reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NamedCommand<'a> {
    /// The name of its part in the reward.
    pub name: &'a str,
    /// The weight of that part.
    pub weight: f64,
    /// How it is run.
    pub command: &'a CommandConfig,
}

impl RewardWeights {
    /// The weight of the answer's being right; a reward of the user's takes its place.
    pub fn correct(&self, has_own_reward: bool) -> f64 {
        let default = if has_own_reward { 0.0 } else { 1.0 };
        self.correct.map_or(default, Finite::get)
    }

    /// The weight of a reward of the user's, if there is one.
    pub fn own(&self) -> f64 {
        self.command.map_or(1.0, Finite::get)
    }

    /// The weight of the form.
    pub fn format(&self) -> f64 {
        self.format.map_or(0.0, Finite::get)
    }
}

foreign_section! {
    CommandConfig {
        /// The program and its arguments; no shell is involved.
        program: Program,
        /// The number of processes that share the work.
        processes: Count = Count::of(2),
        /// The time limit of one answer, in seconds; the first answer of a process includes its start.
        timeout_seconds: Positive = Positive::of(60.0),
        /// The time limit of all completions that are graded together, in seconds.
        batch_timeout_seconds: Positive = Positive::of(3600.0),
        /// How often a process that ends without an answer is restarted for the same completion.
        max_restarts: usize = 1,
        /// What to do with a completion that has no score: stop the run, leave the completion out, or use a score.
        on_error: OnError = OnError(ErrorPolicy::default()),
    }
}

foreign_section! {
    OverlongPenalty {
        /// The length at which the full penalty applies, in tokens.
        max_length: usize,
        /// The number of tokens before that length over which the penalty grows.
        buffer: usize,
        /// The full penalty.
        penalty: NonNegative,
    }
}

foreign_section! {
    RepetitionPenalty {
        /// The length of the n-grams, in tokens.
        ngram: Count,
        /// The penalty of a completion that consists of repetition only.
        penalty: NonNegative,
    }
}

foreign_section! {
    GradeOptions {
        /// The last `\boxed{}` or `\fbox{}`, or the last few if they form one list.
        boxed: bool = true,
        /// The last `Answer:` line or sentence such as "the final answer is".
        answer_line: bool = true,
        /// The last `####`.
        hash_marks: bool = true,
        /// The last `<answer>` tag.
        answer_tag: bool = true,
        /// The last mathematical expression or number, where there is no box or marker.
        last_expression: bool = true,
        /// Whether an answer may be inside `<think>` that is never closed.
        unclosed_thinking: bool = false,
    }
}

/// A command line that names a program.
struct Program;

impl TryFrom<Vec<String>> for Program {
    type Error = NotAllowed;

    fn try_from(program: Vec<String>) -> Result<Self, NotAllowed> {
        if program.is_empty() {
            let expected = "a program and its arguments, such as [\"python3\", \"reward.py\"]";
            return Err(NotAllowed::new("[]", expected));
        }
        Ok(Self)
    }
}

/// A policy whose score, if it has one, is a number.
#[derive(serde::Serialize)]
struct OnError(ErrorPolicy);

impl TryFrom<ErrorPolicy> for OnError {
    type Error = String;

    fn try_from(policy: ErrorPolicy) -> Result<Self, String> {
        if let ErrorPolicy::Score(score) = policy {
            Finite::try_from(score).map_err(|e| format!(".score: {e}"))?;
        }
        Ok(Self(policy))
    }
}

plain_values! {
    Program: "a list of texts",
    OnError: "`stop`, `skip`, `{ score = NUMBER }`",
    ScoreScale: one_of::<ScoreScale>(),
}

#[cfg(test)]
mod tests {
    use super::super::keys::{ConfigType, Values, variants};
    use super::*;
    use serde::Deserialize;
    use serde::de::value::Error;
    use serde::de::{Deserializer, Visitor};

    /// Asked for a struct, it answers with the names of the fields.
    struct FieldNames<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for FieldNames<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    #[test]
    fn foreign_sections_are_described_as_they_are() {
        fn check<T>(required: &str)
        where
            T: ConfigType + for<'de> Deserialize<'de> + serde::Serialize,
        {
            let mut fields: &[&str] = &[];
            assert!(T::deserialize(FieldNames(&mut fields)).is_err());
            let Values::Table(keys) = T::values() else {
                panic!("a section is a table");
            };
            let described: Vec<&str> = keys.iter().map(|key| key.name).collect();
            assert_eq!(described, fields);
            let section: T = toml::from_str(required).unwrap();
            let section = toml::Value::try_from(&section).unwrap();
            let given: toml::Table = required.parse().unwrap();
            for key in keys {
                let default = key.default.and_then(|default| default());
                assert_eq!(
                    default.is_none(),
                    given.contains_key(key.name),
                    "{}",
                    key.name
                );
                if default.is_some() {
                    assert_eq!(default.as_ref(), section.get(key.name), "{}", key.name);
                }
            }
        }
        check::<CommandConfig>("program = ['a']");
        check::<OverlongPenalty>("max_length = 2\nbuffer = 1\npenalty = 1.0");
        check::<RepetitionPenalty>("ngram = 2\npenalty = 1.0");
        check::<GradeOptions>("");
        let Values::Plain(text) = OnError::values() else {
            panic!("a policy is one value");
        };
        let names = variants::<ErrorPolicy>();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| text.contains(name)), "{text}");
    }
}
