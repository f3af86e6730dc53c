//! REINFORCE++-baseline.

use crate::divergence::k2;
use crate::objectives::ppo;
use crate::objectives::spec::{AdvantageRule, Parts, Spec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo + beta*k2`",
    advantage_note: "(or what `advantage` says), then whitened over tokens: `(A - mean) / sqrt(variance + 1e-8)`",
    parts: Parts::Fixed {
        has_beta: true,
        trust_region: TrustRegion::Dual,
    },
    advantage_rule: AdvantageRule::ThenWhitened,
    ..Spec::BASELINE
};

/// REINFORCE++-baseline, `ppo + beta*k2`; the KL term has gradient `beta*u*grad lp`.
///
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let beta = terms.coefficients.beta;
    ppo::losses(terms).map(|ppo| ppo + k2(&terms.ratios) * beta)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let ppo = ppo::closed_form(terms);
    let (beta, u) = (terms.coefficients.beta, terms.u);
    ClosedForm {
        loss: ppo.loss + beta * 0.5 * u * u,
        grad: ppo.grad + beta * u,
        clip: ppo.clip,
    }
}
