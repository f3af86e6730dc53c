//! GRPO with the importance weight on its KL term.

use crate::divergence::{k3, k3_unit};
use crate::objectives::spec::Spec;
use crate::objectives::{grpo, ppo};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo + beta*w*k3`",
    ..grpo::SPEC
};

/// GRPO with the importance weight restored, `ppo + beta*w*k3(exp(-u))`.
///
/// Section 2.2 of the paper. `w*k3` has the gradient `w*u*grad lp`, that of `urkl`.
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let beta = terms.coefficients.beta;
    ppo::losses(terms).map(|ppo| {
        let lp = terms.ratios.lp.clone();
        // The product rule gives `w*k3 + w*(1 - exp(-u)) = w*u` as well, in a sum whose large terms cancel.
        let constant = terms.ratios.clone().detach(); // The slope is in the last factor alone.
        let slope = constant.w.clone() * constant.u.clone();
        let kl = constant.w.clone() * k3(&constant) + slope * (lp - constant.lp);
        ppo + kl * beta
    })
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let ppo = ppo::closed_form(terms);
    let UnitTerms { w, u, .. } = *terms;
    let beta = terms.coefficients.beta;
    ClosedForm {
        loss: ppo.loss + beta * w * k3_unit(terms),
        // d(w*k3) = w*k3 + w*(1 - y) = w*u: without the sum, in which a large y cancels.
        grad: ppo.grad + beta * w * u,
        clip: ppo.clip,
    }
}
