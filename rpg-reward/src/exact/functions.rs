//! Functions of numbers and expressions in exact form.

use super::canon::{Canon, Result};
use super::kernel::Kernel;
use super::poly::Quot;
use super::rational;
use crate::ast::{Expr, Func};
use crate::numeric::{Evaluator, Point};
use crate::verdict::{Budget, Failure};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// The largest argument of a factorial.
const MAX_FACTORIAL: u64 = 2_000;

impl Canon {
    pub(super) fn function(&mut self, func: Func, arguments: &[Expr]) -> Result<Quot> {
        if let Some(value) = self.trigonometric(func, arguments)? {
            return Ok(value);
        }
        let first = arguments.first().ok_or(Failure::NotParsed)?;
        match func {
            Func::Det | Func::Trace => return self.matrix_function(func, first),
            Func::Exp => {
                let e = self.kernel(Kernel::E)?;
                let exponent = self.canon(first)?;
                return self.power(&e, &exponent);
            }
            Func::Ln => {
                let argument = self.canon(first)?;
                return self.logarithm(argument);
            }
            Func::Log => {
                let base = self.canon(arguments.get(1).ok_or(Failure::NotParsed)?)?;
                let argument = self.canon(first)?;
                let (argument, base) = (self.logarithm(argument)?, self.logarithm(base)?);
                return self.div(&argument, &base);
            }
            _ => {}
        }
        let values = self.canon_all(arguments)?;
        let rationals: Option<Vec<BigRational>> = values.iter().map(Quot::as_rational).collect();
        if let Some(rationals) = &rationals {
            if let Some(value) = self.rational_function(func, rationals)? {
                return Ok(Quot::rational(value));
            }
        } else if matches!(func, Func::Abs | Func::Floor | Func::Ceil | Func::Sign)
            && let Some(value) = self.constant_function(func, first, &values[0])?
        {
            return Ok(value);
        }
        if func == Func::Binomial
            && let Some(k) = values[1].as_rational().filter(|k| k.is_integer())
            && let Some(k) = k.to_integer().to_i64().filter(|k| (0..=12).contains(k))
        {
            let mut product = Quot::int(1);
            for j in 0..k {
                let factor = self.sub(&values[0], &Quot::int(j))?;
                product = self.mul(&product, &factor)?;
                product = self.div(&product, &Quot::int(j + 1))?;
            }
            return Ok(product);
        }
        if func == Func::Abs {
            // |a| = |-a|: the first coefficient decides.
            let negative = values[0]
                .num
                .terms()
                .next()
                .is_some_and(|(_, c)| c.is_negative());
            let argument = if negative {
                values[0].neg()
            } else {
                values[0].clone()
            };
            return self.kernel(Kernel::Fun(func, vec![argument]));
        }
        self.kernel(Kernel::Fun(func, values))
    }

