//! PPO.

use crate::clip::{dual_clip, dual_clip_unit};
use crate::objectives::spec::Spec;
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`; with a `c`, where `A < 0` no more than `-c*A`; \
           below called `ppo`",
    ..Spec::BASELINE
};

/// PPO, `-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`, and [`dual_clip`] where `c` is set.
///
/// Shapes: `[B, U]`. Minimised.
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
