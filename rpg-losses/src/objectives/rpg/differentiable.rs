//! The fully differentiable estimator without a clip.

use crate::choices::Clip;
use crate::divergence::{component, kl_surrogate, surrogate};
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::terms::{ClipEvent, ClipFlags, ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::None,
    kl_in_clip: None,
    trust_region: TrustRegion::Open,
    loss: "`z*(-w*A + beta*S)`",
};

/// The unclipped surrogate, `z*(-w*A + beta*S)` with `S` of [`kl_surrogate`].
///
/// Tables 1 and 4 of the paper, Propositions 3.2, 3.6, E.1 and E.3. Shapes: `[B, U]`. Minimised. Its gradient is
/// `-z*(w*A + beta*K)*grad lp`, so that its expectation under the sampling policy has the gradient
/// of `-J`.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    let reward = -(terms.ratios.w.clone() * terms.advantages.clone());
    let kl = kl_surrogate(coefficients.kl, &terms.ratios) * coefficients.beta;
    UnitLosses {
        losses: (reward + kl) * coefficients.z,
        clipped: ClipFlags::none(&terms.ratios.w),
    }
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    ClosedForm {
        loss: coefficients.z * (-terms.w * terms.a + coefficients.beta * surrogate(terms)),
        grad: -coefficient(terms),
        clip: ClipEvent::Unclipped,
    }
}

/// `z*(w*A + beta*K)`.
#[inline]
pub(crate) fn coefficient(terms: &UnitTerms) -> f64 {
    let coefficients = terms.coefficients;
    coefficients.z * (terms.w * terms.a + coefficients.beta * component(terms))
}
