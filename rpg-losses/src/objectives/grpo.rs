//! GRPO.

use crate::choices::{AdvantageKind, Aggregation};
use crate::divergence::{k3, k3_unit};
use crate::objectives::ppo;
use crate::objectives::spec::{Defaults, Parts, Spec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo + beta*k3`",
    parts: Parts::Fixed {
        has_beta: true,
        trust_region: TrustRegion::Dual,
    },
    exponentiates_u: true,
    defaults: Defaults {
        token_aggregation: Aggregation::SeqMeanTokenMean,
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};

/// GRPO and Dr. GRPO, `ppo + beta*k3(exp(-u))`.
///
/// The gradient of the KL term, `beta*(1 - exp(-u))`, lacks the importance weight: off policy it is
/// that of no divergence between `pi` and the reference. Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let beta = terms.coefficients.beta;
    ppo::losses(terms).map(|ppo| ppo + k3(&terms.ratios) * beta)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let ppo = ppo::closed_form(terms);
    let beta = terms.coefficients.beta;
    ClosedForm {
        loss: ppo.loss + beta * k3_unit(terms),
        grad: ppo.grad + beta * (1.0 - terms.y),
        clip: ppo.clip,
    }
}
