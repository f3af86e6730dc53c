//! Weight matrices of four to eight bits per weight, which nothing but a frozen model can have.

use super::simd::vectorized;
use half::f16;
use rayon::prelude::*;
use std::ops::Range;

/// How a packed matrix stores its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PackedFormat {
    /// 4-bit NormalFloat (Dettmers et al., 2023, arXiv 2305.14314): the quantiles of a normal distribution, times the
    /// largest magnitude of each block of 64 weights. The code book and the blocks are those of bitsandbytes.
    Nf4,
    /// GGUF's `Q8_0`: 8-bit integers, a scale per 32.
    Q8_0,
    /// GGUF's `Q4_K`: 4-bit integers; a scale and a minimum of 6 bits per 32.
    Q4K,
    /// GGUF's `Q6_K`: 6-bit integers, a scale of 8 bits per 16.
    Q6K,
}

impl PackedFormat {
    /// Weights per block, and the bytes of a block. The scales of NF4 are stored apart, and count here.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::Nf4 => (64, 32 + 4),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// The bytes of so many weights.
    pub fn bytes(self, n_weights: usize) -> usize {
        let (weights, bytes) = self.block();
        n_weights.div_ceil(weights) * bytes
    }
}

/// A matrix `[outputs, inputs]` whose rows are widened when a product needs them.
///
/// It has no gradient: it belongs to the frozen base of an adapter, or to a model that only samples and scores.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedMatrix {
    n_inputs: usize,
    // One below the other.
    parts: Vec<PackedRows>,
}

/// Some rows, in one format.
#[derive(Debug, Clone, PartialEq)]
struct PackedRows {
    n_rows: usize,
    format: PackedFormat,
    blocks: Vec<u8>,
    // Of each block, for formats that do not have them in the block.
    scales: Vec<f32>,
}

impl PackedMatrix {
    /// `weight`, `[outputs, inputs]`, rounded to the nearest codes of NF4.
    ///
    /// # Panics
    /// If the number of weights is no multiple of `n_inputs`.
    pub fn nf4(weight: &[f32], n_inputs: usize) -> Self {
        let n_rows = rows_of(weight.len(), n_inputs);
        let (block, _) = PackedFormat::Nf4.block();
        let n_blocks = weight.len().div_ceil(block);
        let mut blocks = vec![0u8; n_blocks * block / 2];
        let mut scales = vec![0f32; n_blocks];
        blocks
            .par_chunks_exact_mut(block / 2)
            .zip(&mut scales)
            .zip(weight.par_chunks(block))
            .for_each(|((codes, scale), weight)| *scale = nf4::round(weight, codes));
        let part = PackedRows {
            n_rows,
            format: PackedFormat::Nf4,
            blocks,
            scales,
        };
        Self {
            n_inputs,
            parts: vec![part],
        }
    }

    /// The blocks of a GGUF tensor with rows of `n_inputs` weights, as they are.
    ///
    /// # Panics
    /// If a row is no whole number of blocks, the bytes are no whole number of rows, or the format is not GGUF's.
    pub fn gguf(format: PackedFormat, blocks: Vec<u8>, n_inputs: usize) -> Self {
        assert!(format != PackedFormat::Nf4, "not a format of GGUF");
        let (weights, bytes) = format.block();
        assert!(n_inputs.is_multiple_of(weights), "whole blocks in a row");
        let n_rows = rows_of(blocks.len(), n_inputs / weights * bytes);
        let part = PackedRows {
            n_rows,
            format,
            blocks,
            scales: Vec::new(),
        };
        Self {
            n_inputs,
            parts: vec![part],
        }
    }

