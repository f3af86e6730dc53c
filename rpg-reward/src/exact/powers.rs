//! Powers, roots and logarithms in exact form.

use super::canon::{Canon, Result, checked};
use super::factor::{cost as factor_cost, factor};
use super::kernel::Kernel;
use super::poly::{Exponent, Monomial, Poly, Quot};
use super::rational;
use crate::ast::Func;
use crate::verdict::{Budget, Failure};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// The largest whole exponent of anything but a number.
const MAX_POWER: u64 = 4_096;

impl Canon {
    /// `base ^ exponent`.
    pub(super) fn power(&mut self, base: &Quot, exponent: &Quot) -> Result<Quot> {
        if let Some(exponent) = exponent.as_rational() {
            if exponent.is_integer() {
                let whole = exponent.to_integer().to_i64();
                return self.whole_power(base, whole.ok_or(Failure::OverBudget(Budget::Size))?);
            }
            return self.fractional_power(base, &exponent);
        }
        if base.is_zero() {
            return Err(Failure::Unsupported);
        }
        if let Some(result) = self.symbolic_power(base, exponent)? {
            return Ok(result);
        }
        self.kernel(Kernel::Power(
            Box::new(base.clone()),
            Box::new(exponent.clone()),
        ))
    }

    pub(super) fn whole_power(&mut self, base: &Quot, exponent: i64) -> Result<Quot> {
        if let Some(base) = base.as_rational() {
            let bits = base.numer().bits().max(base.denom().bits());
            let words = bits.saturating_mul(exponent.unsigned_abs()) / 64;
            self.spend(1 + (words / 16).saturating_mul(words / 16) / 16)?;
            return Ok(Quot::rational(rational::powi(&base, exponent)?));
        }
        if exponent == 0 {
            return Ok(Quot::int(1));
        }
        if let Some(result) =
            self.monomial_power(base, &BigRational::from_integer(exponent.into()))?
        {
            return Ok(result);
        }
        if exponent.unsigned_abs() > MAX_POWER {
            return Err(Failure::OverBudget(Budget::Size));
        }
        let mut result = Quot::int(1);
        let mut square = base.clone();
        let mut rest = exponent.unsigned_abs();
        while rest > 0 {
            if rest & 1 == 1 {
                result = self.mul(&result, &square)?;
            }
            rest >>= 1;
            if rest > 0 {
                square = self.mul(&square, &square)?;
            }
        }
        if exponent < 0 {
            self.inverse(&result)
        } else {
            Ok(result)
        }
    }

    /// A whole power of a single term in variables and numbers: exponents are multiplied.
    fn monomial_power(&mut self, base: &Quot, exponent: &BigRational) -> Result<Option<Quot>> {
        let Some((monomial, coefficient)) = base.num.as_term().filter(|_| base.is_poly()) else {
            return Ok(None);
        };
        let plain = monomial.factors().iter().all(|(k, _)| {
            matches!(
                self.kernels.get(*k),
                Kernel::Sym(_) | Kernel::Pi | Kernel::E | Kernel::Tower(..) | Kernel::Apply(..)
            )
        });
        let Some(whole) = exponent.to_integer().to_i64().filter(|_| plain) else {
            return Ok(None);
        };
        let mut product = Quot::rational(rational::powi(coefficient, whole)?);
        for (kernel, e) in monomial.factors() {
            let e = checked(Exponent::from_integer(whole).min(Exponent::from_integer(1 << 29)))
                .and_then(|w| times(*e, w))?;
            product = self.mul(&product, &Quot::kernel(*kernel, e))?;
        }
        Ok(Some(product))
    }

    /// The power of a constant or a single variable, with variables in the exponent.
    fn symbolic_power(&mut self, base: &Quot, exponent: &Quot) -> Result<Option<Quot>> {
        if !exponent.is_poly() || !base.is_poly() {
            return Ok(None);
        }
        let mut bases: Vec<(u32, Exponent)> = Vec::new();
        if let Some(number) = base.as_rational() {
            if !number.is_positive() {
                return Ok(None);
            }
            for (value, sign) in [(number.numer(), 1), (number.denom(), -1)] {
                self.spend(factor_cost(value))?;
                for (prime, count, sure) in factor(value) {
                    let id = self.kernels.id(Kernel::Prime {
                        value: prime,
                        certain: sure,
                    })?;
                    bases.push((id, Exponent::from_integer(count * sign)));
                }
            }
        } else {
            let Some((monomial, coefficient)) = base.num.as_term() else {
                return Ok(None);
            };
            let [(kernel, e)] = monomial.factors() else {
                return Ok(None);
            };
            let plain = matches!(self.kernels.get(*kernel), Kernel::Sym(_) | Kernel::E)
                || (matches!(self.kernels.get(*kernel), Kernel::Prime { .. }));
            if !coefficient.is_one() || !plain {
                return Ok(None);
            }
            bases.push((*kernel, *e));
        }
        let mut product = Quot::int(1);
        let terms: Vec<(Monomial, BigRational)> = exponent
            .num
            .terms()
            .map(|(m, c)| (m.clone(), c.clone()))
            .collect();
        for (base, multiplicity) in bases {
            for (monomial, coefficient) in &terms {
                let Some(coefficient) = as_exponent(coefficient) else {
                    return Ok(None);
                };
                let factor = self.tower(base, monomial, times(multiplicity, coefficient)?)?;
                product = self.mul(&product, &factor)?;
            }
        }
        Ok(Some(product))
    }

