//! The gradients of the gated delta rule: backwards in time, with the states of some tokens at a time.

use super::rule::{Directions, Gates, Operands, STATE_ROWS, Token, Unit, sigmoid, softplus};
use crate::ops::delta::LENGTH_EPS;
use crate::ops::simd::{add_scaled, dot, vectorized};
use crate::ops::{DeltaHeads, Packing};
use rayon::prelude::*;

/// Tokens whose states exist at a time.
const SEGMENT: usize = 64;

/// Gradients of all operands.
pub(super) struct Gradients {
    pub(super) qkv: Vec<f32>,
    pub(super) gates: Vec<f32>,
    pub(super) a_log: Vec<f32>,
    pub(super) dt_bias: Vec<f32>,
}

/// Gradients of a unit: of its queries and keys `[len, key_dim]`, and of its value heads.
struct OfUnit {
    queries: Vec<f32>,
    keys: Vec<f32>,
    heads: Vec<OfHead>,
}

/// Gradients of a value head: of values `[len, value_dim]`, of `b` and `a` `[len]`.
struct OfHead {
    values: Vec<f32>,
    b: Vec<f32>,
    a: Vec<f32>,
    a_log: f32,
    dt_bias: f32,
}

pub(super) fn backward(operands: &Operands, packing: &Packing, grad: &[f32]) -> Gradients {
    let heads = operands.heads;
    let units: Vec<_> = Unit::all(operands, packing)
        .map(|unit| {
            let of = of_unit(&unit, grad);
            (unit, of)
        })
        .collect();
    let (n, n_heads) = (packing.n_tokens(), heads.n_value_heads);
    let mut all = Gradients {
        qkv: vec![0f32; n * heads.width()],
        gates: vec![0f32; n * 2 * n_heads],
        a_log: vec![0f32; n_heads],
        dt_bias: vec![0f32; n_heads],
    };
    for (unit, of) in &units {
        all.add(unit, of, heads);
    }
    all
}

impl Gradients {
    /// Puts those of a unit in their places.
    fn add(&mut self, unit: &Unit, of: &OfUnit, heads: DeltaHeads) {
        let (kd, vd, n_heads) = (heads.key_dim, heads.value_dim, heads.n_value_heads);
        for (t, token) in unit.tokens.clone().enumerate() {
            let row = &mut self.qkv[token * heads.width()..][..heads.width()];
            let mut put = |column: usize, part: &[f32]| {
                row[column..column + part.len()].copy_from_slice(part);
            };
            let key = unit.key_head * kd;
            put(key, &of.queries[t * kd..][..kd]);
            put(heads.key_width() + key, &of.keys[t * kd..][..kd]);
            let gates = &mut self.gates[token * 2 * n_heads..][..2 * n_heads];
            for (head, of) in unit.value_heads().zip(&of.heads) {
                put(
                    2 * heads.key_width() + head * vd,
                    &of.values[t * vd..][..vd],
                );
                gates[head] = of.b[t];
                gates[n_heads + head] = of.a[t];
            }
        }
        for (head, of) in unit.value_heads().zip(&of.heads) {
            self.a_log[head] += of.a_log;
            self.dt_bias[head] += of.dt_bias;
        }
    }
}

fn of_unit(unit: &Unit, grad: &[f32]) -> OfUnit {
    let (len, kd) = (unit.len(), unit.operands.heads.key_dim);
    let (queries, keys) = (unit.queries(), unit.keys());
    let mut of_queries = vec![0f32; len * kd];
    let mut of_keys = vec![0f32; len * kd];
    let heads = unit
        .value_heads()
        .map(|head| {
            let mut pass = HeadPass {
                unit,
                head,
                grad,
                gates: unit.gates(head),
                queries: &queries,
                keys: &keys,
                of_queries: &mut of_queries,
                of_keys: &mut of_keys,
                of_values: vec![0f32; len * unit.operands.heads.value_dim],
                of_kept: vec![0f32; len],
                of_written: vec![0f32; len],
            };
            pass.run();
            pass.finish()
        })
        .collect();
    along(&mut of_queries, &queries, |t| unit.query(t));
    along(&mut of_keys, &keys, |t| unit.key(t));
    OfUnit {
        queries: of_queries,
        keys: of_keys,
        heads,
    }
}

/// Makes gradients of rows that were divided by their lengths those of the rows.
fn along<'a>(grads: &mut [f32], of: &Directions, row: impl Fn(usize) -> &'a [f32]) {
    let kd = grads.len() / of.scales.len().max(1);
    vectorized(
        #[inline(always)]
        || {
            for (t, (grad, &scale)) in grads.chunks_exact_mut(kd).zip(&of.scales).enumerate() {
                let x = row(t);
                let inverse = 1.0 / (dot(x, x) + LENGTH_EPS as f32);
                let share = dot(x, grad) * inverse;
                for (g, x) in grad.iter_mut().zip(x) {
                    *g = (*g - x * share) * scale;
                }
            }
        },
    );
}

/// The backward pass of a value head of a unit.
struct HeadPass<'a> {
    unit: &'a Unit<'a>,
    head: usize,
    grad: &'a [f32],
    gates: Gates,
    queries: &'a Directions,
    keys: &'a Directions,
    of_queries: &'a mut [f32],
    of_keys: &'a mut [f32],
    of_values: Vec<f32>,
    of_kept: Vec<f32>,
    of_written: Vec<f32>,
}