    /// Matrices with the same inputs as one, each below the one before it.
    ///
    /// # Panics
    /// If there are none, or their inputs differ in number.
    pub fn stacked(matrices: impl IntoIterator<Item = Self>) -> Self {
        let mut matrices = matrices.into_iter();
        let mut all = matrices.next().expect("at least one matrix");
        for matrix in matrices {
            assert_eq!(all.n_inputs, matrix.n_inputs, "the same inputs");
            all.parts.extend(matrix.parts);
        }
        all
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        let n_rows = self.parts.iter().map(|part| part.n_rows).sum();
        [n_rows, self.n_inputs]
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> usize {
        let of = |part: &PackedRows| part.blocks.len() + 4 * part.scales.len();
        self.parts.iter().map(of).sum()
    }

    /// Hands over what is kept, in the order of the rows.
    pub(crate) fn visit_bytes(&self, visit: &mut impl FnMut(&[u8])) {
        for part in &self.parts {
            visit(&part.blocks);
            for scale in &part.scales {
                visit(&scale.to_le_bytes());
            }
        }
    }

    /// All weights as f32, `[outputs, inputs]`.
    pub fn to_f32(&self) -> Vec<f32> {
        let [n_outputs, n_inputs] = self.shape();
        let mut weights = vec![0.0; n_outputs * n_inputs];
        self.widen(0..n_outputs, &mut weights);
        weights
    }

    /// Writes some rows as f32.
    ///
    /// # Panics
    /// If `out` has not the size of the rows, or there are not so many.
    pub fn widen(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            rows.len() * self.n_inputs,
            "the size of the rows"
        );
        let (mut rest, mut start) = (out, 0);
        for part in &self.parts {
            let (first, end) = (rows.start.max(start), rows.end.min(start + part.n_rows));
            if first < end {
                let (out, later) = rest.split_at_mut((end - first) * self.n_inputs);
                part.widen((first - start) * self.n_inputs, out);
                rest = later;
            }
            start += part.n_rows;
        }
        assert!(rest.is_empty(), "rows within the matrix");
    }
}

fn rows_of(n: usize, per_row: usize) -> usize {
    assert!(
        per_row > 0 && n.is_multiple_of(per_row),
        "a whole number of rows"
    );
    n / per_row
}

impl PackedRows {
    /// Writes as many weights as `out` has places, from the weight `first`.
    fn widen(&self, first: usize, out: &mut [f32]) {
        let (weights, _) = self.format.block();
        vectorized(
            #[inline(always)]
            || match self.format {
                PackedFormat::Nf4 => nf4::widen(&self.blocks, &self.scales, first, out),
                PackedFormat::Q8_0 => each_block(&self.blocks, first / weights, out, gguf::q8_0),
                PackedFormat::Q4K => each_block(&self.blocks, first / weights, out, gguf::q4_k),
                PackedFormat::Q6K => each_block(&self.blocks, first / weights, out, gguf::q6_k),
            },
        );
    }
}

/// Widens whole blocks of `BYTES` bytes and `WEIGHTS` weights.
#[inline(always)]
fn each_block<const BYTES: usize, const WEIGHTS: usize>(
    blocks: &[u8],
    first: usize,
    out: &mut [f32],
    widen: impl Fn(&[u8; BYTES], &mut [f32; WEIGHTS]),
) {
    let blocks = &blocks.as_chunks().0[first..];
    for (out, block) in out.as_chunks_mut().0.iter_mut().zip(blocks) {
        widen(block, out);
    }
}

mod nf4 {
    use super::PackedFormat;

    /// The values of the codes, as bitsandbytes has them.
    const VALUES: [f32; 16] = [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ];

    /// Writes a block's codes, two to a byte, the first in the upper half; returns the block's scale.
    pub(super) fn round(weight: &[f32], codes: &mut [u8]) -> f32 {
        let scale = weight.iter().fold(0f32, |most, x| most.max(x.abs()));
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let code = |x: f32| {
            let x = x * inverse;
            let middle = |pair: &[f32]| (pair[0] + pair[1]) / 2.0;
            VALUES.windows(2).filter(|pair| x > middle(pair)).count() as u8
        };
        for (byte, pair) in codes.iter_mut().zip(weight.chunks(2)) {
            *byte = code(pair[0]) << 4 | pair.get(1).map_or(0, |&x| code(x));
        }
        scale
    }

    #[inline(always)]
    pub(super) fn widen(codes: &[u8], scales: &[f32], first: usize, out: &mut [f32]) {
        let (block, _) = PackedFormat::Nf4.block();
        let mut i = first;
        let mut out = out;
        while !out.is_empty() {
            let n = (block - i % block).min(out.len());
            let (now, later) = out.split_at_mut(n);
            let scale = scales[i / block];
            for (j, x) in now.iter_mut().enumerate() {
                let byte = codes[(i + j) / 2];
                let code = if (i + j).is_multiple_of(2) {
                    byte >> 4
                } else {
                    byte & 15
                };
                *x = VALUES[usize::from(code)] * scale;
            }
            i += n;
            out = later;
        }
    }
}

mod gguf {
    use super::f16;

    #[inline(always)]
    fn half(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    /// A scale of f16, then the integers.
    #[inline(always)]
    pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
        let scale = half(block);
        for (x, &q) in out.iter_mut().zip(&block[2..]) {
            *x = scale * f32::from(q as i8);
        }
    }

