//! RLOO: PPO on leave-one-out advantages.

use crate::choices::{AdvantageKind, Aggregation};
use crate::objectives::spec::{Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    defaults: Defaults {
        token_aggregation: Aggregation::SeqMeanTokenSum,
        advantage: AdvantageKind::LeaveOneOut,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
