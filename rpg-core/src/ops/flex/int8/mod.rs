//! Products with matrices of 8-bit integers.
//!
//! The rows of inputs are rounded to 8 bits too. Sums of products of whole numbers are exact, so that the result is the same
//! bit for bit on every CPU, whatever instructions it has, and for any number of rows and threads.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::project::by_columns;
use crate::ops::int8::{COLUMNS, Int8Matrix, ROWS, STEP, Scale, ZERO};
use crate::ops::simd::vectorized;
use rayon::prelude::*;

/// Blocks of weight rows that are processed together.
const TILE: usize = 4;

/// Sums of products: for each block of weight rows and each row of inputs, one per weight row.
type Sums<const R: usize, const C: usize> = [[[i32; ROWS]; C]; R];

/// The instructions that sum products.
trait Kernel {
    /// Rows of inputs that are processed together.
    const MAX_INPUT_ROWS: usize;

    /// The sums of stored weights (`q + 128`) times inputs. Every slice of `weights` has [`STEP`] bytes for each number of
    /// those of `inputs`, which hold four 8-bit integers each.
    fn sums<const R: usize, const C: usize>(
        self,
        weights: [&[u8]; R],
        inputs: [&[i32]; C],
    ) -> Sums<R, C>;
}

/// `x * weight'`. `x`: `[m, inputs]`; the result is `[m, outputs]`.
pub(super) fn project(x: &[f32], weight: &Int8Matrix) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(kernel) = x86::Vnni::detect() {
            return project_with(kernel, x, weight);
        }
        if let Some(kernel) = x86::Avx2::detect() {
            return project_with(kernel, x, weight);
        }
    }
    project_with(portable::Portable, x, weight)
}

fn project_with(kernel: impl Kernel + Copy + Sync, x: &[f32], weight: &Int8Matrix) -> Vec<f32> {
    let [n, k] = weight.shape();
    if k == 0 || n == 0 {
        return Vec::new();
    }
    let inputs = Inputs::new(x, k);
    let m = inputs.scales.len();
    let mut out = vec![0f32; m * n];
    let columns = by_columns(&mut out, n, TILE * ROWS);
    let block_len = inputs.n_steps * STEP;
    columns
        .into_par_iter()
        .zip(weight.stored().par_chunks(TILE * block_len))
        .zip(weight.scales().par_chunks(TILE * ROWS))
        .for_each(|((mut out, stored), scales)| {
            let mut blocks = stored.chunks_exact(block_len);
            match <[&[u8]; TILE]>::try_from(blocks.clone().collect::<Vec<_>>()) {
                Ok(blocks) => all_rows(kernel, blocks, scales, &inputs, &mut out, 0),
                Err(_) => {
                    let mut first = 0;
                    for block in blocks.by_ref() {
                        all_rows(kernel, [block], &scales[first..], &inputs, &mut out, first);
                        first += ROWS;
                    }
                }
            }
        });
    out
}

/// Rows of inputs as 8-bit integers.
struct Inputs {
    n_steps: usize,
    // Four at a time.
    whole: Vec<i32>,
    scales: Vec<f32>,
    // What the sums with stored weights have too much: 128 times the sum of the row.
    excess: Vec<i32>,
}

impl Inputs {
    fn new(x: &[f32], k: usize) -> Self {
        let n_steps = k.div_ceil(COLUMNS);
        let mut whole = vec![0; x.len() / k * n_steps];
        let (scales, excess) = x
            .par_chunks_exact(k)
            .zip(whole.par_chunks_exact_mut(n_steps))
            .map(|(row, whole)| vectorized(|| round(row, whole)))
            .unzip();
        Self {
            n_steps,
            whole,
            scales,
            excess,
        }
    }
}

/// Writes a row as integers; returns its scale and excess.
#[inline(always)]
fn round(row: &[f32], whole: &mut [i32]) -> (f32, i32) {
    let scale = Scale::of(row);
    let mut sum = 0;
    let (fours, rest) = row.as_chunks::<COLUMNS>();
    let mut last = [0f32; COLUMNS];
    last[..rest.len()].copy_from_slice(rest);
    for (to, four) in whole.iter_mut().zip(fours.iter().chain([&last])) {
        let four = four.map(|x| scale.whole(x));
        sum += four.iter().sum::<i32>();
        *to = i32::from_le_bytes(four.map(|x| x as i8 as u8));
    }
    (scale.value, sum * i32::from(ZERO))
}

