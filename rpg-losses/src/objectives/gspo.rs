//! GSPO: PPO on the length-normalized ratio of the whole response.

use crate::choices::{AdvantageKind, Level};
use crate::objectives::spec::{Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    defaults: Defaults {
        eps_low: 3e-4,
        eps_high: 4e-4,
        level: Level::SequenceNorm,
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
