//! Values that check themselves: one that a key does not allow can neither be made nor read.

use super::keys::{ConfigType, Values};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found}; expected {expected}")]
pub struct NotAllowed {
    found: String,
    expected: &'static str,
}

impl NotAllowed {
    pub(super) fn new(found: impl fmt::Display, expected: &'static str) -> Self {
        Self {
            found: found.to_string(),
            expected,
        }
    }
}

/// Defines a number with a condition; the text says which values meet it.
macro_rules! checked_number {
    ($(#[$doc:meta])+ $name:ident($plain:ty): $expected:literal, |$value:ident| $allowed:expr) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name($plain);

        impl $name {
            /// A value that is known to be allowed.
            ///
            /// # Panics
            /// If it is not; what comes from a user goes through `try_from`.
            pub const fn of(value: $plain) -> Self {
                assert!(Self::allows(value), concat!("expected ", $expected));
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> $plain {
                self.0
            }

            // `contains` of a range is not const.
            #[allow(clippy::manual_range_contains)]
            const fn allows($value: $plain) -> bool {
                $allowed
            }
        }

        impl TryFrom<$plain> for $name {
            type Error = NotAllowed;

            fn try_from(value: $plain) -> Result<Self, NotAllowed> {
                if Self::allows(value) {
                    Ok(Self(value))
                } else {
                    Err(NotAllowed::new(value, $expected))
                }
            }
        }

        impl From<$name> for $plain {
            fn from(value: $name) -> $plain {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::try_from(<$plain>::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl ConfigType for $name {
            fn values() -> Values {
                Values::Plain($expected.into())
            }
        }
    };
}

checked_number!(
    /// How many of something that there must be.
    Count(usize): "a whole number, at least 1", |value| value > 0
);
checked_number!(
    /// For how many steps sampling may be ahead: the policies of so many are kept.
    Staleness(usize): "a whole number from 0 to 8", |value| value <= 8
);
checked_number!(
    /// A number of digits that the built-in task can have.
    Digits(u32): "a whole number from 1 to 6", |value| value >= 1 && value <= 6
);
checked_number!(
    /// A finite number above 0.
    Positive(f64): "a number above 0", |value| value > 0.0 && value.is_finite()
);
checked_number!(
    /// A finite number of at least 0.
    NonNegative(f64): "a number, at least 0", |value| value >= 0.0 && value.is_finite()
);
checked_number!(
    /// A finite number.
    Finite(f64): "a finite number", |value| value.is_finite()
);
checked_number!(
    /// A number from 0 to 1.
    Probability(f64): "a probability", |value| value >= 0.0 && value <= 1.0
);
checked_number!(
    /// The probability of a nucleus: 0 would leave no token.
    Nucleus(f64): "a number above 0, at most 1", |value| value > 0.0 && value <= 1.0
);
checked_number!(
    /// A share of a whole: 0 would be nothing of it.
    Share(f64): "a number above 0, at most 1", |value| value > 0.0 && value <= 1.0
);
checked_number!(
    /// The decay rate of a moment: 1 would never forget.
    DecayRate(f64): "a number from 0, below 1", |value| value >= 0.0 && value < 1.0
);
checked_number!(
    /// A temperature that can be sampled at; 0 takes the most probable token.
    Temperature(f64): "a number from 0 to 100", |value| value >= 0.0 && value <= 100.0
);
checked_number!(
    /// A temperature that can be trained at: at 0 there are no probabilities.
    PositiveTemperature(f64): "a number above 0, at most 100",
    |value| value > 0.0 && value <= 100.0
);

/// A day of the calendar, written as in 2026-03-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(jiff::civil::Date);

impl Day {
    /// The day.
    pub const fn get(self) -> jiff::civil::Date {
        self.0
    }
}

impl From<jiff::civil::Date> for Day {
    fn from(date: jiff::civil::Date) -> Self {
        Self(date)
    }
}

impl FromStr for Day {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let date = text.parse();
        date.map(Self)
            .map_err(|_| NotAllowed::new(text, "a day, such as 2026-03-05"))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl ConfigType for Day {
    fn values() -> Values {
        Values::Plain("a day, such as `2026-03-05`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_rollout::sampling::SamplingParams;

    /// What the config allows, the sampler allows.
    fn check_sampling<T: TryFrom<f64>>(params: impl Fn(f64) -> SamplingParams) {
        for value in [-0.1, 0.0, 1e-9, 0.5, 1.0, 1.1, 100.0, 100.1, f64::NAN] {
            assert!(
                T::try_from(value).is_err() || params(value).check().is_ok(),
                "{value}"
            );
        }
    }

    #[test]
    fn only_allowed_values_can_be_made_or_read() {
        fn check<T>(allowed: &[f64], refused: &[f64])
        where
            T: TryFrom<f64, Error = NotAllowed> + Into<f64> + serde::de::DeserializeOwned,
        {
            let name = std::any::type_name::<T>();
            let read = |value: f64| toml::Value::from(value).try_into::<T>();
            for &value in allowed {
                let made = T::try_from(value).map(Into::into);
                assert_eq!(made, Ok(value), "{name}");
                assert_eq!(read(value).map(Into::into), Ok(value), "{name}");
            }
            for &value in refused.iter().chain(&[f64::NAN, f64::INFINITY]) {
                assert!(T::try_from(value).is_err(), "{name}: {value}");
                let error = read(value).err().expect(name).to_string();
                let found = format!("found {value}; expected ");
                assert!(error.starts_with(&found), "{name}: {error}");
            }
        }
        check::<Positive>(&[1e-300, 7.0], &[0.0, -1.0]);
        check::<NonNegative>(&[0.0, 7.0], &[-1e-300]);
        check::<Finite>(&[-7.0, 0.0], &[f64::NEG_INFINITY]);
        check::<Probability>(&[0.0, 1.0], &[-0.1, 1.1]);
        check::<Nucleus>(&[0.1, 1.0], &[0.0, 1.1]);
        check::<Share>(&[1e-6, 1.0], &[0.0, 1.1]);
        check::<DecayRate>(&[0.0, 0.9], &[-0.1, 1.0]);
        check::<Temperature>(&[0.0, 100.0], &[-0.1, 101.0]);
        check::<PositiveTemperature>(&[0.1, 100.0], &[0.0, 101.0]);
        check_sampling::<Temperature>(|temperature| SamplingParams {
            temperature,
            ..Default::default()
        });
        check_sampling::<PositiveTemperature>(|temperature| SamplingParams {
            temperature,
            ..Default::default()
        });
        check_sampling::<Nucleus>(|top_p| SamplingParams {
            top_p,
            ..Default::default()
        });
        assert_eq!(Count::try_from(1).map(Count::get), Ok(1));
        let error = Count::try_from(0).unwrap_err().to_string();
        assert_eq!(error, "found 0; expected a whole number, at least 1");
        assert!(Digits::try_from(0).is_err() && Digits::try_from(7).is_err());
        assert!("2026-03-05".parse::<Day>().is_ok() && "2026-03-32".parse::<Day>().is_err());
    }
}