    /// `base ^ (coefficient * monomial)`.
    fn tower(&mut self, base: u32, monomial: &Monomial, coefficient: Exponent) -> Result<Quot> {
        if monomial.is_one() {
            let one = Quot::int(1);
            let power = Quot::kernel(base, coefficient);
            // The product rules normalize the exponent of a prime.
            return if coefficient.is_integer() {
                match self.kernels.get(base).clone() {
                    Kernel::Prime { value: p, .. } => Ok(Quot::rational(rational::powi(
                        &BigRational::from_integer(p),
                        coefficient.to_integer(),
                    )?)),
                    _ => self.mul(&one, &power),
                }
            } else {
                self.prime_power(base, coefficient)
            };
        }
        // Euler: e^(i pi r) = cos(pi r) + i sin(pi r)
        if *self.kernels.get(base) == Kernel::E
            && let [(a, one_a), (b, one_b)] = monomial.factors()
            && one_a.is_one()
            && one_b.is_one()
        {
            let pair = (self.kernels.get(*a).clone(), self.kernels.get(*b).clone());
            if matches!(pair, (Kernel::I, Kernel::Pi) | (Kernel::Pi, Kernel::I)) {
                let turn =
                    BigRational::new((*coefficient.numer()).into(), (*coefficient.denom()).into());
                let half = BigRational::new(1.into(), 2.into());
                let cos = self.sin_pi(&(&turn + half))?;
                let sin = self.sin_pi(&turn)?;
                let i = self.kernel(Kernel::I)?;
                let imaginary = self.mul(&i, &sin)?;
                return self.add(&cos, &imaginary);
            }
        }
        let id = self.kernels.id(Kernel::Tower(base, monomial.clone()))?;
        Ok(Quot::kernel(id, coefficient))
    }

    /// A kernel to a fractional power; the whole part of a prime's exponent becomes a number.
    fn prime_power(&mut self, base: u32, exponent: Exponent) -> Result<Quot> {
        let Kernel::Prime { value: p, .. } = self.kernels.get(base).clone() else {
            return Ok(Quot::kernel(base, exponent));
        };
        let whole = exponent.floor();
        let number = rational::powi(&BigRational::from_integer(p), whole.to_integer())?;
        let root = Quot::kernel(base, exponent - whole);
        self.mul(&Quot::rational(number), &root)
    }

    /// A power with a fractional exponent.
    fn fractional_power(&mut self, base: &Quot, exponent: &BigRational) -> Result<Quot> {
        let small_exponent = as_exponent(exponent).ok_or(Failure::OverBudget(Budget::Size))?;
        if base.is_zero() {
            return if exponent.is_positive() {
                Ok(Quot::int(0))
            } else {
                Err(Failure::Undefined)
            };
        }
        if let Some((monomial, coefficient)) = base.num.as_term().filter(|_| base.is_poly())
            && let Some(result) =
                self.root_of_term(&monomial.clone(), &coefficient.clone(), small_exponent)?
        {
            return Ok(result);
        }
        // A common factor of the coefficients is moved out of the root.
        if base.is_poly() {
            let content = content(&base.num);
            if !content.is_one() {
                let inverse = content.recip();
                let mut rest = Poly::default();
                for (m, c) in base.num.terms() {
                    super::canon::accumulate(&mut rest, m.clone(), rational::mul(c, &inverse)?)?;
                }
                let outside = self.fractional_power(&Quot::rational(content), exponent)?;
                let inside = self.base_power(Quot::poly(rest), small_exponent)?;
                return self.mul(&outside, &inside);
            }
        }
        self.base_power(base.clone(), small_exponent)
    }

    /// A root that cannot be simplified: its base is a kernel, and the whole part of the exponent is expanded.
    fn base_power(&mut self, base: Quot, exponent: Exponent) -> Result<Quot> {
        let id = self.kernels.id(Kernel::Base(Box::new(base.clone())))?;
        let whole = exponent.floor();
        let root = Quot::kernel(id, exponent - whole);
        let power = self.whole_power(&base, whole.to_integer())?;
        self.mul(&power, &root)
    }

