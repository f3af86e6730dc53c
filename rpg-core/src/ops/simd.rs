//! The vector primitives that the kernels share.
//!
//! They are plain loops over fixed-width lanes that the compiler vectorises; [`vectorized`] compiles
//! them once per instruction set and picks the best one the CPU has. Sums run over [`LANES`] partial
//! sums in a fixed order, so a result depends on the data alone.

/// Width of the partial sums; one AVX-512 register of f32.
pub(super) const LANES: usize = 16;

/// Runs `work` compiled for the best instruction set of this CPU. Everything that `work` calls must be inlined.
#[inline(always)]
pub(super) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Sums `term(a[i], b[i])`.
#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] = term(lanes[i], a[i], b[i]);
        }
    }
    for (i, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] = term(lanes[i], a, b);
    }
    add_lanes(lanes)
}

/// Adds the lanes as a tree.
#[inline(always)]
fn add_lanes(lanes: [f32; LANES]) -> f32 {
    // Arrays of their own lengths, so that each level is one vector operation.
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `sum a[i] * b[i]`.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |sum, a, b| a.mul_add(b, sum))
}

/// `sum a[i] * b[i] * c[i]`.
#[inline(always)]
pub(super) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let n = a.len().min(b.len()).min(c.len());
    for start in (0..n).step_by(LANES) {
        for i in start..n.min(start + LANES) {
            lanes[i - start] = (a[i] * b[i]).mul_add(c[i], lanes[i - start]);
        }
    }
    add_lanes(lanes)
}

/// `sum x[i]`.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f32 {
    sum_of(x, x, |sum, a, _| sum + a)
}

/// `max x[i]`; minus infinity for no values.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = if block[i] > lanes[i] {
                block[i]
            } else {
                lanes[i]
            };
        }
    }
    rest.iter()
        .chain(&lanes)
        .fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

/// `y[i] += a * x[i]`.
#[inline(always)]
pub(super) fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = a.mul_add(x, *y);
    }
}

/// `e^x` to 2 units in the last place, without a branch, so that loops over it vectorise.
///
/// `x = n * ln 2 + r` with `|r| <= ln 2 / 2`; a polynomial gives `e^r` (the minimax coefficients of
/// Cephes' `expf`), the exponent bits give `2^n`. Below -87.3 the result is about 1e-38, not 0.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer.
    let x = x.clamp(-87.3, 88.3);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_2e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let e_r = p.mul_add(r * r, r) + 1.0;
    // The low bits of `shifted` are `n`.
    e_r * f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}): relative error {error:e}");
        }
        assert!(exp(-1e30) < 2e-38 && exp(1e30).is_finite());
    }

    #[test]
    fn sums_and_maxima_cover_every_element() {
        for n in [0, 1, 15, 16, 17, 33, 100] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected: f32 = x.iter().sum();
            assert_eq!(sum(&x), expected);
            let squares: f32 = x.iter().map(|x| x * x).sum();
            assert_eq!(dot(&x, &x), squares);
            let ones = vec![1.0; n];
            assert_eq!(dot3(&x, &ones, &x), squares);
            let largest = x.last().copied().unwrap_or(f32::NEG_INFINITY);
            assert_eq!(max(&x), largest);
        }
    }
}
