//! Products of a few rows with a weight matrix as Hugging Face stores it, `[outputs, inputs]`: what
//! decoding spends its time on.
//!
//! A general matrix product copies the weights into another order first, which costs more than the
//! product where there are few rows. Here each weight is read once, in place, and used for all rows. Every
//! output is one sum in one order, whatever the number of rows: a sequence's logits do not depend on what
//! is decoded beside it.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Beyond so many rows the general product is faster.
pub(super) const MAX_ROWS: usize = 64;

/// Outputs per unit of parallel work.
const BLOCK: usize = 64;

/// Weight rows that are worked on together.
const TILE: usize = 4;

/// `x * weight'`. `x`: `[m, k]`, `weight`: `[n, k]`; the result is `[m, n]`.
pub(super) fn project(x: &[f32], weight: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
    if k == 0 {
        return vec![0.0; m * n];
    }
    let mut out = vec![0f32; m * n];
    // The columns that each block of weight rows fills, row by row.
    let mut columns: Vec<Vec<&mut [f32]>> = (0..n.div_ceil(BLOCK))
        .map(|_| Vec::with_capacity(m))
        .collect();
    for row in out.chunks_exact_mut(n.max(1)) {
        for (columns, piece) in columns.iter_mut().zip(row.chunks_mut(BLOCK)) {
            columns.push(piece);
        }
    }
    columns
        .into_par_iter()
        .zip(weight.par_chunks(BLOCK * k))
        .for_each(|(out, weight)| pulp::Arch::new().dispatch(Block { x, weight, out, k }));
    out
}

/// Some rows of the weights with all rows of `x`; `out` is a piece of each row of the result.
struct Block<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    out: Vec<&'a mut [f32]>,
    k: usize,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            x,
            weight,
            mut out,
            k,
        } = self;
        let (tiles, rest) = weight.split_at(weight.len() - weight.len() % (TILE * k));
        let mut first = 0;
        for weight in tiles.chunks_exact(TILE * k) {
            all_rows::<S, TILE>(simd, x, weight, &mut out, first, k);
            first += TILE;
        }
        for weight in rest.chunks_exact(k) {
            all_rows::<S, 1>(simd, x, weight, &mut out, first, k);
            first += 1;
        }
    }
}

/// `R` weight rows with all rows of `x`, as many of them at a time as registers hold sums.
#[inline(always)]
fn all_rows<S: Simd, const R: usize>(
    simd: S,
    x: &[f32],
    weight: &[f32],
    out: &mut [&mut [f32]],
    first: usize,
    k: usize,
) {
    let (m, mut row) = (out.len(), 0);
    // 32 vector registers of 16 lanes, or 16 of fewer.
    if S::F32_LANES >= 16 {
        while row + 6 <= m {
            tile::<S, R, 6>(simd, &x[row * k..], weight, &mut out[row..], first, k);
            row += 6;
        }
    }
    while row + 2 <= m {
        tile::<S, R, 2>(simd, &x[row * k..], weight, &mut out[row..], first, k);
        row += 2;
    }
    if row < m {
        tile::<S, R, 1>(simd, &x[row * k..], weight, &mut out[row..], first, k);
    }
}

/// `R` weight rows with the first `C` rows of `x`, written to the first `C` rows of `out`, from column `first`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    x: &[f32],
    weight: &[f32],
    out: &mut [&mut [f32]],
    first: usize,
    k: usize,
) {
    let weights: [&[f32]; R] = std::array::from_fn(|r| &weight[r * k..(r + 1) * k]);
    let xs: [&[f32]; C] = std::array::from_fn(|c| &x[c * k..(c + 1) * k]);
    let n = k / S::F32_LANES;
    let weight_vectors: [&[S::f32s]; R] =
        std::array::from_fn(|r| &S::as_simd_f32s(weights[r]).0[..n]);
    let x_vectors: [&[S::f32s]; C] = std::array::from_fn(|c| &S::as_simd_f32s(xs[c]).0[..n]);
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for i in 0..n {
        let weights: [S::f32s; R] = std::array::from_fn(|r| weight_vectors[r][i]);
        for c in 0..C {
            let x = x_vectors[c][i];
            for r in 0..R {
                sums[r][c] = simd.mul_add_f32s(weights[r], x, sums[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            let rest = n * S::F32_LANES..k;
            let rest = weights[r][rest.clone()].iter().zip(&xs[c][rest]);
            let rest = rest.fold(0f32, |sum, (a, b)| a.mul_add(*b, sum));
            out[c][first + r] = simd.reduce_sum_f32s(sums[r][c]) + rest;
        }
    }
}
