//! Products of a few rows with a weight matrix as Hugging Face stores it, `[outputs, inputs]`: decoding spends its
//! time on them.
//!
//! A general matrix product first copies the weights into another order, which costs more than the product if
//! there are few rows. Here each weight is read once, in place, and used for all rows. Every output is one sum in
//! one order, whatever the number of rows: a sequence's logits do not depend on what is decoded together with it.
//!
//! Weights that are kept as bf16 are read two at a time, as one `u32`. A shift and a mask turn a vector of them
//! into two vectors of f32, one of the even columns and one of the odd ones; `x` is brought into that order first.

use super::matmul::{Matrix, Threads, matmul};
use super::rows::Rows;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::borrow::Cow;
use std::marker::PhantomData;

/// With more rows than this the general product of f32 is faster.
pub(super) const MAX_ROWS: usize = 64;

/// Outputs per unit of parallel work.
const BLOCK: usize = 32;

/// Weight rows that are processed together.
const TILE: usize = 4;

/// With this many rows or more it pays to write the weights out as f32 before they are used.
const MIN_ROWS_TO_WIDEN: usize = 4;

/// How weights are stored in memory. Vectors of f32 are processed in pairs.
pub(super) trait Stored: Copy + Sync {
    /// Weights per element.
    const PER: usize;

    /// What holds a pair of vectors.
    type Pair<S: Simd>: Copy;

    /// A row of weights as pairs of vectors; a remainder that does not fill one is left out.
    fn pairs<S: Simd>(row: &[Self]) -> &[Self::Pair<S>];

    /// The two vectors.
    fn split<S: Simd>(simd: S, pair: Self::Pair<S>) -> [S::f32s; 2];

    /// Weight `i` of a row.
    fn single(row: &[Self], i: usize) -> f32;

    /// Rows of `k` inputs in the order of the vectors.
    fn arrange<S: Simd>(x: &[f32], k: usize) -> Cow<'_, [f32]>;

    /// Some rows of `k` weights as f32 in the order of the vectors: themselves, or written to `space`.
    fn widen<'a, S: Simd>(
        simd: S,
        rows: &'a [Self],
        k: usize,
        space: &'a mut Vec<f32>,
    ) -> &'a [f32];
}

impl Stored for f32 {
    const PER: usize = 1;

    type Pair<S: Simd> = [S::f32s; 2];

    #[inline(always)]
    fn pairs<S: Simd>(row: &[f32]) -> &[[S::f32s; 2]] {
        S::as_simd_f32s(row).0.as_chunks().0
    }

    #[inline(always)]
    fn split<S: Simd>(_: S, pair: [S::f32s; 2]) -> [S::f32s; 2] {
        pair
    }

    #[inline(always)]
    fn single(row: &[f32], i: usize) -> f32 {
        row[i]
    }

    #[inline(always)]
    fn arrange<S: Simd>(x: &[f32], _: usize) -> Cow<'_, [f32]> {
        Cow::Borrowed(x)
    }

    #[inline(always)]
    fn widen<'a, S: Simd>(_: S, rows: &'a [f32], _: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        rows
    }
}

/// The one of two bf16 that is in the even column.
#[inline(always)]
fn even(two: u32) -> f32 {
    f32::from_bits(two << 16)
}

/// The one of two bf16 that is in the odd column.
#[inline(always)]
fn odd(two: u32) -> f32 {
    f32::from_bits(two & 0xffff_0000)
}

impl Stored for u32 {
    const PER: usize = 2;

    type Pair<S: Simd> = S::u32s;

    #[inline(always)]
    fn pairs<S: Simd>(row: &[u32]) -> &[S::u32s] {
        S::as_simd_u32s(row).0
    }

    #[inline(always)]
    fn split<S: Simd>(simd: S, pair: S::u32s) -> [S::f32s; 2] {
        let even = simd.wrapping_dyn_shl_u32s(pair, simd.splat_u32s(16));
        let odd = simd.and_u32s(pair, simd.splat_u32s(0xffff_0000));
        [
            simd.transmute_f32s_u32s(even),
            simd.transmute_f32s_u32s(odd),
        ]
    }

    #[inline(always)]
    fn single(row: &[u32], i: usize) -> f32 {
        match i % 2 {
            0 => even(row[i / 2]),
            _ => odd(row[i / 2]),
        }
    }