    /// Functions of rational numbers that have rational values.
    pub(super) fn rational_function(
        &mut self,
        func: Func,
        x: &[BigRational],
    ) -> Result<Option<BigRational>> {
        let whole = |r: &BigRational| r.is_integer().then(|| r.to_integer());
        let from = BigRational::from_integer;
        let first = &x[0];
        Ok(match func {
            Func::Abs => Some(first.abs()),
            Func::Floor => Some(first.floor()),
            Func::Ceil => Some(first.ceil()),
            Func::Sign => Some(first.signum()),
            Func::Re | Func::Conjugate => Some(first.clone()),
            Func::Im => Some(BigRational::zero()),
            Func::Factorial | Func::DoubleFactorial => {
                let Some(n) = whole(first) else {
                    return Err(Failure::Unsupported);
                };
                if n.is_negative() {
                    return Err(Failure::Undefined);
                }
                let n = n.to_u64().filter(|n| *n <= MAX_FACTORIAL);
                let n = n.ok_or(Failure::OverBudget(Budget::Size))?;
                let step = if func == Func::Factorial { 1 } else { 2 };
                self.spend(n * n / 64 / step + 1)?;
                let mut product = BigInt::one();
                let mut k = n;
                while k > 1 {
                    product *= k;
                    k = k.saturating_sub(step);
                }
                Some(from(product))
            }
            Func::Binomial | Func::Permutations => {
                let (Some(n), Some(k)) = (whole(first), x.get(1).and_then(whole)) else {
                    return Err(Failure::Unsupported);
                };
                if n.is_negative() || k.is_negative() {
                    return Err(Failure::Unsupported);
                }
                if k > n {
                    return Ok(Some(BigRational::zero()));
                }
                let other = &n - &k;
                let k = if func == Func::Binomial && other < k {
                    other
                } else {
                    k
                };
                let k = k.to_u64().filter(|k| *k <= MAX_FACTORIAL);
                let k = k.ok_or(Failure::OverBudget(Budget::Size))?;
                if n.bits() > 40 {
                    return Err(Failure::OverBudget(Budget::Size));
                }
                self.spend(k * (k * n.bits() / 64 + 8) / 8)?;
                let mut product = BigInt::one();
                for j in 0..k {
                    product *= &n - j;
                    if func == Func::Binomial {
                        product /= j + 1;
                    }
                }
                Some(from(product))
            }
            Func::Gcd | Func::Lcm => {
                let mut result: Option<BigInt> = None;
                for value in x {
                    let Some(value) = whole(value) else {
                        return Err(Failure::Unsupported);
                    };
                    if value.bits() > 2048 {
                        return Err(Failure::OverBudget(Budget::Size));
                    }
                    result = Some(match result {
                        None => value.abs(),
                        Some(old) if func == Func::Gcd => old.gcd(&value),
                        Some(old) => old.lcm(&value),
                    });
                }
                result.map(from)
            }
            Func::Max => x.iter().max().cloned(),
            Func::Min => x.iter().min().cloned(),
            Func::Mod => {
                let (Some(a), Some(m)) = (whole(first), x.get(1).and_then(whole)) else {
                    return Err(Failure::Unsupported);
                };
                if m.is_zero() {
                    return Err(Failure::Undefined);
                }
                Some(from(a.mod_floor(&m)))
            }
            _ => None,
        })
    }

    /// Absolute value, floor and sign of a constant, if evaluation can determine its sign or size.
    pub(super) fn constant_function(
        &mut self,
        func: Func,
        expr: &Expr,
        value: &Quot,
    ) -> Result<Option<Quot>> {
        if func == Func::Abs
            && let Some(modulus) = self.complex_modulus(value)?
        {
            return Ok(Some(modulus));
        }
        let point: Point = self.bound.clone();
        let mut evaluator = Evaluator::new(256, &point, true, 2_000);
        let number = evaluator.eval(expr);
        let used = 2_000 - evaluator.fuel;
        self.spend(u64::from(used) * 4)?;
        let Ok(number) = number else { return Ok(None) };
        if !number.is_real() {
            return Ok(None);
        }
        Ok(match func {
            Func::Abs => number
                .re
                .sign()
                .map(|s| if s < 0 { value.neg() } else { value.clone() }),
            Func::Sign => number.re.sign().map(|s| Quot::int(s.into())),
            Func::Floor => number.re.floor().map(|n| Quot::rational(n.into())),
            _ => number.re.neg().floor().map(|n| Quot::rational((-n).into())),
        })
    }

    /// |a + bi| for rational a and b.
    pub(super) fn complex_modulus(&mut self, value: &Quot) -> Result<Option<Quot>> {
        if !value.is_poly() || value.num.len() > 2 {
            return Ok(None);
        }
        let mut square = BigRational::zero();
        let mut imaginary = false;
        for (monomial, coefficient) in value.num.terms() {
            match monomial.factors() {
                [] => {}
                [(id, _)] if *self.kernels.get(*id) == Kernel::I => imaginary = true,
                _ => return Ok(None),
            }
            square = rational::add(&square, &rational::mul(coefficient, coefficient)?)?;
        }
        if !imaginary {
            return Ok(None);
        }
        let half = Quot::rational(BigRational::new(1.into(), 2.into()));
        self.power(&Quot::rational(square), &half).map(Some)
    }
}
