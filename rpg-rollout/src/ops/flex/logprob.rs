//! Log-probability of the target and entropy of each row of logits.

use super::simd::{add_scaled, exp, max, sum, vectorized};
use rayon::prelude::*;

/// Rows per unit of work: about 64k logits.
fn block_rows(v: usize) -> usize {
    (65_536 / v.max(1)).clamp(1, 512)
}

/// Log-probability of `target` and entropy of one row: see [`row_logprob`](crate::ops::row_logprob).
pub(in crate::ops) fn single_row(
    row: &[f32],
    target: usize,
    inverse_temperature: f32,
) -> (f32, f32) {
    vectorized(
        #[inline(always)]
        || of_row(row, target, inverse_temperature),
    )
}

// With d = (x - max) / t: sum e^d and sum d * e^d give both results.
#[inline(always)]
fn of_row(row: &[f32], target: usize, inverse_temperature: f32) -> (f32, f32) {
    let top = max(row);
    let (mut total, mut weighted) = (0f32, 0f32);
    for part in row.chunks(256) {
        let mut d = [0f32; 256];
        let mut e = [0f32; 256];
        for (j, &x) in part.iter().enumerate() {
            d[j] = (x - top) * inverse_temperature;
            e[j] = exp(d[j]);
        }
        let n = part.len();
        total += sum(&e[..n]);
        for j in 0..n {
            d[j] *= e[j];
        }
        weighted += sum(&d[..n]);
    }
    let log_total = total.ln();
    (
        (row[target] - top) * inverse_temperature - log_total,
        log_total - weighted / total,
    )
}

pub(super) fn forward(
    logits: &[f32],
    targets: &[i32],
    v: usize,
    inverse_temperature: f32,
) -> (Vec<f32>, Vec<f32>) {
    let rows = block_rows(v);
    let mut logprobs = vec![0f32; targets.len()];
    let mut entropy = vec![0f32; targets.len()];
    logprobs
        .par_chunks_mut(rows)
        .zip(entropy.par_chunks_mut(rows))
        .zip(logits.par_chunks(rows * v).zip(targets.par_chunks(rows)))
        .for_each(|((logprobs, entropy), (logits, targets))| {
            vectorized(
                #[inline(always)]
                || {
                    for (i, row) in logits.chunks_exact(v).enumerate() {
                        (logprobs[i], entropy[i]) =
                            of_row(row, targets[i] as usize, inverse_temperature);
                    }
                },
            );
        });
    (logprobs, entropy)
}

/// Overwrites `logits` with `grad * (onehot(target) - softmax) / temperature`.
pub(super) fn backward(
    logits: &mut [f32],
    targets: &[i32],
    v: usize,
    inverse_temperature: f32,
    grad: &[f32],
) {
    let rows = block_rows(v);
    logits
        .par_chunks_mut(rows * v)
        .zip(targets.par_chunks(rows).zip(grad.par_chunks(rows)))
        .for_each(|(logits, (targets, grad))| {
            vectorized(
                #[inline(always)]
                || {
                    for (i, row) in logits.chunks_exact_mut(v).enumerate() {
                        let top = max(row);
                        for x in row.iter_mut() {
                            *x = exp((*x - top) * inverse_temperature);
                        }
                        let factor = grad[i] * inverse_temperature;
                        let scale = -factor / sum(row);
                        for x in row.iter_mut() {
                            *x *= scale;
                        }
                        add_scaled(&mut row[targets[i] as usize..][..1], factor, &[1.0]);
                    }
                },
            );
        });
}
