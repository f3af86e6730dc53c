//! The KV cache: writing, copying a prefix, and attention of one token per slot.
//!
//! A cache is `[n_slots, n_kv_heads, capacity, head_dim]`: the positions of a head are adjacent, in the order in
//! which attention reads them.

use crate::ops::simd::{exp, max, sum};
use crate::ops::{Attention, CacheRows, HeadLayout};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Writes the `kv_width` numbers from `start` of each row of `qkv` to their places.
pub(super) fn write(
    cache: &mut [f32],
    capacity: usize,
    qkv: &[f32],
    start: usize,
    heads: HeadLayout,
    rows: &CacheRows,
) {
    let d = heads.head_dim;
    for (i, row) in qkv.chunks_exact(heads.width()).enumerate() {
        let (slot, position) = rows.of(i);
        for (h, head) in row[start..][..heads.kv_width()].chunks_exact(d).enumerate() {
            let at = ((slot * heads.n_kv_heads + h) * capacity + position) * d;
            cache[at..at + d].copy_from_slice(head);
        }
    }
}

/// Copies the first `len` positions of slot `from` to the slots `to`.
pub(super) fn copy(
    cache: &mut [f32],
    [n_heads, capacity, head_dim]: [usize; 3],
    from: usize,
    to: &[usize],
    len: usize,
) {
    for &slot in to {
        for h in 0..n_heads {
            let at = |slot: usize| (slot * n_heads + h) * capacity * head_dim;
            cache.copy_within(at(from)..at(from) + len * head_dim, at(slot));
        }
    }
}

pub(super) fn attention(
    qkv: &[f32],
    keys: &[f32],
    values: &[f32],
    capacity: usize,
    attention: Attention,
    rows: &CacheRows,
) -> Vec<f32> {
    let heads = attention.heads;
    let (d, width) = (heads.head_dim, heads.group() * heads.head_dim);
    let n = qkv.len() / heads.width();
    let mut out = vec![0f32; n * heads.q_width()];
    // One unit of work is a key-value head of a row with the query heads it serves.
    out.par_chunks_mut(width)
        .enumerate()
        .for_each(|(unit, out)| {
            let (i, kv_head) = (unit / heads.n_kv_heads, unit % heads.n_kv_heads);
            let (slot, position) = rows.of(i);
            let start = (slot * heads.n_kv_heads + kv_head) * capacity;
            let seen = (start + attention.first(position)) * d..(start + position + 1) * d;
            pulp::Arch::new().dispatch(Unit {
                queries: &qkv[i * heads.width() + kv_head * width..][..width],
                keys: &keys[seen.clone()],
                values: &values[seen],
                out,
                d,
                scale: attention.scale as f32,
            });
        });
    out
}

/// The query heads of one token that share a key-value head; `keys` and `values`: `[visible, d]`.
struct Unit<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    out: &'a mut [f32],
    d: usize,
    scale: f32,
}

impl WithSimd for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            queries,
            keys,
            values,
            out,
            d,
            scale,
        } = self;
        let mut weights = vec![0f32; keys.len() / d];
        for (out, query) in out.chunks_exact_mut(d).zip(queries.chunks_exact(d)) {
            let (four, rest) = weights.as_chunks_mut::<4>();
            let (four_keys, rest_keys) = keys.split_at(four.len() * 4 * d);
            for (weights, keys) in four.iter_mut().zip(four_keys.chunks_exact(4 * d)) {
                dots(simd, query, keys, weights);
            }
            for (weight, key) in rest.iter_mut().zip(rest_keys.chunks_exact(d)) {
                dots(simd, query, key, std::array::from_mut(weight));
            }
            for weight in weights.iter_mut() {
                *weight *= scale;
            }
            let top = max(&weights);
            for weight in weights.iter_mut() {
                *weight = exp(*weight - top);
            }
            let normalizer = 1.0 / sum(&weights);
            for weight in weights.iter_mut() {
                *weight *= normalizer;
            }
            mix(simd, out, &weights, values, d);
        }
    }
}

/// The products of `query` with `R` adjacent keys.
#[inline(always)]
fn dots<S: Simd, const R: usize>(simd: S, query: &[f32], keys: &[f32], out: &mut [f32; R]) {
    let d = query.len();
    let (query_vectors, query_rest) = S::as_simd_f32s(query);
    let mut sums = [simd.splat_f32s(0.0); R];
    for r in 0..R {
        let (key_vectors, key_rest) = S::as_simd_f32s(&keys[r * d..(r + 1) * d]);
        let mut sum = sums[r];
        for (&query, &key) in query_vectors.iter().zip(key_vectors) {
            sum = simd.mul_add_f32s(query, key, sum);
        }
        sums[r] = sum;
        out[r] = 0.0;
        for (&a, &b) in query_rest.iter().zip(key_rest) {
            out[r] = a.mul_add(b, out[r]);
        }
    }
    for r in 0..R {
        out[r] += simd.reduce_sum_f32s(sums[r]);
    }
}

/// `out = sum weights[i] * values[i]`, as many columns at a time as registers hold.
#[inline(always)]
fn mix<S: Simd>(simd: S, out: &mut [f32], weights: &[f32], values: &[f32], d: usize) {
    const C: usize = 4;
    let (vectors, _) = S::as_mut_simd_f32s(out);
    let n = vectors.len();
    let (parts, rest) = vectors.as_chunks_mut::<C>();
    for (part, out) in parts.iter_mut().enumerate() {
        let mut sums = [simd.splat_f32s(0.0); C];
        for (&weight, value) in weights.iter().zip(values.chunks_exact(d)) {
            let weight = simd.splat_f32s(weight);
            let value = &S::as_simd_f32s(value).0[part * C..(part + 1) * C];
            for c in 0..C {
                sums[c] = simd.mul_add_f32s(weight, value[c], sums[c]);
            }
        }
        *out = sums;
    }
    let done = n - rest.len();
    for (i, out) in rest.iter_mut().enumerate() {
        let mut sums = simd.splat_f32s(0.0);
        for (&weight, value) in weights.iter().zip(values.chunks_exact(d)) {
            let value = S::as_simd_f32s(value).0[done + i];
            sums = simd.mul_add_f32s(simd.splat_f32s(weight), value, sums);
        }
        *out = sums;
    }
    for (column, out) in out.iter_mut().enumerate().skip(n * S::F32_LANES) {
        let terms = weights.iter().zip(values.iter().skip(column).step_by(d));
        *out = terms.fold(0.0, |sum, (a, b)| a.mul_add(*b, sum));
    }
}
