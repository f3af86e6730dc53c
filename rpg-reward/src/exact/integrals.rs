//! Definite integrals of sums of powers.

use super::canon::{Canon, Result};
use super::kernel::Kernel;
use super::poly::{Exponent, Monomial, Quot};
use crate::ast::{Constant, Expr};
use crate::verdict::Failure;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

impl Canon {
    /// The value of an integral, if the integrand is a sum of powers; otherwise it is opaque.
    pub(super) fn integral(
        &mut self,
        variable: &str,
        first: &Expr,
        last: &Expr,
        body: &Expr,
    ) -> Result<Quot> {
        let body = self.canon(body)?;
        let (first, last) = (
            self.bound_of_integral(first)?,
            self.bound_of_integral(last)?,
        );
        let kernel = self.kernels.id(Kernel::Sym(variable.to_string()))?;
        match self.between(&body, kernel, &first, &last) {
            Err(Failure::Unsupported) => self.kernel(Kernel::Apply(
                format!("∫ {variable}"),
                vec![first, last, body],
            )),
            result => result,
        }
    }

    /// A bound; an infinite one is a kernel, of which only the name matters.
    fn bound_of_integral(&mut self, bound: &Expr) -> Result<Quot> {
        match bound {
            Expr::Const(Constant::Infinity) => self.kernel(Kernel::Sym("∞".into())),
            Expr::Neg(inner) if **inner == Expr::Const(Constant::Infinity) => {
                Ok(self.kernel(Kernel::Sym("∞".into()))?.neg())
            }
            bound => self.canon(bound),
        }
    }

    fn between(&mut self, body: &Quot, variable: u32, first: &Quot, last: &Quot) -> Result<Quot> {
        let occurs = |canon: &Self, m: &Monomial| {
            let mut kernels = m.factors().iter();
            kernels.any(|(k, _)| canon.kernels.contains(*k, variable))
        };
        if body.den.terms().any(|(m, _)| occurs(self, m)) {
            return Err(Failure::Unsupported);
        }
        let mut total = Quot::int(0);
        for (monomial, coefficient) in body.num.terms() {
            let (power, others) = monomial.split(|kernel| kernel == variable);
            if occurs(self, &others) {
                return Err(Failure::Unsupported);
            }
            let power = power.factors().first().map(|(_, e)| *e);
            let power = power.unwrap_or_else(Exponent::zero);
            self.defined_between(power, first, last)?;
            let (low, high) = (
                self.antiderivative(first, power)?,
                self.antiderivative(last, power)?,
            );
            let mut part = self.sub(&high, &low)?;
            for (kernel, exponent) in others.factors() {
                part = self.mul(&part, &Quot::kernel(*kernel, *exponent))?;
            }
            part = self.mul(&part, &Quot::rational(coefficient.clone()))?;
            total = self.add(&total, &part)?;
        }
        let below = Quot::poly(body.den.clone());
        self.div(&total, &below)
    }

    /// Whether a power of the variable is continuous between the bounds, as far as they show it.
    fn defined_between(&self, power: Exponent, first: &Quot, last: &Quot) -> Result<()> {
        let zero = BigRational::zero();
        let whole = power.is_integer() && !power.is_negative();
        let infinite = |q: &Quot| {
            let mut kernels = q.num.kernels().into_iter();
            kernels.any(|k| *self.kernels.get(k) == Kernel::Sym("∞".into()))
        };
        let fits = |q: &Quot| match q.as_rational() {
            Some(value) if power.is_negative() => value > zero,
            Some(value) => whole || value >= zero,
            None => whole,
        };
        if !infinite(first) && !infinite(last) && fits(first) && fits(last) {
            Ok(())
        } else {
            Err(Failure::Unsupported)
        }
    }

    fn antiderivative(&mut self, at: &Quot, power: Exponent) -> Result<Quot> {
        let next = power + Exponent::one();
        if next.is_zero() {
            return self.logarithm(at.clone());
        }
        if at.is_zero() {
            return Ok(Quot::int(0));
        }
        let next = BigRational::new((*next.numer()).into(), (*next.denom()).into());
        let next = Quot::rational(next);
        let value = self.power(at, &next)?;
        self.div(&value, &next)
    }
}
