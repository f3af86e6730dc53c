//! Sums of products with the integer instructions of x86: VNNI where the CPU has it, else AVX2.

use super::{Kernel, STEP, Sums, ZERO};
use std::arch::x86_64::*;

/// AVX-512 VNNI: one instruction multiplies 64 bytes and adds them to 16 sums.
#[derive(Clone, Copy)]
pub(super) struct Vnni(());

/// AVX2: products of bytes are added in pairs to 16 bits, these in pairs to 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Vnni {
    /// If this CPU has the instructions.
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }
}

impl Avx2 {
    /// If this CPU has the instructions.
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel for Vnni {
    // 24 sums, 4 vectors of weights and one of inputs fit into 32 registers.
    const MAX_INPUT_ROWS: usize = 6;

    fn sums<const R: usize, const C: usize>(
        self,
        weights: [&[u8]; R],
        inputs: [&[i32]; C],
    ) -> Sums<R, C> {
        // SAFETY: a value of this type exists only where `detect` has found the instructions.
        unsafe { vnni(weights, inputs) }
    }
}

impl Kernel for Avx2 {
    const MAX_INPUT_ROWS: usize = 2;

    fn sums<const R: usize, const C: usize>(
        self,
        weights: [&[u8]; R],
        inputs: [&[i32]; C],
    ) -> Sums<R, C> {
        // SAFETY: a value of this type exists only where `detect` has found the instructions.
        unsafe { avx2(weights, inputs) }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni<const R: usize, const C: usize>(weights: [&[u8]; R], inputs: [&[i32]; C]) -> Sums<R, C> {
    let n_steps = inputs[0].len();
    let weights = weights.map(|weights| &weights.as_chunks::<STEP>().0[..n_steps]);
    let inputs = inputs.map(|inputs| &inputs[..n_steps]);
    let mut sums = [[_mm512_setzero_si512(); C]; R];
    for step in 0..n_steps {
        // SAFETY: the 64 bytes of a step.
        let weights =
            weights.map(|weights| unsafe { _mm512_loadu_si512(weights[step].as_ptr().cast()) });
        for c in 0..C {
            let input = _mm512_set1_epi32(inputs[c][step]);
            for r in 0..R {
                sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], weights[r], input);
            }
        }
    }
    sums.map(|sums| {
        sums.map(|sum| {
            let mut numbers = [0; 16];
            // SAFETY: 16 numbers of 32 bits.
            unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), sum) };
            numbers
        })
    })
}

/// The instruction that multiplies unsigned by signed bytes would overflow 16 bits with `q + 128`, so it gets `|x|` and
/// `q` with the sign of `x`. The sums are then those of `q`; what `q + 128` would have added is added at the end.
#[target_feature(enable = "avx2")]
fn avx2<const R: usize, const C: usize>(weights: [&[u8]; R], inputs: [&[i32]; C]) -> Sums<R, C> {
    let n_steps = inputs[0].len();
    let weights = weights.map(|weights| &weights.as_chunks::<{ STEP / 2 }>().0[..2 * n_steps]);
    let inputs = inputs.map(|inputs| &inputs[..n_steps]);
    let (zero, ones) = (_mm256_set1_epi8(ZERO as i8), _mm256_set1_epi16(1));
    let mut sums = [[[_mm256_setzero_si256(); 2]; C]; R];
    let mut excess = [_mm256_setzero_si256(); C];
    for step in 0..n_steps {
        let x = inputs.map(|inputs| _mm256_set1_epi32(inputs[step]));
        let x_abs = x.map(|x| _mm256_abs_epi8(x));
        for c in 0..C {
            let pairs = _mm256_maddubs_epi16(zero, x[c]);
            excess[c] = _mm256_add_epi32(excess[c], _mm256_madd_epi16(pairs, ones));
        }
        for r in 0..R {
            for half in 0..2 {
                // SAFETY: 32 bytes, a half of a step.
                let stored =
                    unsafe { _mm256_loadu_si256(weights[r][2 * step + half].as_ptr().cast()) };
                let weights = _mm256_xor_si256(stored, zero);
                for c in 0..C {
                    let pairs = _mm256_maddubs_epi16(x_abs[c], _mm256_sign_epi8(weights, x[c]));
                    let sum = &mut sums[r][c][half];
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                }
            }
        }
    }
    let mut numbers = [[[0; 16]; C]; R];
    for r in 0..R {
        for c in 0..C {
            let halves = numbers[r][c].as_chunks_mut::<8>().0;
            for (half, sum) in halves.iter_mut().zip(sums[r][c]) {
                let sum = _mm256_add_epi32(sum, excess[c]);
                // SAFETY: 8 numbers of 32 bits.
                unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), sum) };
            }
        }
    }
    numbers
}