    #[inline(always)]
    fn arrange<S: Simd>(x: &[f32], k: usize) -> Cow<'_, [f32]> {
        let mut arranged = x.to_vec();
        for (to, from) in arranged.chunks_exact_mut(k).zip(x.chunks_exact(k)) {
            let to = to.chunks_exact_mut(2 * S::F32_LANES);
            for (to, from) in to.zip(from.chunks_exact(2 * S::F32_LANES)) {
                let (evens, odds) = to.split_at_mut(S::F32_LANES);
                for i in 0..S::F32_LANES {
                    evens[i] = from[2 * i];
                    odds[i] = from[2 * i + 1];
                }
            }
        }
        Cow::Owned(arranged)
    }

    #[inline(always)]
    fn widen<'a, S: Simd>(
        simd: S,
        rows: &'a [u32],
        k: usize,
        space: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        space.resize(rows.len() * 2, 0.0);
        for (to, from) in space.chunks_exact_mut(k).zip(rows.chunks_exact(k / 2)) {
            let (pairs, rest) = S::as_simd_u32s(from);
            let (vectors, rest_to) = to.split_at_mut(2 * (from.len() - rest.len()));
            let vectors = S::as_mut_simd_f32s(vectors).0.as_chunks_mut::<2>().0;
            for (to, &pair) in vectors.iter_mut().zip(pairs) {
                *to = Self::split(simd, pair);
            }
            for (to, &from) in rest_to.as_chunks_mut().0.iter_mut().zip(rest) {
                *to = [even(from), odd(from)];
            }
        }
        space
    }
}

/// `x * weight'`. `x`: `[m, k]`, `weight`: `[n, k]`; the result is `[m, n]`.
pub(super) fn project<W: Stored>(
    x: &[f32],
    weight: &[W],
    m: usize,
    n: usize,
    k: usize,
) -> Vec<f32> {
    if k == 0 {
        return vec![0.0; m * n];
    }
    let x: &[f32] = &pulp::Arch::new().dispatch(Arrange::<W>(x, k, PhantomData));
    let mut out = vec![0f32; m * n];
    by_columns(&mut out, n, BLOCK)
        .into_par_iter()
        .zip(weight.par_chunks(BLOCK * k / W::PER))
        .for_each(|(out, weight)| pulp::Arch::new().dispatch(Block { x, weight, out, k }));
    out
}

/// The same with weights of any type: those of a unit of work are widened before they are used.
pub(super) fn project_widened(x: &[f32], weight: &Rows, m: usize, n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![0f32; m * n];
    by_columns(&mut out, n, BLOCK)
        .into_par_iter()
        .enumerate()
        .for_each_init(Vec::new, |space, (i, out)| {
            let rows = i * BLOCK..n.min((i + 1) * BLOCK);
            space.resize(rows.len() * k, 0.0);
            weight.widen_here(rows, k, space);
            pulp::Arch::new().dispatch(Block {
                x,
                weight: &space[..],
                out,
                k,
            });
        });
    out
}

/// The same for many rows of `x`: some weights are widened at a time.
pub(super) fn by_panels(x: &[f32], weight: &Rows, m: usize, n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![0f32; m * n];
    weight.for_each_panel(n, k, |rows, panel| {
        let shape = [m, rows.len(), k];
        let out = (&mut out[rows.start..], n);
        let (x, panel) = (Matrix::rows(x, k), Matrix::rows(panel, k).transposed());
        matmul(Threads::All, out, false, 1.0, x, panel, shape);
    });
    out
}

/// `grad * weight`, likewise: `[m, n]` to `[m, k]`.
pub(super) fn backward_by_panels(
    grad: &[f32],
    weight: &Rows,
    m: usize,
    n: usize,
    k: usize,
) -> Vec<f32> {
    let mut dx = vec![0f32; m * k];
    weight.for_each_panel(n, k, |rows, panel| {
        let shape = [m, k, rows.len()];
        let grad = Matrix::rows(&grad[rows.start..], n);
        let (out, keep) = ((&mut dx[..], k), rows.start > 0);
        matmul(
            Threads::All,
            out,
            keep,
            1.0,
            grad,
            Matrix::rows(panel, k),
            shape,
        );
    });
    dx
}

/// A matrix of `n` columns as blocks of so many columns, each a list of the pieces of the rows.
pub(super) fn by_columns(matrix: &mut [f32], n: usize, block: usize) -> Vec<Vec<&mut [f32]>> {
    let n_rows = matrix.len() / n.max(1);
    let mut columns: Vec<Vec<&mut [f32]>> = (0..n.div_ceil(block))
        .map(|_| Vec::with_capacity(n_rows))
        .collect();
    for row in matrix.chunks_exact_mut(n.max(1)) {
        for (columns, piece) in columns.iter_mut().zip(row.chunks_mut(block)) {
            columns.push(piece);
        }
    }
    columns
}

