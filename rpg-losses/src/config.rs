//! The configuration of an objective, its defaults and its checks.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::aggregate::StepTotals;
use crate::clip::ClipBounds;
use crate::kinds::{AdvantageKind, Aggregation, Clip, Divergence, Estimator, Kind, Level};

/// One objective, completely specified.
///
/// In a config file every key but `kind` may be left out; its default then depends on the kind.
/// For [`Kind::Rpg`] the defaults are those of [`ObjectiveConfig::default`]; a baseline has the
/// advantage, level and aggregation of its own paper, `beta = 0`, both bounds 0.2 and `c = 3`.
/// Unknown keys are errors.
///
/// ```
/// use rpg_losses::{Aggregation, Kind, ObjectiveConfig};
/// let config: ObjectiveConfig = serde_json::from_str(r#"{"kind": "dr_grpo", "beta": 0.01}"#).unwrap();
/// assert_eq!(config.kind, Kind::DrGrpo);
/// assert_eq!(config.aggregation, Aggregation::Constant);
/// assert!(serde_json::from_str::<ObjectiveConfig>(r#"{"kind": "rpg", "bta": 0.01}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawObjective")]
pub struct ObjectiveConfig {
    /// The family of losses.
    pub kind: Kind,
    /// The divergence of `J = E_pi[R] - beta*D`; used by [`Kind::Rpg`].
    pub kl: Divergence,
    /// How the gradient is obtained; used by [`Kind::Rpg`].
    pub estimator: Estimator,
    /// The trust region; used by [`Kind::Rpg`].
    pub clip: Clip,
    /// Whether the KL term is clipped together with the reward; used by [`Clip::Dual`].
    pub kl_in_clip: bool,
    /// Coefficient of the KL term, at least 0.
    pub beta: f64,
    /// Lower clip bound: weights below `1 - eps_low` are clipped. From 0 to 1.
    pub eps_low: f64,
    /// Upper clip bound: weights above `1 + eps_high` are clipped. At least 0.
    pub eps_high: f64,
    /// Bound of the dual clip for negative advantages, more than 1.
    pub c: f64,
    /// Total mass of the reference measure, positive; used by the unnormalized divergences.
    pub z: f64,
    /// What the formulas are applied to.
    pub level: Level,
    /// How token or response losses become one number.
    pub aggregation: Aggregation,
    /// How rewards become advantages.
    pub advantage: AdvantageKind,
    /// The length that [`Aggregation::Constant`] divides by; where absent, that of the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
}

/// The objective as written by a user: what is absent takes the default of its kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawObjective {
    kind: Kind,
    kl: Option<Divergence>,
    estimator: Option<Estimator>,
    clip: Option<Clip>,
    kl_in_clip: Option<bool>,
    beta: Option<f64>,
    eps_low: Option<f64>,
    eps_high: Option<f64>,
    c: Option<f64>,
    z: Option<f64>,
    level: Option<Level>,
    aggregation: Option<Aggregation>,
    advantage: Option<AdvantageKind>,
    max_length: Option<usize>,
}

/// A configuration that cannot be what its author meant.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ObjectiveError {
    /// A number outside its range.
    #[error("`{key}` is {found}, but must be {expected}")]
    Value {
        /// The key in the config.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("`{key}` is \"{found}\", which does not go with `{other_key}` \"{other}\": {hint}")]
    Conflict {
        /// The key in the config.
        key: &'static str,
        /// What stands there.
        found: &'static str,
        /// The key it collides with.
        other_key: &'static str,
        /// What stands at that key.
        other: &'static str,
        /// What would be right.
        hint: &'static str,
    },
}

impl Default for ObjectiveConfig {
    /// RPG-REINFORCE with unnormalized reverse KL and RPG-Style Clip, as the paper trains it.
    fn default() -> Self {
        Self::for_kind(Kind::Rpg)
    }
}

impl ObjectiveConfig {
    /// The defaults of a kind.
    pub fn for_kind(kind: Kind) -> Self {
        let rpg = Self {
            kind,
            kl: Divergence::Urkl,
            estimator: Estimator::Reinforce,
            clip: Clip::Rpg,
            kl_in_clip: true,
            beta: 1e-4,
            eps_low: 0.2,
            eps_high: 0.28,
            c: 10.0,
            z: 1.0,
            level: Level::Token,
            aggregation: Aggregation::TokenMean,
            advantage: AdvantageKind::GroupMean,
            max_length: None,
        };
        if kind == Kind::Rpg {
            return rpg;
        }
        let (level, advantage) = match kind {
            Kind::Rpg | Kind::Ppo | Kind::DrGrpo | Kind::ReinforcePpBaseline => {
                (Level::Token, AdvantageKind::GroupMean)
            }
            Kind::Grpo | Kind::GrpoCorrected | Kind::Dapo | Kind::Cispo => {
                (Level::Token, AdvantageKind::GroupNorm)
            }
            Kind::ReinforcePp => (Level::Token, AdvantageKind::BatchNorm),
            Kind::Rloo => (Level::Token, AdvantageKind::LeaveOneOut),
            Kind::Gspo => (Level::SequenceNorm, AdvantageKind::GroupNorm),
        };
        Self {
            kl: Divergence::None,
            estimator: Estimator::Differentiable,
            clip: Clip::None,
            beta: 0.0,
            eps_high: 0.2,
            c: 3.0,
            level,
            aggregation: default_aggregation(kind, level),
            advantage,
            ..rpg
        }
    }