impl<'a> HeadPass<'a> {
    fn token(&self, t: usize) -> Token<'a> {
        let kd = self.unit.operands.heads.key_dim;
        let (queries, keys) = (self.queries, self.keys);
        Token {
            query: &queries.rows[t * kd..][..kd],
            key: &keys.rows[t * kd..][..kd],
            kept: self.gates.kept[t],
            written: self.gates.written[t],
        }
    }

    /// Some rows of the state after another, each with all tokens.
    fn run(&mut self) {
        let heads = self.unit.operands.heads;
        for first in (0..heads.value_dim).step_by(STATE_ROWS) {
            let n_rows = STATE_ROWS.min(heads.value_dim - first);
            self.rows(first, n_rows);
        }
    }

    fn rows(&mut self, first: usize, n_rows: usize) {
        let (len, kd) = (self.unit.len(), self.unit.operands.heads.key_dim);
        let size = n_rows * kd;
        // The states before each segment.
        let mut starts = vec![0f32; len.div_ceil(SEGMENT) * size];
        let mut state = vec![0f32; size];
        for t in 0..len {
            if t % SEGMENT == 0 {
                starts[t / SEGMENT * size..][..size].copy_from_slice(&state);
            }
            self.pass(t, first, &mut state);
        }
        // The states before each token of a segment, and that after the last.
        let mut states = vec![0f32; (SEGMENT + 1) * size];
        let mut of_state = vec![0f32; size];
        for (segment, start) in starts.chunks_exact(size).enumerate().rev() {
            let tokens = segment * SEGMENT..len.min((segment + 1) * SEGMENT);
            states[..size].copy_from_slice(start);
            for (i, t) in tokens.clone().enumerate() {
                states.copy_within(i * size..(i + 1) * size, (i + 1) * size);
                self.pass(t, first, &mut states[(i + 1) * size..(i + 2) * size]);
            }
            for (i, t) in tokens.enumerate().rev() {
                let (before, after) = states[i * size..(i + 2) * size].split_at(size);
                self.step(t, first, before, after, &mut of_state);
            }
        }
    }

    /// Passes a token over some rows.
    fn pass(&self, t: usize, first: usize, state: &mut [f32]) {
        let kd = self.unit.operands.heads.key_dim;
        let (token, values) = (self.token(t), &self.unit.value(t, self.head)[first..]);
        vectorized(
            #[inline(always)]
            || {
                for (row, &value) in state.chunks_exact_mut(kd).zip(values) {
                    token.pass(row, value);
                }
            },
        );
    }

    /// Adds the gradients of a token, and makes that of the state after it that of the state before it.
    fn step(
        &mut self,
        t: usize,
        first: usize,
        before: &[f32],
        after: &[f32],
        of_state: &mut [f32],
    ) {
        let heads = self.unit.operands.heads;
        let (kd, vd) = (heads.key_dim, heads.value_dim);
        let token = self.token(t);
        let at = (self.unit.tokens.start + t) * heads.value_width() + self.head * vd + first;
        let values = &self.unit.value(t, self.head)[first..];
        let of_query = &mut self.of_queries[t * kd..][..kd];
        let of_key = &mut self.of_keys[t * kd..][..kd];
        let of_values = &mut self.of_values[t * vd + first..];
        let (mut of_kept, mut of_written) = (0.0, 0.0);
        let rows = before.chunks_exact(kd).zip(after.chunks_exact(kd));
        vectorized(
            #[inline(always)]
            || {
                for (r, ((before, after), of_row)) in
                    rows.zip(of_state.chunks_exact_mut(kd)).enumerate()
                {
                    let grad = self.grad[at + r];
                    let error = token.error(before, values[r]);
                    let change = token.written * error;
                    let of_change = token.of_change(grad, change, after, of_row, of_query, of_key);
                    let of_error = token.written * of_change;
                    of_values[r] = of_error;
                    of_written += of_change * error;
                    of_kept += token.of_kept(of_error, before, of_row, of_key);
                }
            },
        );
        self.of_kept[t] += of_kept;
        self.of_written[t] += of_written;
    }

    fn finish(self) -> OfHead {
        let Gates { a, kept, written } = &self.gates;
        let rate = -self.unit.operands.a_log[self.head].exp();
        let of_log: Vec<f32> = self.of_kept.iter().zip(kept).map(|(g, k)| g * k).collect();
        let slope = |(of, &a): (&f32, &f32)| of * rate * sigmoid(a);
        let of_a: Vec<f32> = of_log.iter().zip(a).map(slope).collect();
        let of_written = self.of_written.iter().zip(written);
        OfHead {
            values: self.of_values,
            b: of_written.map(|(g, w)| g * w * (1.0 - w)).collect(),
            dt_bias: of_a.iter().sum(),
            a_log: of_log
                .iter()
                .zip(a)
                .map(|(g, &a)| g * softplus(a) * rate)
                .sum(),
            a: of_a,
        }
    }
}

impl Token<'_> {
    /// The gradient of what was added along the key, given that of what was read. Adds the gradient of the query, what the
    /// key has from being written along, and to `of_row` what reading gives.
    #[inline(always)]
    fn of_change(
        &self,
        grad: f32,
        change: f32,
        after: &[f32],
        of_row: &mut [f32],
        of_query: &mut [f32],
        of_key: &mut [f32],
    ) -> f32 {
        add_scaled(of_row, grad, self.query);
        add_scaled(of_query, grad, after);
        add_scaled(of_key, change, of_row);
        dot(of_row, self.key)
    }

    /// The gradient of the share that was kept. Adds what the key has from the error, and makes `of_row` the gradient of
    /// the row before the token.
    #[inline(always)]
    fn of_kept(
        &self,
        of_error: f32,
        before: &[f32],
        of_row: &mut [f32],
        of_key: &mut [f32],
    ) -> f32 {
        add_scaled(of_row, -of_error, self.key);
        add_scaled(of_key, -of_error * self.kept, before);
        let of_kept = dot(of_row, before);
        for x in of_row {
            *x *= self.kept;
        }
        of_kept
    }
}
