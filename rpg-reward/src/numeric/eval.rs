//! The value of an expression at a point.

use super::ball::Ball;
use super::complex::Complex;
use super::elementary;
use crate::ast::{Constant, Expr, Fold, Func};
use crate::verdict::{Budget, Failure};
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

/// The values of the variables.
pub(crate) type Point = Vec<(String, BigRational)>;

/// Evaluates expressions at one point to one precision.
pub(crate) struct Evaluator<'a> {
    pub(crate) prec: u32,
    pub(crate) point: &'a Point,
    /// Rejects values that are not real and come from roots or logarithms of negative numbers.
    pub(crate) real: bool,
    /// The largest gap, in bits, between two numbers that were added: a term that is smaller than the
    /// others by more than the precision has no effect on the sum.
    pub(crate) gap: i64,
    /// The remaining steps of work.
    pub(crate) fuel: u32,
    /// The values of the indices of series.
    bound: Point,
}

/// The maximum number of terms of a series.
const MAX_TERMS: i64 = 200;

type Result<T> = std::result::Result<T, Failure>;

impl<'a> Evaluator<'a> {
    pub(crate) fn new(prec: u32, point: &'a Point, real: bool, fuel: u32) -> Self {
        Self {
            prec,
            point,
            real,
            gap: 0,
            fuel,
            bound: Vec::new(),
        }
    }

    /// The value of `expr`.
    pub(crate) fn eval(&mut self, expr: &Expr) -> Result<Complex> {
        self.spend(cost(expr))?;
        let prec = self.prec;
        match expr {
            Expr::Num(n) => Ok(Complex::real(Ball::from_rational(&n.value, prec)?)),
            Expr::Sym(name) => {
                let mut values = self.point.iter().chain(self.bound.iter().rev());
                let value = values.find(|(n, _)| n == name).map(|(_, v)| v);
                let value = value.ok_or(Failure::Unsupported)?;
                Ok(Complex::real(Ball::from_rational(value, prec)?))
            }
            Expr::Const(constant) => match constant {
                Constant::Pi => Ok(Complex::real(elementary::pi(prec)?)),
                Constant::E => Ok(Complex::real(elementary::exp(&Ball::from_int(1), prec)?)),
                Constant::I => Ok(Complex {
                    re: Ball::zero(),
                    im: Ball::from_int(1),
                }),
                _ => Err(Failure::Unsupported),
            },
            Expr::Add(terms) => {
                let mut sum = Complex::real(Ball::zero());
                for term in terms {
                    let term = self.eval(term)?;
                    self.note_gap(&sum, &term);
                    sum = sum.add(&term, prec)?;
                }
                Ok(sum)
            }
            Expr::Mul(factors) => {
                let mut product = Complex::real(Ball::from_int(1));
                for factor in factors {
                    product = product.mul(&self.eval(factor)?, prec)?;
                }
                Ok(product)
            }
            Expr::Neg(a) => Ok(self.eval(a)?.neg()),
            Expr::Div(a, b) => self.eval(a)?.div(&self.eval(b)?, prec),
            Expr::Pow(a, b) => {
                let exponent = self.eval(b)?;
                if let Expr::Const(Constant::E) = **a {
                    return exponent.exp(prec);
                }
                let base = self.eval(a)?;
                self.power(&base, &exponent)
            }
            Expr::Root(a, index) => {
                let base = self.eval(a)?;
                let index = self.eval(index)?;
                self.root(&base, &index)
            }
            Expr::Percent(a) => self.eval(a)?.div(&Complex::real(Ball::from_int(100)), prec),
            Expr::Degree(a) => self.eval(a),
            Expr::Fun(func, arguments) => self.function(*func, arguments),
            Expr::Series(Fold::Integral, ..) => Err(Failure::Unsupported),
            Expr::Series(fold, index, first, last, body) => {
                let (first, last) = (self.eval(first)?, self.eval(last)?);
                let (first, last) = (self.whole(&first.re)?, self.whole(&last.re)?);
                if last.saturating_sub(first) > MAX_TERMS {
                    return Err(Failure::OverBudget(Budget::Size));
                }
                let mut total = Complex::real(Ball::from_int((*fold == Fold::Product).into()));
                for k in first..=last {
                    self.bound
                        .push((index.clone(), BigRational::from_integer(k.into())));
                    let term = self.eval(body);
                    self.bound.pop();
                    total = match fold {
                        Fold::Product => total.mul(&term?, prec)?,
                        Fold::Sum | Fold::Integral => total.add(&term?, prec)?,
                    };
                }
                Ok(total)
            }
            Expr::Undefined => Err(Failure::Undefined),
            _ => Err(Failure::Unsupported),
        }
    }

