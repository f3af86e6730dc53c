//! The elementary functions of real balls.
//!
//! Each works in fixed point with [`GUARD`] spare bits: a series of n terms is off by at most n units in
//! the last place, doubling steps multiply this error, and the guard bits absorb the product.

use super::ball::{Ball, bits, shift};
use crate::verdict::{Budget, Failure};
use num_bigint::{BigInt, BigUint};
use num_traits::{One, Signed, Zero};
use std::sync::OnceLock;

/// The spare bits of fixed-point computations.
const GUARD: i64 = 48;
/// An error, in units of the last place of the working precision, that covers every function here.
const ERROR: u64 = 1 << 32;
/// The largest exponent of e, in bits.
const MAX_EXP_BITS: i64 = 24;

/// `atanh(1/n)` or, alternating, `atan(1/n)` in fixed point.
fn inverse_series(n: u32, places: i64, alternating: bool) -> BigInt {
    let one = BigInt::one() << places as u64;
    let square = n * n;
    let mut power = one / n;
    let mut sum = BigInt::zero();
    let mut k = 1u32;
    let mut negative = false;
    while !power.is_zero() {
        let term = &power / k;
        if negative {
            sum -= term;
        } else {
            sum += term;
        }
        power /= square;
        k += 2;
        negative = alternating && !negative;
    }
    sum
}

/// The binary places to which pi and ln 2 are cached.
const CACHED_PLACES: i64 = 4_096;

/// A constant to `places` places, from the cached copy if that is long enough.
fn cached(copy: &OnceLock<BigInt>, places: i64, compute: fn(i64) -> BigInt) -> BigInt {
    if places > CACHED_PLACES {
        return compute(places);
    }
    copy.get_or_init(|| compute(CACHED_PLACES)) >> (CACHED_PLACES - places) as u64
}

fn pi_fixed(places: i64) -> BigInt {
    static COPY: OnceLock<BigInt> = OnceLock::new();
    cached(&COPY, places, compute_pi)
}

fn ln2_fixed(places: i64) -> BigInt {
    static COPY: OnceLock<BigInt> = OnceLock::new();
    cached(&COPY, places, compute_ln2)
}

/// Pi in fixed point, off by fewer than `places` units.
fn compute_pi(places: i64) -> BigInt {
    // Machin: pi = 16 atan(1/5) - 4 atan(1/239)
    let extended = places + 16;
    let pi = inverse_series(5, extended, true) * 16 - inverse_series(239, extended, true) * 4;
    pi >> 16u32
}

/// ln 2 in fixed point, off by fewer than `places` units.
fn compute_ln2(places: i64) -> BigInt {
    // ln 2 = 18 atanh(1/26) - 2 atanh(1/4801) + 8 atanh(1/8749)
    let extended = places + 16;
    let ln2 = inverse_series(26, extended, false) * 18 - inverse_series(4801, extended, false) * 2
        + inverse_series(8749, extended, false) * 8;
    ln2 >> 16u32
}

pub(super) fn pi(prec: u32) -> Result<Ball, Failure> {
    let places = i64::from(prec) + GUARD;
    Ball::from_fixed(pi_fixed(places), places, ERROR, prec)
}

/// A result whose radius includes the error of its argument, for functions whose slope is at most one.
fn with_error(value: BigInt, places: i64, error: BigUint, prec: u32) -> Result<Ball, Failure> {
    Ball::rounded(value, -places, error + ERROR, prec)
}

pub(super) fn exp(x: &Ball, prec: u32) -> Result<Ball, Failure> {
    if x.is_exact_zero() {
        return Ok(Ball::from_int(1));
    }
    if x.top() > MAX_EXP_BITS {
        return Err(Failure::OverBudget(Budget::Size));
    }
    if x.radius_top() > -2 {
        return Err(Failure::Unsupported);
    }
    let places = i64::from(prec) + GUARD + MAX_EXP_BITS;
    let (fixed, error) = x.to_fixed(places);
    let ln2 = ln2_fixed(places);
    // x = n ln 2 + f with 0 <= f < ln 2
    let n = div_floor(&fixed, &ln2);
    let f = &fixed - &n * &ln2;
    const HALVINGS: u32 = 8;
    let f = f >> HALVINGS;
    let one = BigInt::one() << places as u64;
    let mut term = one.clone();
    let mut sum = one;
    let mut k = 1u32;
    while !term.is_zero() {
        term = ((&term * &f) >> places as u64) / k;
        sum += &term;
        k += 1;
    }
    for _ in 0..HALVINGS {
        sum = (&sum * &sum) >> places as u64;
    }
    let n: i64 = n
        .try_into()
        .map_err(|_| Failure::OverBudget(Budget::Size))?;
    // exp(x + d) - exp(x) is at most 2 d exp(x) for d <= 1/4, and exp(f) < 2. The error of n ln 2 is
    // at most 2^24 times that of ln 2.
    let error = (error << 2u32) + (BigUint::from(ERROR) << 2u32);
    Ball::rounded(sum, n - places, error, prec)
}

