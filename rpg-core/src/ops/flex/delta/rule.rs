//! The gated delta rule.
//!
//! The rows of a state, one for each number of a value, do not know of each other: some of them at a time, which stay in the
//! nearest cache, pass all tokens.

use crate::ops::delta::LENGTH_EPS;
use crate::ops::simd::{dot, vectorized};
use crate::ops::{DeltaHeads, Packing};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a state that pass the tokens together.
pub(super) const STATE_ROWS: usize = 16;

/// The numbers of [`DeltaInputs`](crate::ops::DeltaInputs).
pub(super) struct Operands<'a> {
    pub(super) qkv: &'a [f32],
    pub(super) gates: &'a [f32],
    pub(super) a_log: &'a [f32],
    pub(super) dt_bias: &'a [f32],
    pub(super) heads: DeltaHeads,
}

/// One sequence of the batch and one of its key heads.
pub(super) struct Unit<'a> {
    pub(super) operands: &'a Operands<'a>,
    pub(super) tokens: Range<usize>,
    pub(super) key_head: usize,
}

/// Rows `[len, key_dim]` divided by their lengths, and by what each was multiplied.
pub(super) struct Directions {
    pub(super) rows: Vec<f32>,
    pub(super) scales: Vec<f32>,
}

/// What a head does at each token.
pub(super) struct Gates {
    /// `a + dt_bias`.
    pub(super) a: Vec<f32>,
    /// The share of the state that is kept.
    pub(super) kept: Vec<f32>,
    /// The share of the error that is written.
    pub(super) written: Vec<f32>,
}

/// `ln(1 + e^x)`.
pub(super) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl<'a> Unit<'a> {
    pub(super) fn all(
        operands: &'a Operands<'a>,
        packing: &Packing,
    ) -> impl IndexedParallelIterator<Item = Unit<'a>> {
        let n_heads = operands.heads.n_key_heads;
        let ranges: Vec<_> = packing.ranges().collect();
        (0..ranges.len() * n_heads)
            .into_par_iter()
            .map(move |i| Unit {
                operands,
                tokens: ranges[i / n_heads].clone(),
                key_head: i % n_heads,
            })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Its value heads.
    pub(super) fn value_heads(&self) -> Range<usize> {
        let group = self.operands.heads.group();
        self.key_head * group..(self.key_head + 1) * group
    }

    /// The numbers of a token from a column on.
    fn columns(&self, t: usize, column: usize, n: usize) -> &'a [f32] {
        let at = (self.tokens.start + t) * self.operands.heads.width() + column;
        &self.operands.qkv[at..at + n]
    }

    pub(super) fn query(&self, t: usize) -> &'a [f32] {
        let d = self.operands.heads.key_dim;
        self.columns(t, self.key_head * d, d)
    }

    pub(super) fn key(&self, t: usize) -> &'a [f32] {
        let heads = self.operands.heads;
        let column = heads.key_width() + self.key_head * heads.key_dim;
        self.columns(t, column, heads.key_dim)
    }

    pub(super) fn value(&self, t: usize, head: usize) -> &'a [f32] {
        let heads = self.operands.heads;
        let column = 2 * heads.key_width() + head * heads.value_dim;
        self.columns(t, column, heads.value_dim)
    }

    fn directions(&self, of: impl Fn(usize) -> &'a [f32], factor: f32) -> Directions {
        let mut rows = Vec::with_capacity(self.len() * self.operands.heads.key_dim);
        let mut scales = Vec::with_capacity(self.len());
        vectorized(
            #[inline(always)]
            || {
                for t in 0..self.len() {
                    let x = of(t);
                    let scale = factor / (dot(x, x) + LENGTH_EPS as f32).sqrt();
                    rows.extend(x.iter().map(|x| x * scale));
                    scales.push(scale);
                }
            },
        );
        Directions { rows, scales }
    }

    /// Queries as the rule reads with them.
    pub(super) fn queries(&self) -> Directions {
        let factor = 1.0 / (self.operands.heads.key_dim as f32).sqrt();
        self.directions(|t| self.query(t), factor)
    }

    pub(super) fn keys(&self) -> Directions {
        self.directions(|t| self.key(t), 1.0)
    }

    pub(super) fn gates(&self, head: usize) -> Gates {
        let (operands, n_heads) = (self.operands, self.operands.heads.n_value_heads);
        let rate = -operands.a_log[head].exp();
        let of = |t: usize| &operands.gates[t * 2 * n_heads..][..2 * n_heads];
        let a = |t: usize| of(t)[n_heads + head] + operands.dt_bias[head];
        let tokens = || self.tokens.clone();
        Gates {
            a: tokens().map(a).collect(),
            kept: tokens().map(|t| (rate * softplus(a(t))).exp()).collect(),
            written: tokens().map(|t| sigmoid(of(t)[head])).collect(),
        }
    }

    /// Passes all tokens over the states of its value heads; returns what is read, `[len, group * value_dim]`.
    fn forward(&self, states: &mut [f32]) -> Vec<f32> {
        let DeltaHeads {
            key_dim, value_dim, ..
        } = self.operands.heads;
        let width = self.operands.heads.group() * value_dim;
        let mut output = vec![0f32; self.len() * width];
        let (queries, keys) = (self.queries(), self.keys());
        let each = states.chunks_exact_mut(value_dim * key_dim);
        for ((i, head), state) in self.value_heads().enumerate().zip(each) {
            let gates = self.gates(head);
            for (block, state) in state.chunks_mut(STATE_ROWS * key_dim).enumerate() {
                let first = block * STATE_ROWS;
                vectorized(
                    #[inline(always)]
                    || {
                        for t in 0..self.len() {
                            let at = t * key_dim..(t + 1) * key_dim;
                            let token = Token {
                                query: &queries.rows[at.clone()],
                                key: &keys.rows[at],
                                kept: gates.kept[t],
                                written: gates.written[t],
                            };
                            let values = &self.value(t, head)[first..];
                            let out = &mut output[t * width + i * value_dim + first..];
                            let rows = state.chunks_exact_mut(key_dim);
                            for ((row, value), out) in rows.zip(values).zip(out) {
                                *out = token.pass(row, *value);
                            }
                        }
                    },
                );
            }
        }
        output
    }
}

