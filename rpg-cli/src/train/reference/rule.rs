//! When the reference policy of the KL term changes, and how a config spells it.

use crate::config::{ConfigType, Count, Positive, Share, Values};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU64;

/// When the reference becomes the current policy, or comes closer to it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum ReferenceRule {
    /// At every rollout, as in the paper's iterative scheme: the reference is the policy that samples, and
    /// no second model exists.
    #[default]
    EveryRollout,
    /// After every so many steps.
    EverySteps(NonZeroU64),
    /// After a step at whose end the moving average of the KL divergence from the reference is above a limit: the
    /// "or when" of the paper's Section 5.
    KlAbove {
        /// The limit, kappa.
        limit: Positive,
        /// The number of steps since the last change that the average is over; with fewer, nothing changes.
        window: Count,
    },
    /// After every so many steps the weights become `alpha * policy + (1 - alpha) * reference`: TR-DPO's soft update
    /// (Gorbatovski et al. 2024), in TRL `ref_model_mixup_alpha` and `ref_model_sync_steps`.
    MovingAverage {
        /// The policy's share.
        alpha: Share,
        /// The number of steps.
        every_steps: NonZeroU64,
    },
    /// Never: it remains the model with which the run began.
    Never,
}

/// The window of `kl_above` where a config gives none.
const WINDOW: Count = Count::of(10);

const SPELLINGS: &str = "`every_rollout`, `{ every_steps = K }`, `{ kl_above = KAPPA, window = N }`, \
                         `{ moving_average = ALPHA, every_steps = K }`, `never`";

impl ReferenceRule {
    /// Whether the reference is a separate model.
    pub fn needs_model(self) -> bool {
        self != Self::EveryRollout
    }

    /// Whether a separate reference ever changes.
    pub(super) fn changes_model(self) -> bool {
        !matches!(self, Self::EveryRollout | Self::Never)
    }

    /// The share of the policy in a separate reference after this step, counted from 1: 0 leaves it as it is, 1 makes it
    /// the policy. `kls` are the divergences of the newest steps since the last change.
    pub(super) fn share(self, step: u64, kls: &[f64]) -> f64 {
        let due = |k: NonZeroU64| f64::from(u8::from(step.is_multiple_of(k.get())));
        match self {
            Self::EveryRollout | Self::Never => 0.0,
            Self::EverySteps(k) => due(k),
            Self::MovingAverage { alpha, every_steps } => alpha.get() * due(every_steps),
            Self::KlAbove { limit, window } => {
                let is_beyond = kls.len() >= window.get() && mean(kls) > limit.get();
                f64::from(u8::from(is_beyond))
            }
        }
    }

    /// The number of steps whose divergences [`share`](Self::share) looks at.
    pub(super) fn window(self) -> usize {
        match self {
            Self::KlAbove { window, .. } => window.get(),
            _ => 0,
        }
    }
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The rules that have numbers, as a config writes them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RuleTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    every_steps: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kl_above: Option<Positive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moving_average: Option<Share>,
}

impl TryFrom<RuleTable> for ReferenceRule {
    type Error = String;

    fn try_from(table: RuleTable) -> Result<Self, String> {
        let RuleTable {
            every_steps,
            kl_above,
            window,
            moving_average,
        } = table;
        let both = |one: &str, other: &str| {
            let expected = format!("keep one of them: {SPELLINGS}");
            Err(format!("both `{one}` and `{other}` are given; {expected}"))
        };
        match (kl_above, moving_average, every_steps) {
            (Some(_), Some(_), _) => both("kl_above", "moving_average"),
            (Some(_), None, Some(_)) => both("kl_above", "every_steps"),
            (None, ..) if window.is_some() => Err(format!(
                "`window` is given without `kl_above`, whose average is over so many steps; expected {SPELLINGS}"
            )),
            (Some(limit), None, None) => Ok(Self::KlAbove {
                limit,
                window: window.unwrap_or(WINDOW),
            }),
            (None, Some(alpha), every_steps) => Ok(Self::MovingAverage {
                alpha,
                every_steps: every_steps.unwrap_or(NonZeroU64::MIN),
            }),
            (None, None, Some(k)) => Ok(Self::EverySteps(k)),
            (None, None, None) => Err(format!("found an empty table; expected {SPELLINGS}")),
        }
    }
}

