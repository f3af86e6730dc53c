//! PPO.

use crate::clip::{dual_clip_unit, ppo_clip};
use crate::objectives::spec::Spec;
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`, below called `ppo`",
    ..Spec::BASELINE
};

/// PPO, `-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`: see [`ppo_clip`].
///
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    ppo_clip(
        terms.ratios.w.clone(),
        terms.advantages.clone(),
        terms.coefficients.bounds,
    )
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    dual_clip_unit(terms.w, terms.a, &terms.coefficients.bounds.without_dual())
}
