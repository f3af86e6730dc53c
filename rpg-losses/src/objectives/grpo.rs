//! GRPO. The gradient of its KL term, `beta*(1 - exp(-u))`, lacks the importance weight: off policy it is that of
//! no divergence between the policy and the reference.

use crate::choices::{AdvantageKind, Aggregation, KlEstimator, KlPlacement, KlWeight};
use crate::objectives::spec::{Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo + beta*k3`",
    defaults: Defaults {
        kl_placement: KlPlacement::Loss,
        kl_estimator: KlEstimator::K3,
        kl_weight: KlWeight::None,
        token_aggregation: Aggregation::SeqMeanTokenMean,
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
