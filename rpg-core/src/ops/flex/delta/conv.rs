//! The convolution along each column.

use crate::ops::Packing;
use crate::ops::flex::ROW_BLOCK;
use crate::ops::simd::{add_scaled, exp, vectorized};
use rayon::prelude::*;
use std::ops::Range;

/// Tokens per partial sum of the weight's gradient.
const SUM_BLOCK: usize = 256;

/// `[C, K]` as `[K, C]`, the most recent token's first.
fn by_lag(weight: &[f32], c: usize) -> Vec<f32> {
    let k = weight.len() / c;
    let at = |i: usize| weight[(i % c) * k + k - 1 - i / c];
    (0..k * c).map(at).collect()
}

/// The sequence of each token.
fn sequences(packing: &Packing) -> Vec<Range<usize>> {
    let of = |range: Range<usize>| std::iter::repeat_n(range.clone(), range.len());
    packing.ranges().flat_map(of).collect()
}

/// Calls `work` with every row of `[N, C]` numbers and the number of its token, a block of rows at a time.
fn each_row(rows: &mut [f32], c: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let blocks = rows.par_chunks_mut(ROW_BLOCK * c).enumerate();
    blocks.for_each(|(block, rows)| {
        for (i, row) in rows.chunks_exact_mut(c).enumerate() {
            work(block * ROW_BLOCK + i, row);
        }
    });
}

/// Adds to `sum` what the kernel makes of the rows that `row` gives by their lags.
fn add_rows<'a>(sum: &mut [f32], weight: &[f32], row: impl Fn(usize) -> Option<&'a [f32]>) {
    for (lag, weight) in weight.chunks_exact(sum.len()).enumerate() {
        let Some(row) = row(lag) else { continue };
        vectorized(
            #[inline(always)]
            || {
                for ((sum, &w), &x) in sum.iter_mut().zip(weight).zip(row) {
                    *sum = w.mul_add(x, *sum);
                }
            },
        );
    }
}

fn silu(row: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            for z in row {
                *z /= 1.0 + exp(-*z);
            }
        },
    );
}

pub(super) fn forward(x: &[f32], weight: &[f32], c: usize, packing: &Packing) -> Vec<f32> {
    let (weight, sequences) = (by_lag(weight, c), sequences(packing));
    let mut y = vec![0f32; x.len()];
    each_row(&mut y, c, |t, y| {
        add_rows(y, &weight, |lag| before(x, c, t, lag, &sequences[t]));
        silu(y);
    });
    y
}

/// The row `lag` tokens before a token of a sequence.
fn before<'a>(
    x: &'a [f32],
    c: usize,
    t: usize,
    lag: usize,
    sequence: &Range<usize>,
) -> Option<&'a [f32]> {
    (t - sequence.start >= lag).then(|| &x[(t - lag) * c..][..c])
}

pub(super) fn backward(
    x: &[f32],
    weight: &[f32],
    c: usize,
    packing: &Packing,
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let k = weight.len() / c;
    let (weight, sequences) = (by_lag(weight, c), sequences(packing));
    // The gradients of the sums.
    let mut of_sums = vec![0f32; x.len()];
    each_row(&mut of_sums, c, |t, z| {
        add_rows(z, &weight, |lag| before(x, c, t, lag, &sequences[t]));
        vectorized(
            #[inline(always)]
            || {
                for (z, &g) in z.iter_mut().zip(&grad[t * c..]) {
                    let s = 1.0 / (1.0 + exp(-*z));
                    *z = g * s * (1.0 + *z * (1.0 - s));
                }
            },
        );
    });
    let mut dx = vec![0f32; x.len()];
    each_row(&mut dx, c, |t, dx| {
        add_rows(dx, &weight, |lag| {
            (t + lag < sequences[t].end).then(|| &of_sums[(t + lag) * c..][..c])
        });
    });
    let by_lag = of_weight(x, &of_sums, c, k, &sequences);
    let d_weight = (0..c * k).map(|i| by_lag[(k - 1 - i % k) * c + i / k]);
    (dx, d_weight.collect())
}

/// The gradient of the weights, `[K, C]`, the most recent token's first.
fn of_weight(
    x: &[f32],
    of_sums: &[f32],
    c: usize,
    k: usize,
    sequences: &[Range<usize>],
) -> Vec<f32> {
    let blocks: Vec<usize> = (0..sequences.len()).step_by(SUM_BLOCK).collect();
    let partial: Vec<Vec<f32>> = blocks
        .into_par_iter()
        .map(|start| {
            let mut sum = vec![0f32; k * c];
            for t in start..sequences.len().min(start + SUM_BLOCK) {
                let grad = &of_sums[t * c..][..c];
                for (lag, sum) in sum.chunks_exact_mut(c).enumerate() {
                    let Some(x) = before(x, c, t, lag, &sequences[t]) else {
                        continue;
                    };
                    vectorized(
                        #[inline(always)]
                        || {
                            for ((sum, &g), &x) in sum.iter_mut().zip(grad).zip(x) {
                                *sum = g.mul_add(x, *sum);
                            }
                        },
                    );
                }
            }
            sum
        })
        .collect();
    let mut total = vec![0f32; k * c];
    for block in &partial {
        add_scaled(&mut total, 1.0, block);
    }
    total
}

/// The same as [`forward`] after what `inputs` (`[n_slots, 1, K - 1, C]`) holds, which then holds the last rows.
pub(super) fn cached(
    x: &[f32],
    weight: &[f32],
    c: usize,
    inputs: &mut [f32],
    packing: &Packing,
    slots: &[usize],
) -> Vec<f32> {
    let kept = weight.len() / c - 1;
    let weight = by_lag(weight, c);
    let mut numbers = vec![0; packing.n_tokens()];
    for (s, range) in packing.ranges().enumerate() {
        numbers[range.clone()].fill(s);
        if packing.positions()[range.start] == 0 {
            inputs[slots[s] * kept * c..][..kept * c].fill(0.0);
        }
    }
    let mut y = vec![0f32; x.len()];
    let held = &*inputs;
    // The row of a token of a sequence, counted from its first here, or that many before it.
    let row = |s: usize, i: isize| match usize::try_from(i) {
        Ok(i) => &x[(packing.range(s).start + i) * c..][..c],
        Err(_) => &held[(slots[s] * kept + kept - i.unsigned_abs()) * c..][..c],
    };
    each_row(&mut y, c, |t, y| {
        let s = numbers[t];
        let i = (t - packing.range(s).start) as isize;
        add_rows(y, &weight, |lag| Some(row(s, i - lag as isize)));
        silu(y);
    });
    for (range, &slot) in packing.ranges().zip(slots) {
        let held = &mut inputs[slot * kept * c..][..kept * c];
        let n_new = range.len().min(kept);
        held.copy_within(n_new * c.., 0);
        held[(kept - n_new) * c..].copy_from_slice(&x[(range.end - n_new) * c..range.end * c]);
    }
    y
}