/// The quotient rounded down.
fn div_floor(a: &BigInt, b: &BigInt) -> BigInt {
    let quotient = a / b;
    if a.is_negative() && &quotient * b != *a {
        quotient - 1
    } else {
        quotient
    }
}

/// The natural logarithm of a ball of positive numbers.
pub(super) fn ln(x: &Ball, prec: u32) -> Result<Ball, Failure> {
    if x.sign() != Some(1) {
        return Err(if x.is_exact_zero() {
            Failure::Undefined
        } else {
            Failure::Unsupported
        });
    }
    let size = bits(&x.mid);
    let scale = x.exponent + size;
    // The exponent needs as many bits before the binary point as it has itself.
    let places = i64::from(prec) + GUARD + 8;
    // y = x / 2^scale lies in [1/2, 1).
    let mut y = shift(&x.mid, places - size);
    const ROOTS: u32 = 6;
    let one = BigInt::one() << places as u64;
    for _ in 0..ROOTS {
        y = (y << places as u64).sqrt();
    }
    // ln y = 2 atanh((y - 1) / (y + 1))
    let z = ((&y - &one) << places as u64) / (&y + &one);
    let square = (&z * &z) >> places as u64;
    let mut power = z;
    let mut sum = BigInt::zero();
    let mut k = 1u32;
    while !power.is_zero() && power != BigInt::from(-1) {
        sum += &power / k;
        power = (&power * &square) >> places as u64;
        k += 2;
    }
    let value = (sum << (ROOTS + 1)) + ln2_fixed(places) * scale;
    // The relative error of x is an absolute error of its logarithm.
    let low = x.mid.magnitude() - x.radius;
    let relative = (BigUint::from(x.radius) << places as u64) / low;
    let scale_error = BigUint::from(scale.unsigned_abs()) << 12u32;
    with_error(value, places, relative + 1u32 + scale_error, prec)
}

/// Sine and cosine.
pub(super) fn sin_cos(x: &Ball, prec: u32) -> Result<(Ball, Ball), Failure> {
    let top = x.top().max(0);
    if top > 2048 {
        return Err(Failure::OverBudget(Budget::Size));
    }
    let places = i64::from(prec) + GUARD;
    let (fixed, error) = x.to_fixed(places);
    // x = n pi/2 + f with |f| <= pi/4: n has `top` bits, so pi needs that many more; f needs no more than
    // the result.
    let more = (top + 8) as u64;
    let half_pi = pi_fixed(places + top + 8) >> 1u32;
    let extended = fixed << more;
    let n = div_floor(&((&extended << 1u32) + &half_pi), &(&half_pi << 1u32));
    let f = (extended - &n * half_pi) >> more;
    let square = (&f * &f) >> places as u64;
    let series = |first: BigInt, mut k: u32| {
        let mut term = first;
        let mut sum = BigInt::zero();
        let mut negative = false;
        while !term.is_zero() && term != BigInt::from(-1) {
            if negative {
                sum -= &term;
            } else {
                sum += &term;
            }
            negative = !negative;
            term = ((&term * &square) >> places as u64) / (k * (k + 1));
            k += 2;
        }
        sum
    };
    let cosine = series(BigInt::one() << places as u64, 1);
    let sine = series(f, 2);
    let quadrant: u32 = u32::try_from((&n % 4 + 4) % BigInt::from(4)).unwrap_or(0);
    let (s, c) = match quadrant {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    };
    Ok((
        with_error(s, places, error.clone(), prec)?,
        with_error(c, places, error, prec)?,
    ))
}

