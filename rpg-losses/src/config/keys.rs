//! The keys of an objective: one row each, from which the config, its checks and its documentation follow.

use crate::choices::{
    AdvantageKind, Aggregation, Clip, Divergence, Estimator, KlEstimator, KlPlacement, KlWeight,
    Level,
};
use crate::config::error::ObjectiveError;
use crate::config::value::{Range, Value};
use crate::objectives::Kind;
use crate::objectives::spec::{Parts, Spec, TrustRegion};
use crate::rollout::RolloutCorrection;
use serde::{Deserialize, Serialize};

/// What is known of a key besides its type.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
    /// What may be written, for the documentation.
    pub(crate) values: fn() -> String,
    /// The value in a config, for the documentation; absent where there is none.
    pub(crate) shown: fn(&ObjectiveConfig) -> Option<String>,
    /// The choice in the config by which nothing reads the key, if there is one.
    pub(crate) unread: fn(&ObjectiveConfig) -> Option<Choice>,
    /// Whether the value is in its range.
    pub(crate) check: fn(&ObjectiveConfig) -> Result<(), ObjectiveError>,
    /// Whether two configs have different values.
    pub(crate) differs: fn(&ObjectiveConfig, &ObjectiveConfig) -> bool,
    /// Whether the user wrote the key.
    #[cfg_attr(
        not(feature = "request"),
        allow(dead_code, reason = "only requests ask")
    )]
    pub(crate) is_written: fn(&RawObjective) -> bool,
}

/// A choice that decides whether other keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Kind,
    Kl,
    Clip,
    KlPlacement,
    Aggregation,
}

/// Declares the config, the form in which it is read, and [`KEYS`].
macro_rules! keys {
    ($(
        $(#[serde($serde:meta)])?
        $key:ident: $type:ty {
            meaning: $meaning:literal,
            range: $range:expr,
            default: |$spec:pat_param, $level:pat_param| $default:expr,
            unread: $unread:expr,
        }
    )+) => {
        /// One objective, completely specified.
        ///
        /// In a config file every key but `kind` may be left out; its default then depends on the kind.
        /// For [`Kind::Rpg`] the defaults are those of [`ObjectiveConfig::default`]; a baseline has the
        /// advantage, level, aggregation and bounds of its own paper, and `beta = 0`.
        /// Unknown keys are errors. In code, change the fields of [`ObjectiveConfig::for_kind`].
        ///
        /// ```
        /// use rpg_losses::{Aggregation, Kind, ObjectiveConfig};
        /// let config: ObjectiveConfig = toml::from_str("kind = \"dr_grpo\"\nbeta = 0.01").unwrap();
        /// assert_eq!(config.kind, Kind::DrGrpo);
        /// assert_eq!(config.aggregation, Aggregation::Constant);
        /// assert!(toml::from_str::<ObjectiveConfig>("kind = \"rpg\"\nbta = 0.01").is_err());
        ///
        /// let mut config = ObjectiveConfig::for_kind(Kind::Gspo);
        /// config.eps_high = 0.3;
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "RawObjective")]
        #[non_exhaustive]
        pub struct ObjectiveConfig {
            /// The family of losses.
            pub kind: Kind,
            $(
                #[doc = $meaning]
                $(#[serde($serde)])?
                pub $key: $type,
            )+
        }

        /// The objective as written by a user: what is absent takes the default of its kind.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct RawObjective {
            kind: Kind,
            $(pub(crate) $key: Option<$type>,)+
        }

        /// Every key but `kind`, in the order of the documentation.
        pub(crate) static KEYS: &[Key] = &[$(
            Key {
                name: stringify!($key),
                meaning: $meaning,
                values: || <$type as Value>::values(&$range),
                shown: |config| config.$key.shown(),
                unread: $unread,
                check: |config| {
                    if config.$key.is_in(&$range) {
                        return Ok(());
                    }
                    Err(ObjectiveError::Value {
                        key: stringify!($key),
                        found: config.$key.shown().unwrap_or_default(),
                        expected: $range.expected,
                    })
                },
                differs: |a, b| a.$key != b.$key,
                is_written: |raw| raw.$key.is_some(),
            },
        )+];

        impl RawObjective {
            /// Fills in the defaults of the kind.
            pub(crate) fn with_defaults(&self) -> ObjectiveConfig {
                let spec = self.kind.spec();
                let level = self.level.unwrap_or(spec.defaults.level);
                ObjectiveConfig {
                    kind: self.kind,
                    $($key: self.$key.unwrap_or_else(|| {
                        let ($spec, $level): (&Spec, Level) = (spec, level);
                        $default
                    }),)+
                }
            }

            /// Nothing but the kind.
            pub(crate) fn of_kind(kind: Kind) -> Self {
                Self { kind, $($key: None,)+ }
            }
        }
    };
}