/// Some blocks of weight rows with all rows of inputs, written to the rows of `out` from column `first`.
fn all_rows<K: Kernel + Copy, const R: usize>(
    kernel: K,
    blocks: [&[u8]; R],
    scales: &[f32],
    inputs: &Inputs,
    out: &mut [&mut [f32]],
    first: usize,
) {
    let (m, mut row) = (out.len(), 0);
    while row + 6 <= m && K::MAX_INPUT_ROWS >= 6 {
        some_rows::<K, R, 6>(kernel, blocks, scales, inputs, out, first, row);
        row += 6;
    }
    while row + 2 <= m {
        some_rows::<K, R, 2>(kernel, blocks, scales, inputs, out, first, row);
        row += 2;
    }
    if row < m {
        some_rows::<K, R, 1>(kernel, blocks, scales, inputs, out, first, row);
    }
}

fn some_rows<K: Kernel, const R: usize, const C: usize>(
    kernel: K,
    blocks: [&[u8]; R],
    scales: &[f32],
    inputs: &Inputs,
    out: &mut [&mut [f32]],
    first: usize,
    row: usize,
) {
    let n_steps = inputs.n_steps;
    let rows = std::array::from_fn(|c| &inputs.whole[(row + c) * n_steps..][..n_steps]);
    let sums: Sums<R, C> = kernel.sums(blocks, rows);
    for c in 0..C {
        let (scale, excess) = (inputs.scales[row + c], inputs.excess[row + c]);
        let out = out[row + c][first..].chunks_mut(ROWS);
        for ((out, scales), sums) in out.zip(scales.chunks(ROWS)).zip(&sums) {
            for ((out, weight_scale), sum) in out.iter_mut().zip(scales).zip(&sums[c]) {
                *out = (sum - excess) as f32 * scale * weight_scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// The definition, one product at a time.
    fn plain(x: &[f32], weight: &Int8Matrix) -> Vec<f32> {
        let [_, k] = weight.shape();
        let weights = weight.to_f32();
        let scales = weight.scales();
        let mut out = Vec::new();
        for row in x.chunks_exact(k) {
            let scale = Scale::of(row);
            for (weights, weight_scale) in weights.chunks_exact(k).zip(scales) {
                let whole = |w: f32| (w / weight_scale).round() as i64;
                let sum: i64 = row
                    .iter()
                    .zip(weights)
                    .map(|(&x, &w)| i64::from(scale.whole(x)) * whole(w))
                    .sum();
                out.push(sum as f32 * scale.value * weight_scale);
            }
        }
        out
    }

    #[test]
    fn every_kernel_gives_the_exact_sums() {
        for (m, n, k) in [
            (1, 1, 1),
            (1, 70, 5),
            (2, 16, 64),
            (3, 17, 3),
            (7, 128, 66),
            (13, 200, 576),
        ] {
            let (x, w) = (numbers(m * k, 3), numbers(n * k, 7));
            let weight = Int8Matrix::new(&w, n, k);
            let expected = plain(&x, &weight);
            assert_eq!(project_with(portable::Portable, &x, &weight), expected);
            assert_eq!(project(&x, &weight), expected);
            #[cfg(target_arch = "x86_64")]
            if let Some(kernel) = x86::Avx2::detect() {
                assert_eq!(project_with(kernel, &x, &weight), expected);
            }
        }
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        let k = Int8Matrix::MAX_INPUTS;
        for sign in [1.0, -1.0] {
            let weight = Int8Matrix::new(&vec![sign; 2 * k], 2, k);
            let x = vec![1.0; k];
            let expected = vec![sign * k as f32; 2];
            let close = |found: Vec<f32>| {
                let mut pairs = found.iter().zip(&expected);
                assert!(
                    pairs.all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()),
                    "{found:?}"
                );
            };
            close(project_with(portable::Portable, &x, &weight));
            close(project(&x, &weight));
            #[cfg(target_arch = "x86_64")]
            if let Some(kernel) = x86::Avx2::detect() {
                close(project_with(kernel, &x, &weight));
            }
        }
    }

    #[test]
    fn the_product_is_near_the_one_of_f32() {
        let (m, n, k) = (4, 96, 512);
        let (x, w) = (numbers(m * k, 1), numbers(n * k, 2));
        let found = project(&x, &Int8Matrix::new(&w, n, k));
        let exact = super::super::project::project(&x, &w, m, n, k);
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
        let error = square(&mut found.iter().zip(&exact).map(|(a, b)| a - b));
        // Two roundings, each of a 254th of the range.
        assert!((error / square(&mut exact.iter().copied())).sqrt() < 7e-3);
    }
}
