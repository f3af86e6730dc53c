//! Real numbers as a midpoint and a radius.

use crate::verdict::{Budget, Failure};
use num_bigint::{BigInt, BigUint, Sign};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Every number within `radius * 2^exponent` of `mid * 2^exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Ball {
    pub(super) mid: BigInt,
    pub(super) exponent: i64,
    pub(super) radius: u64,
}

/// The bits of a radius.
const RADIUS_BITS: u64 = 32;
/// The largest binary exponent of a value.
const MAX_EXPONENT: i64 = 1 << 40;

pub(super) fn bits(value: &BigInt) -> i64 {
    value.bits() as i64
}

/// `value * 2^by`, rounded down when `by` is negative.
pub(super) fn shift(value: &BigInt, by: i64) -> BigInt {
    if by >= 0 {
        value << by as u64
    } else {
        value >> by.unsigned_abs()
    }
}

impl Ball {
    pub(crate) fn zero() -> Self {
        Self {
            mid: BigInt::zero(),
            exponent: 0,
            radius: 0,
        }
    }

    pub(crate) fn from_int(value: i64) -> Self {
        Self {
            mid: value.into(),
            exponent: 0,
            radius: 0,
        }
    }

    /// A rational number to `prec` bits.
    pub(crate) fn from_rational(value: &BigRational, prec: u32) -> Result<Self, Failure> {
        let numer = Self::rounded(value.numer().clone(), 0, BigUint::zero(), prec)?;
        if value.is_integer() {
            return Ok(numer);
        }
        let denom = Self::rounded(value.denom().clone(), 0, BigUint::zero(), prec)?;
        numer.div(&denom, prec)
    }

    /// A fixed-point number: `value * 2^-places`, off by at most `error` units.
    pub(super) fn from_fixed(
        value: BigInt,
        places: i64,
        error: u64,
        prec: u32,
    ) -> Result<Self, Failure> {
        Self::rounded(value, -places, BigUint::from(error), prec)
    }

    /// Rounds to `prec` bits and adds the rounding error to the radius.
    pub(super) fn rounded(
        mid: BigInt,
        exponent: i64,
        radius: BigUint,
        prec: u32,
    ) -> Result<Self, Failure> {
        if exponent.abs() > MAX_EXPONENT {
            return Err(Failure::OverBudget(Budget::Size));
        }
        let excess = bits(&mid) - i64::from(prec);
        let drop = excess.max(radius.bits() as i64 - RADIUS_BITS as i64).max(0);
        if drop == 0 {
            let radius = radius.to_u64().ok_or(Failure::Unsupported)?;
            return Ok(Self {
                mid,
                exponent,
                radius,
            });
        }
        let rest = (&radius >> drop as u64)
            .to_u64()
            .ok_or(Failure::Unsupported)?;
        let exact = radius.is_zero() && mid.trailing_zeros().is_none_or(|z| z as i64 >= drop);
        Ok(Self {
            mid: shift(&mid, -drop),
            exponent: exponent + drop,
            radius: if exact { 0 } else { rest + 2 },
        })
    }

    pub(crate) fn is_exact_zero(&self) -> bool {
        self.mid.is_zero() && self.radius == 0
    }

    /// Whether zero is among the values.
    pub(crate) fn contains_zero(&self) -> bool {
        self.mid.magnitude() <= &BigUint::from(self.radius)
    }

    /// The sign, if all values have the same one.
    pub(crate) fn sign(&self) -> Option<i8> {
        if self.is_exact_zero() {
            return Some(0);
        }
        if self.contains_zero() {
            return None;
        }
        Some(if self.mid.is_negative() { -1 } else { 1 })
    }

    /// The binary exponent of the largest absolute value: all values are below `2^top`.
    pub(crate) fn top(&self) -> i64 {
        let sum = self.mid.magnitude() + BigUint::from(self.radius);
        if sum.is_zero() {
            i64::MIN / 4
        } else {
            sum.bits() as i64 + self.exponent
        }
    }

    /// The binary exponent of the radius.
    pub(crate) fn radius_top(&self) -> i64 {
        if self.radius == 0 {
            return i64::MIN / 4;
        }
        i64::from(u64::BITS - self.radius.leading_zeros()) + self.exponent
    }

    /// The floor, if it is the same for all values.
    pub(crate) fn floor(&self) -> Option<BigInt> {
        let radius = BigInt::from(self.radius);
        if self.top() > 1 << 16 {
            return None;
        }
        let low = shift(&(&self.mid - &radius), self.exponent);
        let high = shift(&(&self.mid + &radius), self.exponent);
        (low == high).then_some(low)
    }

    /// An approximation for ordering; infinite when out of range.
    pub(crate) fn to_f64(&self) -> f64 {
        let drop = (bits(&self.mid) - 64).max(0);
        let mantissa = shift(&self.mid, -drop).to_f64().unwrap_or(0.0);
        let exponent = (self.exponent + drop).clamp(-2000, 2000) as i32;
        // Two steps, so that the power itself does not overflow.
        mantissa * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            mid: -&self.mid,
            exponent: self.exponent,
            radius: self.radius,
        }
    }

    pub(crate) fn abs(&self) -> Self {
        Self {
            mid: self.mid.abs(),
            exponent: self.exponent,
            radius: self.radius,
        }
    }

    pub(crate) fn add(&self, other: &Self, prec: u32) -> Result<Self, Failure> {
        if self.is_exact_zero() {
            return Ok(other.clone());
        }
        if other.is_exact_zero() {
            return Ok(self.clone());
        }
        // Bits far below the larger operand are rounded off before aligning.
        let floor = self.top().max(other.top()) - i64::from(prec) - 64;
        let exponent = self.exponent.min(other.exponent).max(floor);
        let mut radius = BigUint::zero();
        let mut mid = BigInt::zero();
        for term in [self, other] {
            let by = term.exponent - exponent;
            mid += shift(&term.mid, by);
            if by >= 0 {
                radius += BigUint::from(term.radius) << by as u64;
            } else {
                let exact =
                    term.radius == 0 && term.mid.trailing_zeros().is_none_or(|z| z as i64 >= -by);
                if !exact {
                    radius += (BigUint::from(term.radius) >> by.unsigned_abs()) + 2u32;
                }
            }
        }
        Self::rounded(mid, exponent, radius, prec)
    }

    pub(crate) fn sub(&self, other: &Self, prec: u32) -> Result<Self, Failure> {
        self.add(&other.neg(), prec)
    }

    pub(crate) fn mul(&self, other: &Self, prec: u32) -> Result<Self, Failure> {
        let mid = &self.mid * &other.mid;
        let mut radius = BigUint::zero();
        if other.radius > 0 {
            radius += self.mid.magnitude() * other.radius;
        }
        if self.radius > 0 {
            radius += other.mid.magnitude() * self.radius;
            radius += BigUint::from(self.radius) * other.radius;
        }
        Self::rounded(mid, self.exponent + other.exponent, radius, prec)
    }

    /// The quotient; fails if the divisor may be zero.
    pub(crate) fn div(&self, other: &Self, prec: u32) -> Result<Self, Failure> {
        if other.is_exact_zero() {
            return Err(Failure::Undefined);
        }
        if other.contains_zero() {
            return Err(Failure::Unsupported);
        }
        let by = (i64::from(prec) + 4 + bits(&other.mid) - bits(&self.mid)).max(0);
        let scaled = shift(&self.mid, by);
        let mid = &scaled / &other.mid;
        let exact = self.radius == 0 && other.radius == 0 && (&mid * &other.mid) == scaled;
        let mut radius = BigUint::from(u8::from(!exact) * 2);
        if self.radius > 0 || other.radius > 0 {
            // |a/b - a'/b'| <= (|a| rb + |b| ra) / (|b| (|b| - rb))
            let (a, b) = (self.mid.magnitude(), other.mid.magnitude());
            let error = a * other.radius + b * self.radius;
            radius += (error << by as u64) / (b * (b - other.radius)) + 1u32;
        }
        Self::rounded(mid, self.exponent - other.exponent - by, radius, prec)
    }

    /// The square root of a ball of non-negative numbers.
    pub(crate) fn sqrt(&self, prec: u32) -> Result<Self, Failure> {
        if self.is_exact_zero() {
            return Ok(Self::zero());
        }
        if self.contains_zero() {
            // The root of a number in [0, h] lies in [0, sqrt h].
            let half = (self.top() + 2).div_euclid(2);
            return Ok(Self {
                mid: BigInt::one(),
                exponent: half,
                radius: 1,
            });
        }
        if self.mid.is_negative() {
            return Err(Failure::Unsupported);
        }
        let mut by = (2 * i64::from(prec) + 8 - bits(&self.mid)).max(0);
        if (self.exponent - by) % 2 != 0 {
            by += 1;
        }
        let scaled = self.mid.magnitude() << by as u64;
        let root = scaled.sqrt();
        let exact = self.radius == 0 && &root * &root == scaled;
        let mut radius = BigUint::from(u8::from(!exact) * 2);
        if self.radius > 0 {
            // |sqrt a - sqrt a'| <= r / sqrt(a - r)
            let low = (self.mid.magnitude() - self.radius) << by as u64;
            radius += (BigUint::from(self.radius) << by as u64) / low.sqrt() + 1u32;
        }
        let mid = BigInt::from_biguint(Sign::Plus, root);
        Self::rounded(mid, (self.exponent - by) / 2, radius, prec)
    }

    /// A whole power, by repeated squaring.
    pub(crate) fn powi(&self, exponent: u64, prec: u32) -> Result<Self, Failure> {
        let mut result = Self::from_int(1);
        let mut square = self.clone();
        let mut rest = exponent;
        while rest > 0 {
            if rest & 1 == 1 {
                result = result.mul(&square, prec)?;
            }
            rest >>= 1;
            if rest > 0 {
                square = square.mul(&square, prec)?;
            }
        }
        Ok(result)
    }

    /// The value as a fixed-point number with `places` binary places, and the error in units.
    pub(super) fn to_fixed(&self, places: i64) -> (BigInt, BigUint) {
        let by = self.exponent + places;
        let value = shift(&self.mid, by);
        let error = if by >= 0 {
            BigUint::from(self.radius) << by as u64
        } else {
            (BigUint::from(self.radius) >> by.unsigned_abs()) + 2u32
        };
        (value, error)
    }
}