const ANY: Range = Range {
    expected: "",
    holds: |_| true,
};
const AT_LEAST_0: Range = Range {
    expected: "a finite number, at least 0",
    holds: |x| x >= 0.0,
};
const FROM_0_TO_1: Range = Range {
    expected: "a number from 0 to 1",
    holds: |x| (0.0..=1.0).contains(&x),
};
const ABOVE_0: Range = Range {
    expected: "a finite number greater than 0",
    holds: |x| x > 0.0,
};
const ABOVE_1: Range = Range {
    expected: "a finite number greater than 1",
    holds: |x| x > 1.0,
};
const AT_LEAST_1: Range = Range {
    expected: "at least 1",
    holds: |x| x >= 1.0,
};

keys! {
    kl: Divergence {
        meaning: "The divergence of `J = E_pi[R] - beta*D`.",
        range: ANY,
        default: |spec, _| spec.defaults.kl,
        unread: unless_composed,
    }
    estimator: Estimator {
        meaning: "How the gradient is obtained.",
        range: ANY,
        default: |spec, _| spec.defaults.estimator,
        unread: unless_composed,
    }
    clip: Clip {
        meaning: "The trust region; it has to go with the estimator.",
        range: ANY,
        default: |spec, _| spec.defaults.clip,
        unread: unless_composed,
    }
    kl_in_clip: bool {
        meaning: "Whether clip `dual` clips the KL term along with the reward.",
        range: ANY,
        default: |_, _| true,
        unread: |config| {
            let is_unread = config.form().spec().kl_in_clip.is_none();
            let unless_dual = is_unread.then_some(Choice::Clip);
            unless_composed(config).or(unless_dual).or_else(|| unless_regularized(config))
        },
    }
    beta: f64 {
        meaning: "The coefficient of the KL term.",
        range: AT_LEAST_0,
        default: |spec, _| spec.defaults.beta,
        unread: |config| match config.kind.spec().parts {
            Parts::Composed => unless_regularized(config),
            Parts::Fixed { .. } => unless_placed(config, &[KlPlacement::Loss, KlPlacement::Reward]),
        },
    }
    kl_placement: KlPlacement {
        meaning: "Where the `ppo` family puts its KL term.",
        range: ANY,
        default: |spec, _| spec.defaults.kl_placement,
        unread: |config| (!config.has_kl_term()).then_some(Choice::Kind),
    }
    kl_estimator: KlEstimator {
        meaning: "What the KL term of the `ppo` family is.",
        range: ANY,
        default: |spec, _| spec.defaults.kl_estimator,
        unread: |config| unless_placed(config, &[KlPlacement::Loss, KlPlacement::Reward]),
    }
    kl_weight: KlWeight {
        meaning: "The factor in front of the KL term in the loss: 1, `SG(w)` or `w`.",
        range: ANY,
        default: |spec, _| spec.defaults.kl_weight,
        unread: |config| unless_placed(config, &[KlPlacement::Loss]),
    }
    eps_low: f64 {
        meaning: "Weights below `1 - eps_low` are clipped; `gmpo`: below `exp(-eps_low)`; `dppo_tv`, `dppo_kl`: the largest divergence where the probability fell.",
        range: FROM_0_TO_1,
        default: |spec, _| spec.defaults.eps_low,
        unread: |config| unless_clipped(config, &[TrustRegion::Interval, TrustRegion::Dual]),
    }
    eps_high: f64 {
        meaning: "Weights above `1 + eps_high` are clipped; `gmpo`: above `exp(eps_high)`; `dppo_tv`, `dppo_kl`: the largest divergence where the probability rose.",
        range: AT_LEAST_0,
        default: |spec, _| spec.defaults.eps_high,
        unread: |config| unless_clipped(config, &[TrustRegion::Interval, TrustRegion::Dual]),
    }
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<f64> {
        meaning: "The bound on weights of units with negative advantage, `dppo_tv` and `dppo_kl`: of all units; `sapo`, `gmpo` and `cispo` have none; absent: none.",
        range: ABOVE_1,
        default: |spec, _| spec.defaults.c,
        unread: |config| unless_clipped(config, &[TrustRegion::Dual]),
    }
    tau_pos: f64 {
        meaning: "The temperature of the gate of `sapo` where the advantage is positive.",
        range: ABOVE_0,
        default: |spec, _| spec.defaults.tau_pos,
        unread: |config| unless_clipped(config, &[TrustRegion::Gate]),
    }
    tau_neg: f64 {
        meaning: "The same where it is not.",
        range: ABOVE_0,
        default: |spec, _| spec.defaults.tau_neg,
        unread: |config| unless_clipped(config, &[TrustRegion::Gate]),
    }
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_mask: Option<f64> {
        meaning: "The largest mean of `logp_old - logp` over a response at which its negative advantages count: above it they are 0; absent: no bound.",
        range: AT_LEAST_0,
        default: |_, _| None,
        unread: never,
    }
    z: f64 {
        meaning: "The total mass of the measure whose logarithm `logp_old` is, for the unnormalized divergences.",
        range: ABOVE_0,
        default: |_, _| 1.0,
        unread: |config| {
            let normalized = (!config.kl.is_unnormalized()).then_some(Choice::Kl);
            unless_composed(config).or(normalized)
        },
    }
    level: Level {
        meaning: "What the formulas are applied to.",
        range: ANY,
        default: |_, level| level,
        unread: never,
    }
    aggregation: Aggregation {
        meaning: "How losses of tokens become one number; at the sequence levels `seq_mean`.",
        range: ANY,
        default: |spec, level| if level.is_sequence() {
            Aggregation::SeqMean
        } else {
            spec.defaults.token_aggregation
        },
        unread: never,
    }
    advantage: AdvantageKind {
        meaning: "How rewards become advantages.",
        range: ANY,
        default: |spec, _| spec.defaults.advantage,
        unread: never,
    }
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<usize> {
        meaning: "What aggregation `constant` divides by; absent: the length of the batch, padding included.",
        range: AT_LEAST_1,
        default: |_, _| None,
        unread: |config| {
            (config.aggregation != Aggregation::Constant).then_some(Choice::Aggregation)
        },
    }

    #[serde(skip_serializing_if = "Option::is_none")]
    rollout_correction: Option<RolloutCorrection> {
        meaning: "What makes up for a sampler that is not the policy of `logp_old`; absent: nothing.",
        range: ANY,
        default: |_, _| None,
        unread: never,
    }
}

fn never(_: &ObjectiveConfig) -> Option<Choice> {
    None
}

fn unless_composed(config: &ObjectiveConfig) -> Option<Choice> {
    match config.kind.spec().parts {
        Parts::Composed => None,
        Parts::Fixed { .. } => Some(Choice::Kind),
    }
}

fn unless_regularized(config: &ObjectiveConfig) -> Option<Choice> {
    (config.kl == Divergence::None).then_some(Choice::Kl)
}

fn unless_placed(config: &ObjectiveConfig, placements: &[KlPlacement]) -> Option<Choice> {
    if !config.has_kl_term() {
        return Some(Choice::Kind);
    }
    (!placements.contains(&config.kl_placement)).then_some(Choice::KlPlacement)
}

fn unless_clipped(config: &ObjectiveConfig, regions: &[TrustRegion]) -> Option<Choice> {
    let (region, choice) = match config.kind.spec().parts {
        Parts::Composed => (config.form().spec().trust_region, Choice::Clip),
        Parts::Fixed { trust_region, .. } => (trust_region, Choice::Kind),
    };
    (!regions.contains(&region)).then_some(choice)
}
