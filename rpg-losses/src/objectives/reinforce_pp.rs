//! REINFORCE++: the KL penalty is part of the token rewards.

use crate::choices::{AdvantageKind, KlPlacement};
use crate::objectives::spec::{AdvantageRule, Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    advantage_note: "over all tokens (at the sequence levels: responses), of `R` and the KL penalty of a token's \
                     own and all later rewards",
    advantage_rule: AdvantageRule::RewardToGo,
    defaults: Defaults {
        kl_placement: KlPlacement::Reward,
        advantage: AdvantageKind::BatchNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};
