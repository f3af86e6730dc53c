//! GRPO with the importance weight on its KL term (Section 2.2 of the paper): its gradient is `beta*w*u*grad lp`,
//! that of `urkl`.

use crate::choices::KlWeight;
use crate::objectives::grpo;
use crate::objectives::spec::{Defaults, Spec};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo + beta*w*k3`",
    defaults: Defaults {
        kl_weight: KlWeight::Full,
        ..grpo::SPEC.defaults
    },
    ..Spec::BASELINE
};