    fn spend(&mut self, steps: u32) -> Result<()> {
        self.fuel = self
            .fuel
            .checked_sub(steps)
            .ok_or(Failure::OverBudget(Budget::Work))?;
        Ok(())
    }

    fn note_gap(&mut self, a: &Complex, b: &Complex) {
        for (x, y) in [(&a.re, &b.re), (&a.im, &b.im)] {
            if !x.is_exact_zero() && !y.is_exact_zero() {
                self.gap = self.gap.max((x.top() - y.top()).abs());
            }
        }
    }

    fn power(&mut self, base: &Complex, exponent: &Complex) -> Result<Complex> {
        let prec = self.prec;
        if exponent.is_real()
            && exponent.re.radius == 0
            && let Some(whole) = exponent.re.floor()
            && Ball::from_rational(&whole.clone().into(), prec)?
                .sub(&exponent.re, prec)?
                .is_exact_zero()
        {
            let Some(whole) = whole.to_i64().filter(|n| n.unsigned_abs() <= 1 << 20) else {
                return Err(Failure::OverBudget(Budget::Size));
            };
            if whole <= 0 && base.contains_zero() {
                let zero = base.is_real() && base.re.is_exact_zero();
                return Err(if zero {
                    Failure::Undefined
                } else {
                    Failure::Unsupported
                });
            }
            return base.powi(whole, prec);
        }
        if self.real && base.is_real() && base.re.sign() != Some(1) {
            return Err(Failure::Unsupported);
        }
        base.pow(exponent, prec)
    }

    fn root(&mut self, base: &Complex, index: &Complex) -> Result<Complex> {
        let prec = self.prec;
        let whole = index.re.floor().and_then(|n| n.to_i64()).filter(|n| *n > 0);
        let Some(n) = whole.filter(|_| index.is_real() && index.re.radius == 0) else {
            return Err(Failure::Unsupported);
        };
        let negative = base.is_real() && base.re.sign() == Some(-1);
        if n == 2 {
            if self.real && negative {
                return Err(Failure::Unsupported);
            }
            return base.sqrt(prec);
        }
        let inverse = Complex::real(Ball::from_int(1).div(&Ball::from_int(n), prec)?);
        if base.is_real() && base.re.is_exact_zero() {
            return Ok(base.clone());
        }
        if negative && n % 2 == 1 {
            // An odd root of a negative number is the real one.
            return Ok(base.neg().pow(&inverse, prec)?.neg());
        }
        if self.real && negative {
            return Err(Failure::Unsupported);
        }
        base.pow(&inverse, prec)
    }

    /// An angle: degrees become radians.
    fn angle(&mut self, argument: &Expr) -> Result<Complex> {
        if let Expr::Degree(a) = argument {
            let degrees = self.eval(a)?;
            let factor = elementary::pi(self.prec)?.div(&Ball::from_int(180), self.prec)?;
            return degrees.mul(&Complex::real(factor), self.prec);
        }
        match argument {
            Expr::Neg(a) => Ok(self.angle(a)?.neg()),
            Expr::Add(terms) if argument.any(&mut |e| matches!(e, Expr::Degree(_))) => {
                let mut sum = Complex::real(Ball::zero());
                for term in terms {
                    sum = sum.add(&self.angle(term)?, self.prec)?;
                }
                Ok(sum)
            }
            _ => self.eval(argument),
        }
    }

