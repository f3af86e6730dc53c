//! From the syntax tree to exact form.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::kernel::{Kernel, Kernels};
use super::poly::{Exponent, Monomial, Poly, Quot};
use super::rational;
use crate::ast::{Constant, Expr, Func};
use crate::numeric::{Evaluator, Point};
use crate::verdict::{Budget, Failure};

/// Most terms of a polynomial.
const MAX_TERMS: usize = 1_500;
/// Steps of work for one comparison; a step is about a product of two small numbers.
const FUEL: u64 = 60_000;
/// Largest argument of a factorial.
const MAX_FACTORIAL: u64 = 2_000;
/// Most terms of a written-out sum.
const MAX_SERIES: i64 = 1_000;

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Brings expressions into exact form; the forms of one `Canon` can be compared.
#[derive(Debug)]
pub(crate) struct Canon {
    pub(super) kernels: Kernels,
    fuel: u64,
    given: u64,
    /// Values of bound variables, as in the body of a sum.
    bound: Vec<(String, BigRational)>,
}

impl Canon {
    /// With work for at most `fuel` steps.
    pub(crate) fn new(fuel: u64) -> Self {
        let fuel = fuel.min(FUEL);
        Self {
            kernels: Kernels::default(),
            fuel,
            given: fuel,
            bound: Vec::new(),
        }
    }

    /// The steps that have been taken.
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

    /// Adds `coefficient * m * n` to `sum`, with roots of roots and powers of i worked out.
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
                Kernel::Prime(p, _) if !over.is_zero() => {
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
        // A single term turns into negative exponents, which keeps most denominators away.
        if let Some((monomial, coefficient)) = a.num.as_term() {
            let factors = monomial.factors().iter().map(|(k, e)| (*k, -e)).collect();
            let inverse = Poly::term(
                Monomial::from_factors(factors),
                rational::recip(coefficient)?,
            );
            // Multiplying by one brings the new exponents into range.
            let mut tidy = Poly::default();
            let (m, c) = inverse.as_term().ok_or(Failure::Undefined)?;
            self.add_tidy(&mut tidy, m, c)?;
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

    fn add_tidy(&mut self, sum: &mut Poly, m: &Monomial, c: &BigRational) -> Result<()> {
        match m.factors() {
            [] => accumulate(sum, m.clone(), c.clone()),
            [first, rest @ ..] => {
                // Split off one factor, so that the product rules see every exponent.
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
            Expr::Series(product, name, first, last, body) => {
                self.series(*product, name, first, last, body)
            }
            Expr::Undefined => Err(Failure::Undefined),
            _ => Err(Failure::Unsupported),
        }
    }

    fn canon_all(&mut self, expressions: &[Expr]) -> Result<Vec<Quot>> {
        expressions.iter().map(|e| self.canon(e)).collect()
    }

    fn series(
        &mut self,
        product: bool,
        name: &str,
        first: &Expr,
        last: &Expr,
        body: &Expr,
    ) -> Result<Quot> {
        let bound = |q: Quot| {
            q.as_rational()
                .filter(|r| r.is_integer())
                .and_then(|r| r.to_integer().to_i64())
        };
        let first = bound(self.canon(first)?).ok_or(Failure::Unsupported)?;
        let last = bound(self.canon(last)?).ok_or(Failure::Unsupported)?;
        if last.saturating_sub(first) > MAX_SERIES {
            return Err(Failure::OverBudget(Budget::Size));
        }
        let mut total = Quot::int(i64::from(product));
        for k in first..=last {
            self.bound
                .push((name.to_string(), BigRational::from_integer(k.into())));
            let term = self.canon(body);
            self.bound.pop();
            total = if product {
                self.mul(&total, &term?)?
            } else {
                self.add(&total, &term?)?
            };
        }
        Ok(total)
    }

    fn function(&mut self, func: Func, arguments: &[Expr]) -> Result<Quot> {
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
    fn rational_function(&mut self, func: Func, x: &[BigRational]) -> Result<Option<BigRational>> {
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

    /// Absolute value, floor and sign of a constant, whose sign or size evaluation can tell.
    fn constant_function(&mut self, func: Func, expr: &Expr, value: &Quot) -> Result<Option<Quot>> {
        if func == Func::Abs
            && let Some(modulus) = self.complex_modulus(value)?
        {
            return Ok(Some(modulus));
        }
        let point: Point = self.bound.clone();
        let mut evaluator = Evaluator {
            prec: 256,
            point: &point,
            real: true,
            gap: 0,
            fuel: 2_000,
        };
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
    fn complex_modulus(&mut self, value: &Quot) -> Result<Option<Quot>> {
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

/// An exponent that is small enough to be added to others without overflow.
pub(super) fn checked(exponent: Exponent) -> Result<Exponent> {
    let fits = exponent.numer().unsigned_abs() < 1 << 30 && *exponent.denom() < 1 << 15;
    if fits {
        Ok(exponent)
    } else {
        Err(Failure::OverBudget(Budget::Size))
    }
}
