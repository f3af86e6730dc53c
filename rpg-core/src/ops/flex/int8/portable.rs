//! Sums of products as plain loops, which the compiler vectorises for the CPU at hand.

use super::{COLUMNS, Kernel, ROWS, STEP, Sums};
use crate::ops::simd::vectorized;

#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Kernel for Portable {
    const MAX_INPUT_ROWS: usize = 2;

    fn sums<const R: usize, const C: usize>(
        self,
        weights: [&[u8]; R],
        inputs: [&[i32]; C],
    ) -> Sums<R, C> {
        vectorized(|| weights.map(|weights| block(weights, inputs)))
    }
}

/// One block of weight rows.
#[inline(always)]
fn block<const C: usize>(weights: &[u8], inputs: [&[i32]; C]) -> [[i32; ROWS]; C] {
    let mut sums = [[0; ROWS]; C];
    for (step, weights) in weights.as_chunks::<STEP>().0.iter().enumerate() {
        for column in 0..COLUMNS {
            let weights: [i32; ROWS] =
                std::array::from_fn(|row| i32::from(weights[row * COLUMNS + column]));
            for c in 0..C {
                let input = i32::from(inputs[c][step].to_le_bytes()[column] as i8);
                for (sum, weight) in sums[c].iter_mut().zip(weights) {
                    *sum += weight * input;
                }
            }
        }
    }
    sums
}
