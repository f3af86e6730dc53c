//! Dr. GRPO: the loss of GRPO, divided by constants and not by deviations and lengths.

use crate::choices::{AdvantageKind, Aggregation};
use crate::objectives::grpo;
use crate::objectives::spec::{Defaults, Spec};

pub(crate) use crate::objectives::grpo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    defaults: Defaults {
        token_aggregation: Aggregation::Constant,
        advantage: AdvantageKind::GroupMean,
        ..grpo::SPEC.defaults
    },
    ..grpo::SPEC
};
