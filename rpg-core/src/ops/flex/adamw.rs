//! One AdamW update in one pass over parameter, gradient and both moments.

use crate::ops::AdamWUpdate;
use crate::ops::simd::vectorized;
use rayon::prelude::*;

const BLOCK: usize = 1 << 14;

pub(super) fn step(
    param: &mut [f32],
    grad: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    update: AdamWUpdate,
) {
    let (m_correction, v_correction) = update.bias_corrections();
    let decay = 1.0 - update.lr * update.weight_decay;
    param
        .par_chunks_mut(BLOCK)
        .zip(grad.par_chunks(BLOCK))
        .zip(
            moment_1
                .par_chunks_mut(BLOCK)
                .zip(moment_2.par_chunks_mut(BLOCK)),
        )
        .for_each(|((param, grad), (m, v))| {
            vectorized(
                #[inline(always)]
                || {
                    let moments = m.iter_mut().zip(v);
                    for ((param, &grad), (m, v)) in param.iter_mut().zip(grad).zip(moments) {
                        let grad = grad * update.grad_scale;
                        *m = update.beta_1 * *m + (1.0 - update.beta_1) * grad;
                        *v = update.beta_2 * *v + (1.0 - update.beta_2) * grad * grad;
                        let denominator = (*v / v_correction).sqrt() + update.eps;
                        *param = *param * decay - update.lr * (*m / m_correction) / denominator;
                    }
                },
            );
        });
}
