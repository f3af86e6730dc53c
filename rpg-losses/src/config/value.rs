//! What the keys of an objective hold.

use crate::choices::{
    AdvantageKind, Aggregation, Clip, Divergence, Estimator, KlEstimator, KlPlacement, KlWeight,
    Level,
};
use crate::rollout::RolloutCorrection;

/// The values that a number may have.
pub(crate) struct Range {
    /// In words.
    pub(crate) expected: &'static str,
    pub(crate) holds: fn(f64) -> bool,
}

/// A type of value.
pub(crate) trait Value {
    /// What may be written, in Markdown.
    fn values(range: &Range) -> String;

    /// The value as it is written; nothing where it is absent.
    fn shown(&self) -> Option<String>;

    fn is_in(&self, range: &Range) -> bool;
}

impl Value for f64 {
    fn values(range: &Range) -> String {
        range.expected.into()
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn is_in(&self, range: &Range) -> bool {
        self.is_finite() && (range.holds)(*self)
    }
}

impl Value for Option<f64> {
    fn values(range: &Range) -> String {
        range.expected.into()
    }

    fn shown(&self) -> Option<String> {
        self.map(|x| x.to_string())
    }

    fn is_in(&self, range: &Range) -> bool {
        self.is_none_or(|x| x.is_in(range))
    }
}

impl Value for Option<RolloutCorrection> {
    fn values(_: &Range) -> String {
        "an object with `level`, `mode`, `min`, `max`, `reject`".into()
    }

    fn shown(&self) -> Option<String> {
        self.map(|correction| format!("{correction:?}"))
    }

    fn is_in(&self, _: &Range) -> bool {
        true
    }
}

impl Value for Option<usize> {
    fn values(range: &Range) -> String {
        format!("a whole number, {}", range.expected)
    }

    fn shown(&self) -> Option<String> {
        self.map(|n| n.to_string())
    }

    fn is_in(&self, range: &Range) -> bool {
        self.is_none_or(|n| (range.holds)(n as f64))
    }
}

impl Value for bool {
    fn values(_: &Range) -> String {
        "`true`, `false`".into()
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn is_in(&self, _: &Range) -> bool {
        true
    }
}

macro_rules! named_values {
    ($($type:ty),+) => {
        $(impl Value for $type {
            fn values(_: &Range) -> String {
                let names = Self::ALL.iter().map(|value| format!("`{value}`"));
                names.collect::<Vec<_>>().join(", ")
            }

            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn is_in(&self, _: &Range) -> bool {
                true
            }
        })+
    };
}

named_values!(
    Divergence,
    Estimator,
    Clip,
    KlPlacement,
    KlEstimator,
    KlWeight,
    Level,
    Aggregation,
    AdvantageKind
);
