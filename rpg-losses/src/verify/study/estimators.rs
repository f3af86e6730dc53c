//! The estimators that are studied.

use crate::choices::{Aggregation, Clip, Divergence, Estimator, Level};
use crate::config::ObjectiveConfig;
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use std::fmt;

/// Identifies an estimator of a study; displayed, its name in tables and plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudyEstimator {
    /// RPG with this divergence, level and clip.
    Rpg(Divergence, Level, Clip),
    /// A baseline.
    Baseline(Kind),
}

impl fmt::Display for StudyEstimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpg(kl, level, Clip::None) => write!(f, "rpg {kl}, {level}, no clip"),
            Self::Rpg(kl, level, clip) => write!(f, "rpg {kl}, {level}, {clip} clip"),
            Self::Baseline(kind) => write!(f, "{kind}"),
        }
    }
}

/// RPG with this divergence, level and clip; token losses are summed over a response.
pub(super) fn rpg(kl: Divergence, level: Level, clip: Clip, beta: f64) -> ObjectiveConfig {
    let is_reinforce = Form::clips(Estimator::Reinforce).any(|other| other == clip);
    ObjectiveConfig {
        kl,
        estimator: if is_reinforce {
            Estimator::Reinforce
        } else {
            Estimator::Differentiable
        },
        clip,
        beta,
        eps_low: 0.2,
        eps_high: 0.28,
        level,
        aggregation: if level.is_sequence() {
            Aggregation::SeqMean
        } else {
            Aggregation::SeqMeanTokenSum
        },
        ..Default::default()
    }
}

/// Every estimator with the divergence it claims and its configuration.
pub(super) fn estimators(beta: f64) -> Vec<(StudyEstimator, Divergence, ObjectiveConfig)> {
    use Divergence::{Fkl, Rkl, Ufkl, Urkl};
    let rpg = |kl: Divergence, level: Level, clip: Clip| {
        let config = rpg(kl, level, clip, beta);
        (StudyEstimator::Rpg(kl, level, clip), kl, config)
    };
    let baseline = |kind: Kind, claims: Divergence, eps_high: f64| {
        let config = ObjectiveConfig {
            beta,
            eps_high,
            aggregation: Aggregation::SeqMeanTokenSum,
            ..ObjectiveConfig::for_kind(kind)
        };
        (StudyEstimator::Baseline(kind), claims, config)
    };
    let divergences = [Fkl, Rkl, Ufkl, Urkl];
    let mut list = Vec::new();
    list.extend(divergences.map(|kl| rpg(kl, Level::Sequence, Clip::None)));
    list.extend(divergences.map(|kl| rpg(kl, Level::Token, Clip::None)));
    list.extend(divergences.map(|kl| rpg(kl, Level::Token, Clip::Rpg)));
    // Log-probabilities are negative here, so that both clips act on the same units: one divergence will do.
    list.push(rpg(Urkl, Level::Token, Clip::Dual));
    list.push(rpg(Urkl, Level::Token, Clip::Truncated));
    list.push(rpg(Urkl, Level::Token, Clip::Hard));
    list.push(baseline(Kind::Grpo, Rkl, 0.2));
    list.push(baseline(Kind::GrpoCorrected, Rkl, 0.2));
    list.push(baseline(Kind::Dapo, Divergence::None, 0.28));
    list.push(baseline(Kind::ReinforcePp, Rkl, 0.2));
    list.push(baseline(Kind::ReinforcePpBaseline, Rkl, 0.2));
    list
}
