//! One update of AdamW, or of its schedule-free form, in one pass over parameter, gradient and state, and the norm of the
//! gradient that comes before it.

use crate::ops::adamw::AdamWStep;
use crate::ops::simd::{dot, vectorized};
use crate::ops::{AdamWUpdate, ScheduleFreeUpdate};
use rayon::prelude::*;

const BLOCK: usize = 1 << 14;

pub(super) fn step(
    param: &mut [f32],
    grad: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    update: AdamWUpdate,
) {
    let step = AdamWStep::new(update);
    pass(
        param,
        grad,
        [moment_1, moment_2],
        #[inline(always)]
        |param, grad, m, v| step.apply(param, grad, m, v),
    );
}

pub(super) fn schedule_free_step(
    y: &mut [f32],
    grad: &[f32],
    z: &mut [f32],
    moment_2: &mut [f32],
    update: ScheduleFreeUpdate,
) {
    let v_correction = update.bias_correction() as f32;
    let rate_of_y = update.rate_of_y() as f32;
    let (lr, eps, share) = (update.lr as f32, update.eps as f32, update.share as f32);
    let (beta_2, rest) = (update.beta_2 as f32, (1.0 - update.beta_2) as f32);
    let (decay, grad_scale) = (update.weight_decay as f32, update.grad_scale as f32);
    pass(
        y,
        grad,
        [z, moment_2],
        #[inline(always)]
        |y, grad, z, v| {
            let grad = grad * grad_scale;
            *v = beta_2 * *v + rest * grad * grad;
            let direction = grad / ((*v / v_correction).sqrt() + eps) + decay * *y;
            *y += share * (*z - *y) + rate_of_y * direction;
            *z -= lr * direction;
        },
    );
}

/// The sum of squares: of every block in f32, of the blocks in f64 and in their order. A parallel sum that adds whatever
/// is ready would differ from run to run.
pub(super) fn square_sum(x: &[f32]) -> f64 {
    let blocks: Vec<f32> = x
        .par_chunks(BLOCK)
        .map(|block| {
            vectorized(
                #[inline(always)]
                || dot(block, block),
            )
        })
        .collect();
    blocks.into_iter().map(f64::from).sum()
}

/// Does `each` with every parameter, its gradient and its two numbers of state.
fn pass(
    param: &mut [f32],
    grad: &[f32],
    [state_1, state_2]: [&mut [f32]; 2],
    each: impl Fn(&mut f32, f32, &mut f32, &mut f32) + Sync,
) {
    let states = state_1
        .par_chunks_mut(BLOCK)
        .zip(state_2.par_chunks_mut(BLOCK));
    param
        .par_chunks_mut(BLOCK)
        .zip(grad.par_chunks(BLOCK))
        .zip(states)
        .for_each(|((param, grad), (state_1, state_2))| {
            vectorized(
                #[inline(always)]
                || {
                    let states = state_1.iter_mut().zip(state_2);
                    for ((param, &grad), (s1, s2)) in param.iter_mut().zip(grad).zip(states) {
                        each(param, grad, s1, s2);
                    }
                },
            );
        });
}