struct Arrange<'a, W>(&'a [f32], usize, PhantomData<W>);

impl<'a, W: Stored> WithSimd for Arrange<'a, W> {
    type Output = Cow<'a, [f32]>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Cow<'a, [f32]> {
        W::arrange::<S>(self.0, self.1)
    }
}

/// Some rows of the weights with all rows of `x`; `out` is a piece of each row of the result.
struct Block<'a, W> {
    x: &'a [f32],
    weight: &'a [W],
    out: Vec<&'a mut [f32]>,
    k: usize,
}

impl<W: Stored> WithSimd for Block<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            x,
            weight,
            mut out,
            k,
        } = self;
        let tile = TILE * k / W::PER;
        let (tiles, rest) = weight.split_at(weight.len() - weight.len() % tile);
        let mut space = Vec::new();
        let mut first = 0;
        for weight in tiles.chunks_exact(tile) {
            rows::<S, W, TILE>(simd, x, weight, &mut out, first, k, &mut space);
            first += TILE;
        }
        for weight in rest.chunks_exact(k / W::PER) {
            rows::<S, W, 1>(simd, x, weight, &mut out, first, k, &mut space);
            first += 1;
        }
    }
}

/// `R` weight rows with all rows of `x`.
#[inline(always)]
fn rows<S: Simd, W: Stored, const R: usize>(
    simd: S,
    x: &[f32],
    weight: &[W],
    out: &mut [&mut [f32]],
    first: usize,
    k: usize,
    space: &mut Vec<f32>,
) {
    if out.len() < MIN_ROWS_TO_WIDEN {
        all_rows::<S, W, R>(simd, x, weight, out, first, k);
    } else {
        let weight = W::widen(simd, weight, k, space);
        all_rows::<S, f32, R>(simd, x, weight, out, first, k);
    }
}

/// As many rows of `x` at a time as registers hold sums.
#[inline(always)]
fn all_rows<S: Simd, W: Stored, const R: usize>(
    simd: S,
    x: &[f32],
    weight: &[W],
    out: &mut [&mut [f32]],
    first: usize,
    k: usize,
) {
    let (m, mut row) = (out.len(), 0);
    // 32 vector registers of 16 lanes, or 16 of fewer.
    if S::F32_LANES >= 16 {
        while row + 6 <= m {
            tile::<S, W, R, 6>(simd, &x[row * k..], weight, &mut out[row..], first, k);
            row += 6;
        }
    }
    while row + 2 <= m {
        tile::<S, W, R, 2>(simd, &x[row * k..], weight, &mut out[row..], first, k);
        row += 2;
    }
    if row < m {
        tile::<S, W, R, 1>(simd, &x[row * k..], weight, &mut out[row..], first, k);
    }
}

/// `R` weight rows with the first `C` rows of `x`, written to the first `C` rows of `out`, from column `first`.
#[inline(always)]
fn tile<S: Simd, W: Stored, const R: usize, const C: usize>(
    simd: S,
    x: &[f32],
    weight: &[W],
    out: &mut [&mut [f32]],
    first: usize,
    k: usize,
) {
    let len = k / W::PER;
    let weights: [&[W]; R] = std::array::from_fn(|r| &weight[r * len..(r + 1) * len]);
    let xs: [&[f32]; C] = std::array::from_fn(|c| &x[c * k..(c + 1) * k]);
    let n = k / (2 * S::F32_LANES);
    let weight_pairs: [&[W::Pair<S>]; R] = std::array::from_fn(|r| &W::pairs::<S>(weights[r])[..n]);
    let x_pairs: [&[[S::f32s; 2]]; C] = std::array::from_fn(|c| &f32::pairs::<S>(xs[c])[..n]);
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for i in 0..n {
        let mut weights = [[simd.splat_f32s(0.0); 2]; R];
        for r in 0..R {
            weights[r] = W::split(simd, weight_pairs[r][i]);
        }
        for half in 0..2 {
            for c in 0..C {
                let x = x_pairs[c][i][half];
                for r in 0..R {
                    sums[r][c] = simd.mul_add_f32s(weights[r][half], x, sums[r][c]);
                }
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            let rest = (2 * S::F32_LANES * n..k).fold(0f32, |sum, i| {
                W::single(weights[r], i).mul_add(xs[c][i], sum)
            });
            out[c][first + r] = simd.reduce_sum_f32s(sums[r][c]) + rest;
        }
    }
}
