//! Sums over an index: term by term, or by a closed form.

use super::canon::{Canon, Result};
use super::kernel::Kernel;
use super::poly::{Exponent, Monomial, Poly, Quot};
use super::univariate::Univariate;
use crate::ast::{Constant, Expr, Fold, Func};
use crate::verdict::{Budget, Failure};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::collections::BTreeMap;

/// The maximum number of terms of an expanded sum.
const MAX_SERIES: i64 = 1_000;
/// The largest degree of a summand in its index, and the maximum number of summands.
const MAX_DEGREE: i64 = 12;
const MAX_SUMMANDS: usize = 16;
/// The farthest that a summand may be moved.
pub(super) const MAX_SHIFT: i64 = 40;

/// Summands `ratio^k * rest`, where the rest is a rational function of the index `k`.
type Summands = Vec<(Quot, Quot)>;

/// The bounds of a sum; without a last one it has no end.
pub(super) struct Range {
    pub(super) first: Quot,
    pub(super) last: Option<Quot>,
}

impl Canon {
    pub(super) fn series(
        &mut self,
        fold: Fold,
        index: &str,
        first: &Expr,
        last: &Expr,
        body: &Expr,
    ) -> Result<Quot> {
        if fold == Fold::Integral {
            return self.integral(index, first, last, body);
        }
        let range = Range {
            first: self.canon(first)?,
            last: match last {
                Expr::Const(Constant::Infinity) => None,
                last => Some(self.canon(last)?),
            },
        };
        let bound = |q: &Quot| q.as_rational().and_then(|n| whole(&n));
        if let (Some(first), Some(last)) =
            (bound(&range.first), range.last.as_ref().and_then(bound))
            && last.saturating_sub(first) <= MAX_SERIES
        {
            return self.expanded(fold, index, first..=last, body);
        }
        if fold == Fold::Product {
            return Err(Failure::Unsupported);
        }
        let index_kernel = self.kernels.id(Kernel::Sym(index.to_string()))?;
        let mut total = Quot::int(0);
        for (ratio, rest) in self.summands(body, index, index_kernel)? {
            let sum = self.closed_form(&ratio, &rest, index_kernel, &range)?;
            total = self.add(&total, &sum)?;
        }
        Ok(total)
    }

    fn expanded(
        &mut self,
        fold: Fold,
        index: &str,
        range: std::ops::RangeInclusive<i64>,
        body: &Expr,
    ) -> Result<Quot> {
        let mut total = Quot::int(i64::from(fold == Fold::Product));
        for k in range {
            let value = BigRational::from_integer(k.into());
            self.bound.push((index.to_string(), value));
            let term = self.canon(body);
            self.bound.pop();
            total = match fold {
                Fold::Product => self.mul(&total, &term?)?,
                Fold::Sum | Fold::Integral => self.add(&total, &term?)?,
            };
        }
        Ok(total)
    }

    /// The body of a sum as summands with different ratios.
    fn summands(&mut self, expr: &Expr, index: &str, kernel: u32) -> Result<Summands> {
        self.spend(5)?;
        let mentions = |e: &Expr| e.any(&mut |e| matches!(e, Expr::Sym(n) if n == index));
        let plain = |canon: &mut Self| Ok(vec![(Quot::int(1), canon.canon(expr)?)]);
        match expr {
            _ if !mentions(expr) => plain(self),
            Expr::Neg(inner) => {
                let summands = self.summands(inner, index, kernel)?;
                Ok(summands.into_iter().map(|(r, q)| (r, q.neg())).collect())
            }
            Expr::Add(items) => {
                let mut all: Summands = Vec::new();
                for item in items {
                    for (ratio, rest) in self.summands(item, index, kernel)? {
                        match all.iter_mut().find(|(r, _)| *r == ratio) {
                            Some((_, old)) => *old = self.add(old, &rest)?,
                            None => all.push((ratio, rest)),
                        }
                    }
                }
                limited(all)
            }
            Expr::Mul(factors) => {
                let mut product = vec![(Quot::int(1), Quot::int(1))];
                for factor in factors {
                    let factor = self.summands(factor, index, kernel)?;
                    product = self.product(&product, &factor)?;
                }
                Ok(product)
            }
            Expr::Div(a, b) => {
                let (above, below) = (
                    self.summands(a, index, kernel)?,
                    self.summands(b, index, kernel)?,
                );
                let [(ratio, rest)] = below.as_slice() else {
                    return Err(Failure::Unsupported);
                };
                let inverse = [(self.inverse(ratio)?, self.inverse(rest)?)];
                self.product(&above, &inverse)
            }
            Expr::Pow(base, exponent) if mentions(exponent) && !mentions(base) => {
                let exponent = self.canon(exponent)?;
                let (slope, start) = linear(&exponent, kernel).ok_or(Failure::Unsupported)?;
                let base = self.canon(base)?;
                let start = self.power(&base, &start)?;
                Ok(vec![(self.whole_power(&base, slope)?, start)])
            }
            _ => plain(self),
        }
    }

