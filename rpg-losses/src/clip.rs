//! Trust regions that several objectives share: what happens to units whose weight has moved too far.

use crate::terms::{ClipBounds, ClipEvent, ClipFlags, ClosedForm, UnitLosses};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The clipped surrogate of PPO, `max(-w*A, -clip(w, 1-eps_low, 1+eps_high)*A)`.
///
/// Shapes: `[B, U]` each. Minimised. Gradient `-w*A` inside the region, bounds included, and where
/// clipping would make the loss smaller; 0 elsewhere. `bounds.dual` is not read.
pub fn ppo_clip<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> UnitLosses<B> {
    let clipped = dual_clip_flags(w.clone(), advantages.clone(), bounds.without_dual());
    UnitLosses {
        losses: ppo_losses(w, advantages, bounds),
        clipped,
    }
}

/// Dual clip (Algorithm 1): [`ppo_clip`], and where `A' < 0` no more than `-c*A'`.
///
/// `advantages` is `A' = SG(A + beta*K/w)` where the KL term is clipped too, else `A`.
/// Shapes: `[B, U]` each. Minimised. Gradient `-w*A'` for `A' >= 0` and `w <= 1+eps_high`, and for
/// `A' < 0` and `1-eps_low <= w <= c`; 0 elsewhere.
pub fn dual_clip<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> UnitLosses<B> {
    if bounds.dual.is_infinite() {
        return ppo_clip(w, advantages, bounds); // An infinite bound times an advantage of 0 is no number.
    }
    let clipped = dual_clip_flags(w.clone(), advantages.clone(), bounds);
    let loss = ppo_losses(w, advantages.clone(), bounds);
    let bound = -(advantages.clone() * bounds.dual);
    let is_negative = advantages.lower_elem(0.0);
    let bounded = loss.clone().min_pair(bound);
    UnitLosses {
        losses: loss.mask_where(is_negative, bounded),
        clipped,
    }
}

/// Which weights lie outside `[1-eps_low, 1+eps_high]`, as truncation sees them.
pub fn truncation_flags<B: Backend>(w: Tensor<B, 2>, bounds: ClipBounds) -> ClipFlags<B> {
    ClipFlags {
        low: w.clone().lower_elem(bounds.low),
        high: w.clone().greater_elem(bounds.high),
        ..ClipFlags::none(&w)
    }
}

fn ppo_losses<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> Tensor<B, 2> {
    let unclipped = -(w.clone() * advantages.clone());
    let clipped = -(w.clamp(bounds.low, bounds.high) * advantages);
    // On a tie `max_pair` keeps its first argument, and with it the gradient.
    unclipped.max_pair(clipped)
}

fn dual_clip_flags<B: Backend>(
    w: Tensor<B, 2>,
    advantages: Tensor<B, 2>,
    bounds: ClipBounds,
) -> ClipFlags<B> {
    let is_negative = advantages.clone().lower_elem(0.0);
    ClipFlags {
        low: w
            .clone()
            .lower_elem(bounds.low)
            .bool_and(is_negative.clone()),
        high: w
            .clone()
            .greater_elem(bounds.high)
            .bool_and(advantages.greater_elem(0.0)),
        dual: (w.clone().greater_elem(bounds.dual)).bool_and(is_negative),
        ..ClipFlags::none(&w)
    }
}

/// [`dual_clip`] of one unit.
#[inline(always)]
pub(crate) fn dual_clip_unit(w: f64, a: f64, bounds: &ClipBounds) -> ClosedForm {
    let low = a < 0.0 && w < bounds.low;
    let high = a > 0.0 && w > bounds.high;
    let dual = a < 0.0 && w > bounds.dual;
    let (weight, clip) = clipped_weight(w, (low, high, dual), bounds);
    let grad = if clip == ClipEvent::Unclipped {
        -w * a
    } else {
        0.0
    };
    ClosedForm {
        loss: -weight * a,
        grad,
        clip,
    }
}

/// The weight that takes the place of `w`, and why.
#[inline(always)]
pub(crate) fn clipped_weight(
    w: f64,
    (low, high, dual): (bool, bool, bool),
    bounds: &ClipBounds,
) -> (f64, ClipEvent) {
    // Selections, not jumps: the branches are as good as random.
    let (weight, clip) = if low {
        (bounds.low, ClipEvent::Low)
    } else {
        (w, ClipEvent::Unclipped)
    };
    let (weight, clip) = if high {
        (bounds.high, ClipEvent::High)
    } else {
        (weight, clip)
    };
    if dual {
        (bounds.dual, ClipEvent::Dual)
    } else {
        (weight, clip)
    }
}

/// Where truncation acts on a weight.
#[inline]
pub(crate) fn truncation(w: f64, bounds: &ClipBounds) -> ClipEvent {
    if w < bounds.low {
        ClipEvent::Low
    } else if w > bounds.high {
        ClipEvent::High
    } else {
        ClipEvent::Unclipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights just below, exactly on and just above the bounds 0.5, 1.5 and 3.
    #[test]
    fn dual_clip_keeps_its_bounds() {
        let bounds = ClipBounds::new(0.5, 0.5, 3.0);
        let check = |w: f64, a: f64, (loss, grad, clip): (f64, f64, ClipEvent)| {
            let expected = ClosedForm { loss, grad, clip };
            assert_eq!(dual_clip_unit(w, a, &bounds), expected, "w = {w}, A = {a}");
        };
        for a in [2.0, -2.0] {
            for w in [0.5, 1.0, 1.5] {
                check(w, a, (-w * a, -w * a, ClipEvent::Unclipped));
            }
        }
        check(0.25, 2.0, (-0.5, -0.5, ClipEvent::Unclipped));
        check(1.5 + 1e-9, 2.0, (-3.0, 0.0, ClipEvent::High));
        check(9.0, 2.0, (-3.0, 0.0, ClipEvent::High));
        check(0.5 - 1e-9, -2.0, (1.0, 0.0, ClipEvent::Low));
        check(3.0, -2.0, (6.0, 6.0, ClipEvent::Unclipped));
        check(3.0 + 1e-9, -2.0, (6.0, 0.0, ClipEvent::Dual));
        for w in [0.25, 9.0] {
            check(w, 0.0, (-0.0, -0.0, ClipEvent::Unclipped));
        }
    }
}