    /// The root of a single term, if it is a product of simpler roots.
    fn root_of_term(
        &mut self,
        monomial: &Monomial,
        coefficient: &BigRational,
        exponent: Exponent,
    ) -> Result<Option<Quot>> {
        let even = exponent.denom() % 2 == 0;
        let mut result = Quot::int(1);
        let mut number = coefficient.clone();
        if number.is_negative() {
            number = -number;
            if even {
                if *exponent.denom() != 2 {
                    return Ok(None);
                }
                if !monomial.is_one() {
                    return Ok(None);
                }
                let i = self.kernel(Kernel::I)?;
                result = self.whole_power(&i, *exponent.numer())?;
            } else if exponent.numer() % 2 != 0 {
                result = Quot::int(-1);
            }
        }
        for (value, sign) in [(number.numer(), 1), (number.denom(), -1)] {
            self.spend(factor_cost(value))?;
            for (prime, count, sure) in factor(value) {
                let id = self.kernels.id(Kernel::Prime {
                    value: prime,
                    certain: sure,
                })?;
                let power = times(exponent, Exponent::from_integer(count * sign))?;
                let power = self.tower(id, &Monomial::one(), power)?;
                result = self.mul(&result, &power)?;
            }
        }
        let variables = monomial
            .factors()
            .iter()
            .filter(|(k, _)| self.kernels.has_variable(*k))
            .count();
        for (kernel, e) in monomial.factors() {
            let power = times(*e, exponent)?;
            let factor = match self.kernels.get(*kernel).clone() {
                Kernel::Pi | Kernel::E => Quot::kernel(*kernel, power),
                Kernel::Prime { .. } => self.tower(*kernel, &Monomial::one(), power)?,
                Kernel::Tower(base, _)
                    if matches!(self.kernels.get(base), Kernel::Prime { .. } | Kernel::E) =>
                {
                    Quot::kernel(*kernel, power)
                }
                Kernel::Sym(_) if even && e.is_integer() && e.numer() % 2 == 0 => {
                    // sqrt(x^2) = |x|
                    let argument = Quot::kernel(*kernel, Exponent::one());
                    let id = self.kernels.id(Kernel::Fun(Func::Abs, vec![argument]))?;
                    let absolute = Quot::kernel(id, Exponent::one());
                    if power.is_integer() {
                        self.whole_power(&absolute, power.to_integer())?
                    } else {
                        Quot::kernel(id, power)
                    }
                }
                Kernel::Sym(_) if variables == 1 || !even => Quot::kernel(*kernel, power),
                _ => return Ok(None),
            };
            result = self.mul(&result, &factor)?;
        }
        Ok(Some(result))
    }

    /// The natural logarithm; that of a number is a sum over its primes.
    pub(super) fn logarithm(&mut self, argument: Quot) -> Result<Quot> {
        if argument.is_zero() {
            return Err(Failure::Undefined);
        }
        if let Some((monomial, coefficient)) = argument.num.as_term().filter(|_| argument.is_poly())
            && coefficient.is_positive()
            && monomial
                .factors()
                .iter()
                .all(|(k, _)| matches!(self.kernels.get(*k), Kernel::Prime { .. } | Kernel::E))
        {
            let mut sum = Quot::int(0);
            let mut parts: Vec<(Option<BigInt>, Exponent)> = Vec::new();
            for (value, sign) in [(coefficient.numer(), 1), (coefficient.denom(), -1)] {
                self.spend(factor_cost(value))?;
                parts.extend(
                    factor(value)
                        .into_iter()
                        .map(|(p, count, _)| (Some(p), Exponent::from_integer(count * sign))),
                );
            }
            for (kernel, e) in monomial.factors() {
                match self.kernels.get(*kernel) {
                    Kernel::Prime { value: p, .. } => parts.push((Some(p.clone()), *e)),
                    _ => parts.push((None, *e)),
                }
            }
            for (prime, count) in parts {
                let count = BigRational::new((*count.numer()).into(), (*count.denom()).into());
                let term = match prime {
                    None => Quot::rational(count),
                    Some(p) => {
                        let number = Quot::rational(BigRational::from_integer(p));
                        let ln = self.kernel(Kernel::Fun(Func::Ln, vec![number]))?;
                        self.mul(&Quot::rational(count), &ln)?
                    }
                };
                sum = self.add(&sum, &term)?;
            }
            return Ok(sum);
        }
        self.kernel(Kernel::Fun(Func::Ln, vec![argument]))
    }
}

/// A rational number as an exponent, if it fits.
fn as_exponent(value: &BigRational) -> Option<Exponent> {
    let exponent = Exponent::new(value.numer().to_i64()?, value.denom().to_i64()?);
    checked(exponent).ok()
}

/// The product of two exponents.
fn times(a: Exponent, b: Exponent) -> Result<Exponent> {
    checked(checked(a)? * checked(b)?)
}

/// The rational number that divides the coefficients into whole numbers without a common factor.
fn content(poly: &Poly) -> BigRational {
    use num_integer::Integer;
    let mut numer = BigInt::zero();
    let mut denom = BigInt::one();
    for (_, c) in poly.terms() {
        if c.numer().bits() + c.denom().bits() > 1024 {
            return BigRational::one();
        }
        numer = numer.gcd(c.numer());
        denom = denom.lcm(c.denom());
        if denom.bits() > 1024 {
            return BigRational::one();
        }
    }
    if numer.is_zero() {
        BigRational::one()
    } else {
        BigRational::new(numer, denom)
    }
}
