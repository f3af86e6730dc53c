//! REINFORCE++-baseline.

use crate::choices::{KlEstimator, KlPlacement, KlWeight};
use crate::objectives::spec::{AdvantageRule, Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo + beta*k2`",
    advantage_note: "(or what `advantage` says), then whitened over tokens: `(A - mean) / sqrt(variance + 1e-8)`",
    advantage_rule: AdvantageRule::ThenWhitened,
    defaults: Defaults {
        kl_placement: KlPlacement::Loss,
        kl_estimator: KlEstimator::K2,
        kl_weight: KlWeight::None,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
