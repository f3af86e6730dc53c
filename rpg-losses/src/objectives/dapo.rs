//! DAPO: PPO under dual clip, with bounds of its own.

use crate::choices::AdvantageKind;
use crate::objectives::spec::{Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    defaults: Defaults {
        eps_high: 0.28,
        c: Some(3.0),
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
