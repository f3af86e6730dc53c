//! The REINFORCE-style estimator whose coefficient is clipped as under dual clip.

use crate::choices::Clip;
use crate::clip::{dual_clip, dual_clip_unit};
use crate::divergence::{component_over_weight, kl_component_over_weight};
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::Truncated,
    kl_in_clip: None,
    trust_region: TrustRegion::Dual,
    loss: "with `A' = A + beta*K/w`: `-SG(z*w'*A')*lp`, where `w' = min(w, 1+eps_high)` if `A' >= 0`, else \
           `min(max(w, 1-eps_low), c)`",
};

/// Equation 4.1 with the bounds of Appendix G.1: `-SG(z*w'*A')*lp` with `A' = A + beta*K/w`.
///
/// `w'` is `min(w, 1+eps_high)` where `A' >= 0`, else `min(max(w, 1-eps_low), c)`. The coefficient is clipped as
/// under [`dual_clip`], and the gradient is always kept: [`crate::objectives::rpg::rpg_clip`] drops it, and
/// [`crate::objectives::rpg::hard_clip`] clips on both sides whatever the sign. Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    // The coefficient is under SG: gradient flows through `lp` alone.
    let ratios = terms.ratios.clone().detach();
    let kl = kl_component_over_weight(coefficients.kl, &ratios) * coefficients.beta;
    let regularized = terms.advantages.clone().detach() + kl;
    let lp = terms.ratios.lp.clone();
    // What dual clip loses is `-w'*A'`.
    dual_clip(ratios.w, regularized, coefficients.bounds).map(|losses| losses * coefficients.z * lp)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    let regularized = terms.a + coefficients.beta * component_over_weight(terms);
    let clipped = dual_clip_unit(terms.w, regularized, &coefficients.bounds);
    let coefficient = coefficients.z * clipped.loss;
    ClosedForm {
        loss: coefficient * terms.lp,
        grad: coefficient,
        clip: clipped.clip,
    }
}
