//! DPPO with the KL divergence of two coins, `KL(old, pi)`.

use crate::objectives::dppo::{self, MIN_OTHERS};
use crate::objectives::spec::{Defaults, Spec};
use crate::ratios::MAX_LOG_RATIO;
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "that with `M = 0` where `D > eps_high` for `A > 0`, `p > q`, and `D > eps_low` for `A < 0`, `p < q`, with \
           `D = q*log(q/p) + (1 - q)*log((1 - q)/(1 - p))`",
    defaults: Defaults {
        eps_low: 0.05,
        eps_high: 0.05,
        ..dppo::DEFAULTS
    },
    ..dppo::SPEC
};

/// [`dppo::losses`] with `D = q*log(q/p) + (1 - q)*log((1 - q)/(1 - p))`.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    dppo::losses(terms, |lp, lp_old| {
        let others = (log_others(lp_old.clone()) - log_others(lp.clone())) * others(lp_old.clone());
        lp_old.clone().exp() * (lp_old - lp) + others
    })
}

/// `1 - exp(x)`, which close to 0 keeps its digits: `-2*exp(x/2)*sinh(x/2)`. Below -40 it is 1, and `sinh` large.
fn others<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let half = x.clamp_min(-2.0 * MAX_LOG_RATIO) * 0.5;
    -(half.clone().exp() * half.sinh()) * 2.0
}

fn log_others<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    others(x).clamp_min(MIN_OTHERS).log()
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    dppo::closed_form(terms, |lp, lp_old| {
        let others = |x: f64| -x.exp_m1();
        let log_others = |x: f64| others(x).max(MIN_OTHERS).ln();
        lp_old.exp() * (lp_old - lp) + others(lp_old) * (log_others(lp_old) - log_others(lp))
    })
}
