//! Algorithm 1: the differentiable estimator under dual clip, with the KL term inside.

use crate::choices::Clip;
use crate::clip;
use crate::divergence::{component_over_weight, kl_component_over_weight};
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::Dual,
    kl_in_clip: Some(true),
    trust_region: TrustRegion::Dual,
    loss: "with `A' = SG(A + beta*K/w)`: `L = max(-w*A', -clip(w, 1-eps_low, 1+eps_high)*A')`, where \
           `A' < 0` `min(L, -c*A')`, times `z`",
};

/// The surrogate under dual clip with the KL term inside (Section 3.3, Algorithm 1): `z*dual_clip(w, A')`.
///
/// `A' = SG(A + beta*K/w)`. Inside the region its gradient is that of
/// [`crate::objectives::rpg::differentiable`]. The stop-gradient is that of Appendix G.2;
/// Algorithm 1 as printed (line 32) lets gradient through `A'`. In expectation over a normalized policy and
/// unclipped, for `rkl` and `urkl` this adds `beta*w*grad lp`, whose mean is 0: harmless but for its variance,
/// and but for clipped units, which get a push that they should not get. For `fkl` and `ufkl` the regularizer is
/// lost altogether: `-w*A' = -w*A - beta` where `r = 1`, and the expected gradient of the KL term is 0.
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    let kl = kl_component_over_weight(coefficients.kl, &terms.ratios) * coefficients.beta;
    // With gradient through `A'` the derivative of `w*A'` would count the KL term twice.
    let regularized = (terms.advantages.clone() + kl).detach();
    clip::dual_clip(terms.ratios.w.clone(), regularized, coefficients.bounds)
        .map(|losses| losses * coefficients.z)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    let regularized = terms.a + coefficients.beta * component_over_weight(terms);
    let clipped = clip::dual_clip_unit(terms.w, regularized, &coefficients.bounds);
    ClosedForm {
        loss: coefficients.z * clipped.loss,
        grad: coefficients.z * clipped.grad,
        clip: clipped.clip,
    }
}
