//! Rational arithmetic with a bound on the size of the numbers.
//!
//! Reducing a fraction takes time quadratic in its length, so fractions are limited to fewer bits than
//! whole numbers, which need no reduction.

use crate::verdict::{Budget, Failure};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Zero};

/// The maximum number of bits of a whole number.
pub(crate) const MAX_BITS: u64 = 1 << 16;
/// The maximum number of bits of a fraction's numerator and denominator together.
const MAX_FRACTION_BITS: u64 = 1 << 12;

type Result<T> = std::result::Result<T, Failure>;

fn whole(value: BigInt) -> Result<BigRational> {
    if value.bits() > MAX_BITS {
        return Err(Failure::OverBudget(Budget::Size));
    }
    Ok(BigRational::from_integer(value))
}

fn size(a: &BigRational) -> u64 {
    a.numer().bits() + a.denom().bits()
}

/// Fails unless `a` and `b` are small enough for an operation that reduces.
fn check_fractions(a: &BigRational, b: &BigRational) -> Result<()> {
    if size(a) + size(b) > 2 * MAX_FRACTION_BITS {
        return Err(Failure::OverBudget(Budget::Size));
    }
    Ok(())
}

/// The steps that an operation on two numbers takes, including the reduction of the result.
pub(crate) fn cost(a: &BigRational, b: &BigRational) -> u64 {
    let words = (size(a) + size(b)) / 64;
    if a.is_integer() && b.is_integer() {
        words / 4
    } else {
        words * words + words * 4
    }
}

pub(crate) fn add(a: &BigRational, b: &BigRational) -> Result<BigRational> {
    if a.is_integer() && b.is_integer() {
        return whole(a.numer() + b.numer());
    }
    if a.is_zero() {
        return Ok(b.clone());
    }
    if b.is_zero() {
        return Ok(a.clone());
    }
    check_fractions(a, b)?;
    Ok(a + b)
}

pub(crate) fn mul(a: &BigRational, b: &BigRational) -> Result<BigRational> {
    if a.is_integer() && b.is_integer() {
        if a.numer().bits() + b.numer().bits() > MAX_BITS + 64 {
            return Err(Failure::OverBudget(Budget::Size));
        }
        return whole(a.numer() * b.numer());
    }
    if a.is_one() {
        return Ok(b.clone());
    }
    if b.is_one() {
        return Ok(a.clone());
    }
    check_fractions(a, b)?;
    Ok(a * b)
}

pub(crate) fn recip(a: &BigRational) -> Result<BigRational> {
    if a.is_zero() {
        Err(Failure::Undefined)
    } else {
        Ok(a.recip())
    }
}

pub(crate) fn div(a: &BigRational, b: &BigRational) -> Result<BigRational> {
    if b.is_zero() {
        return Err(Failure::Undefined);
    }
    if a.is_integer() && b.is_integer() {
        let (quotient, rest) = a.numer().div_rem(b.numer());
        if rest.is_zero() {
            return whole(quotient);
        }
    }
    if b.is_one() {
        return Ok(a.clone());
    }
    check_fractions(a, b)?;
    Ok(a / b)
}

/// A whole power.
pub(crate) fn powi(base: &BigRational, exponent: i64) -> Result<BigRational> {
    if base.is_zero() && exponent <= 0 {
        return Err(Failure::Undefined);
    }
    if base.is_integer() && base.numer().magnitude().is_one() {
        let negative = base.numer() < &BigInt::zero() && exponent % 2 != 0;
        return Ok(if negative {
            -BigRational::one()
        } else {
            BigRational::one()
        });
    }
    let bits = base.numer().bits().max(base.denom().bits());
    let steps = exponent.unsigned_abs();
    if bits.saturating_sub(1).max(1).saturating_mul(steps) > MAX_BITS {
        return Err(Failure::OverBudget(Budget::Size));
    }
    let steps = u32::try_from(steps).map_err(|_| Failure::OverBudget(Budget::Size))?;
    // Powers of coprime numbers are coprime, so there is nothing to reduce.
    let power = BigRational::new_raw(base.numer().pow(steps), base.denom().pow(steps));
    Ok(if exponent < 0 { power.recip() } else { power })
}
