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
    /// The tokens that the sequence goes on from.
    prefix: Range<usize>,
    kv_head: usize,
}

/// Some queries of a sequence, counted from its first token, and the positions of the keys that one of them sees.
#[derive(Clone)]
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// Keys of a block that lie one below the other.
struct Run {
    /// Of the prefix, not of the sequence's own tokens.
    is_prefix: bool,
    /// The first one, counted from the first token of the prefix, or the sequence.
    first: usize,
    len: usize,
    /// Where its scores are in a row of the block.
    column: usize,
}

impl<'a> Unit<'a> {
    fn all(
        qkv: &'a [f32],
        attention: Attention,
        packing: &Packing,
    ) -> impl IndexedParallelIterator<Item = Unit<'a>> {
        let heads = attention.heads;
        let packing = packing.clone();
        (0..packing.n_sequences() * heads.n_kv_heads)
            .into_par_iter()
            .map(move |i| Unit {
                qkv,
                attention,
                heads,
                tokens: packing.range(i / heads.n_kv_heads),
                prefix: packing.prefix(i / heads.n_kv_heads),
                kv_head: i % heads.n_kv_heads,
            })
    }

    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn columns(&self, token: usize, column: usize) -> Matrix<'a> {
        let at = token * self.heads.width() + column;
        Matrix::rows(&self.qkv[at..], self.heads.width())
    }

    fn queries(&self, token: usize, member: usize) -> Matrix<'a> {
        let column = self.query_head(member) * self.heads.head_dim;
        self.columns(self.tokens.start + token, column)
    }

    fn keys(&self, run: &Run) -> Matrix<'a> {
        let column = self.heads.q_width() + self.kv_head * self.heads.head_dim;
        self.columns(self.first(run), column)
    }

    fn values(&self, run: &Run) -> Matrix<'a> {
        let start = self.heads.q_width() + self.heads.kv_width();
        self.columns(self.first(run), start + self.kv_head * self.heads.head_dim)
    }

    /// The first token of a run in the batch.
    fn first(&self, run: &Run) -> usize {
        let tokens = if run.is_prefix {
            &self.prefix
        } else {
            &self.tokens
        };
        tokens.start + run.first
    }

    fn query_head(&self, member: usize) -> usize {
        self.kv_head * self.heads.group() + member
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let (len, before, attention) = (self.len(), self.prefix.len(), self.attention);
        (0..len).step_by(QUERY_BLOCK).map(move |start| {
            let queries = start..len.min(start + QUERY_BLOCK);
            Block {
                keys: attention.first(before + start)..before + queries.end,
                queries,
            }
        })
    }

    /// The keys of a block as they lie in the batch: at most those of the prefix and the sequence's own.
    fn runs(&self, block: &Block) -> impl Iterator<Item = Run> + use<> {
        let (keys, before) = (block.keys.clone(), self.prefix.len());
        let own = keys.start.max(before)..keys.end;
        let of_prefix = Run {
            is_prefix: true,
            first: keys.start,
            len: own.start - keys.start,
            column: 0,
        };
        let own = Run {
            is_prefix: false,
            first: own.start - before,
            len: own.len(),
            column: of_prefix.len,
        };
        [of_prefix, own].into_iter().filter(|run| run.len > 0)
    }

    /// Which of the keys of a block a token sees.
    fn seen(&self, block: &Block, token: usize) -> Range<usize> {
        let (first, position) = (block.keys.start, self.prefix.len() + token);
        self.attention.first(position) - first..position + 1 - first
    }

    /// Room for the scores of any block.
    fn room(&self) -> Vec<f32> {
        let sizes = self.blocks().map(|b| b.queries.len() * b.keys.len());
        vec![0f32; sizes.max().unwrap_or(0)]
    }

    /// Scaled scores of the queries of a block against its keys.
    fn scores(&self, out: &mut [f32], block: &Block, member: usize) {
        for run in self.runs(block) {
            matmul(
                Threads::One,
                (&mut out[run.column..], block.keys.len()),
                false,
                self.attention.scale as f32,
                self.queries(block.queries.start, member),
                self.keys(&run).transposed(),
                [block.queries.len(), run.len, self.heads.head_dim],
            );
        }
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
                for run in unit.runs(&block) {
                    matmul(
                        Threads::One,
                        (&mut output[block.queries.start * d..], d),
                        run.column > 0,
                        1.0,
                        Matrix::rows(&scores[run.column..], block.keys.len()),
                        unit.values(&run),
                        [block.queries.len(), d, run.len],
                    );
                }
            }
            (output, lse)
        })
        .collect()
}

/// Gradients of a unit: queries per member of the group, `[len, head_dim]`; keys and values of the prefix and of its own
/// tokens.
struct Gradients {
    queries: Vec<Vec<f32>>,
    of_prefix: [Vec<f32>; 2],
    own: [Vec<f32>; 2],
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
        for (j, token) in packing.range(sequence).enumerate() {
            let row = &mut dqkv[token * heads.width()..][..heads.width()];
            for (member, queries) in result.queries.iter().enumerate() {
                let head = kv_head * heads.group() + member;
                row[head * d..][..d].copy_from_slice(&queries[j * d..][..d]);
            }
        }
        // A token's key and value serve its own sequence and all that go on from it.
        let first_key = heads.q_width() + kv_head * d;
        for (tokens, [keys, values]) in [
            (packing.prefix(sequence), &result.of_prefix),
            (packing.range(sequence), &result.own),
        ] {
            for (j, token) in tokens.enumerate() {
                let row = &mut dqkv[token * heads.width() + first_key..];
                for (to, of) in [(0, keys), (heads.kv_width(), values)] {
                    let to = row[to..][..d].iter_mut();
                    to.zip(&of[j * d..][..d]).for_each(|(to, of)| *to += of);
                }
            }
        }
    }
    dqkv
}

fn backward_unit(unit: &Unit, output: &[f32], lse: &[f32], grad: &[f32]) -> Gradients {
    let (heads, len, d) = (unit.heads, unit.len(), unit.heads.head_dim);
    let (width, scale) = (heads.q_width(), unit.attention.scale as f32);
    let zeros = |n: usize| [vec![0f32; n * d], vec![0f32; n * d]];
    let (mut of_prefix, mut own) = (zeros(unit.prefix.len()), zeros(len));
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
                for run in unit.runs(&block) {
                    matmul(
                        Threads::One,
                        (&mut d_scores[run.column..], n_keys),
                        false,
                        1.0,
                        grad_out,
                        unit.values(&run).transposed(),
                        [n, run.len, d],
                    );
                }
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
                let block_queries = unit.queries(start, member);
                for run in unit.runs(&block) {
                    let w = Matrix::rows(&weights[run.column..], n_keys);
                    let ds = Matrix::rows(&d_scores[run.column..], n_keys);
                    let [keys, values] = if run.is_prefix {
                        &mut of_prefix
                    } else {
                        &mut own
                    };
                    for (out, of_scores, by) in [(values, w, grad_out), (keys, ds, block_queries)] {
                        let out = (&mut out[run.first * d..], d);
                        let (of_scores, sizes) = (of_scores.transposed(), [run.len, d, n]);
                        matmul(Threads::One, out, true, 1.0, of_scores, by, sizes);
                    }
                    let out = (&mut queries[start * d..], d);
                    let (of_keys, sizes) = (unit.keys(&run), [n, d, run.len]);
                    matmul(Threads::One, out, run.column > 0, 1.0, ds, of_keys, sizes);
                }
            }
            queries
        })
        .collect();
    Gradients {
        queries,
        of_prefix,
        own,
    }
}