    /// Checks ranges and combinations; reading a config from a file has done so already.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        let numbers = [
            (
                "beta",
                self.beta,
                self.beta >= 0.0,
                "a finite number, at least 0",
            ),
            (
                "eps_low",
                self.eps_low,
                (0.0..=1.0).contains(&self.eps_low),
                "a number from 0 to 1",
            ),
            (
                "eps_high",
                self.eps_high,
                self.eps_high >= 0.0,
                "a finite number, at least 0",
            ),
            ("c", self.c, self.c > 1.0, "a finite number greater than 1"),
            ("z", self.z, self.z > 0.0, "a finite number greater than 0"),
        ];
        for (key, value, in_range, expected) in numbers {
            if !(in_range && value.is_finite()) {
                return Err(ObjectiveError::Value {
                    key,
                    found: value.to_string(),
                    expected,
                });
            }
        }
        if self.max_length == Some(0) {
            return Err(ObjectiveError::Value {
                key: "max_length",
                found: "0".into(),
                expected: "at least 1",
            });
        }
        self.validate_combination()
    }

    fn validate_combination(&self) -> Result<(), ObjectiveError> {
        let conflict = |key, found, other_key, other, hint| {
            Err(ObjectiveError::Conflict {
                key,
                found,
                other_key,
                other,
                hint,
            })
        };
        if self.kind == Kind::Rpg {
            let hint = match (self.estimator, self.clip) {
                (Estimator::Differentiable, Clip::Rpg | Clip::Hard) => {
                    Some("use \"dual\" or \"none\"")
                }
                (Estimator::Reinforce, Clip::Dual) => Some("use \"rpg\", \"hard\" or \"none\""),
                _ => None,
            };
            if let Some(hint) = hint {
                return conflict(
                    "clip",
                    self.clip.name(),
                    "estimator",
                    self.estimator.name(),
                    hint,
                );
            }
        }
        if (self.level == Level::Token) == (self.aggregation == Aggregation::SeqMean) {
            let hint = if self.level == Level::Token {
                "use \"token_mean\", \"seq_mean_token_sum\", \"seq_mean_token_mean\" or \"constant\""
            } else {
                "use \"seq_mean\""
            };
            return conflict(
                "aggregation",
                self.aggregation.name(),
                "level",
                self.level.name(),
                hint,
            );
        }
        if self.kind == Kind::ReinforcePp && self.advantage.needs_groups() {
            return conflict(
                "advantage",
                self.advantage.name(),
                "kind",
                self.kind.name(),
                "use \"batch_norm\" or \"batch_mean\"",
            );
        }
        Ok(())
    }

    /// Keys whose value was changed from the kind's default although nothing reads them.
    pub fn warnings(&self) -> Vec<String> {
        let default = Self::for_kind(self.kind);
        self.unused_keys()
            .into_iter()
            .filter(|(key, _)| match *key {
                "kl" => self.kl != default.kl,
                "estimator" => self.estimator != default.estimator,
                "clip" => self.clip != default.clip,
                "kl_in_clip" => self.kl_in_clip != default.kl_in_clip,
                "beta" => self.beta != default.beta,
                "eps_low" => self.eps_low != default.eps_low,
                "eps_high" => self.eps_high != default.eps_high,
                "c" => self.c != default.c,
                "z" => self.z != default.z,
                "max_length" => self.max_length != default.max_length,
                other => unreachable!("{other} is always used"),
            })
            .map(|(key, by)| unused_warning(key, &by))
            .collect()
    }

    /// The totals with the length that this config sets, if it sets one.
    pub(crate) fn totals(&self, totals: &StepTotals) -> StepTotals {
        StepTotals {
            max_length: self.max_length.unwrap_or(totals.max_length),
            ..*totals
        }
    }

    /// The mass factor of the loss: `z` for the unnormalized divergences, else 1.
    pub(crate) fn mass(&self) -> f64 {
        if self.kind == Kind::Rpg && self.kl.is_unnormalized() {
            self.z
        } else {
            1.0
        }
    }

    /// The trust region's bounds on the importance weight.
    pub fn clip_bounds(&self) -> ClipBounds {
        ClipBounds::new(self.eps_low, self.eps_high, self.c)
    }

    /// Keys that nothing reads under this configuration, each with what does not read it.
    fn unused_keys(&self) -> Vec<(&'static str, String)> {
        let mut unused = Vec::new();
        let by_kind = format!("kind \"{}\"", self.kind);
        let by_clip = format!("clip \"{}\"", self.clip);
        let by_kl = format!("kl \"{}\"", self.kl);
        if self.kind == Kind::Rpg {
            if self.kl == Divergence::None {
                unused.push(("beta", by_kl.clone()));
            }
            if self.clip == Clip::None {
                unused.push(("eps_low", by_clip.clone()));
                unused.push(("eps_high", by_clip.clone()));
            }
            if matches!(self.clip, Clip::None | Clip::Hard) {
                unused.push(("c", by_clip.clone()));
            }
            if self.clip != Clip::Dual {
                unused.push(("kl_in_clip", by_clip));
            } else if self.kl == Divergence::None {
                unused.push(("kl_in_clip", by_kl.clone()));
            }
            if !self.kl.is_unnormalized() {
                unused.push(("z", by_kl));
            }
        } else {
            for key in ["kl", "estimator", "clip", "kl_in_clip", "z"] {
                unused.push((key, by_kind.clone()));
            }
            let has_kl = matches!(
                self.kind,
                Kind::Grpo
                    | Kind::GrpoCorrected
                    | Kind::DrGrpo
                    | Kind::ReinforcePp
                    | Kind::ReinforcePpBaseline
            );
            if !has_kl {
                unused.push(("beta", by_kind.clone()));
            }
            if self.kind != Kind::Dapo {
                unused.push(("c", by_kind));
            }
        }
        if self.aggregation != Aggregation::Constant {
            unused.push((
                "max_length",
                format!("aggregation \"{}\"", self.aggregation),
            ));
        }
        unused
    }
}