impl Serialize for ReferenceRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = RuleTable::default();
        match *self {
            Self::EveryRollout => return serializer.serialize_str("every_rollout"),
            Self::Never => return serializer.serialize_str("never"),
            Self::EverySteps(k) => table.every_steps = Some(k),
            Self::KlAbove { limit, window } => {
                (table.kl_above, table.window) = (Some(limit), Some(window));
            }
            Self::MovingAverage { alpha, every_steps } => {
                (table.moving_average, table.every_steps) = (Some(alpha), Some(every_steps));
            }
        }
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ReferenceRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;

        impl<'de> Visitor<'de> for Rule {
            type Value = ReferenceRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {SPELLINGS}")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<ReferenceRule, E> {
                match name {
                    "every_rollout" => Ok(ReferenceRule::EveryRollout),
                    "never" => Ok(ReferenceRule::Never),
                    _ => Err(E::custom(format!("found `{name}`; expected {SPELLINGS}"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ReferenceRule, A::Error> {
                let table = RuleTable::deserialize(MapAccessDeserializer::new(map))?;
                ReferenceRule::try_from(table).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Rule)
    }
}

impl ConfigType for ReferenceRule {
    fn values() -> Values {
        Values::Plain(SPELLINGS.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(k: u64) -> NonZeroU64 {
        NonZeroU64::new(k).unwrap()
    }

    fn kl_above(limit: f64, window: usize) -> ReferenceRule {
        ReferenceRule::KlAbove {
            limit: Positive::of(limit),
            window: Count::of(window),
        }
    }

    fn moving_average(alpha: f64, every_steps: u64) -> ReferenceRule {
        ReferenceRule::MovingAverage {
            alpha: Share::of(alpha),
            every_steps: steps(every_steps),
        }
    }

    /// A rule as the documentation spells it, with numbers for the letters.
    fn read(rule: &str) -> Result<ReferenceRule, String> {
        let table: toml::Table = format!("rule = {rule}").parse().unwrap();
        let rule: Result<ReferenceRule, _> = table["rule"].clone().try_into();
        rule.map_err(|error| error.message().to_owned())
    }

    #[test]
    fn every_rule_is_read_as_it_is_documented_and_written() {
        let rows = [
            ("'every_rollout'", ReferenceRule::EveryRollout),
            ("'never'", ReferenceRule::Never),
            ("{ every_steps = 4 }", ReferenceRule::EverySteps(steps(4))),
            ("{ kl_above = 0.5, window = 3 }", kl_above(0.5, 3)),
            ("{ kl_above = 1 }", kl_above(1.0, 10)),
            (
                "{ moving_average = 0.25, every_steps = 2 }",
                moving_average(0.25, 2),
            ),
            ("{ moving_average = 1 }", moving_average(1.0, 1)),
        ];
        for (text, rule) in rows {
            assert_eq!(read(text), Ok(rule), "{text}");
            let written = toml::Value::try_from(rule).unwrap();
            assert_eq!(read(&written.to_string()), Ok(rule), "{written}");
        }
        let documented: Vec<String> = SPELLINGS
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|spelling| {
                let named = [("KAPPA", "0.5"), ("ALPHA", "0.5"), ("K", "4"), ("N", "3")];
                let filled = named
                    .iter()
                    .fold(spelling.to_owned(), |text, (name, value)| {
                        text.replace(name, value)
                    });
                if filled.starts_with('{') {
                    filled
                } else {
                    format!("'{filled}'")
                }
            })
            .collect();
        let kinds: Vec<_> = documented
            .iter()
            .map(|text| std::mem::discriminant(&read(text).expect(text)))
            .collect();
        for (text, rule) in rows {
            assert!(kinds.contains(&std::mem::discriminant(&rule)), "{text}");
        }
    }

    #[test]
    fn keys_that_contradict_each_other_are_named() {
        for (rule, expected) in [
            ("'sometimes'", "found `sometimes`; expected `every_rollout`"),
            ("{}", "found an empty table; expected `every_rollout`"),
            ("3", "invalid type: integer `3`, expected one of `every"),
            (
                "{ kl_above = 0.5, every_steps = 2 }",
                "both `kl_above` and `every_steps` are given; keep one",
            ),
            (
                "{ kl_above = 0.5, moving_average = 0.5, every_steps = 2 }",
                "both `kl_above` and `moving_average` are given; keep one",
            ),
            (
                "{ every_steps = 2, window = 2 }",
                "`window` is given without `kl_above`",
            ),
            ("{ window = 2 }", "`window` is given without `kl_above`"),
            ("{ kl_above = 0 }", "found 0; expected a number above 0"),
            (
                "{ moving_average = 1.5 }",
                "found 1.5; expected a number above 0, at most 1",
            ),
            ("{ every = 2 }", "unknown field `every`, expected one of"),
        ] {
            let error = read(rule).unwrap_err();
            assert!(error.starts_with(expected), "{rule}: {error}");
        }
    }

    #[test]
    fn a_rule_says_how_much_of_the_policy_the_reference_becomes() {
        let rows: [(ReferenceRule, u64, &[f64], f64); 12] = [
            (ReferenceRule::EveryRollout, 4, &[9.0], 0.0),
            (ReferenceRule::Never, 4, &[9.0], 0.0),
            (ReferenceRule::EverySteps(steps(4)), 4, &[], 1.0),
            (ReferenceRule::EverySteps(steps(4)), 6, &[], 0.0),
            (moving_average(0.25, 1), 3, &[], 0.25),
            (moving_average(0.25, 2), 3, &[], 0.0),
            (moving_average(0.25, 2), 4, &[], 0.25),
            // The limit must be passed, by the mean, of as many steps as the window has.
            (kl_above(0.5, 2), 1, &[], 0.0),
            (kl_above(0.5, 2), 1, &[9.0], 0.0),
            (kl_above(0.5, 2), 1, &[0.25, 0.75], 0.0),
            (kl_above(0.5, 2), 1, &[0.25, 0.875], 1.0),
            (kl_above(0.5, 1), 1, &[0.625], 1.0),
        ];
        for (rule, step, kls, expected) in rows {
            assert_eq!(rule.share(step, kls), expected, "{rule:?} {step} {kls:?}");
        }
    }
}
