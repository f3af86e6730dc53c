//! Causal grouped-query attention over packed sequences, forward and backward, in blocks of queries.
//!
//! One unit of work is a key-value head of a sequence with the query heads it serves. Scores exist for
//! one block of queries at a time and cover only the keys that the block can see; the backward pass
//! computes them again from the log-sum-exp (FlashAttention-2, Dao 2023).

use super::matmul::{Matrix, Threads, matmul};
use crate::ops::simd::{dot, exp, max, sum, vectorized};
use crate::ops::{HeadLayout, Packing};
use rayon::prelude::*;
use std::ops::Range;

const QUERY_BLOCK: usize = 64;

/// One sequence of the batch and one of its key-value heads.
struct Unit<'a> {
    qkv: &'a [f32],
    heads: HeadLayout,
    tokens: Range<usize>,
    kv_head: usize,
}

impl<'a> Unit<'a> {
    fn all(
        qkv: &'a [f32],
        heads: HeadLayout,
        packing: &Packing,
    ) -> impl IndexedParallelIterator<Item = Unit<'a>> {
        let ranges: Vec<_> = packing.ranges().collect();
        (0..ranges.len() * heads.n_kv_heads)
            .into_par_iter()
            .map(move |i| Unit {
                qkv,
                heads,
                tokens: ranges[i / heads.n_kv_heads].clone(),
                kv_head: i % heads.n_kv_heads,
            })
    }

    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn columns(&self, token: usize, column: usize) -> Matrix<'a> {
        let at = (self.tokens.start + token) * self.heads.width() + column;
        Matrix::rows(&self.qkv[at..], self.heads.width())
    }

    fn queries(&self, token: usize, member: usize) -> Matrix<'a> {
        self.columns(token, self.query_head(member) * self.heads.head_dim)
    }

    fn keys(&self) -> Matrix<'a> {
        self.columns(0, self.heads.q_width() + self.kv_head * self.heads.head_dim)
    }

    fn values(&self) -> Matrix<'a> {
        let start = self.heads.q_width() + self.heads.kv_width();
        self.columns(0, start + self.kv_head * self.heads.head_dim)
    }

    fn query_head(&self, member: usize) -> usize {
        self.kv_head * self.heads.group() + member
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let len = self.len();
        (0..len)
            .step_by(QUERY_BLOCK)
            .map(move |start| start..len.min(start + QUERY_BLOCK))
    }

    /// Scaled scores of a block of queries against all keys up to its end.
    fn scores(&self, out: &mut [f32], block: &Range<usize>, member: usize) {
        matmul(
            Threads::One,
            (out, block.end),
            false,
            self.heads.scale() as f32,
            self.queries(block.start, member),
            self.keys().transposed(),
            [block.len(), block.end, self.heads.head_dim],
        );
    }
}

/// Results of a unit, one per query head of its group: outputs `[len, head_dim]`, log-sum-exp `[len]`.
type Forward = Vec<(Vec<f32>, Vec<f32>)>;

pub(super) fn forward(qkv: &[f32], heads: HeadLayout, packing: &Packing) -> (Vec<f32>, Vec<f32>) {
    let results: Vec<Forward> = Unit::all(qkv, heads, packing)
        .map(|u| forward_unit(&u))
        .collect();
    let n = packing.n_tokens();
    let (width, d) = (heads.q_width(), heads.head_dim);
    let mut output = vec![0f32; n * width];
    let mut lse = vec![0f32; n * heads.n_heads];
    for (i, result) in results.iter().enumerate() {
        let (sequence, kv_head) = (i / heads.n_kv_heads, i % heads.n_kv_heads);
        for (member, (out, l)) in result.iter().enumerate() {
            let head = kv_head * heads.group() + member;
            for (j, token) in packing.range(sequence).enumerate() {
                output[token * width + head * d..][..d].copy_from_slice(&out[j * d..][..d]);
                lse[token * heads.n_heads + head] = l[j];
            }
        }
    }
    (output, lse)
}

fn forward_unit(unit: &Unit) -> Forward {
    let (len, d) = (unit.len(), unit.heads.head_dim);
    let mut scores = vec![0f32; QUERY_BLOCK.min(len) * len];
    (0..unit.heads.group())
        .map(|member| {
            let mut output = vec![0f32; len * d];
            let mut lse = vec![0f32; len];
            for block in unit.blocks() {
                unit.scores(&mut scores, &block, member);
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, token) in scores.chunks_exact_mut(block.end).zip(block.clone()) {
                            let (seen, hidden) = row.split_at_mut(token + 1);
                            let top = max(seen);
                            for s in seen.iter_mut() {
                                *s = exp(*s - top);
                            }
                            let total = sum(seen);
                            let normalizer = 1.0 / total;
                            for s in seen.iter_mut() {
                                *s *= normalizer;
                            }
                            hidden.fill(0.0);
                            lse[token] = top + total.ln();
                        }
                    },
                );
                matmul(
                    Threads::One,
                    (&mut output[block.start * d..], d),
                    false,
                    1.0,
                    Matrix::rows(&scores, block.end),
                    unit.values(),
                    [block.len(), d, block.end],
                );
            }
            (output, lse)
        })
        .collect()
}

