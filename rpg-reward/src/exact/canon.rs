//! From the syntax tree to exact form.

use super::kernel::{Kernel, Kernels};
use super::poly::{Exponent, Monomial, Poly, Quot};
use super::rational;
use crate::ast::{Constant, Expr, Func};
use crate::verdict::{Budget, Failure};
use num_rational::BigRational;
use num_traits::{One, Zero};
use std::collections::BTreeMap;

/// The maximum number of terms of a polynomial.
const MAX_TERMS: usize = 1_500;
/// The steps of work for one comparison; a step is roughly a product of two small numbers.
const FUEL: u64 = 60_000;

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Converts expressions to exact form; forms from the same `Canon` can be compared.
#[derive(Debug)]
pub(crate) struct Canon {
    pub(super) kernels: Kernels,
    fuel: u64,
    given: u64,
    /// The values of bound variables, as in the body of a sum.
    pub(super) bound: Vec<(String, BigRational)>,
}

impl Canon {
    /// Allows at most `fuel` steps.
    pub(crate) fn new(fuel: u64) -> Self {
        let fuel = fuel.min(FUEL);
        Self {
            kernels: Kernels::default(),
            fuel,
            given: fuel,
            bound: Vec::new(),
        }
    }

    /// The steps taken so far.
    pub(crate) fn spent(&self) -> u64 {
        self.given - self.fuel
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    pub(super) fn spend(&mut self, steps: u64) -> Result<()> {
        self.fuel = self
            .fuel
            .checked_sub(steps)
            .ok_or(Failure::OverBudget(Budget::Work))?;
        Ok(())
    }

    pub(super) fn kernel(&mut self, kernel: Kernel) -> Result<Quot> {
        self.spend(15)?;
        Ok(Quot::kernel(self.kernels.id(kernel)?, Exponent::one()))
    }

    pub(crate) fn add_poly(&mut self, a: &Poly, b: &Poly) -> Result<Poly> {
        let (larger, smaller) = if a.len() >= b.len() { (a, b) } else { (b, a) };
        self.spend(larger.len() as u64 * 2)?;
        let mut sum = larger.clone();
        self.add_into(&mut sum, smaller)?;
        Ok(sum)
    }

    fn add_into(&mut self, sum: &mut Poly, other: &Poly) -> Result<()> {
        for (monomial, coefficient) in other.terms() {
            let old = sum.coefficient(monomial).unwrap_or(coefficient);
            self.spend(6 + rational::cost(old, coefficient))?;
            accumulate(sum, monomial.clone(), coefficient.clone())?;
        }
        Ok(())
    }

    pub(crate) fn mul_poly(&mut self, a: &Poly, b: &Poly) -> Result<Poly> {
        let mut product = Poly::default();
        for (m, c) in a.terms() {
            for (n, d) in b.terms() {
                self.spend(12 + rational::cost(c, d))?;
                let coefficient = rational::mul(c, d)?;
                self.add_term_product(&mut product, m, n, coefficient)?;
            }
        }
        Ok(product)
    }

    /// Adds `coefficient * m * n` to `sum`, with roots of roots and powers of i simplified.
    fn add_term_product(
        &mut self,
        sum: &mut Poly,
        m: &Monomial,
        n: &Monomial,
        mut coefficient: BigRational,
    ) -> Result<()> {
        if n.is_one() {
            return accumulate(sum, m.clone(), coefficient);
        }
        if m.is_one() {
            return accumulate(sum, n.clone(), coefficient);
        }
        let mut factors: BTreeMap<u32, Exponent> = m.factors().iter().copied().collect();
        for (kernel, exponent) in n.factors() {
            let total = match factors.get(kernel) {
                Some(old) => checked(*old + *exponent)?,
                None => *exponent,
            };
            factors.insert(*kernel, total);
        }
        let mut extra: Option<Poly> = None;
        for (id, exponent) in &mut factors {
            let over = exponent.floor();
            match self.kernels.get(*id) {
                Kernel::I => {
                    let quarter = exponent.to_integer().rem_euclid(4);
                    if quarter >= 2 {
                        coefficient = -coefficient;
                    }
                    *exponent = Exponent::from_integer(quarter % 2);
                }
                Kernel::Prime { value: p, .. } if !over.is_zero() => {
                    let power = BigRational::from_integer(p.clone());
                    let power = rational::powi(&power, over.to_integer())?;
                    coefficient = rational::mul(&coefficient, &power)?;
                    *exponent -= over;
                }
                Kernel::Base(base) if over >= Exponent::one() && base.is_poly() => {
                    let base = base.num.clone();
                    let times = over.to_integer();
                    *exponent -= over;
                    extra = Some(self.times_power(extra, &base, times)?);
                }
                Kernel::Fun(Func::Cos, arguments)
                    if *exponent >= Exponent::from_integer(2) && exponent.is_integer() =>
                {
                    // cos^2 = 1 - sin^2
                    let sine = Kernel::Fun(Func::Sin, arguments.clone());
                    let pairs = exponent.to_integer() / 2;
                    *exponent = Exponent::from_integer(exponent.to_integer() % 2);
                    let id = self.kernels.id(sine)?;
                    let square = Monomial::power(id, Exponent::from_integer(2));
                    let mut rest = Poly::one();
                    accumulate(&mut rest, square, -BigRational::one())?;
                    extra = Some(self.times_power(extra, &rest, pairs)?);
                }
                Kernel::Fun(Func::Abs, arguments)
                    if *exponent >= Exponent::from_integer(2)
                        && exponent.is_integer()
                        && arguments[0].is_poly() =>
                {
                    let inner = arguments[0].num.clone();
                    let pairs = exponent.to_integer() / 2;
                    *exponent = Exponent::from_integer(exponent.to_integer() % 2);
                    extra = Some(self.times_power(extra, &inner, pairs * 2)?);
                }
                _ => {}
            }
        }
        let monomial = Monomial::from_factors(factors);
        match extra {
            None => accumulate(sum, monomial, coefficient),
            Some(extra) => {
                let product = self.mul_poly(&Poly::term(monomial, coefficient), &extra)?;
                for (m, c) in product.terms() {
                    accumulate(sum, m.clone(), c.clone())?;
                }
                Ok(())
            }
        }
    }

    fn times_power(&mut self, start: Option<Poly>, base: &Poly, times: i64) -> Result<Poly> {
        let mut product = start.unwrap_or_else(Poly::one);
        for _ in 0..times {
            product = self.mul_poly(&product, base)?;
        }
        Ok(product)
    }

    pub(crate) fn add(&mut self, a: &Quot, b: &Quot) -> Result<Quot> {
        if a.den == b.den {
            return Ok(Quot {
                num: self.add_poly(&a.num, &b.num)?,
                den: a.den.clone(),
            });
        }
        let left = self.mul_poly(&a.num, &b.den)?;
        let right = self.mul_poly(&b.num, &a.den)?;
        Ok(Quot {
            num: self.add_poly(&left, &right)?,
            den: self.mul_poly(&a.den, &b.den)?,
        })
    }

    pub(crate) fn sub(&mut self, a: &Quot, b: &Quot) -> Result<Quot> {
        self.add(a, &b.neg())
    }

    pub(crate) fn mul(&mut self, a: &Quot, b: &Quot) -> Result<Quot> {
        if let (Some(x), Some(y)) = (a.as_rational(), b.as_rational()) {
            self.spend(2 + rational::cost(&x, &y))?;
            return Ok(Quot::rational(rational::mul(&x, &y)?));
        }
        Ok(Quot {
            num: self.mul_poly(&a.num, &b.num)?,
            den: self.mul_poly(&a.den, &b.den)?,
        })
    }

    pub(crate) fn inverse(&mut self, a: &Quot) -> Result<Quot> {
        if a.num.is_zero() {
            return Err(Failure::Undefined);
        }
        // A single term becomes negative exponents, which avoids most denominators.
        if let Some((monomial, coefficient)) = a.num.as_term() {
            let factors = monomial.factors().iter().map(|(k, e)| (*k, -e)).collect();
            let inverse = Poly::term(
                Monomial::from_factors(factors),
                rational::recip(coefficient)?,
            );
            // Multiplying by one normalizes the new exponents.
            let mut tidy = Poly::default();
            let (m, c) = inverse.as_term().ok_or(Failure::Undefined)?;
            self.add_normalized(&mut tidy, m, c)?;
            return Ok(Quot {
                num: self.mul_poly(&tidy, &a.den)?,
                den: Poly::one(),
            });
        }
        Ok(Quot {
            num: a.den.clone(),
            den: a.num.clone(),
        })
    }

    fn add_normalized(&mut self, sum: &mut Poly, m: &Monomial, c: &BigRational) -> Result<()> {
        match m.factors() {
            [] => accumulate(sum, m.clone(), c.clone()),
            [first, rest @ ..] => {
                // Split off one factor, so that the product rules apply to every exponent.
                let head = Monomial::power(first.0, first.1 - Exponent::one());
                let mut tail: BTreeMap<u32, Exponent> = rest.iter().copied().collect();
                tail.insert(first.0, Exponent::one());
                let tail = Monomial::from_factors(tail);
                if head.is_one() {
                    return accumulate(sum, tail, c.clone());
                }
                self.add_term_product(sum, &head, &tail, c.clone())
            }
        }
    }

    pub(crate) fn div(&mut self, a: &Quot, b: &Quot) -> Result<Quot> {
        if let (Some(x), Some(y)) = (a.as_rational(), b.as_rational()) {
            self.spend(2 + rational::cost(&x, &y))?;
            return Ok(Quot::rational(rational::div(&x, &y)?));
        }
        let inverse = self.inverse(b)?;
        self.mul(a, &inverse)
    }

    /// The exact form of `expr`.
    pub(crate) fn canon(&mut self, expr: &Expr) -> Result<Quot> {
        self.spend(10)?;
        match expr {
            Expr::Num(n) => Ok(Quot::rational(n.value.clone())),
            Expr::Sym(name) => {
                if let Some((_, value)) = self.bound.iter().rev().find(|(n, _)| n == name) {
                    return Ok(Quot::rational(value.clone()));
                }
                self.kernel(Kernel::Sym(name.clone()))
            }
            Expr::Const(Constant::Pi) => self.kernel(Kernel::Pi),
            Expr::Const(Constant::E) => self.kernel(Kernel::E),
            Expr::Const(Constant::I) => self.kernel(Kernel::I),
            Expr::Const(_) => Err(Failure::Unsupported),
            Expr::Add(terms) => {
                let mut sum = Quot::int(0);
                for term in terms {
                    let term = self.canon(term)?;
                    if sum.den == term.den {
                        self.add_into(&mut sum.num, &term.num)?;
                    } else {
                        sum = self.add(&sum, &term)?;
                    }
                }
                Ok(sum)
            }
            Expr::Mul(factors) => {
                let mut product = Quot::int(1);
                for factor in factors {
                    let factor = self.canon(factor)?;
                    product = self.mul(&product, &factor)?;
                }
                Ok(product)
            }
            Expr::Neg(a) => Ok(self.canon(a)?.neg()),
            Expr::Div(a, b) => {
                let (a, b) = (self.canon(a)?, self.canon(b)?);
                self.div(&a, &b)
            }
            Expr::Pow(a, b) => {
                let (a, b) = (self.canon(a)?, self.canon(b)?);
                self.power(&a, &b)
            }
            Expr::Root(a, index) => {
                let (a, index) = (self.canon(a)?, self.canon(index)?);
                let one = Quot::int(1);
                let exponent = self.div(&one, &index)?;
                self.power(&a, &exponent)
            }
            Expr::Percent(a) => {
                let a = self.canon(a)?;
                self.div(&a, &Quot::int(100))
            }
            Expr::Degree(a) => self.canon(a),
            Expr::Fun(func, arguments) => self.function(*func, arguments),
            Expr::Apply(name, arguments) => {
                let arguments = self.canon_all(arguments)?;
                self.kernel(Kernel::Apply(name.clone(), arguments))
            }
            Expr::Series(fold, index, first, last, body) => {
                self.series(*fold, index, first, last, body)
            }
            Expr::Undefined => Err(Failure::Undefined),
            _ => Err(Failure::Unsupported),
        }
    }

    pub(super) fn canon_all(&mut self, expressions: &[Expr]) -> Result<Vec<Quot>> {
        expressions.iter().map(|e| self.canon(e)).collect()
    }
}

/// Adds a term.
pub(super) fn accumulate(
    sum: &mut Poly,
    monomial: Monomial,
    coefficient: BigRational,
) -> Result<()> {
    use std::collections::btree_map::Entry;
    match sum.0.entry(monomial) {
        Entry::Vacant(slot) => {
            if !coefficient.is_zero() {
                slot.insert(coefficient);
            }
        }
        Entry::Occupied(mut slot) => {
            let total = rational::add(slot.get(), &coefficient)?;
            if total.is_zero() {
                slot.remove();
            } else {
                *slot.get_mut() = total;
            }
        }
    }
    if sum.0.len() > MAX_TERMS {
        Err(Failure::OverBudget(Budget::Size))
    } else {
        Ok(())
    }
}

/// An exponent, if it is small enough to be added to others without overflow.
pub(super) fn checked(exponent: Exponent) -> Result<Exponent> {
    let fits = exponent.numer().unsigned_abs() < 1 << 30 && *exponent.denom() < 1 << 15;
    if fits {
        Ok(exponent)
    } else {
        Err(Failure::OverBudget(Budget::Size))
    }
}
