//! Log-probability of the target and entropy of each row of logits.

use super::simd::{add_scaled, exp, max, sum, vectorized};
use rayon::prelude::*;

/// Rows per unit of work: about 64k logits.
fn block_rows(v: usize) -> usize {
    (65_536 / v.max(1)).clamp(1, 512)
}

/// Logits that are summed together: `sum e^d` of a row is the sum, in order, of the sums of its pieces.
const PIECE: usize = 256;

/// The probabilities of one row of logits, up to their sum: `e^d` with `d = (x - max) / t`.
pub(in crate::ops) struct Weights<'a> {
    row: &'a [f32],
    top: f32,
    inverse_temperature: f32,
    pieces: Vec<f32>,
}

impl<'a> Weights<'a> {
    pub(in crate::ops) fn new(row: &'a [f32], inverse_temperature: f32) -> Self {
        let mut pieces = vec![0f32; row.len().div_ceil(PIECE)];
        let top = vectorized(
            #[inline(always)]
            || {
                let top = max(row);
                for (piece, part) in pieces.iter_mut().zip(row.chunks(PIECE)) {
                    let mut e = [0f32; PIECE];
                    exps(part, top, inverse_temperature, &mut e);
                    *piece = sum(&e[..part.len()]);
                }
                top
            },
        );
        Self {
            row,
            top,
            inverse_temperature,
            pieces,
        }
    }

    /// As [`ModelBackend::token_logprobs`](crate::ops::ModelBackend::token_logprobs) has it, bit for bit.
    pub(in crate::ops) fn logprob(&self, target: usize) -> f32 {
        let total = self.pieces.iter().fold(0f32, |sum, piece| sum + piece);
        (self.row[target] - self.top) * self.inverse_temperature - total.ln()
    }

    /// The first index at which the sum of the weights so far exceeds `part`, from 0 to 1, of all of them.
    pub(in crate::ops) fn quantile(&self, part: f64) -> usize {
        let total: f64 = self.pieces.iter().map(|&piece| f64::from(piece)).sum();
        let threshold = part * total;
        let mut before = 0.0;
        // The last piece and the last index that weigh anything, should rounding hide the right one.
        let (mut last, mut start) = (0, 0.0);
        for (i, &piece) in self.pieces.iter().enumerate() {
            if piece > NOTHING {
                (last, start) = (i, before);
            }
            before += f64::from(piece);
            if before > threshold {
                break;
            }
        }
        let part = &self.row[last * PIECE..];
        let part = &part[..part.len().min(PIECE)];
        let mut weights = [0f32; PIECE];
        vectorized(
            #[inline(always)]
            || exps(part, self.top, self.inverse_temperature, &mut weights),
        );
        let mut index = 0;
        for (i, &weight) in weights[..part.len()].iter().enumerate() {
            if weight > NOTHING {
                index = i;
                start += f64::from(weight);
                if start > threshold {
                    break;
                }
            }
        }
        last * PIECE + index
    }

    /// All weights, in order; the largest is 1.
    pub(in crate::ops) fn all(&self) -> Vec<f32> {
        let mut all = vec![0f32; self.row.len()];
        vectorized(
            #[inline(always)]
            || exps(self.row, self.top, self.inverse_temperature, &mut all),
        );
        all
    }
}

/// What [`exp`] gives where `e^x` is too small for it.
const NOTHING: f32 = 2e-38;

/// `e^d` of each logit.
#[inline(always)]
fn exps(part: &[f32], top: f32, inverse_temperature: f32, e: &mut [f32]) {
    for (e, &x) in e.iter_mut().zip(part) {
        *e = exp((x - top) * inverse_temperature);
    }
}

// sum e^d and sum d * e^d give both results.
#[inline(always)]
fn of_row(row: &[f32], target: usize, inverse_temperature: f32) -> (f32, f32) {
    let top = max(row);
    let (mut total, mut weighted) = (0f32, 0f32);
    for part in row.chunks(PIECE) {
        let mut d = [0f32; PIECE];
        let mut e = [0f32; PIECE];
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