/// Gradients of a unit: queries per member of the group, keys and values, each `[len, head_dim]`.
struct Gradients {
    queries: Vec<Vec<f32>>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

pub(super) fn backward(
    qkv: &[f32],
    output: &[f32],
    lse: &[f32],
    grad: &[f32],
    heads: HeadLayout,
    packing: &Packing,
) -> Vec<f32> {
    let results: Vec<Gradients> = Unit::all(qkv, heads, packing)
        .map(|unit| backward_unit(&unit, output, lse, grad))
        .collect();
    let d = heads.head_dim;
    let mut dqkv = vec![0f32; packing.n_tokens() * heads.width()];
    for (i, result) in results.iter().enumerate() {
        let (sequence, kv_head) = (i / heads.n_kv_heads, i % heads.n_kv_heads);
        let first_key = heads.q_width() + kv_head * d;
        for (j, token) in packing.range(sequence).enumerate() {
            let row = &mut dqkv[token * heads.width()..][..heads.width()];
            for (member, queries) in result.queries.iter().enumerate() {
                let head = kv_head * heads.group() + member;
                row[head * d..][..d].copy_from_slice(&queries[j * d..][..d]);
            }
            row[first_key..][..d].copy_from_slice(&result.keys[j * d..][..d]);
            row[first_key + heads.kv_width()..][..d].copy_from_slice(&result.values[j * d..][..d]);
        }
    }
    dqkv
}

fn backward_unit(unit: &Unit, output: &[f32], lse: &[f32], grad: &[f32]) -> Gradients {
    let (heads, len, d) = (unit.heads, unit.len(), unit.heads.head_dim);
    let (width, scale) = (heads.q_width(), heads.scale() as f32);
    let mut keys = vec![0f32; len * d];
    let mut values = vec![0f32; len * d];
    let mut weights = vec![0f32; QUERY_BLOCK.min(len) * len];
    let mut d_scores = vec![0f32; QUERY_BLOCK.min(len) * len];
    let queries = (0..heads.group())
        .map(|member| {
            let head = unit.query_head(member);
            let at = |token: usize| (unit.tokens.start + token) * width + head * d;
            let mut queries = vec![0f32; len * d];
            for block in unit.blocks() {
                let (n, end) = (block.len(), block.end);
                let grad_out = Matrix::rows(&grad[at(block.start)..], width);
                unit.scores(&mut weights, &block, member);
                let d_weights = [n, end, d];
                let to_values = unit.values().transposed();
                matmul(
                    Threads::One,
                    (&mut d_scores, end),
                    false,
                    1.0,
                    grad_out,
                    to_values,
                    d_weights,
                );
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = weights
                            .chunks_exact_mut(end)
                            .zip(d_scores.chunks_exact_mut(end));
                        for ((weights, d_scores), token) in rows.zip(block.clone()) {
                            let row = at(token);
                            let delta = dot(&grad[row..row + d], &output[row..row + d]);
                            let lse = lse[(unit.tokens.start + token) * heads.n_heads + head];
                            let seen = weights[..=token].iter_mut();
                            for (w, ds) in seen.zip(d_scores.iter_mut()) {
                                *w = exp(*w - lse);
                                *ds = *w * (*ds - delta) * scale;
                            }
                            weights[token + 1..].fill(0.0);
                            d_scores[token + 1..].fill(0.0);
                        }
                    },
                );
                let w = Matrix::rows(&weights, end);
                let ds = Matrix::rows(&d_scores, end);
                let block_queries = unit.queries(block.start, member);
                matmul(
                    Threads::One,
                    (&mut values, d),
                    true,
                    1.0,
                    w.transposed(),
                    grad_out,
                    [end, d, n],
                );
                matmul(
                    Threads::One,
                    (&mut keys, d),
                    true,
                    1.0,
                    ds.transposed(),
                    block_queries,
                    [end, d, n],
                );
                let out = (&mut queries[block.start * d..], d);
                matmul(Threads::One, out, false, 1.0, ds, unit.keys(), [n, d, end]);
            }
            queries
        })
        .collect();
    Gradients {
        queries,
        keys,
        values,
    }
}