impl RawObjective {
    /// Fills in the defaults of the kind and checks the result.
    pub(crate) fn resolve(&self) -> Result<ObjectiveConfig, ObjectiveError> {
        let default = ObjectiveConfig::for_kind(self.kind);
        let level = self.level.unwrap_or(default.level);
        let config = ObjectiveConfig {
            kind: self.kind,
            kl: self.kl.unwrap_or(default.kl),
            estimator: self.estimator.unwrap_or(default.estimator),
            clip: self.clip.unwrap_or(default.clip),
            kl_in_clip: self.kl_in_clip.unwrap_or(default.kl_in_clip),
            beta: self.beta.unwrap_or(default.beta),
            eps_low: self.eps_low.unwrap_or(default.eps_low),
            eps_high: self.eps_high.unwrap_or(default.eps_high),
            c: self.c.unwrap_or(default.c),
            z: self.z.unwrap_or(default.z),
            level,
            aggregation: self
                .aggregation
                .unwrap_or_else(|| default_aggregation(self.kind, level)),
            advantage: self.advantage.unwrap_or(default.advantage),
            max_length: self.max_length,
        };
        config.validate()?;
        Ok(config)
    }

    /// Whether the user chose how rewards become advantages.
    pub(crate) fn sets_advantage(&self) -> bool {
        self.advantage.is_some()
    }

    /// Keys that the user wrote although nothing reads them.
    pub(crate) fn warnings(&self, resolved: &ObjectiveConfig) -> Vec<String> {
        let written = [
            ("kl", self.kl.is_some()),
            ("estimator", self.estimator.is_some()),
            ("clip", self.clip.is_some()),
            ("kl_in_clip", self.kl_in_clip.is_some()),
            ("beta", self.beta.is_some()),
            ("eps_low", self.eps_low.is_some()),
            ("eps_high", self.eps_high.is_some()),
            ("c", self.c.is_some()),
            ("z", self.z.is_some()),
            ("max_length", self.max_length.is_some()),
        ];
        resolved
            .unused_keys()
            .into_iter()
            .filter(|(key, _)| written.contains(&(*key, true)))
            .map(|(key, by)| unused_warning(key, &by))
            .collect()
    }
}

impl TryFrom<RawObjective> for ObjectiveConfig {
    type Error = ObjectiveError;

    fn try_from(raw: RawObjective) -> Result<Self, ObjectiveError> {
        raw.resolve()
    }
}

fn default_aggregation(kind: Kind, level: Level) -> Aggregation {
    if level != Level::Token {
        return Aggregation::SeqMean;
    }
    match kind {
        Kind::Grpo | Kind::GrpoCorrected => Aggregation::SeqMeanTokenMean,
        Kind::DrGrpo => Aggregation::Constant,
        Kind::Rloo => Aggregation::SeqMeanTokenSum,
        _ => Aggregation::TokenMean,
    }
}

fn unused_warning(key: &str, by: &str) -> String {
    format!("`{key}` has no effect: {by} does not use it")
}
