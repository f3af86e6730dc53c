//! Algorithm 2: the REINFORCE-style estimator under RPG-Style Clip.

use crate::choices::Clip;
use crate::clip::clipped_weight;
use crate::divergence::{component, kl_component};
use crate::objectives::spec::{FormSpec, TrustRegion};
use crate::terms::{ClipEvent, ClipFlags, ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const FORM: FormSpec = FormSpec {
    clip: Clip::Rpg,
    kl_in_clip: None,
    trust_region: TrustRegion::Dual,
    loss: "RPG-Style Clip (Algorithm 2), by cases",
};

/// The loss under RPG-Style Clip (Algorithm 2), for the REINFORCE estimator.
///
/// With `l = -lp` and `A' = A + beta*K/w`, all coefficients under `SG`, times `z`:
///
/// | case | where | loss | gradient |
/// | --- | --- | --- | --- |
/// | `A'*l >= 0` | `w < 1+eps_high` | `SG(w*A')*l` | yes |
/// |             | else | `SG((A*(1+eps_high) + beta*K)*l)` | 0 |
/// | `A'*l < 0`  | `w <= 1-eps_low` | `SG((A*(1-eps_low) + beta*K)*l)` | 0 |
/// |             | `1-eps_low < w < c` | `SG(w*A')*l` | yes |
/// |             | `w >= c` | `SG((A*c + beta*K)*l)` | 0 |
///
/// Shapes: `[B, U]`. Minimised.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    let bounds = coefficients.bounds;
    let l = -terms.ratios.lp.clone();
    // The coefficients and the choice of the case are under SG in Algorithm 2.
    let ratios = terms.ratios.clone().detach();
    let advantages = terms.advantages.clone().detach();
    let kl = kl_component(coefficients.kl, &ratios) * coefficients.beta;

    // `w > 0`, so `A'*l` has the sign of `(w*A + beta*K)*l`, which needs no division by `w`.
    let coefficient = ratios.w.clone() * advantages.clone() + kl.clone();
    let is_negative = (coefficient.clone() * -ratios.lp).lower_elem(0.0);
    let w = ratios.w;
    let clipped = ClipFlags {
        low: (w.clone().lower_equal_elem(bounds.low)).bool_and(is_negative.clone()),
        high: (w.clone().greater_equal_elem(bounds.high)).bool_and(is_negative.clone().bool_not()),
        dual: (w.clone().greater_equal_elem(bounds.dual)).bool_and(is_negative),
        ..ClipFlags::none(&w)
    };

    let kept = coefficient * l.clone();
    // A clipped unit has a loss but no gradient: the weight in front of `A` is the bound.
    let at_bound = |bound: f64| (advantages.clone() * bound + kl.clone()) * l.clone().detach();
    let losses = kept
        .mask_where(clipped.high.clone(), at_bound(bounds.high))
        .mask_where(clipped.low.clone(), at_bound(bounds.low))
        .mask_where(clipped.dual.clone(), at_bound(bounds.dual));
    UnitLosses {
        losses: losses * coefficients.z,
        clipped,
    }
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    let (w, a) = (terms.w, terms.a);
    let bounds = &coefficients.bounds;
    let l = -terms.lp;
    let kl = coefficients.beta * component(terms);
    let coefficient = w * a + kl;
    let is_positive = coefficient * l >= 0.0;
    let high = is_positive && w >= bounds.high;
    let dual = !is_positive && w >= bounds.dual;
    let low = !is_positive && w <= bounds.low;
    let (weight, clip) = clipped_weight(w, (low, high, dual), bounds);
    let grad = if clip == ClipEvent::Unclipped {
        -coefficients.z * coefficient
    } else {
        0.0
    };
    ClosedForm {
        loss: coefficients.z * (a * weight + kl) * l,
        grad,
        clip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::Divergence;
    use crate::config::ObjectiveConfig;

    /// Weights just below, exactly on and just above the bounds 0.5, 1.5 and 3.
    #[test]
    fn the_bounds_are_outside() {
        let coefficients = ObjectiveConfig {
            kl: Divergence::Ufkl,
            beta: 0.5,
            z: 2.0,
            eps_low: 0.5,
            eps_high: 0.5,
            c: Some(3.0),
            ..Default::default()
        }
        .coefficients();
        // r = 1, so that K = 1 - w; l = 0.25.
        let check = |w: f64, a: f64, bound: f64, clip: ClipEvent| {
            let terms = UnitTerms {
                lp: -0.25,
                lp_old: -0.25 - w.ln(),
                w,
                u: w.ln(),
                log_r: 0.0,
                r: 1.0,
                y: 1.0 / w,
                a,
                coefficients: &coefficients,
            };
            let coefficient = 2.0 * (bound * a + 0.5 * (1.0 - w));
            let grad = if clip == ClipEvent::Unclipped {
                -coefficient
            } else {
                0.0
            };
            let loss = coefficient * 0.25;
            let expected = ClosedForm { loss, grad, clip };
            assert_eq!(closed_form(&terms), expected, "w = {w}, A = {a}");
        };
        check(1.5 - 1e-9, 8.0, 1.5 - 1e-9, ClipEvent::Unclipped);
        check(1.5, 8.0, 1.5, ClipEvent::High);
        check(4.0, 8.0, 1.5, ClipEvent::High);
        check(0.25, 8.0, 0.25, ClipEvent::Unclipped);
        check(0.5, -8.0, 0.5, ClipEvent::Low);
        check(0.25, -8.0, 0.5, ClipEvent::Low);
        check(0.5 + 1e-9, -8.0, 0.5 + 1e-9, ClipEvent::Unclipped);
        check(2.0, -8.0, 2.0, ClipEvent::Unclipped);
        check(3.0, -8.0, 3.0, ClipEvent::Dual);
        check(4.0, -8.0, 3.0, ClipEvent::Dual);
        // A' = A + beta*K/w = 0.5 - 0.5*3/4 > 0, although beta*K < 0.
        check(4.0, 0.5, 1.5, ClipEvent::High);
        // A' = 0.25 - 0.5*3/4 < 0, although A > 0: the sign that counts is that of A'.
        check(4.0, 0.25, 3.0, ClipEvent::Dual);
    }
}