    fn product(&mut self, a: &[(Quot, Quot)], b: &[(Quot, Quot)]) -> Result<Summands> {
        let mut product = Vec::new();
        for (r, x) in a {
            for (s, y) in b {
                product.push((self.mul(r, s)?, self.mul(x, y)?));
            }
        }
        limited(product)
    }

    /// The sum of `ratio^k * rest` over a range.
    fn closed_form(
        &mut self,
        ratio: &Quot,
        rest: &Quot,
        index: u32,
        range: &Range,
    ) -> Result<Quot> {
        if let Some((factorial, shift)) = self.factorial_below(&rest.num, index) {
            let rest = self.mul(rest, &Quot::kernel(factorial, Exponent::one()))?;
            return self.exponential(ratio, &rest, index, shift, range);
        }
        let is_one = *ratio == Quot::int(1);
        let Some(coefficients) = self.polynomial(rest, index)? else {
            let above = self.by_power(&rest.num, index)?;
            let below = self.by_power(&rest.den, index)?;
            let (above, below) = rational_function(&above, &below).ok_or(Failure::Unsupported)?;
            return if is_one {
                self.sum_of_fractions(above, below, range)
            } else {
                self.logarithmic(ratio, above, below, range)
            };
        };
        // With Q(k+1) ratio - Q(k) = rest, the sum is the difference of Q(k) ratio^k at its ends.
        let sum = if is_one {
            self.antidifference(&coefficients)?
        } else {
            self.geometric_antidifference(&coefficients, ratio)?
        };
        let start = self.at_end(&sum, &range.first, ratio)?.neg();
        let Some(last) = &range.last else {
            self.converges(ratio)?;
            return Ok(start);
        };
        let after = self.add(last, &Quot::int(1))?;
        let value = self.value_at(&sum, &after)?;
        let power = self.power(ratio, last)?;
        let power = self.mul(&power, ratio)?;
        let end = self.mul(&value, &power)?;
        self.add(&end, &start)
    }

    /// The factorial `(k + shift)!` below all terms.
    fn factorial_below(&self, num: &Poly, index: u32) -> Option<(u32, i64)> {
        let (first, _) = num.terms().next()?;
        let below = |m: &Monomial, id: u32| m.factors().contains(&(id, -Exponent::one()));
        first.factors().iter().find_map(|(id, _)| {
            let Kernel::Fun(Func::Factorial, arguments) = self.kernels.get(*id) else {
                return None;
            };
            let (slope, start) = linear(&arguments[0], index)?;
            let shift = start.as_rational().filter(BigRational::is_integer)?;
            let shift = shift
                .to_integer()
                .to_i64()
                .filter(|s| s.abs() <= MAX_DEGREE)?;
            let in_all = num.terms().all(|(m, _)| below(m, *id));
            (slope == 1 && in_all).then_some((*id, shift))
        })
    }

