//! The configuration of an objective: defaults, checks and warnings.

mod error;
mod keys;
mod value;

use crate::aggregate::StepTotals;
use crate::choices::{Aggregation, Divergence, KlPlacement, Level};
use crate::config::keys::{Choice, Key};
use crate::objectives::Kind;
use crate::objectives::kl_term::KlTerm;
use crate::objectives::rpg::Form;
use crate::objectives::spec::{AdvantageRule, Parts, WeightOf};
use crate::rollout::{RolloutCorrection, RolloutLevel};
use crate::terms::{ClipBounds, Coefficients};

pub use crate::config::error::ObjectiveError;
pub use crate::config::keys::ObjectiveConfig;
pub(crate) use crate::config::keys::{KEYS, RawObjective};

impl Default for ObjectiveConfig {
    /// RPG-REINFORCE with unnormalized reverse KL and RPG-Style Clip, as the paper trains it.
    fn default() -> Self {
        Self::for_kind(Kind::Rpg)
    }
}

impl ObjectiveConfig {
    /// The defaults of a kind.
    pub fn for_kind(kind: Kind) -> Self {
        RawObjective::of_kind(kind).with_defaults()
    }

    /// Checks ranges and combinations. A config that was read from a file has been checked already.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        for key in KEYS {
            (key.check)(self)?;
        }
        self.rollout_correction.map_or(Ok(()), |c| c.check())?;
        self.validate_combination()
    }

    fn validate_combination(&self) -> Result<(), ObjectiveError> {
        if self.kind.spec().parts == Parts::Composed && self.form().spec().clip != self.clip {
            return Err(ObjectiveError::Conflict {
                key: "clip",
                found: self.clip.name(),
                other_key: "estimator",
                other: self.estimator.name(),
                hint: use_one_of(Form::clips(self.estimator).map(|clip| clip.name())),
            });
        }
        if !self.goes_with_level() {
            return Err(ObjectiveError::Conflict {
                key: "level",
                found: self.level.name(),
                other_key: "kind",
                other: self.kind.name(),
                hint: use_one_of([Level::Token.name()].into_iter()),
            });
        }
        if self.level.is_sequence() != self.aggregation.is_of_sequences() {
            let fits = |aggregation: &&Aggregation| {
                aggregation.is_of_sequences() == self.level.is_sequence()
            };
            let fitting = Aggregation::ALL.iter().filter(fits);
            return Err(ObjectiveError::Conflict {
                key: "aggregation",
                found: self.aggregation.name(),
                other_key: "level",
                other: self.level.name(),
                hint: use_one_of(fitting.map(|aggregation| aggregation.name())),
            });
        }
        let of_tokens = |c: RolloutCorrection| c.level == RolloutLevel::Token;
        if self.level.is_sequence() && self.rollout_correction.is_some_and(of_tokens) {
            return Err(ObjectiveError::Conflict {
                key: "rollout_correction.level",
                found: RolloutLevel::Token.name(),
                other_key: "level",
                other: self.level.name(),
                hint: "use \"sequence\" or \"geometric\"".into(),
            });
        }
        Ok(())
    }

    /// Whether the kind has this level: tokens that share a weight are units of their own.
    pub(crate) fn goes_with_level(&self) -> bool {
        !self.level.is_sequence() || self.kind.spec().weight_of == WeightOf::Unit
    }

    /// Keys whose value was changed from the kind's default although nothing reads them.
    pub fn warnings(&self) -> Vec<String> {
        let default = Self::for_kind(self.kind);
        let unread = KEYS.iter().filter(|key| (key.differs)(self, &default));
        let warnings = unread.filter_map(|key| self.unread_warning(key));
        warnings.chain(self.unread_bound()).collect()
    }

    /// The same for the lower bound of a correction, which is no key of its own.
    fn unread_bound(&self) -> Option<String> {
        let correction = self.rollout_correction?;
        let is_unread =
            !correction.reads_min() && correction.min != RolloutCorrection::default().min;
        is_unread.then(|| {
            "`rollout_correction.min` has no effect: mode \"truncate\" does not use it".into()
        })
    }

    /// The trust region's bounds on the importance weight.
    pub fn clip_bounds(&self) -> ClipBounds {
        ClipBounds::new(self.eps_low, self.eps_high, self.c.unwrap_or(f64::INFINITY))
    }

    /// The numbers that the formula reads.
    pub fn coefficients(&self) -> Coefficients {
        Coefficients {
            kl: self.kl,
            beta: self.beta,
            kl_term: self.kl_term(),
            z: self.mass(),
            bounds: self.clip_bounds(),
            eps_low: self.eps_low,
            eps_high: self.eps_high,
            tau_pos: self.tau_pos,
            tau_neg: self.tau_neg,
        }
    }

    /// Whether a KL term takes part, in the loss or in the rewards: there is one, and its coefficient is not 0.
    pub fn is_regularized(&self) -> bool {
        let has_term = match self.kind.spec().parts {
            Parts::Composed => self.kl != Divergence::None,
            Parts::Fixed { .. } => self.has_kl_term() && self.kl_placement != KlPlacement::None,
        };
        has_term && self.beta > 0.0
    }

    /// The KL term of PPO's family, if the loss has one.
    pub(crate) fn kl_term(&self) -> Option<KlTerm> {
        let is_in_loss = self.has_kl_term() && self.kl_placement == KlPlacement::Loss;
        is_in_loss.then_some(KlTerm {
            estimator: self.kl_estimator,
            weight: self.kl_weight,
        })
    }

    /// Whether token rewards have a KL penalty.
    pub(crate) fn penalizes_rewards(&self) -> bool {
        self.has_kl_term() && self.kl_placement == KlPlacement::Reward
    }

    /// Whether the kind reads where its KL term goes.
    pub(crate) fn has_kl_term(&self) -> bool {
        match self.kind.spec().parts {
            Parts::Composed => false,
            Parts::Fixed { has_kl, .. } => has_kl,
        }
    }

    /// The form of RPG's loss; other kinds have one form and do not read it.
    pub(crate) fn form(&self) -> Form {
        Form::new(self.estimator, self.clip, self.kl_in_clip)
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
        if self.kind.spec().parts == Parts::Composed && self.kl.is_unnormalized() {
            self.z
        } else {
            1.0
        }
    }

    pub(crate) fn advantage_rule(&self) -> AdvantageRule {
        self.kind.spec().advantage_rule
    }

    /// A warning, if nothing reads the key.
    fn unread_warning(&self, key: &Key) -> Option<String> {
        let by = match (key.unread)(self)? {
            Choice::Kind => format!("kind \"{}\"", self.kind),
            Choice::Kl => format!("kl \"{}\"", self.kl),
            Choice::Clip => format!("clip \"{}\"", self.clip),
            Choice::KlPlacement => format!("kl_placement \"{}\"", self.kl_placement),
            Choice::Aggregation => format!("aggregation \"{}\"", self.aggregation),
        };
        let name = key.name;
        Some(format!("`{name}` has no effect: {by} does not use it"))
    }
}

impl RawObjective {
    /// Fills in the defaults of the kind and checks the result.
    pub(crate) fn resolve(&self) -> Result<ObjectiveConfig, ObjectiveError> {
        let config = self.with_defaults();
        config.validate()?;
        Ok(config)
    }

    /// Keys that the user wrote although nothing reads them.
    #[cfg(feature = "request")]
    pub(crate) fn warnings(&self, resolved: &ObjectiveConfig) -> Vec<String> {
        let written = KEYS.iter().filter(|key| (key.is_written)(self));
        let warnings = written.filter_map(|key| resolved.unread_warning(key));
        warnings.chain(resolved.unread_bound()).collect()
    }
}

impl TryFrom<RawObjective> for ObjectiveConfig {
    type Error = ObjectiveError;

    fn try_from(raw: RawObjective) -> Result<Self, ObjectiveError> {
        raw.resolve()
    }
}

/// `use "a", "b" or "c"`; `none` comes last.
fn use_one_of(names: impl Iterator<Item = &'static str>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    names.sort_by_key(|name| name == "\"none\"");
    let last = names.pop().unwrap_or_default();
    if names.is_empty() {
        return format!("use {last}");
    }
    format!("use {} or {last}", names.join(", "))
}
