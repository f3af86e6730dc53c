//! The KL term of PPO's family: one estimator, with or without an importance weight.

use crate::choices::{KlEstimator, KlWeight};
use crate::divergence::{k1, k2, k3, k3_unit};
use crate::ratios::Ratios;
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Which term is added to the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KlTerm {
    /// What is made of the log-ratio to the reference.
    pub estimator: KlEstimator,
    /// The factor in front of it.
    pub weight: KlWeight,
}

/// A kind's policy losses with its KL term, if it has one.
pub(crate) fn added<B: Backend>(policy: UnitLosses<B>, terms: &Terms<B>) -> UnitLosses<B> {
    match terms.coefficients.kl_term {
        None => policy,
        Some(term) => {
            let kl = losses(term, &terms.ratios) * terms.coefficients.beta;
            policy.map(|policy| policy + kl)
        }
    }
}

/// [`added`] of one unit.
#[inline(always)]
pub(crate) fn added_unit(policy: ClosedForm, terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    match coefficients.kl_term {
        None => policy,
        Some(term) => {
            let (loss, grad) = closed_form(term, terms);
            ClosedForm {
                loss: policy.loss + coefficients.beta * loss,
                grad: policy.grad + coefficients.beta * grad,
                clip: policy.clip,
            }
        }
    }
}

/// The term, per unit of `beta`. Shapes: `[B, U]`. Minimised.
///
/// | | `none` | `detached` | `full` |
/// | --- | --- | --- | --- |
/// | `k1` | `u` | `SG(w)*u` | `w*u` |
/// | `k2` | `u^2/2` | `SG(w)*u^2/2` | `w*u^2/2` |
/// | `k3` | `exp(-u) - 1 + u` | `SG(w)*(exp(-u) - 1 + u)` | `w*(exp(-u) - 1 + u)` |
pub fn losses<B: Backend>(term: KlTerm, ratios: &Ratios<B>) -> Tensor<B, 2> {
    let estimate = |ratios: &Ratios<B>| match term.estimator {
        KlEstimator::K1 => k1(ratios),
        KlEstimator::K2 => k2(ratios),
        KlEstimator::K3 => k3(ratios),
    };
    match term.weight {
        KlWeight::None => estimate(ratios),
        KlWeight::Detached => ratios.w.clone().detach() * estimate(ratios), // SG by its definition.
        KlWeight::Full if term.estimator == KlEstimator::K3 => {
            // The product rule gives `w*k3 + w*(1 - exp(-u)) = w*u` as well, in a sum whose large terms cancel.
            let constant = ratios.clone().detach(); // The slope is in the last factor alone.
            let slope = constant.w.clone() * constant.u.clone();
            constant.w.clone() * k3(&constant) + slope * (ratios.lp.clone() - constant.lp)
        }
        KlWeight::Full => ratios.w.clone() * estimate(ratios),
    }
}

/// [`losses`] of one unit, and its derivative in `lp`.
#[inline(always)]
pub(crate) fn closed_form(term: KlTerm, terms: &UnitTerms) -> (f64, f64) {
    let UnitTerms { w, u, y, .. } = *terms;
    let (estimate, slope, weighted_slope) = match term.estimator {
        KlEstimator::K1 => (u, 1.0, u + 1.0),
        KlEstimator::K2 => (0.5 * u * u, u, 0.5 * u * u + u),
        // d(w*k3) = w*k3 + w*(1 - y) = w*u: without the sum, in which a large y cancels.
        KlEstimator::K3 => (k3_unit(terms), 1.0 - y, u),
    };
    match term.weight {
        KlWeight::None => (estimate, slope),
        KlWeight::Detached => (w * estimate, w * slope),
        KlWeight::Full => (w * estimate, w * weighted_slope),
    }
}

/// The estimate of one token from its log-ratio to the reference alone, for rewards.
pub(crate) fn estimate(estimator: KlEstimator, u: f64) -> f64 {
    match estimator {
        KlEstimator::K1 => u,
        KlEstimator::K2 => 0.5 * u * u,
        KlEstimator::K3 => crate::formula::exp_clamped(-u) - 1.0 + u,
    }
}
