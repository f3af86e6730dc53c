//! CISPO.

use crate::choices::AdvantageKind;
use crate::clip::{truncation, truncation_flags};
use crate::objectives::spec::{Defaults, Parts, Spec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-SG(clip(w, 1-eps_low, 1+eps_high))*A*lp`",
    parts: Parts::Fixed {
        has_kl: false,
        trust_region: TrustRegion::Interval,
    },
    defaults: Defaults {
        // No lower bound: a weight is never below 0.
        eps_low: 1.0,
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};

/// CISPO, `-SG(clip(w, 1-eps_low, 1+eps_high))*A*lp`: the weight is truncated, the gradient kept.
///
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let bounds = terms.coefficients.bounds;
    // SG: the weight only scales the policy gradient.
    let w = terms.ratios.w.clone().detach();
    let weight = w.clone().clamp(bounds.low, bounds.high);
    UnitLosses {
        losses: -(weight * terms.advantages.clone() * terms.ratios.lp.clone()),
        clipped: truncation_flags(w, bounds),
    }
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let bounds = &terms.coefficients.bounds;
    let coefficient = terms.w.clamp(bounds.low, bounds.high) * terms.a;
    ClosedForm {
        loss: -coefficient * terms.lp,
        grad: -coefficient,
        clip: truncation(terms.w, bounds),
    }
}