    /// The sum of `ratio^k * rest / (k + shift)!` without end, where the rest is a polynomial. In terms of
    /// `j = k + shift`, the falling factorial of `j` with `i` factors gives `ratio^i e^ratio`.
    fn exponential(
        &mut self,
        ratio: &Quot,
        rest: &Quot,
        index: u32,
        shift: i64,
        range: &Range,
    ) -> Result<Quot> {
        let coefficients = self.polynomial(rest, index)?.ok_or(Failure::Unsupported)?;
        let start = range.first.as_rational().and_then(|n| whole(&n));
        let start = start.map(|n| n.saturating_add(shift));
        let start = start.filter(|n| (0..=MAX_SHIFT).contains(n) && range.last.is_none());
        let start = start.ok_or(Failure::Unsupported)?;
        let value = |canon: &mut Self, j: i64| canon.value_at(&coefficients, &Quot::int(j - shift));
        let mut differences = Vec::new();
        for j in 0..coefficients.len() as i64 {
            differences.push(value(self, j)?);
        }
        let e = self.kernel(Kernel::E)?;
        let exponential = self.power(&e, ratio)?;
        let mut total = Quot::int(0);
        let mut factor = exponential;
        for i in 1..=coefficients.len() {
            let part = self.mul(&differences[0], &factor)?;
            total = self.add(&total, &part)?;
            for j in 0..differences.len() - 1 {
                differences[j] = self.sub(&differences[j + 1], &differences[j])?;
            }
            differences.pop();
            let next = self.div(ratio, &Quot::int(i as i64))?;
            factor = self.mul(&factor, &next)?;
        }
        let mut power = Quot::int(1);
        for j in 0..start {
            let term = value(self, j)?;
            let term = self.mul(&term, &power)?;
            total = self.sub(&total, &term)?;
            let next = self.div(ratio, &Quot::int(j + 1))?;
            power = self.mul(&power, &next)?;
        }
        let unshifted = self.whole_power(ratio, -shift)?;
        self.mul(&total, &unshifted)
    }

    /// The coefficients of a polynomial in the index.
    fn polynomial(&mut self, rest: &Quot, index: u32) -> Result<Option<Vec<Quot>>> {
        let above = self.by_power(&rest.num, index)?;
        let below = self.by_power(&rest.den, index)?;
        if below.keys().any(|power| *power != 0) || above.keys().any(|power| *power < 0) {
            return Ok(None);
        }
        let degree = above.keys().next_back().copied().unwrap_or(0);
        let coefficient = |power| Quot {
            num: above.get(&power).cloned().unwrap_or_default(),
            den: rest.den.clone(),
        };
        Ok(Some((0..=degree).map(coefficient).collect()))
    }

    fn at_end(&mut self, sum: &[Quot], end: &Quot, ratio: &Quot) -> Result<Quot> {
        let (value, power) = (self.value_at(sum, end)?, self.power(ratio, end)?);
        self.mul(&value, &power)
    }

    /// Q with Q(k+1) - Q(k) = p(k).
    fn antidifference(&mut self, p: &[Quot]) -> Result<Vec<Quot>> {
        let mut q = vec![Quot::int(0); p.len() + 1];
        for j in (0..p.len()).rev() {
            let carried = self.carried(&q, j, j + 2)?;
            let rest = self.sub(&p[j], &carried)?;
            q[j + 1] = self.div(&rest, &Quot::int(j as i64 + 1))?;
        }
        Ok(q)
    }

    /// Q with ratio Q(k+1) - Q(k) = p(k).
    fn geometric_antidifference(&mut self, p: &[Quot], ratio: &Quot) -> Result<Vec<Quot>> {
        let below = self.sub(ratio, &Quot::int(1))?;
        let mut q = vec![Quot::int(0); p.len()];
        for j in (0..p.len()).rev() {
            let carried = self.carried(&q, j, j + 1)?;
            let carried = self.mul(ratio, &carried)?;
            let rest = self.sub(&p[j], &carried)?;
            q[j] = self.div(&rest, &below)?;
        }
        Ok(q)
    }

    /// What the powers of `k + 1` from one on contribute to the power `j` of `k`.
    fn carried(&mut self, q: &[Quot], j: usize, from: usize) -> Result<Quot> {
        let mut sum = Quot::int(0);
        for (i, coefficient) in q.iter().enumerate().skip(from) {
            let part = self.mul(&binomial(i, j), coefficient)?;
            sum = self.add(&sum, &part)?;
        }
        Ok(sum)
    }

