//! SAPO (soft adaptive policy optimization, arXiv 2511.20347): a gate in place of a clip.

use crate::choices::{AdvantageKind, Aggregation};
use crate::objectives::kl_term;
use crate::objectives::spec::{Defaults, Parts, Spec, TrustRegion};
use crate::terms::{ClipEvent, ClipFlags, ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-4/tau*sigmoid(tau*(w - 1))*A`, where `tau` is `tau_pos` if `A > 0`, else `tau_neg`",
    parts: Parts::Fixed {
        has_kl: true,
        trust_region: TrustRegion::Gate,
    },
    defaults: Defaults {
        token_aggregation: Aggregation::SeqMeanTokenMean,
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};

/// SAPO, `-4/tau*g*A` with the gate `g = sigmoid(tau*(w - 1))` and `tau = tau_pos` where `A > 0`, else `tau_neg`.
///
/// Its gradient is `-4*g*(1 - g)*w*A*grad lp`: that of `-w*A` at `w = 1`, whatever `tau` is, and less on both
/// sides of it. Shapes: `[B, U]`. Minimised. Nothing is clipped.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let w = &terms.ratios.w;
    let gated = |tau: f64| gate((w.clone() - 1.0) * tau) * (4.0 / tau);
    let is_positive = terms.advantages.clone().greater_elem(0.0);
    let (above, below) = (
        gated(terms.coefficients.tau_pos),
        gated(terms.coefficients.tau_neg),
    );
    let losses = UnitLosses {
        losses: -(below.mask_where(is_positive, above) * terms.advantages.clone()),
        clipped: ClipFlags::none(w),
    };
    kl_term::added(losses, terms)
}

/// `sigmoid(x)`, as `1 - sigmoid(-x)` where `x > 0`: close to 1 a sigmoid has lost the digits of its slope.
fn gate<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let is_above = x.clone().greater_elem(0.0);
    let above = -sigmoid(-x.clone()) + 1.0;
    sigmoid(x).mask_where(is_above, above)
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let coefficients = terms.coefficients;
    let tau = if terms.a > 0.0 {
        coefficients.tau_pos
    } else {
        coefficients.tau_neg
    };
    let x = tau * (terms.w - 1.0);
    // The gate and what it lacks to 1, each with all its digits.
    let (g, rest) = (1.0 / (1.0 + (-x).exp()), 1.0 / (1.0 + x.exp()));
    let gated = ClosedForm {
        loss: -4.0 / tau * g * terms.a,
        grad: -4.0 * g * rest * terms.w * terms.a,
        clip: ClipEvent::Unclipped,
    };
    kl_term::added_unit(gated, terms)
}
