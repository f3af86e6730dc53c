//! DAPO.

use crate::choices::AdvantageKind;
use crate::clip::{dual_clip, dual_clip_unit};
use crate::objectives::spec::{Defaults, Parts, Spec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo`, where `A < 0` no more than `-c*A`",
    parts: Parts::Fixed {
        has_beta: false,
        trust_region: TrustRegion::Dual,
    },
    defaults: Defaults {
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};

/// DAPO: [`dual_clip`] with `eps_high > eps_low` and no KL term. Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    dual_clip(
        terms.ratios.w.clone(),
        terms.advantages.clone(),
        terms.coefficients.bounds,
    )
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    dual_clip_unit(terms.w, terms.a, &terms.coefficients.bounds)
}
