//! What is particular to a kind of objective besides its formula.

use crate::choices::{
    AdvantageKind, Aggregation, Clip, Divergence, Estimator, KlEstimator, KlPlacement, KlWeight,
    Level,
};

/// What other code has to know of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// The loss of one unit, as the documentation prints it.
    pub(crate) loss: &'static str,
    /// Where its advantages come from, if not from its key `advantage` alone.
    pub(crate) advantage_note: &'static str,
    /// Which keys its loss is made of.
    pub(crate) parts: Parts,
    /// How its advantages differ from the configured form.
    pub(crate) advantage_rule: AdvantageRule,
    /// Whose importance weight a token has.
    pub(crate) weight_of: WeightOf,
    /// The values of keys that are left out.
    pub(crate) defaults: Defaults,
}

impl Spec {
    /// PPO's, from which the other baselines differ.
    pub(crate) const BASELINE: Self = Self {
        loss: "`ppo`",
        advantage_note: "",
        parts: Parts::Fixed {
            has_kl: true,
            trust_region: TrustRegion::Dual,
        },
        advantage_rule: AdvantageRule::AsConfigured,
        weight_of: WeightOf::Unit,
        defaults: Defaults::BASELINE,
    };
}

/// Which of the keys that form a loss a kind reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// `kl`, `estimator` and `clip`, which say what else is read.
    Composed,
    /// None of them: the loss has one form.
    Fixed {
        /// Whether it reads `beta` and where the KL term goes.
        has_kl: bool,
        /// Which bounds it reads.
        trust_region: TrustRegion,
    },
}

/// The bounds that a trust region has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrustRegion {
    /// None.
    Open,
    /// `eps_low` and `eps_high`.
    Interval,
    /// `c` as well.
    Dual,
    /// The temperatures of a gate.
    Gate,
}

/// Whose importance weight a token has. With another than its own, a kind is one of the token level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightOf {
    /// Its own.
    Unit,
    /// The geometric mean over its response.
    Response,
    /// That of weights that have been clipped ([`crate::objectives::gmpo`]).
    ClippedResponse,
}

/// How advantages differ from the configured form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdvantageRule {
    /// They do not.
    AsConfigured,
    /// They are then whitened over the tokens of the batch.
    ThenWhitened,
    /// They are those of returns, which the batch forms normalize over tokens.
    RewardToGo,
}

/// The values of keys that are left out; those of `z`, `max_length`, ... are the same for all kinds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) kl: Divergence,
    pub(crate) estimator: Estimator,
    pub(crate) clip: Clip,
    pub(crate) beta: f64,
    pub(crate) kl_placement: KlPlacement,
    pub(crate) kl_estimator: KlEstimator,
    pub(crate) kl_weight: KlWeight,
    pub(crate) eps_low: f64,
    pub(crate) eps_high: f64,
    pub(crate) c: Option<f64>,
    pub(crate) tau_pos: f64,
    pub(crate) tau_neg: f64,
    pub(crate) level: Level,
    /// At the token level; at the others it is `seq_mean`.
    pub(crate) token_aggregation: Aggregation,
    pub(crate) advantage: AdvantageKind,
}

impl Defaults {
    /// PPO's.
    pub(crate) const BASELINE: Self = Self {
        kl: Divergence::None,
        estimator: Estimator::Differentiable,
        clip: Clip::None,
        beta: 0.0,
        // For those who ask for a KL term: in the loss or in the reward these have a divergence's gradient.
        kl_placement: KlPlacement::None,
        kl_estimator: KlEstimator::K1,
        kl_weight: KlWeight::Full,
        eps_low: 0.2,
        eps_high: 0.2,
        c: None,
        // Those of SAPO, which alone reads them.
        tau_pos: 1.0,
        tau_neg: 1.05,
        level: Level::Token,
        token_aggregation: Aggregation::TokenMean,
        advantage: AdvantageKind::GroupMean,
    };
}

/// What is known of a form of RPG's loss besides its formula.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormSpec {
    /// The clip that chooses it.
    pub(crate) clip: Clip,
    /// The value of `kl_in_clip` that chooses it, if that is read.
    pub(crate) kl_in_clip: Option<bool>,
    /// Which bounds it reads.
    pub(crate) trust_region: TrustRegion,
    /// The loss of one unit, as the documentation prints it.
    pub(crate) loss: &'static str,
}
