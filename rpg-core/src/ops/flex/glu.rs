//! `activation(gate) * up` in one pass each way.

use super::rows_of;
use crate::ops::Activation;
use crate::ops::layout::{GELU_CUBE, GELU_SCALE};
use crate::ops::simd::{exp, vectorized};
use rayon::prelude::*;

/// Results per unit of parallel work.
const UNIT: usize = 16_384;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// An activation `x * sigmoid(inner(x))`.
trait Inner {
    /// `inner(x)`.
    fn at(x: f32) -> f32;

    /// Its slope.
    fn slope(x: f32) -> f32;
}

struct Silu;

impl Inner for Silu {
    #[inline(always)]
    fn at(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.0
    }
}

struct GeluTanh;

impl Inner for GeluTanh {
    #[inline(always)]
    fn at(x: f32) -> f32 {
        GELU_SCALE as f32 * x * (1.0 + GELU_CUBE as f32 * x * x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        GELU_SCALE as f32 * (1.0 + 3.0 * GELU_CUBE as f32 * x * x)
    }
}

pub(super) fn forward(gate_up: &[f32], width: usize, activation: Activation) -> Vec<f32> {
    match activation {
        Activation::Silu => forward_of::<Silu>(gate_up, width),
        Activation::GeluTanh => forward_of::<GeluTanh>(gate_up, width),
    }
}

pub(super) fn backward(
    gate_up: &[f32],
    grad: &[f32],
    width: usize,
    activation: Activation,
) -> Vec<f32> {
    match activation {
        Activation::Silu => backward_of::<Silu>(gate_up, grad, width),
        Activation::GeluTanh => backward_of::<GeluTanh>(gate_up, grad, width),
    }
}

fn forward_of<A: Inner>(gate_up: &[f32], width: usize) -> Vec<f32> {
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
                            *out = g * sigmoid(A::at(g)) * u;
                        }
                    }
                },
            );
        });
    out
}

fn backward_of<A: Inner>(gate_up: &[f32], grad: &[f32], width: usize) -> Vec<f32> {
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
                            let g = gate[i];
                            let s = sigmoid(A::at(g));
                            d_up[i] = grad[i] * g * s;
                            let slope = s * (1.0 + g * (1.0 - s) * A::slope(g));
                            d_gate[i] = grad[i] * up[i] * slope;
                        }
                    }
                },
            );
        });
    out
}
