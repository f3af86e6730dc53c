//! The differentiable estimator with only the reward under dual clip.

use crate::choices::Clip;
use crate::clip;
use crate::divergence::{component, kl_surrogate, surrogate};
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::Dual,
    kl_in_clip: Some(false),
    trust_region: TrustRegion::Dual,
    loss: "that with `A' = A`, plus `z*beta*S`",
};

/// The surrogate with only the reward under dual clip: `z*(dual_clip(w, A) + beta*S)`.
///
/// The KL term keeps its gradient wherever `w` is. Appendix G.2 of the paper allows `A' = A` for `fkl` and `ufkl`,
/// Appendix G.1 as an approximation for all; it is what the authors' published trainer runs. Shapes: `[B, U]`.
/// Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    let (w, advantages) = (terms.ratios.w.clone(), terms.advantages.clone());
    clip::dual_clip(w, advantages, coefficients.bounds).map(|reward| {
        let kl = kl_surrogate(coefficients.kl, &terms.ratios) * coefficients.beta;
        (reward + kl) * coefficients.z
    })
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    let reward = clip::dual_clip_unit(terms.w, terms.a, &coefficients.bounds);
    ClosedForm {
        loss: coefficients.z * (reward.loss + coefficients.beta * surrogate(terms)),
        grad: coefficients.z * (reward.grad - coefficients.beta * component(terms)),
        clip: reward.clip,
    }
}