    /// The scale of the scales and that of the minima, as f16; eight of each in 6 bits; the integers, those of one group of
    /// 32 in the lower halves of the bytes and those of the next in the upper halves.
    #[inline(always)]
    pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
        let (scale, minimum) = (half(block), half(&block[2..]));
        let packed: &[u8; 12] = block[4..16].try_into().expect("twelve bytes");
        let of_group = |i: usize| {
            let (s, m) = if i < 4 {
                (packed[i] & 63, packed[i + 4] & 63)
            } else {
                (
                    packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
                    packed[i + 4] >> 4 | packed[i] >> 6 << 4,
                )
            };
            (scale * f32::from(s), minimum * f32::from(m))
        };
        let pairs = out.as_chunks_mut::<64>().0.iter_mut();
        for (i, (out, q)) in pairs.zip(block[16..].as_chunks::<32>().0).enumerate() {
            let ((s1, m1), (s2, m2)) = (of_group(2 * i), of_group(2 * i + 1));
            let (low, high) = out.split_at_mut(32);
            for ((low, high), q) in low.iter_mut().zip(high).zip(q) {
                *low = s1 * f32::from(q & 15) - m1;
                *high = s2 * f32::from(q >> 4) - m2;
            }
        }
    }

    /// The lower four bits of each integer, the upper two, sixteen scales of 8 bits, and their scale as f16.
    #[inline(always)]
    pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
        let scale = half(&block[208..]);
        let halves = out.as_chunks_mut::<128>().0.iter_mut();
        for (i, out) in halves.enumerate() {
            let low = &block[64 * i..][..64];
            let high = &block[128 + 32 * i..][..32];
            let scales = &block[192 + 8 * i..][..8];
            for l in 0..32 {
                let of = |low: u8, shift: usize, group: usize| {
                    let q = low | (high[l] >> shift & 3) << 4;
                    let scale = scale * f32::from(scales[group + l / 16] as i8);
                    scale * (f32::from(q) - 32.0)
                };
                out[l] = of(low[l] & 15, 0, 0);
                out[l + 32] = of(low[l + 32] & 15, 2, 2);
                out[l + 64] = of(low[l] >> 4, 4, 4);
                out[l + 96] = of(low[l + 32] >> 4, 6, 6);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(n: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) * 0.01 * (1.0 + (i / 64) as f32);
        (0..n).map(value).collect()
    }

    #[test]
    fn nf4_takes_the_nearest_code_of_each_block() {
        // Blocks go on from row to row, and the last one is not full.
        let weight = weights(7 * 30);
        let matrix = PackedMatrix::nf4(&weight, 30);
        assert_eq!(matrix.shape(), [7, 30]);
        assert_eq!(matrix.bytes(), PackedFormat::Nf4.bytes(7 * 30));
        let widened = matrix.to_f32();
        for (block, found) in weight.chunks(64).zip(widened.chunks(64)) {
            let scale = block.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (x, y) in block.iter().zip(found) {
                // The widest gap between codes is 0.304, from -1 to -0.696.
                assert!((x - y).abs() <= 0.1520 * scale, "{x} {y} {scale}");
                assert!(x.abs() < scale || x == y, "the largest is kept: {x} {y}");
            }
        }
        // What is a value of the code book stays what it is.
        assert_eq!(PackedMatrix::nf4(&widened, 30).to_f32(), widened);
        assert_eq!(PackedMatrix::nf4(&[0.0; 64], 64).to_f32(), [0.0; 64]);
        let mut rows = vec![0.0; 60];
        matrix.widen(3..5, &mut rows);
        assert_eq!(rows, widened[90..150]);
    }

    /// tests/fixtures/make_nf4.py.
    #[test]
    fn nf4_is_that_of_bitsandbytes() {
        #[derive(serde::Deserialize)]
        struct Case {
            name: String,
            n_inputs: usize,
            weight: Vec<f32>,
            rounded: Vec<f32>,
        }
        let text = include_str!("../../tests/fixtures/nf4.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let found = PackedMatrix::nf4(&case.weight, case.n_inputs).to_f32();
            assert_eq!(found, case.rounded, "{}", case.name);
        }
    }

    #[test]
    fn stacked_matrices_are_one_below_the_other() {
        let (a, b) = (weights(3 * 64), weights(5 * 64));
        let [a, b] = [a, b].map(|weight| PackedMatrix::nf4(&weight, 64));
        let both = PackedMatrix::stacked([a.clone(), b.clone()]);
        assert_eq!(both.shape(), [8, 64]);
        assert_eq!(both.to_f32(), [a.to_f32(), b.to_f32()].concat());
        let mut rows = vec![0.0; 3 * 64];
        both.widen(2..5, &mut rows);
        assert_eq!(rows, both.to_f32()[2 * 64..5 * 64]);
    }
}
