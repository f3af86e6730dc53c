//! GMPO (geometric-mean policy optimization, arXiv 2507.20673): the geometric mean of clipped weights.

use crate::choices::{AdvantageKind, Aggregation};
use crate::objectives::kl_term;
use crate::objectives::spec::{Defaults, Parts, Spec, TrustRegion, WeightOf};
use crate::terms::{ClipEvent, ClipFlags, ClosedForm, Coefficients, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "`-w*A` with `w = SG(W)*exp(lp - SG(lp))`, `W` the geometric mean over the response of `exp(lp - lp_old)`, clipped \
           at `exp(eps_high)` where `A > 0`, at `exp(-eps_low)` where `A < 0`; a clipped token has no gradient",
    parts: Parts::Fixed {
        has_kl: true,
        trust_region: TrustRegion::Interval,
    },
    weight_of: WeightOf::ClippedResponse,
    defaults: Defaults {
        eps_low: 0.4,
        eps_high: 0.4,
        token_aggregation: Aggregation::SeqMeanTokenMean,
        advantage: AdvantageKind::GroupNorm,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};

/// GMPO, `-W*A`: each token has its response's weight with the slope of its own `lp`, `W = SG(W)*exp(lp - SG(lp))`.
///
/// `W` is the geometric mean of the weights after [`clipped_log_weights`]. The mean over a response of the losses of
/// its tokens, and its gradient, are then those of the paper's loss, one per response:
/// `-A*exp(mean of the clipped log-weights)`. Shapes: `[B, T]`. Minimised. Clipped tokens have no gradient.
pub fn losses<B: Backend>(terms: &Terms<B>) -> UnitLosses<B> {
    let coefficients = terms.coefficients;
    let ratios = &terms.ratios;
    // What is clipped is a choice, not a function to differentiate.
    let own = ratios.lp.clone().detach() - ratios.lp_old.clone();
    let advantages = terms.advantages.clone();
    let low = (own.clone().lower_elem(-coefficients.eps_low))
        .bool_and(advantages.clone().lower_elem(0.0));
    let high =
        (own.greater_elem(coefficients.eps_high)).bool_and(advantages.clone().greater_elem(0.0));
    let losses = -(ratios.w.clone() * advantages);
    // The weight of a clipped token is a bound, which does not move with `lp`.
    let constant = losses.clone().detach();
    let losses = UnitLosses {
        losses: losses.mask_where(low.clone().bool_or(high.clone()), constant),
        clipped: ClipFlags {
            low,
            high,
            ..ClipFlags::none(&ratios.w)
        },
    };
    kl_term::added(losses, terms)
}

/// `min(log w, eps_high)` where `A > 0`, `max(log w, -eps_low)` where `A < 0`. Shapes: `[B, T]`.
pub fn clipped_log_weights<B: Backend>(
    log_w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    coefficients: &Coefficients,
) -> Tensor<B, 2> {
    let high = log_w.clone().clamp_max(coefficients.eps_high);
    let low = log_w.clone().clamp_min(-coefficients.eps_low);
    log_w
        .mask_where(advantages.clone().greater_elem(0.0), high)
        .mask_where(advantages.lower_elem(0.0), low)
}

/// [`clipped_log_weights`] of one token.
#[inline(always)]
pub(crate) fn clipped_log_weight(log_w: f64, a: f64, coefficients: &Coefficients) -> f64 {
    match clip_event(log_w, a, coefficients) {
        ClipEvent::Low => -coefficients.eps_low,
        ClipEvent::High => coefficients.eps_high,
        ClipEvent::Unclipped | ClipEvent::Dual => log_w,
    }
}

#[inline(always)]
fn clip_event(log_w: f64, a: f64, coefficients: &Coefficients) -> ClipEvent {
    if a < 0.0 && log_w < -coefficients.eps_low {
        ClipEvent::Low
    } else if a > 0.0 && log_w > coefficients.eps_high {
        ClipEvent::High
    } else {
        ClipEvent::Unclipped
    }
}

#[inline(always)]
pub(crate) fn closed_form(terms: &UnitTerms) -> ClosedForm {
    let clip = clip_event(terms.lp - terms.lp_old, terms.a, terms.coefficients);
    let loss = -terms.w * terms.a;
    let grad = if clip == ClipEvent::Unclipped {
        loss
    } else {
        0.0
    };
    kl_term::added_unit(ClosedForm { loss, grad, clip }, terms)
}
