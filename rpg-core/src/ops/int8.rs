//! Weight matrices of 8-bit integers, for sampling.

use super::simd::vectorized;
use rayon::prelude::*;

/// Rows (outputs) that lie together in memory.
pub(super) const ROWS: usize = 16;

/// Columns of each of these rows that lie together.
pub(super) const COLUMNS: usize = 4;

/// Bytes that lie together.
pub(super) const STEP: usize = ROWS * COLUMNS;

/// How a weight of 0 is stored.
pub(super) const ZERO: u8 = 128;

/// The whole numbers that a row is rounded to reach from `-LARGEST` to `LARGEST`.
const LARGEST: f32 = 127.0;

/// A matrix `[outputs, inputs]` of 8-bit integers with a scale per output: a weight is `scale * q` with a whole `q` from
/// -127 to 127, the nearest to the weight that it stands for.
///
/// It has a quarter of the size of f32 and half of that of bf16, and many CPUs multiply such integers several times as
/// fast. [`ModelBackend::project_int8`](super::ModelBackend::project_int8) rounds the inputs in the same way, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Matrix {
    n_outputs: usize,
    n_inputs: usize,
    // Blocks of `ROWS` rows; in a block, `COLUMNS` columns of each row after one another, as `q + ZERO`. What is missing
    // at the edges is `ZERO`.
    stored: Vec<u8>,
    scales: Vec<f32>,
}

impl Int8Matrix {
    /// Sums of products of 8-bit integers stay within 32 bits for this many inputs.
    pub const MAX_INPUTS: usize = 1 << 16;

    /// The matrix nearest to `weight`, `[outputs, inputs]`, whose values must be finite.
    ///
    /// # Panics
    /// If `weight` has not `n_outputs * n_inputs` values, or there are more than [`MAX_INPUTS`](Self::MAX_INPUTS) inputs.
    pub fn new(weight: &[f32], n_outputs: usize, n_inputs: usize) -> Self {
        assert_eq!(
            weight.len(),
            n_outputs * n_inputs,
            "the shape of the matrix"
        );
        assert!(n_inputs <= Self::MAX_INPUTS, "sums would exceed 32 bits");
        let block_len = n_inputs.div_ceil(COLUMNS) * STEP;
        let mut stored = vec![ZERO; n_outputs.div_ceil(ROWS) * block_len];
        let mut scales = vec![0.0; n_outputs];
        if n_inputs > 0 {
            stored
                .par_chunks_exact_mut(block_len)
                .zip(scales.par_chunks_mut(ROWS))
                .zip(weight.par_chunks(ROWS * n_inputs))
                .for_each(|((block, scales), rows)| {
                    vectorized(|| round(rows, n_inputs, block, scales));
                });
        }
        Self {
            n_outputs,
            n_inputs,
            stored,
            scales,
        }
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        [self.n_outputs, self.n_inputs]
    }

    /// The weights that the integers stand for, `[outputs, inputs]`.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut weights = Vec::with_capacity(self.n_outputs * self.n_inputs);
        let block_len = self.n_inputs.div_ceil(COLUMNS) * STEP;
        for (i, scale) in self.scales.iter().enumerate() {
            let block = &self.stored[i / ROWS * block_len..][..block_len];
            for j in 0..self.n_inputs {
                let stored = block[j / COLUMNS * STEP + i % ROWS * COLUMNS + j % COLUMNS];
                weights.push(scale * f32::from(stored.wrapping_sub(ZERO) as i8));
            }
        }
        weights
    }

    /// The blocks of rows.
    #[cfg(feature = "cpu")]
    pub(super) fn stored(&self) -> &[u8] {
        &self.stored
    }

    /// The scale of each output.
    #[cfg(feature = "cpu")]
    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }
}

/// Writes a block of rows as integers, and their scales.
#[inline(always)]
fn round(rows: &[f32], n_inputs: usize, block: &mut [u8], scales: &mut [f32]) {
    for (i, (row, scale)) in rows.chunks_exact(n_inputs).zip(scales).enumerate() {
        let of_row = Scale::of(row);
        *scale = of_row.value;
        let steps = block.as_chunks_mut::<STEP>().0;
        for (step, weights) in steps.iter_mut().zip(row.chunks(COLUMNS)) {
            let place = &mut step[i * COLUMNS..][..COLUMNS];
            for (stored, &weight) in place.iter_mut().zip(weights) {
                *stored = (of_row.whole(weight) as i8 as u8).wrapping_add(ZERO);
            }
        }
    }
}

/// What the whole numbers of a row are multiplied by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) value: f32,
    inverse: f32,
}

impl Scale {
    /// That of a row: its largest value becomes 127. A row whose values are all too small to be divided by is 0.
    #[inline(always)]
    pub(super) fn of(row: &[f32]) -> Self {
        let mut largest = [0f32; 16];
        let (blocks, rest) = row.as_chunks::<16>();
        for block in blocks {
            for (largest, x) in largest.iter_mut().zip(block) {
                *largest = if x.abs() > *largest {
                    x.abs()
                } else {
                    *largest
                };
            }
        }
        let all = largest.iter().chain(rest);
        let largest = all.fold(0f32, |most, x| most.max(x.abs()));
        let inverse = LARGEST / largest;
        if inverse.is_finite() {
            Self {
                value: largest / LARGEST,
                inverse,
            }
        } else {
            Self {
                value: 0.0,
                inverse: 0.0,
            }
        }
    }

    /// The whole number nearest to `x / scale`.
    #[inline(always)]
    pub(super) fn whole(self, x: f32) -> i32 {
        // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        let shifted = (x * self.inverse).clamp(-LARGEST, LARGEST) + ROUND;
        shifted.to_bits() as i32 - ROUND.to_bits() as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_off_by_half_a_scale_at_most() {
        let weight: Vec<f32> = (0..7 * 19)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01 * (1.0 + (i / 19) as f32))
            .collect();
        let matrix = Int8Matrix::new(&weight, 7, 19);
        assert_eq!(matrix.shape(), [7, 19]);
        let rows = weight.chunks_exact(19);
        for (row, found) in rows.zip(matrix.to_f32().chunks_exact(19)) {
            let scale = row.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
            let mut is_exact = false;
            for (x, y) in row.iter().zip(found) {
                assert!((x - y).abs() <= 0.5001 * scale, "{x} {y}");
                is_exact |= (x - y).abs() <= 1e-6 * x.abs();
            }
            assert!(is_exact, "the largest value of a row is kept");
        }
    }

    #[test]
    fn rows_of_zeros_and_tiny_values_stay_finite() {
        let matrix = Int8Matrix::new(&[0.0, 0.0, 1e-40, -1e-40], 2, 2);
        assert_eq!(matrix.to_f32(), [0.0; 4]);
    }
}
