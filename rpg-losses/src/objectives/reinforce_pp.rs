//! REINFORCE++: the KL penalty is part of the token rewards.

use crate::choices::AdvantageKind;
use crate::objectives::spec::{AdvantageRule, Defaults, Parts, Spec, TrustRegion};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    advantage_note: "from returns: each token's reward has `-beta*(lp_old - lp_ref)` added, and `R` \
                     belongs to the last; `A` comes from the sum of an unmasked token's and all later \
                     rewards (at the sequence levels: of all of them); or `batch_mean`",
    parts: Parts::Fixed {
        has_beta: true,
        trust_region: TrustRegion::Dual,
    },
    advantage_rule: AdvantageRule::RewardToGo,
    defaults: Defaults {
        advantage: AdvantageKind::BatchNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
