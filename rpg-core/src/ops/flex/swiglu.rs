//! `silu(gate) * up` in one pass each way.

use super::rows_of;
use crate::ops::simd::{exp, vectorized};
use rayon::prelude::*;

/// Results per unit of parallel work.
const UNIT: usize = 16_384;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

pub(super) fn forward(gate_up: &[f32], width: usize) -> Vec<f32> {
    let rows = rows_of(UNIT, width);
    let mut out = vec![0f32; gate_up.len() / 2];
    out.par_chunks_mut(rows * width)
        .zip(gate_up.par_chunks(2 * rows * width))
        .for_each(|(out, gate_up)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = gate_up.chunks_exact(2 * width);
                    for (out, row) in out.chunks_exact_mut(width).zip(rows) {
                        let (gate, up) = row.split_at(width);
                        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                            *out = g * sigmoid(g) * u;
                        }
                    }
                },
            );
        });
    out
}

pub(super) fn backward(gate_up: &[f32], grad: &[f32], width: usize) -> Vec<f32> {
    let rows = rows_of(UNIT, width);
    let mut out = vec![0f32; gate_up.len()];
    out.par_chunks_mut(2 * rows * width)
        .zip(gate_up.par_chunks(2 * rows * width))
        .zip(grad.par_chunks(rows * width))
        .for_each(|((out, gate_up), grad)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = gate_up
                        .chunks_exact(2 * width)
                        .zip(grad.chunks_exact(width));
                    for (out, (row, grad)) in out.chunks_exact_mut(2 * width).zip(rows) {
                        let (gate, up) = row.split_at(width);
                        let (d_gate, d_up) = out.split_at_mut(width);
                        for i in 0..width {
                            let s = sigmoid(gate[i]);
                            d_up[i] = grad[i] * gate[i] * s;
                            d_gate[i] = grad[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
                        }
                    }
                },
            );
        });
    out
}
