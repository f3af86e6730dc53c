//! AdamW's moments as 8-bit codes with a scale per block of values (Dettmers et al., 2022, arXiv 2110.02861).

mod map;

use super::AdamWUpdate;
use super::adamw::AdamWStep;
use super::simd::{LANES, vectorized};
use map::{Map, SIGNED, UNSIGNED};
use rayon::prelude::*;

/// Blocks per unit of parallel work.
const UNIT: usize = 64;

/// A moment of a parameter: a byte per value and an f32 per block of [`BLOCK`](Moments8::BLOCK) values, of which the
/// last may be shorter.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes8 {
    /// What each value is, divided by its block's scale: the number of a place in the moment's dynamic map.
    pub codes: Vec<u8>,
    /// The largest magnitude of each block.
    pub scales: Vec<f32>,
}

impl Codes8 {
    fn zeros(n: usize, map: &Map) -> Self {
        Self {
            codes: vec![map.zero(); n],
            scales: vec![0.0; Moments8::n_blocks(n)],
        }
    }

    /// The values that the codes stand for.
    fn to_f32(&self, map: &Map) -> Vec<f32> {
        let blocks = self.codes.chunks(Moments8::BLOCK).zip(&self.scales);
        let values = blocks
            .flat_map(|(codes, scale)| codes.iter().map(move |&code| map.value(code) * scale));
        values.collect()
    }
}

/// Both moments of a parameter, in host memory whatever the backend.
///
/// Maps and rounding are those of bitsandbytes' `AdamW8bit`, with one exception: a second moment above 0 never becomes 0, but
/// the smallest number of the map times its block's scale. As 0 it would be forgotten at every update, and the first moment, whose
/// map is finer near 0, would not: a parameter whose gradients are 1e-4 of the others' in its block takes steps of up to
/// thousands of times the learning rate then. With the exception its steps are too small.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments8 {
    /// The first moment, by the signed map.
    pub first: Codes8,
    /// The second moment, by the unsigned map.
    pub second: Codes8,
}

impl Moments8 {
    /// Values that share a scale.
    pub const BLOCK: usize = 256;

    /// The moments of `n` values before the first update.
    pub fn zeros(n: usize) -> Self {
        Self {
            first: Codes8::zeros(n, &SIGNED),
            second: Codes8::zeros(n, &UNSIGNED),
        }
    }

    /// The number of scales of `n` values.
    pub const fn n_blocks(n: usize) -> usize {
        n.div_ceil(Self::BLOCK)
    }

    /// The two moments that the codes stand for.
    pub fn to_f32(&self) -> [Vec<f32>; 2] {
        [self.first.to_f32(&SIGNED), self.second.to_f32(&UNSIGNED)]
    }

    /// One update of `param` and of the moments, in one pass and without any other copy of the moments than one block's.
    ///
    /// # Panics
    /// If the moments are those of another number of values.
    pub(super) fn step(&mut self, param: &mut [f32], grad: &[f32], update: AdamWUpdate) {
        let n = param.len();
        for moment in [&self.first, &self.second] {
            let found = (moment.codes.len(), moment.scales.len());
            assert_eq!(found, (n, Self::n_blocks(n)), "codes and scales");
        }
        assert_eq!(grad.len(), n, "the gradient's size");
        let rounding = Rounding {
            signed: &SIGNED,
            unsigned: &UNSIGNED,
            step: AdamWStep::new(update),
        };
        let moments = self.first.units().zip(self.second.units());
        param
            .par_chunks_mut(UNIT * Self::BLOCK)
            .zip(grad.par_chunks(UNIT * Self::BLOCK))
            .zip(moments)
            .for_each(|((param, grad), (first, second))| {
                vectorized(
                    #[inline(always)]
                    || {
                        let params = param.chunks_mut(Self::BLOCK).zip(grad.chunks(Self::BLOCK));
                        let moments = blocks(first).zip(blocks(second));
                        for ((param, grad), (first, second)) in params.zip(moments) {
                            rounding.update(param, grad, first, second);
                        }
                    },
                );
            });
    }
}

impl Codes8 {
    /// Codes and scales of the units of parallel work.
    fn units(&mut self) -> impl IndexedParallelIterator<Item = (&mut [u8], &mut [f32])> {
        let codes = self.codes.par_chunks_mut(UNIT * Moments8::BLOCK);
        codes.zip(self.scales.par_chunks_mut(UNIT))
    }
}

/// Codes and scale of the blocks of a unit.
#[inline(always)]
fn blocks<'a>(
    (codes, scales): (&'a mut [u8], &'a mut [f32]),
) -> impl Iterator<Item = (&'a mut [u8], &'a mut f32)> {
    codes.chunks_mut(Moments8::BLOCK).zip(scales)
}

/// An update, and the maps between which it works.
#[derive(Clone, Copy)]
struct Rounding<'a> {
    signed: &'a Map,
    unsigned: &'a Map,
    step: AdamWStep,
}

impl Rounding<'_> {
    /// One block.
    #[inline(always)]
    fn update(
        &self,
        param: &mut [f32],
        grad: &[f32],
        (first, first_scale): (&mut [u8], &mut f32),
        (second, second_scale): (&mut [u8], &mut f32),
    ) {
        // A shorter block is followed by zeros: all loops but one have a fixed length.
        let mut m = read(self.signed, first, *first_scale);
        let mut v = read(self.unsigned, second, *second_scale);
        let moments = m.iter_mut().zip(&mut v);
        for ((param, &grad), (m, v)) in param.iter_mut().zip(grad).zip(moments) {
            self.step.apply(param, grad, m, v);
        }
        let inverse = scale(&m, first_scale);
        for m in &mut m {
            *m *= inverse;
        }
        let inverse = scale(&v, second_scale);
        let smallest = self.unsigned.smallest();
        for v in &mut v {
            let least = if *v > 0.0 { smallest } else { 0.0 };
            *v = (*v * inverse).max(least);
        }
        first.copy_from_slice(&self.signed.nearest(&m)[..first.len()]);
        second.copy_from_slice(&self.unsigned.nearest(&v)[..second.len()]);
    }
}

/// What a block's codes stand for.
#[inline(always)]
fn read(map: &Map, codes: &[u8], scale: f32) -> [f32; Moments8::BLOCK] {
    let mut values = [0f32; Moments8::BLOCK];
    for (value, &code) in values.iter_mut().zip(codes) {
        *value = map.value(code) * scale;
    }
    values
}

/// Sets a block's scale to its largest magnitude, and returns what its values are multiplied by. Both are 0 for a block
/// whose values are all too small to be divided by.
#[inline(always)]
fn scale(values: &[f32], scale: &mut f32) -> f32 {
    let mut largest = [0f32; LANES];
    let (lanes, rest) = values.as_chunks::<LANES>();
    for lane in lanes {
        for (largest, x) in largest.iter_mut().zip(lane) {
            *largest = if x.abs() > *largest {
                x.abs()
            } else {
                *largest
            };
        }
    }
    let all = largest.iter().chain(rest);
    *scale = all.fold(0f32, |most, x| most.max(x.abs()));
    let inverse = 1.0 / *scale;
    if !inverse.is_finite() {
        *scale = 0.0;
        return 0.0;
    }
    inverse
}