    fn function(&mut self, func: Func, arguments: &[Expr]) -> Result<Complex> {
        let prec = self.prec;
        let one = Complex::real(Ball::from_int(1));
        let first = arguments.first().ok_or(Failure::NotParsed)?;
        match func {
            Func::Sin | Func::Cos | Func::Tan | Func::Cot | Func::Sec | Func::Csc => {
                let (sin, cos) = self.angle(first)?.sin_cos(prec)?;
                return match func {
                    Func::Sin => Ok(sin),
                    Func::Cos => Ok(cos),
                    Func::Tan => sin.div(&cos, prec),
                    Func::Cot => cos.div(&sin, prec),
                    Func::Sec => one.div(&cos, prec),
                    _ => one.div(&sin, prec),
                };
            }
            Func::Sinh | Func::Cosh | Func::Tanh | Func::Coth => {
                let x = self.eval(first)?;
                let (plus, minus) = (x.exp(prec)?, x.neg().exp(prec)?);
                let (sum, difference) = (plus.add(&minus, prec)?, plus.sub(&minus, prec)?);
                let two = Complex::real(Ball::from_int(2));
                return match func {
                    Func::Sinh => difference.div(&two, prec),
                    Func::Cosh => sum.div(&two, prec),
                    Func::Tanh => difference.div(&sum, prec),
                    _ => sum.div(&difference, prec),
                };
            }
            _ => {}
        }
        let x = self.eval(first)?;
        match func {
            Func::Exp => x.exp(prec),
            Func::Ln => self.logarithm(&x),
            Func::Log => {
                let base = self.eval(arguments.get(1).ok_or(Failure::NotParsed)?)?;
                self.logarithm(&x)?.div(&self.logarithm(&base)?, prec)
            }
            Func::Abs => Ok(Complex::real(x.abs(prec)?)),
            Func::Re => Ok(Complex::real(x.re)),
            Func::Im => Ok(Complex::real(x.im)),
            Func::Conjugate => Ok(Complex {
                re: x.re,
                im: x.im.neg(),
            }),
            _ if !x.is_real() => Err(Failure::Unsupported),
            Func::Arctan => Ok(Complex::real(elementary::atan(&x.re, prec)?)),
            Func::Arccot => {
                // In (0, pi).
                let half_pi = elementary::pi(prec)?.div(&Ball::from_int(2), prec)?;
                Ok(Complex::real(
                    half_pi.sub(&elementary::atan(&x.re, prec)?, prec)?,
                ))
            }
            Func::Arcsin | Func::Arccos | Func::Arcsec | Func::Arccsc => {
                let inverse = matches!(func, Func::Arcsec | Func::Arccsc);
                let x = if inverse { one.div(&x, prec)? } else { x };
                self.arc(&x.re, matches!(func, Func::Arccos | Func::Arcsec))
            }
            Func::Arcsinh | Func::Arccosh | Func::Arctanh => self.inverse_hyperbolic(func, &x),
            Func::Floor | Func::Ceil => {
                let x = if func == Func::Ceil { x.re.neg() } else { x.re };
                let floor = x.floor().ok_or(Failure::Unsupported)?;
                let value = if func == Func::Ceil { -floor } else { floor };
                Ok(Complex::real(Ball::from_rational(&value.into(), prec)?))
            }
            Func::Sign => match x.re.sign() {
                Some(sign) => Ok(Complex::real(Ball::from_int(sign.into()))),
                None => Err(Failure::Unsupported),
            },
            Func::Factorial => {
                let n = self.small_whole(&x.re, 500)?;
                self.spend(n as u32)?;
                let mut product = Ball::from_int(1);
                for k in 2..=n {
                    product = product.mul(&Ball::from_int(k), prec)?;
                }
                Ok(Complex::real(product))
            }
            Func::Binomial => {
                let k = self.eval(arguments.get(1).ok_or(Failure::NotParsed)?)?;
                let k = self.small_whole(&k.re, 500)?;
                self.spend(3 * k as u32)?;
                let mut product = Ball::from_int(1);
                for j in 0..k {
                    let factor = x.re.sub(&Ball::from_int(j), prec)?;
                    product = product
                        .mul(&factor, prec)?
                        .div(&Ball::from_int(j + 1), prec)?;
                }
                Ok(Complex::real(product))
            }
            Func::Max | Func::Min => {
                let mut best = x.re;
                for argument in &arguments[1..] {
                    let other = self.eval(argument)?;
                    if !other.is_real() {
                        return Err(Failure::Unsupported);
                    }
                    let sign = other
                        .re
                        .sub(&best, prec)?
                        .sign()
                        .ok_or(Failure::Unsupported)?;
                    if (sign > 0) == (func == Func::Max) && sign != 0 {
                        best = other.re;
                    }
                }
                Ok(Complex::real(best))
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn logarithm(&self, x: &Complex) -> Result<Complex> {
        if x.is_real() && x.re.is_exact_zero() {
            return Err(Failure::Undefined);
        }
        if self.real && x.is_real() && x.re.sign() != Some(1) {
            return Err(Failure::Unsupported);
        }
        x.ln(self.prec)
    }

    /// The value of a ball without a radius, if it is a whole number from 0 to `max`.
    fn small_whole(&self, x: &Ball, max: i64) -> Result<i64> {
        if x.mid.is_negative() {
            return Err(Failure::Unsupported);
        }
        let whole = self.whole(x)?;
        if whole <= max {
            Ok(whole)
        } else {
            Err(Failure::OverBudget(Budget::Size))
        }
    }

    /// The value of a ball without a radius, if it is a whole number.
    fn whole(&self, x: &Ball) -> Result<i64> {
        if x.radius > 0 {
            return Err(Failure::Unsupported);
        }
        let whole = x.floor().ok_or(Failure::OverBudget(Budget::Size))?;
        let rest = Ball::from_rational(&whole.clone().into(), self.prec)?.sub(x, self.prec)?;
        if !rest.is_exact_zero() {
            return Err(Failure::Unsupported);
        }
        whole.to_i64().ok_or(Failure::OverBudget(Budget::Size))
    }

    /// arcsin x or arccos x for -1 <= x <= 1.
    fn arc(&self, x: &Ball, cosine: bool) -> Result<Complex> {
        let prec = self.prec;
        let one = Ball::from_int(1);
        let rest = one.sub(&x.mul(x, prec)?, prec)?;
        let half_pi = elementary::pi(prec)?.div(&Ball::from_int(2), prec)?;
        let arcsin = match rest.sign() {
            Some(0) => {
                if x.sign() == Some(-1) {
                    half_pi.neg()
                } else {
                    half_pi.clone()
                }
            }
            Some(1) => elementary::atan(&x.div(&rest.sqrt(prec)?, prec)?, prec)?,
            _ => return Err(Failure::Unsupported),
        };
        Ok(Complex::real(if cosine {
            half_pi.sub(&arcsin, prec)?
        } else {
            arcsin
        }))
    }

    /// The inverse hyperbolic functions, by logarithms.
    fn inverse_hyperbolic(&self, func: Func, x: &Complex) -> Result<Complex> {
        let prec = self.prec;
        let one = Complex::real(Ball::from_int(1));
        if func == Func::Arctanh {
            let quotient = one.add(x, prec)?.div(&one.sub(x, prec)?, prec)?;
            let two = Complex::real(Ball::from_int(2));
            return self.logarithm(&quotient)?.div(&two, prec);
        }
        let square = x.mul(x, prec)?;
        let inner = if func == Func::Arcsinh {
            square.add(&one, prec)?
        } else {
            square.sub(&one, prec)?
        };
        self.logarithm(&x.add(&inner.sqrt(prec)?, prec)?)
    }
}

/// The steps that one node takes; a series consists of many products.
fn cost(expr: &Expr) -> u32 {
    match expr {
        Expr::Num(n) if n.value.is_integer() => 1,
        Expr::Num(_) | Expr::Div(..) | Expr::Sym(_) => 3,
        Expr::Const(Constant::E) => 30,
        Expr::Const(_) => 3,
        Expr::Root(_, index) if **index == Expr::int(2) => 8,
        Expr::Pow(_, exponent) if matches!(**exponent, Expr::Num(_)) => 20,
        Expr::Root(..) | Expr::Pow(..) => 120,
        Expr::Fun(..) => 80,
        _ => 1,
    }
}
