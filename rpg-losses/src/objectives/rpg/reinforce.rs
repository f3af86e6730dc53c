//! The REINFORCE-style estimator without a clip: a constant coefficient times the log-probability.

use crate::choices::Clip;
use crate::divergence::kl_component;
use crate::objectives::rpg::differentiable::coefficient;
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::ratios::Ratios;
use crate::terms::{ClipEvent, ClipFlags, ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::None,
    kl_in_clip: None,
    trust_region: TrustRegion::Open,
    loss: "`-SG(z*(w*A + beta*K))*lp`",
};

/// The unclipped loss, `-SG(z*(w*A + beta*K))*lp`.
///
/// Table 2 of the paper (Propositions F.3 and F.5, unnormalized), Propositions F.1 and F.4 (normalized). Shapes:
/// `[B, U]`. Minimised. Its gradient, as Proposition 4.1 has it, is
/// `-z*(w*A + beta*K)*grad lp`, the one of [`crate::objectives::rpg::differentiable`].
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    // The coefficient is under SG: the gradient of this estimator flows through `lp` alone.
    let constants = terms.ratios.clone().detach();
    UnitLosses {
        losses: coefficient_loss(constants, terms),
        clipped: ClipFlags::none(&terms.ratios.w),
    }
}

/// `-z*(w*A + beta*K)*lp` with `w` and `K` from ratios that are constants.
pub(crate) fn coefficient_loss<B: Backend>(constants: Ratios<B>, terms: &Terms<B>) -> Tensor<B, 2> {
    let coefficients = terms.coefficients;
    let kl = kl_component(coefficients.kl, &constants);
    let coefficient = constants.w * terms.advantages.clone() + kl * coefficients.beta;
    -(coefficient * coefficients.z * terms.ratios.lp.clone())
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficient = coefficient(terms);
    ClosedForm {
        loss: -coefficient * terms.lp,
        grad: -coefficient,
        clip: ClipEvent::Unclipped,
    }
}
