//! Polynomials in one variable with rational coefficients.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

/// The largest coefficient whose divisors are tried as parts of a zero.
const MAX_COEFFICIENT: i64 = 20_000;

/// The maximum number of fractions that are tried, each with both signs.
const MAX_CANDIDATES: usize = 400;

/// The coefficients, from the constant on; the last is not zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Univariate(pub(crate) Vec<BigRational>);

impl Univariate {
    /// The rational zeros with their multiplicities, and the polynomial without them. `None` if the numbers
    /// are too large to find them.
    pub(crate) fn split(&self, degree_left: usize) -> Option<(Vec<(BigRational, usize)>, Self)> {
        let mut zeros: Vec<(BigRational, usize)> = Vec::new();
        let mut rest = self.clone();
        while rest.0.len() > degree_left + 1 {
            let zero = rest.rational_zero()?;
            rest = rest.divided(&zero);
            match zeros.iter_mut().find(|(z, _)| *z == zero) {
                Some((_, times)) => *times += 1,
                None => zeros.push((zero, 1)),
            }
        }
        Some((zeros, rest))
    }

    /// A rational zero: a divisor of the constant over one of the last coefficient.
    fn rational_zero(&self) -> Option<BigRational> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        if first.is_zero() {
            return Some(BigRational::zero());
        }
        let common = self
            .0
            .iter()
            .fold(BigInt::from(1), |common, c| common.lcm(c.denom()));
        let divisors = |c: &BigRational| -> Option<Vec<i64>> {
            let whole = (c * &common).to_integer().abs().to_i64();
            let whole = whole.filter(|n| *n <= MAX_COEFFICIENT)?;
            Some((1..=whole).filter(|d| whole % d == 0).collect())
        };
        let (tops, bottoms) = (divisors(first)?, divisors(last)?);
        if tops.len() * bottoms.len() > MAX_CANDIDATES {
            return None;
        }
        let pairs = tops
            .iter()
            .flat_map(|p| bottoms.iter().map(move |q| (*p, *q)));
        pairs
            .flat_map(|(p, q)| [(p, q), (-p, q)])
            .map(|(p, q)| BigRational::new(p.into(), q.into()))
            .find(|x| self.at(x).is_zero())
    }

    fn at(&self, x: &BigRational) -> BigRational {
        let start = BigRational::zero();
        self.0.iter().rev().fold(start, |value, c| value * x + c)
    }

    /// Divided by `x - zero`.
    pub(crate) fn divided(&self, zero: &BigRational) -> Self {
        let mut carry = BigRational::zero();
        let mut quotient = self.0[1..].to_vec();
        for c in quotient.iter_mut().rev() {
            carry = carry * zero + &*c;
            *c = carry.clone();
        }
        Self(quotient)
    }

    /// The coefficients in powers of `x - center`.
    pub(super) fn around(&self, center: &BigRational) -> Vec<BigRational> {
        let mut rest = self.clone();
        let mut coefficients = Vec::new();
        while !rest.0.is_empty() {
            coefficients.push(rest.at(center));
            rest = rest.divided(center);
        }
        coefficients
    }
}
