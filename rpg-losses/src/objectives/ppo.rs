//! PPO, and with a KL term all of its family.

use crate::clip::{dual_clip, dual_clip_unit};
use crate::objectives::kl_term;
use crate::objectives::spec::Spec;
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`; with a `c`, where `A < 0` no more than `-c*A`; \
           below called `ppo`",
    ..Spec::BASELINE
};

/// PPO, `-min(w*A, clip(w, 1-eps_low, 1+eps_high)*A)`, with [`dual_clip`] where `c` is set, and with
/// `beta` times the [`kl_term`] where the loss has one.
///
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let ppo = dual_clip(
        terms.ratios.w.clone(),
        terms.advantages.clone(),
        terms.coefficients.bounds,
    );
    kl_term::added(ppo, terms)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let ppo = dual_clip_unit(terms.w, terms.a, &terms.coefficients.bounds);
    kl_term::added_unit(ppo, terms)
}