/// The arctangent.
pub(super) fn atan(x: &Ball, prec: u32) -> Result<Ball, Failure> {
    if x.is_exact_zero() {
        return Ok(Ball::zero());
    }
    if x.top() > 1 {
        // atan x = +-pi/2 - atan(1/x)
        let sign = x.sign().ok_or(Failure::Unsupported)?;
        let half_pi = pi(prec)?.mul(
            &Ball {
                mid: BigInt::one(),
                exponent: -1,
                radius: 0,
            },
            prec,
        )?;
        let half_pi = if sign < 0 { half_pi.neg() } else { half_pi };
        return half_pi.sub(&atan(&Ball::from_int(1).div(x, prec)?, prec)?, prec);
    }
    let places = i64::from(prec) + GUARD + (-x.top()).clamp(0, 4 * i64::from(prec));
    let (mut y, error) = x.to_fixed(places);
    let one = BigInt::one() << places as u64;
    const HALVINGS: u32 = 4;
    for _ in 0..HALVINGS {
        // atan y = 2 atan(y / (1 + sqrt(1 + y^2)))
        let root = ((&one << places as u64) + &y * &y).sqrt();
        y = (y << places as u64) / (&one + root);
    }
    let square = (&y * &y) >> places as u64;
    let mut power = y;
    let mut sum = BigInt::zero();
    let mut k = 1u32;
    let mut negative = false;
    while !power.is_zero() && power != BigInt::from(-1) {
        let term = &power / k;
        if negative {
            sum -= term;
        } else {
            sum += term;
        }
        negative = !negative;
        power = (&power * &square) >> places as u64;
        k += 2;
    }
    with_error(sum << HALVINGS, places, error, prec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_rational::BigRational;

    fn ball(numer: i64, denom: i64, prec: u32) -> Ball {
        let value = BigRational::new(numer.into(), denom.into());
        Ball::from_rational(&value, prec).expect("a small number")
    }

    fn close(ball: &Ball, expected: f64) {
        let value = ball.to_f64();
        assert!(
            (value - expected).abs() <= 1e-13 * expected.abs().max(1.0),
            "{value} {expected}"
        );
        assert!(
            ball.radius_top() - ball.top().max(0) < -100,
            "the radius is small: {ball:?}"
        );
    }

    #[test]
    fn functions_agree_with_the_floating_point_ones() {
        for (n, d) in [
            (1, 3),
            (2, 1),
            (7, 2),
            (100, 7),
            (1, 1000),
            (12345, 1),
            (1, 1),
            (3, 4),
            (99, 100),
        ] {
            let x = ball(n, d, 200);
            let f = n as f64 / d as f64;
            close(&ln(&x, 200).unwrap(), f.ln());
            close(&atan(&x, 200).unwrap(), f.atan());
            close(&atan(&x.neg(), 200).unwrap(), -f.atan());
            close(&x.sqrt(200).unwrap(), f.sqrt());
            let (s, c) = sin_cos(&x, 200).unwrap();
            close(&s, f.sin());
            close(&c, f.cos());
            let (s, c) = sin_cos(&x.neg(), 200).unwrap();
            close(&s, -f.sin());
            close(&c, f.cos());
            if f < 300.0 {
                close(&exp(&x, 200).unwrap(), f.exp());
                close(&exp(&x.neg(), 200).unwrap(), (-f).exp());
            }
        }
    }

    /// Whether the ball of `x - y` contains zero and is small.
    fn same(x: &Ball, y: &Ball) {
        let difference = x.sub(y, 400).unwrap();
        assert!(difference.contains_zero(), "{x:?} {y:?}");
        assert!(difference.radius_top() < -150, "{difference:?}");
    }

    #[test]
    fn identities_hold_at_several_precisions() {
        for prec in [200, 333, 1000] {
            let x = ball(22, 9, prec);
            same(&ln(&exp(&x, prec).unwrap(), prec).unwrap(), &x);
            same(&exp(&ln(&x, prec).unwrap(), prec).unwrap(), &x);
            let (s, c) = sin_cos(&x, prec).unwrap();
            let one = s
                .mul(&s, prec)
                .unwrap()
                .add(&c.mul(&c, prec).unwrap(), prec)
                .unwrap();
            same(&one, &Ball::from_int(1));
            let four = Ball::from_int(4);
            same(
                &four
                    .mul(&atan(&Ball::from_int(1), prec).unwrap(), prec)
                    .unwrap(),
                &pi(prec).unwrap(),
            );
            let t = ball(1, 7, prec);
            let (s, c) = sin_cos(&atan(&t, prec).unwrap(), prec).unwrap();
            same(&s.div(&c, prec).unwrap(), &t);
        }
        // Different precisions agree within their radii.
        same(&pi(200).unwrap(), &pi(1000).unwrap());
        same(
            &ln(&ball(10, 1, 200), 200).unwrap(),
            &ln(&ball(10, 1, 900), 900).unwrap(),
        );
    }
}
