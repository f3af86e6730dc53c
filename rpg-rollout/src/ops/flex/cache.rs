//! The KV cache: writing, copying a prefix, and attention of one token per slot.
//!
//! A cache is `[n_slots, n_kv_heads, capacity, head_dim]`: the positions of a head lie one after the
//! other, which is the order in which attention reads them.

use super::super::{CacheRows, HeadLayout};
use super::simd::{add_scaled, dot, exp, max, sum, vectorized};
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
    heads: HeadLayout,
    rows: &CacheRows,
) -> Vec<f32> {
    let d = heads.head_dim;
    let scale = heads.scale() as f32;
    let n = qkv.len() / heads.width();
    let mut out = vec![0f32; n * heads.q_width()];
    out.par_chunks_mut(heads.q_width())
        .enumerate()
        .for_each(|(i, out)| {
            let (slot, position) = rows.of(i);
            let visible = position + 1;
            let queries = &qkv[i * heads.width()..][..heads.q_width()];
            let mut weights = vec![0f32; visible];
            vectorized(
                #[inline(always)]
                || {
                    let per_head = out.chunks_exact_mut(d).zip(queries.chunks_exact(d));
                    for (h, (out, query)) in per_head.enumerate() {
                        let head = slot * heads.n_kv_heads + h / heads.group();
                        let filled = head * capacity * d..(head * capacity + visible) * d;
                        let (keys, values) = (&keys[filled.clone()], &values[filled]);
                        for (weight, key) in weights.iter_mut().zip(keys.chunks_exact(d)) {
                            *weight = dot(query, key) * scale;
                        }
                        let top = max(&weights);
                        for weight in weights.iter_mut() {
                            *weight = exp(*weight - top);
                        }
                        let normalizer = 1.0 / sum(&weights);
                        for (&weight, value) in weights.iter().zip(values.chunks_exact(d)) {
                            add_scaled(out, weight * normalizer, value);
                        }
                    }
                },
            );
        });
    out
}
