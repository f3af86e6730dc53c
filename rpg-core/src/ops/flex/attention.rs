//! Causal grouped-query attention over packed sequences, forward and backward, in blocks of queries.
//!
//! One unit of work is a key-value head of a sequence with the query heads it serves. Scores exist for
//! one block of queries at a time and cover only the keys that the block can see, from the first key in the window of
//! its first query; the backward pass
//! computes them again from the log-sum-exp (FlashAttention-2, Dao 2023).

use super::matmul::{Matrix, Threads, matmul};
use crate::ops::simd::{dot, exp, max, sum, vectorized};
use crate::ops::{Attention, HeadLayout, Packing};
use rayon::prelude::*;
use std::ops::Range;

const QUERY_BLOCK: usize = 64;

/// One sequence of the batch and one of its key-value heads.
struct Unit<'a> {
    qkv: &'a [f32],
    attention: Attention,
    heads: HeadLayout,
    tokens: Range<usize>,
    kv_head: usize,
}

/// Some queries of a sequence, and the keys that one of them sees.
#[derive(Clone)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

impl<'a> Unit<'a> {
    fn all(
        qkv: &'a [f32],
        attention: Attention,
        packing: &Packing,
    ) -> impl IndexedParallelIterator<Item = Unit<'a>> {
        let heads = attention.heads;
        let ranges: Vec<_> = packing.ranges().collect();
        (0..ranges.len() * heads.n_kv_heads)
            .into_par_iter()
            .map(move |i| Unit {
                qkv,
                attention,
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

    fn keys(&self, block: &Block) -> Matrix<'a> {
        let first = block.keys.start;
        self.columns(
            first,
            self.heads.q_width() + self.kv_head * self.heads.head_dim,
        )
    }

    fn values(&self, block: &Block) -> Matrix<'a> {
        let start = self.heads.q_width() + self.heads.kv_width();
        self.columns(block.keys.start, start + self.kv_head * self.heads.head_dim)
    }

    fn query_head(&self, member: usize) -> usize {
        self.kv_head * self.heads.group() + member
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let (len, attention) = (self.len(), self.attention);
        (0..len).step_by(QUERY_BLOCK).map(move |start| {
            let queries = start..len.min(start + QUERY_BLOCK);
            Block {
                keys: attention.first(start)..queries.end,
                queries,
            }
        })
    }

    /// Which of the keys of a block a token sees.
    fn seen(&self, block: &Block, token: usize) -> Range<usize> {
        let first = block.keys.start;
        self.attention.first(token) - first..token + 1 - first
    }

    /// Room for the scores of any block.
    fn room(&self) -> Vec<f32> {
        let sizes = self.blocks().map(|b| b.queries.len() * b.keys.len());
        vec![0f32; sizes.max().unwrap_or(0)]
    }

    /// Scaled scores of the queries of a block against its keys.
    fn scores(&self, out: &mut [f32], block: &Block, member: usize) {
        matmul(
            Threads::One,
            (out, block.keys.len()),
            false,
            self.attention.scale as f32,
            self.queries(block.queries.start, member),
            self.keys(block).transposed(),
            [block.queries.len(), block.keys.len(), self.heads.head_dim],
        );
    }
}

/// Results of a unit, one per query head of its group: outputs `[len, head_dim]`, log-sum-exp `[len]`.
type Forward = Vec<(Vec<f32>, Vec<f32>)>;

pub(super) fn forward(
    qkv: &[f32],
    attention: Attention,
    packing: &Packing,
) -> (Vec<f32>, Vec<f32>) {
    let heads = attention.heads;
    let results: Vec<Forward> = Unit::all(qkv, attention, packing)
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
    let mut scores = unit.room();
    (0..unit.heads.group())
        .map(|member| {
            let mut output = vec![0f32; len * d];
            let mut lse = vec![0f32; len];
            for block in unit.blocks() {
                unit.scores(&mut scores, &block, member);
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = scores.chunks_exact_mut(block.keys.len());
                        for (row, token) in rows.zip(block.queries.clone()) {
                            let range = unit.seen(&block, token);
                            row[..range.start].fill(0.0);
                            row[range.end..].fill(0.0);
                            let seen = &mut row[range];
                            let top = max(seen);
                            for s in seen.iter_mut() {
                                *s = exp(*s - top);
                            }
                            let total = sum(seen);
                            let normalizer = 1.0 / total;
                            for s in seen.iter_mut() {
                                *s *= normalizer;
                            }
                            lse[token] = top + total.ln();
                        }
                    },
                );
                matmul(
                    Threads::One,
                    (&mut output[block.queries.start * d..], d),
                    false,
                    1.0,
                    Matrix::rows(&scores, block.keys.len()),
                    unit.values(&block),
                    [block.queries.len(), d, block.keys.len()],
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
    attention: Attention,
    packing: &Packing,
) -> Vec<f32> {
    let heads = attention.heads;
    let results: Vec<Gradients> = Unit::all(qkv, attention, packing)
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
    let (width, scale) = (heads.q_width(), unit.attention.scale as f32);
    let mut keys = vec![0f32; len * d];
    let mut values = vec![0f32; len * d];
    let (mut weights, mut d_scores) = (unit.room(), unit.room());
    let queries = (0..heads.group())
        .map(|member| {
            let head = unit.query_head(member);
            let at = |token: usize| (unit.tokens.start + token) * width + head * d;
            let mut queries = vec![0f32; len * d];
            for block in unit.blocks() {
                let (n, n_keys) = (block.queries.len(), block.keys.len());
                let start = block.queries.start;
                let grad_out = Matrix::rows(&grad[at(start)..], width);
                unit.scores(&mut weights, &block, member);
                let d_weights = [n, n_keys, d];
                let to_values = unit.values(&block).transposed();
                matmul(
                    Threads::One,
                    (&mut d_scores, n_keys),
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
                            .chunks_exact_mut(n_keys)
                            .zip(d_scores.chunks_exact_mut(n_keys));
                        for ((weights, d_scores), token) in rows.zip(block.queries.clone()) {
                            let row = at(token);
                            let delta = dot(&grad[row..row + d], &output[row..row + d]);
                            let lse = lse[(unit.tokens.start + token) * heads.n_heads + head];
                            let range = unit.seen(&block, token);
                            for row in [&mut *weights, &mut *d_scores] {
                                row[..range.start].fill(0.0);
                                row[range.end..].fill(0.0);
                            }
                            let seen = weights[range.clone()].iter_mut();
                            for (w, ds) in seen.zip(&mut d_scores[range]) {
                                *w = exp(*w - lse);
                                *ds = *w * (*ds - delta) * scale;
                            }
                        }
                    },
                );
                let w = Matrix::rows(&weights, n_keys);
                let ds = Matrix::rows(&d_scores, n_keys);
                let block_queries = unit.queries(start, member);
                let first_key = block.keys.start * d;
                matmul(
                    Threads::One,
                    (&mut values[first_key..], d),
                    true,
                    1.0,
                    w.transposed(),
                    grad_out,
                    [n_keys, d, n],
                );
                matmul(
                    Threads::One,
                    (&mut keys[first_key..], d),
                    true,
                    1.0,
                    ds.transposed(),
                    block_queries,
                    [n_keys, d, n],
                );
                let out = (&mut queries[start * d..], d);
                let (of_keys, sizes) = (unit.keys(&block), [n, d, n_keys]);
                matmul(Threads::One, out, false, 1.0, ds, of_keys, sizes);
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
