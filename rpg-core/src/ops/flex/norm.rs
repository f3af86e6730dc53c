//! RMSNorm of rows and of attention heads.

use super::ROW_BLOCK;
use crate::ops::HeadLayout;
use crate::ops::simd::{add_scaled, dot, dot3, vectorized};
use rayon::prelude::*;

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn normalize(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let scale = inverse_rms(x, eps);
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

/// Overwrites `grad` with the gradient of `x` and adds the gradient of `weight` to `dweight`.
#[inline(always)]
fn normalize_backward(grad: &mut [f32], x: &[f32], weight: &[f32], eps: f32, dweight: &mut [f32]) {
    let scale = inverse_rms(x, eps);
    let projection = dot3(grad, weight, x) / x.len() as f32 * scale * scale;
    for (((g, &x), &w), dw) in grad.iter_mut().zip(x).zip(weight).zip(dweight) {
        *dw += *g * x * scale;
        *g = (*g * w - x * projection) * scale;
    }
}

pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let d = weight.len();
    let mut out = vec![0f32; x.len()];
    out.par_chunks_mut(ROW_BLOCK * d)
        .zip(x.par_chunks(ROW_BLOCK * d))
        .for_each(|(out, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                        normalize(out, x, weight, eps);
                    }
                },
            );
        });
    out
}

pub(super) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let d = weight.len();
    let mut dx = grad.to_vec();
    let partial: Vec<Vec<f32>> = dx
        .par_chunks_mut(ROW_BLOCK * d)
        .zip(x.par_chunks(ROW_BLOCK * d))
        .map(|(dx, x)| {
            let mut dweight = vec![0f32; d];
            vectorized(
                #[inline(always)]
                || {
                    for (dx, x) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                        normalize_backward(dx, x, weight, eps, &mut dweight);
                    }
                },
            );
            dweight
        })
        .collect();
    (dx, sum_blocks(&partial, d))
}

/// Adds the blocks' sums in order.
fn sum_blocks(partial: &[Vec<f32>], d: usize) -> Vec<f32> {
    let mut total = vec![0f32; d];
    for block in partial {
        add_scaled(&mut total, 1.0, block);
    }
    total
}

pub(super) fn head_norm(
    qkv: &mut [f32],
    q_weight: &[f32],
    k_weight: &[f32],
    heads: HeadLayout,
    eps: f32,
) {
    qkv.par_chunks_mut(ROW_BLOCK * heads.width())
        .for_each(|rows| {
            vectorized(
                #[inline(always)]
                || {
                    let mut normalized = vec![0f32; q_weight.len().max(k_weight.len())];
                    for row in rows.chunks_exact_mut(heads.width()) {
                        let (queries, rest) = row.split_at_mut(heads.q_width());
                        let keys = &mut rest[..heads.kv_width()];
                        for (part, weight) in [(queries, q_weight), (keys, k_weight)] {
                            let normalized = &mut normalized[..weight.len()];
                            for group in part.chunks_exact_mut(weight.len()) {
                                normalize(normalized, group, weight, eps);
                                group.copy_from_slice(normalized);
                            }
                        }
                    }
                },
            );
        });
}

/// Overwrites `grad` with the gradient of `qkv`; returns those of the two weights.
pub(super) fn head_norm_backward(
    qkv: &[f32],
    [q_weight, k_weight]: [&[f32]; 2],
    heads: HeadLayout,
    eps: f32,
    grad: &mut [f32],
) -> [Vec<f32>; 2] {
    let (dq, dk) = (q_weight.len(), k_weight.len());
    let block = ROW_BLOCK * heads.width();
    let (q, kv) = (heads.q_width(), heads.kv_width());
    let partial: Vec<[Vec<f32>; 2]> = grad
        .par_chunks_mut(block)
        .zip(qkv.par_chunks(block))
        .map(|(grad, x)| {
            let mut dq_weight = vec![0f32; dq];
            let mut dk_weight = vec![0f32; dk];
            vectorized(
                #[inline(always)]
                || {
                    let rows = grad.chunks_exact_mut(heads.width());
                    for (grad, x) in rows.zip(x.chunks_exact(heads.width())) {
                        for at in (0..q).step_by(dq) {
                            let (g, x) = (&mut grad[at..at + dq], &x[at..at + dq]);
                            normalize_backward(g, x, q_weight, eps, &mut dq_weight);
                        }
                        for at in (q..q + kv).step_by(dk) {
                            let (g, x) = (&mut grad[at..at + dk], &x[at..at + dk]);
                            normalize_backward(g, x, k_weight, eps, &mut dk_weight);
                        }
                    }
                },
            );
            [dq_weight, dk_weight]
        })
        .collect();
    let (of_q, of_k): (Vec<_>, Vec<_>) = partial.into_iter().map(|[q, k]| (q, k)).unzip();
    [sum_blocks(&of_q, dq), sum_blocks(&of_k, dk)]
}
