//! Log-probabilities under the output layer without ever holding all logits: those of one block of the vocabulary
//! exist at a time, for all rows. Each pass reads every weight once, and its gradient is written once.

use super::matmul::{Matrix, Threads, matmul};
use super::rows::Rows;
use super::rows_of;
use crate::ops::simd::{dot, exp, max, sum, vectorized};
use rayon::prelude::*;

/// Logits of a row that are summed together, whatever the size of a block: results do not depend on it.
const PIECE: usize = 256;

/// The operands: `hidden` is `[m, d]`, `head` is `[v, d]`, one target per row.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) hidden: &'a [f32],
    pub(super) head: &'a Rows,
    pub(super) targets: &'a [i32],
    pub(super) d: usize,
    pub(super) v: usize,
    pub(super) inverse_temperature: f32,
    pub(super) max_logits: usize,
}

impl<'a> Operands<'a> {
    fn m(&self) -> usize {
        self.targets.len()
    }

    /// Number of tokens in a block.
    fn width(&self) -> usize {
        let fitting = self.max_logits / self.m().max(1);
        (fitting / PIECE * PIECE).max(PIECE).min(self.v)
    }

    fn hidden(&self) -> Matrix<'a> {
        Matrix::rows(self.hidden, self.d)
    }

    /// Calls `work` with the first token of each block, the weights of the block and its logits, row by row.
    fn for_each_block(&self, mut work: impl FnMut(usize, &[f32], &mut [f32])) {
        let (m, v, width) = (self.m(), self.v, self.width());
        let mut logits = vec![0f32; m * width];
        for start in (0..v).step_by(width) {
            let n = width.min(v - start);
            let logits = &mut logits[..m * n];
            let block = &self.head.get(start..start + n, self.d)[..];
            matmul(
                Threads::All,
                (logits, n),
                false,
                1.0,
                self.hidden(),
                Matrix::rows(block, self.d).transposed(),
                [m, n, self.d],
            );
            work(start, block, logits);
        }
    }
}

/// Rows per unit of parallel work.
fn unit(width: usize) -> usize {
    rows_of(65_536, width)
}

/// What is known about a row so far, with `d = (x - top) / t`.
#[derive(Clone, Copy)]
struct Row {
    /// The largest logit.
    top: f32,
    /// `sum e^d`.
    total: f32,
    /// `sum d * e^d`.
    weighted: f32,
    /// The target's logit.
    target: f32,
}

impl Row {
    const EMPTY: Self = Self {
        top: f32::NEG_INFINITY,
        total: 0.0,
        weighted: 0.0,
        target: 0.0,
    };

    #[inline(always)]
    fn add(&mut self, piece: &[f32], inverse_temperature: f32) {
        let top = max(piece);
        if top > self.top {
            // e^(d + shift) = e^d * e^shift.
            let shift = (self.top - top) * inverse_temperature;
            let (factor, shift) = if self.total > 0.0 {
                (exp(shift), shift)
            } else {
                (0.0, 0.0)
            };
            self.weighted = factor * (self.weighted + shift * self.total);
            self.total *= factor;
            self.top = top;
        }
        let (mut e, mut de) = ([0f32; PIECE], [0f32; PIECE]);
        for ((e, de), &x) in e.iter_mut().zip(&mut de).zip(piece) {
            let d = (x - self.top) * inverse_temperature;
            *e = exp(d);
            *de = d * *e;
        }
        self.total += sum(&e[..piece.len()]);
        self.weighted += sum(&de[..piece.len()]);
    }
}

/// Log-probability of each target, and entropy.
pub(super) fn forward(operands: Operands) -> (Vec<f32>, Vec<f32>) {
    let Operands {
        targets,
        inverse_temperature,
        ..
    } = operands;
    let mut rows = vec![Row::EMPTY; targets.len()];
    operands.for_each_block(|start, _, logits| {
        let n = logits.len() / targets.len().max(1);
        rows.par_chunks_mut(unit(n))
            .zip(targets.par_chunks(unit(n)))
            .zip(logits.par_chunks(unit(n) * n))
            .for_each(|((rows, targets), logits)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (i, logits) in logits.chunks_exact(n).enumerate() {
                            for piece in logits.chunks(PIECE) {
                                rows[i].add(piece, inverse_temperature);
                            }
                            if let Some(&x) = logits.get((targets[i] as usize).wrapping_sub(start))
                            {
                                rows[i].target = x;
                            }
                        }
                    },
                );
            });
    });
    rows.iter()
        .map(|row| {
            let log_total = row.total.ln();
            (
                (row.target - row.top) * inverse_temperature - log_total,
                log_total - row.weighted / row.total,
            )
        })
        .unzip()
}

/// Gradients of the log-probabilities with respect to `hidden` and `head`; `logprobs` is what [`forward`] gave. With
/// `entropy`, what it gave and the gradient of that, those of the entropies are in them too. That of `head` is computed
/// only if it is trained.
pub(super) fn backward(
    operands: Operands,
    logprobs: &[f32],
    grad: &[f32],
    entropy: Option<(&[f32], &[f32])>,
    is_trained: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let Operands {
        hidden,
        head,
        targets,
        d,
        inverse_temperature,
        ..
    } = operands;
    let m = targets.len();
    let mut d_hidden = vec![0f32; hidden.len()];
    let mut d_head = is_trained.then(|| vec![0f32; operands.v * d]);
    // The logarithm of each row's sum of `e^(x / t)`.
    let normalizers: Vec<f32> = vectorized(
        #[inline(always)]
        || {
            let mut normalizers = vec![0f32; m];
            for (i, normalizer) in normalizers.iter_mut().enumerate() {
                let target = targets[i] as usize;
                let x = dot(&hidden[i * d..][..d], &head.get(target..target + 1, d));
                *normalizer = x * inverse_temperature - logprobs[i];
            }
            normalizers
        },
    );
    operands.for_each_block(|start, block, logits| {
        let n = logits.len() / m.max(1);
        logits
            .par_chunks_mut(unit(n) * n)
            .enumerate()
            .for_each(|(block, logits)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (i, logits) in logits.chunks_exact_mut(n).enumerate() {
                            let i = block * unit(n) + i;
                            let (normalizer, factor) =
                                (normalizers[i], grad[i] * inverse_temperature);
                            match entropy {
                                None => {
                                    for x in logits.iter_mut() {
                                        *x = -factor * exp(*x * inverse_temperature - normalizer);
                                    }
                                }
                                // d H / d x = -p * (log p + H) / t.
                                Some((entropy, grad)) => {
                                    let (h, slope) = (entropy[i], grad[i] * inverse_temperature);
                                    for x in logits.iter_mut() {
                                        let logprob = *x * inverse_temperature - normalizer;
                                        *x = -(factor + slope * (logprob + h)) * exp(logprob);
                                    }
                                }
                            }
                            let target = (targets[i] as usize).wrapping_sub(start);
                            if let Some(x) = logits.get_mut(target) {
                                *x += factor;
                            }
                        }
                    },
                );
            });
        let d_logits = Matrix::rows(logits, n);
        if let Some(d_head) = &mut d_head {
            matmul(
                Threads::All,
                (&mut d_head[start * d..], d),
                false,
                1.0,
                d_logits.transposed(),
                operands.hidden(),
                [n, d, m],
            );
        }
        let (out, keep) = ((&mut d_hidden[..], d), start > 0);
        matmul(
            Threads::All,
            out,
            keep,
            1.0,
            d_logits,
            Matrix::rows(block, d),
            [m, d, n],
        );
    });
    (d_hidden, d_head)
}
