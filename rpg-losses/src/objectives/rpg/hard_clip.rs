//! The REINFORCE-style estimator with truncated importance weights.

use crate::choices::Clip;
use crate::clip::{truncation, truncation_flags};
use crate::objectives::rpg::differentiable::coefficient;
use crate::objectives::rpg::reinforce::coefficient_loss;
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::ratios::Ratios;
use crate::terms::{ClipBounds, ClipEvent, ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::Hard,
    kl_in_clip: None,
    trust_region: TrustRegion::Interval,
    loss: "`reinforce` with `w` clamped to `[1-eps_low, 1+eps_high]`; where that changes it, `u` is `log` \
           of the bound `- (lp_ref - lp_old)`",
};

/// The loss with truncated importance weights: `w` in the coefficient is clamped, and `log w` in `K`.
///
/// Remark F.2 of the paper. Shapes: `[B, U]`. Minimised. Every unit keeps a gradient.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let bounds = terms.coefficients.bounds;
    let constants = truncated(terms.ratios.clone(), bounds);
    UnitLosses {
        losses: coefficient_loss(constants, terms),
        clipped: truncation_flags(terms.ratios.w.clone(), bounds),
    }
}

/// The ratios with `w` clamped to `[1-eps_low, 1+eps_high]` and `log w` and `u` moved along with it.
///
/// Truncated importance sampling: the coefficient of a REINFORCE loss is bounded, its gradient kept.
/// Everything is a constant, as it is used under `SG`.
pub fn truncated<B: Backend>(ratios: Ratios<B>, bounds: ClipBounds) -> Ratios<B> {
    let ratios = ratios.detach(); // Truncated weights are used as coefficients only.
    // Outside the region `log w` is the logarithm of the bound; inside it is left as it was.
    let is_low = ratios.w.clone().lower_elem(bounds.low);
    let is_high = ratios.w.clone().greater_elem(bounds.high);
    let log_w = ratios
        .log_w
        .mask_fill(is_low, bounds.low.ln())
        .mask_fill(is_high, bounds.high.ln());
    Ratios {
        u: log_w.clone() - ratios.log_r.clone(),
        w: ratios.w.clamp(bounds.low, bounds.high),
        log_w,
        ..ratios
    }
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficient = coefficient(&truncated_unit(terms));
    ClosedForm {
        loss: -coefficient * terms.lp,
        grad: -coefficient,
        clip: truncation(terms.w, &terms.coefficients.bounds),
    }
}

#[inline]
fn truncated_unit<'a>(terms: &UnitTerms<'a>) -> UnitTerms<'a> {
    let bounds = &terms.coefficients.bounds;
    let bound = match truncation(terms.w, bounds) {
        ClipEvent::Low => bounds.low,
        ClipEvent::High => bounds.high,
        ClipEvent::Unclipped | ClipEvent::Dual => return *terms,
    };
    UnitTerms {
        w: bound,
        u: bound.ln() - terms.log_r,
        ..*terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ObjectiveConfig;

    #[test]
    fn the_logarithm_moves_with_the_weight() {
        let coefficients = ObjectiveConfig {
            eps_low: 0.5,
            eps_high: 0.5,
            ..Default::default()
        }
        .coefficients();
        let check = |w: f64, bound: f64, clip: ClipEvent| {
            let terms = UnitTerms {
                lp: -1.0,
                lp_old: -1.0 - w.ln(),
                w,
                u: w.ln() - 0.25,
                log_r: 0.25,
                r: 0.25_f64.exp(),
                y: 1.0,
                a: 1.0,
                coefficients: &coefficients,
            };
            let clipped = truncated_unit(&terms);
            assert_eq!(
                (clipped.w, closed_form(&terms).clip),
                (bound, clip),
                "w = {w}"
            );
            assert_eq!(clipped.u, bound.ln() - 0.25, "w = {w}");
            assert_eq!((clipped.lp, clipped.r), (terms.lp, terms.r));
        };
        check(0.25, 0.5, ClipEvent::Low);
        check(0.5, 0.5, ClipEvent::Unclipped);
        check(1.25, 1.25, ClipEvent::Unclipped);
        check(1.5, 1.5, ClipEvent::Unclipped);
        check(1.75, 1.5, ClipEvent::High);
    }
}