/// What a token does with a row of a state.
pub(super) struct Token<'a> {
    pub(super) query: &'a [f32],
    pub(super) key: &'a [f32],
    pub(super) kept: f32,
    pub(super) written: f32,
}

impl Token<'_> {
    /// How far the value is from what the row says of it.
    #[inline(always)]
    pub(super) fn error(&self, row: &[f32], value: f32) -> f32 {
        value - self.kept * dot(row, self.key)
    }

    /// Changes the row and reads it.
    #[inline(always)]
    pub(super) fn pass(&self, row: &mut [f32], value: f32) -> f32 {
        let change = self.written * self.error(row, value);
        for (x, &key) in row.iter_mut().zip(self.key) {
            *x = change.mul_add(key, self.kept * *x);
        }
        dot(row, self.query)
    }
}

/// Puts what units have read into rows `[N, n_value_heads * value_dim]`.
fn place(
    output: &mut [f32],
    heads: DeltaHeads,
    tokens: Range<usize>,
    key_head: usize,
    read: &[f32],
) {
    let width = heads.group() * heads.value_dim;
    for (token, read) in tokens.zip(read.chunks_exact(width)) {
        let at = token * heads.value_width() + key_head * width;
        output[at..at + width].copy_from_slice(read);
    }
}

pub(super) fn forward(operands: &Operands, packing: &Packing) -> Vec<f32> {
    let heads = operands.heads;
    let of_unit = heads.state_len() / heads.n_key_heads;
    let read: Vec<_> = Unit::all(operands, packing)
        .map(|unit| {
            let read = unit.forward(&mut vec![0f32; of_unit]);
            (unit.tokens, unit.key_head, read)
        })
        .collect();
    let mut output = vec![0f32; packing.n_tokens() * heads.value_width()];
    for (tokens, key_head, read) in read {
        place(&mut output, heads, tokens, key_head, &read);
    }
    output
}

pub(super) fn cached(
    operands: &Operands,
    states: &mut [f32],
    packing: &Packing,
    slots: &[usize],
) -> Vec<f32> {
    let heads = operands.heads;
    let of_unit = heads.state_len() / heads.n_key_heads;
    let mut sequence_in = vec![None; states.len() / heads.state_len()];
    for (s, &slot) in slots.iter().enumerate() {
        sequence_in[slot] = Some(s);
    }
    let read: Vec<_> = states
        .par_chunks_mut(of_unit)
        .enumerate()
        .filter_map(|(i, state)| {
            let tokens = packing.range(sequence_in[i / heads.n_key_heads]?);
            if packing.positions()[tokens.start] == 0 {
                state.fill(0.0);
            }
            let unit = Unit {
                operands,
                tokens,
                key_head: i % heads.n_key_heads,
            };
            let read = unit.forward(state);
            Some((unit.tokens, unit.key_head, read))
        })
        .collect();
    let mut output = vec![0f32; packing.n_tokens() * heads.value_width()];
    for (tokens, key_head, read) in read {
        place(&mut output, heads, tokens, key_head, &read);
    }
    output
}
