//! DPPO with the total variation of two coins, `abs(p - q)`.

use crate::objectives::dppo;
use crate::objectives::spec::{Defaults, Spec};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-M*w*A`, `M = 0` where `A > 0`, `p - q > eps_high` and where `A < 0`, `q - p > eps_low`, with `p = exp(lp)`, \
           `q = exp(lp_old)`; with a `c`, `-M*SG(min(1, c/w))*w*A`",
    defaults: Defaults {
        eps_low: 0.15,
        eps_high: 0.15,
        ..dppo::DEFAULTS
    },
    ..dppo::SPEC
};

/// [`dppo::losses`] with `D = abs(p - q)`.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    dppo::losses(terms, |lp, lp_old| (lp.exp() - lp_old.exp()).abs())
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    dppo::closed_form(terms, |lp, lp_old| (lp.exp() - lp_old.exp()).abs())
}