    fn value_at(&mut self, coefficients: &[Quot], x: &Quot) -> Result<Quot> {
        let mut value = Quot::int(0);
        for coefficient in coefficients.iter().rev() {
            value = self.mul(&value, x)?;
            value = self.add(&value, coefficient)?;
        }
        Ok(value)
    }

    /// The coefficients of the powers of the index, which must not occur in any other way.
    fn by_power(&mut self, poly: &Poly, index: u32) -> Result<BTreeMap<i64, Poly>> {
        let mut parts: BTreeMap<i64, Poly> = BTreeMap::new();
        for (monomial, coefficient) in poly.terms() {
            let (powers, others) = monomial.split(|kernel| kernel == index);
            let power = power_of(&powers).filter(|p| p.abs() <= MAX_DEGREE);
            let hidden = others
                .factors()
                .iter()
                .any(|(kernel, _)| self.kernels.contains(*kernel, index));
            let power = power.filter(|_| !hidden).ok_or(Failure::Unsupported)?;
            let part = parts.entry(power).or_default();
            part.insert(others, coefficient.clone());
        }
        Ok(parts)
    }

    /// A geometric series has a value if its ratio is less than one; one with variables stands for its value
    /// where it has one.
    pub(super) fn converges(&self, ratio: &Quot) -> Result<()> {
        let has_variable = |q: &Quot| {
            q.monomials().any(|m| {
                m.factors()
                    .iter()
                    .any(|(k, _)| self.kernels.has_variable(*k))
            })
        };
        match ratio.as_rational() {
            Some(ratio) if ratio.abs() < BigRational::one() => Ok(()),
            None if has_variable(ratio) => Ok(()),
            _ => Err(Failure::Unsupported),
        }
    }
}

/// A quotient of polynomials in the index, without negative powers, if all coefficients are rational.
fn rational_function(
    above: &BTreeMap<i64, Poly>,
    below: &BTreeMap<i64, Poly>,
) -> Option<(Univariate, Univariate)> {
    let lowest = (*above.keys().next()?).min(0);
    let with_shift = |parts: &BTreeMap<i64, Poly>| -> Option<Univariate> {
        let degree = parts.keys().next_back()? - lowest;
        let coefficient = |power: i64| match parts.get(&(power + lowest)) {
            Some(part) => part.as_rational(),
            None => Some(BigRational::zero()),
        };
        (0..=degree)
            .map(coefficient)
            .collect::<Option<_>>()
            .map(Univariate)
    };
    Some((with_shift(above)?, with_shift(below)?))
}

/// The whole slope and the start of an exponent that is linear in the index.
fn linear(exponent: &Quot, index: u32) -> Option<(i64, Quot)> {
    let mut slope = 0;
    let mut start = Poly::default();
    for (monomial, coefficient) in exponent.num.terms().filter(|_| exponent.is_poly()) {
        let (powers, others) = monomial.split(|kernel| kernel == index);
        match power_of(&powers)? {
            0 => start.insert(others, coefficient.clone()),
            1 if others.is_one() && coefficient.is_integer() => {
                slope = coefficient.to_integer().to_i64()?;
            }
            _ => return None,
        }
    }
    (slope != 0 && slope.abs() <= MAX_DEGREE).then(|| (slope, Quot::poly(start)))
}

/// The exponent of a power of one kernel.
fn power_of(monomial: &Monomial) -> Option<i64> {
    let exponent = monomial.factors().first().map(|(_, e)| *e);
    let exponent = exponent.unwrap_or_else(Exponent::zero);
    exponent.is_integer().then(|| exponent.to_integer())
}

/// A whole number, if it is one.
pub(super) fn whole(number: &BigRational) -> Option<i64> {
    number.is_integer().then(|| number.to_integer().to_i64())?
}

fn binomial(n: usize, k: usize) -> Quot {
    Quot::int(num_integer::binomial(n as i64, k as i64))
}

fn limited(summands: Summands) -> Result<Summands> {
    if summands.len() > MAX_SUMMANDS {
        return Err(Failure::OverBudget(Budget::Size));
    }
    Ok(summands)
}
