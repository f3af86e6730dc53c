//! One row of logits, from which the sampler draws.

use super::simd::{exp, max, sum, vectorized};

/// Logits that are summed together: `sum e^d` of a row is the sum, in order, of the sums of its pieces.
const PIECE: usize = 256;

/// The probabilities of one row of logits in host memory, up to their sum: `e^d` with
/// `d = (x - max) / temperature`.
pub struct RowWeights<'a> {
    row: &'a [f32],
    top: f32,
    inverse_temperature: f32,
    pieces: Vec<f32>,
}

impl<'a> RowWeights<'a> {
    /// The weights of a row of logits, each multiplied by `inverse_temperature`.
    pub fn new(row: &'a [f32], inverse_temperature: f32) -> Self {
        let mut pieces = vec![0f32; row.len().div_ceil(PIECE)];
        let top = vectorized(
            #[inline(always)]
            || {
                let top = max(row);
                for (piece, part) in pieces.iter_mut().zip(row.chunks(PIECE)) {
                    let mut e = [0f32; PIECE];
                    exps(part, top, inverse_temperature, &mut e);
                    *piece = sum(&e[..part.len()]);
                }
                top
            },
        );
        Self {
            row,
            top,
            inverse_temperature,
            pieces,
        }
    }

    /// Log-probability of `target`, as [`ModelBackend::token_logprobs`](crate::ops::ModelBackend::token_logprobs)
    /// defines it.
    ///
    /// # Panics
    /// If `target` is not below the length of the row.
    pub fn logprob(&self, target: usize) -> f32 {
        let total = self.pieces.iter().fold(0f32, |sum, piece| sum + piece);
        (self.row[target] - self.top) * self.inverse_temperature - total.ln()
    }

    /// The first index at which the sum of the weights so far exceeds `part`, from 0 to 1, of all of them.
    pub fn quantile(&self, part: f64) -> usize {
        let total: f64 = self.pieces.iter().map(|&piece| f64::from(piece)).sum();
        let threshold = part * total;
        let mut before = 0.0;
        // The last piece and the last index that weigh anything, in case rounding hides the right one.
        let (mut last, mut start) = (0, 0.0);
        for (i, &piece) in self.pieces.iter().enumerate() {
            if piece > NOTHING {
                (last, start) = (i, before);
            }
            before += f64::from(piece);
            if before > threshold {
                break;
            }
        }
        let part = &self.row[last * PIECE..];
        let part = &part[..part.len().min(PIECE)];
        let mut weights = [0f32; PIECE];
        vectorized(
            #[inline(always)]
            || exps(part, self.top, self.inverse_temperature, &mut weights),
        );
        let mut index = 0;
        for (i, &weight) in weights[..part.len()].iter().enumerate() {
            if weight > NOTHING {
                index = i;
                start += f64::from(weight);
                if start > threshold {
                    break;
                }
            }
        }
        last * PIECE + index
    }

    /// All weights, in order; the largest is 1.
    pub fn all(&self) -> Vec<f32> {
        let mut all = vec![0f32; self.row.len()];
        vectorized(
            #[inline(always)]
            || exps(self.row, self.top, self.inverse_temperature, &mut all),
        );
        all
    }
}

/// [`exp`] returns less than this where `e^x` is too small for it.
const NOTHING: f32 = 2e-38;

/// `e^d` of each logit.
#[inline(always)]
fn exps(part: &[f32], top: f32, inverse_temperature: f32, e: &mut [f32]) {
    for (e, &x) in e.iter_mut().zip(part) {
        *e = exp((x - top) * inverse_temperature);
    }
}
