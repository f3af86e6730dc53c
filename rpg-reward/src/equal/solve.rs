//! Inequalities in one variable: their solutions, by the sign on the intervals between the zeros.

use super::Comparer;
use super::relations::{minus, whole_exponents};
use super::rewrite::{rewrite, substitute};
use super::sets::{End, Piece, RealSet, complement, everything};
use super::value::{Inequality, Sign};
use crate::ast::{Constant, Expr, Func, Number, RelOp};
use crate::exact::{Canon, Poly, Univariate};
use crate::numeric::Evaluator;
use num_rational::BigRational;
use num_traits::{Signed, Zero};

/// The largest degree of a polynomial whose zeros are looked for.
const MAX_DEGREE: usize = 12;
/// The deepest nesting of cases for the signs of absolute values.
const MAX_CASES: usize = 4;

impl Comparer {
    /// The numbers that satisfy all relations of a chain in one variable.
    pub(super) fn solutions(&mut self, chain: &Inequality, name: &str) -> Option<RealSet> {
        let mut result = everything();
        for (sides, op) in chain.sides.windows(2).zip(&chain.ops) {
            let set = self.solve_relation(&sides[0], *op, &sides[1], name)?;
            result = self.intersection(&result, &set)?;
        }
        Some(result)
    }

    fn solve_relation(
        &mut self,
        left: &Expr,
        op: RelOp,
        right: &Expr,
        name: &str,
    ) -> Option<RealSet> {
        let is_variable = |e: &Expr| matches!(e, Expr::Sym(n) if n == name);
        let mentions = |e: &Expr| e.any(&mut |e| is_variable(e));
        if !mentions(right) {
            match infinite(right) {
                // `x < \infty` is always true.
                Some(Sign::Plus) => {
                    return matches!(op, RelOp::Lt | RelOp::Le).then(everything);
                }
                Some(Sign::Minus) => {
                    return matches!(op, RelOp::Gt | RelOp::Ge).then(everything);
                }
                None if is_variable(left) => return self.half_line(op, right),
                None => {}
            }
        } else if !mentions(left) {
            return self.solve_relation(right, op.mirrored(), left, name);
        }
        self.solve(&minus(left, right), op, name, MAX_CASES)
    }

    /// `x op bound`.
    fn half_line(&mut self, op: RelOp, bound: &Expr) -> Option<RealSet> {
        let end = self.finite_end(bound, matches!(op, RelOp::Le | RelOp::Ge))?;
        let point = vec![Piece::point(end.clone().closed_if(true))];
        let (low, high) = (End::infinite(Sign::Minus), End::infinite(Sign::Plus));
        match op {
            RelOp::Lt | RelOp::Le => Some(vec![Piece { low, high: end }]),
            RelOp::Gt | RelOp::Ge => Some(vec![Piece { low: end, high }]),
            _ => Some(complement(&point)),
        }
    }

    /// `expr op 0`.
    fn solve(&mut self, expr: &Expr, op: RelOp, name: &str, cases: usize) -> Option<RealSet> {
        if let Some(inner) = absolute_value(expr) {
            let cases = cases.checked_sub(1)?;
            let with = |value: Expr| {
                let is_it = |e: &Expr| matches!(e, Expr::Fun(Func::Abs, a) if a[0] == inner);
                rewrite(expr, &|e| is_it(e).then(|| value.clone()))
            };
            let above = self.solve(&inner, RelOp::Ge, name, cases)?;
            let positive = self.solve(&with(inner.clone()), op, name, cases)?;
            let negative = with(Expr::Neg(Box::new(inner.clone())));
            let negative = self.solve(&negative, op, name, cases)?;
            let mut pieces = self.intersection(&above, &positive)?;
            pieces.extend(self.intersection(&complement(&above), &negative)?);
            return self.merged(pieces);
        }
        let (zeros, poles) = self.critical_points(expr, name)?;
        let mut ends: Vec<(End, bool)> = Vec::new();
        for (points, is_zero) in [(zeros, true), (poles, false)] {
            for point in points {
                let end = self.finite_end(&point, true)?;
                match ends.iter_mut().position(|(e, _)| self.order(e, &end) == 0) {
                    Some(index) => ends[index].1 &= is_zero,
                    None => ends.push((end, is_zero)),
                }
            }
        }
        ends.sort_by(|(a, _), (b, _)| a.approx.total_cmp(&b.approx));
        self.by_sign(expr, op, name, &ends)
    }

    /// The parts of the line, cut at the ends, in which `expr op 0`; each end with whether it is a zero.
    fn by_sign(
        &mut self,
        expr: &Expr,
        op: RelOp,
        name: &str,
        ends: &[(End, bool)],
    ) -> Option<RealSet> {
        let holds = |sign: i8| match op {
            RelOp::Lt => sign < 0,
            RelOp::Le => sign <= 0,
            RelOp::Gt => sign > 0,
            RelOp::Ge => sign >= 0,
            _ => sign != 0,
        };
        let mut pieces = Vec::new();
        let mut low = End::infinite(Sign::Minus);
        let last = (End::infinite(Sign::Plus), false);
        for (end, is_zero) in ends.iter().chain([&last]) {
            let between = match (low.approx.is_finite(), end.approx.is_finite()) {
                (true, true) => low.approx.midpoint(end.approx),
                (true, false) => low.approx + 1.0,
                (false, true) => end.approx - 1.0,
                (false, false) => 0.0,
            };
            if holds(self.sign_at(expr, name, between)?) {
                let (low, high) = (low.closed_if(false), end.clone().closed_if(false));
                pieces.push(Piece { low, high });
            }
            if *is_zero && holds(0) {
                pieces.push(Piece::point(end.clone()));
            }
            low = end.clone();
        }
        self.merged(pieces)
    }

    fn sign_at(&mut self, expr: &Expr, name: &str, value: f64) -> Option<i8> {
        self.spend(40).ok()?;
        let point = vec![(name.to_string(), BigRational::from_float(value)?)];
        let mut evaluator = Evaluator::new(128, &point, true, 500);
        let value = evaluator.eval(expr).ok()?;
        value.re.sign().filter(|_| value.is_real())
    }

    /// The zeros and the poles of a rational function.
    fn critical_points(&mut self, expr: &Expr, name: &str) -> Option<(Vec<Expr>, Vec<Expr>)> {
        self.spend(200).ok()?;
        // A rounded coefficient makes a rounded zero.
        if expr.has_decimal() {
            return Some((self.zero_of_line(expr, name)?, Vec::new()));
        }
        let mut canon = Canon::new(self.fuel);
        let polynomials = canon.canon(expr).and_then(|quotient| {
            let num = whole_exponents(&mut canon, &quotient.num)?;
            // Powers of the variable below the fraction bar.
            let below = num != quotient.num;
            Ok((num, quotient.den, below))
        });
        let coefficients = polynomials.ok().and_then(|(num, den, below)| {
            Some((
                coefficients(&canon, &num, name)?,
                coefficients(&canon, &den, name)?,
                below,
            ))
        });
        self.fuel -= canon.spent().min(self.fuel);
        let Some((num, den, below)) = coefficients else {
            return Some((self.zero_of_line(expr, name)?, Vec::new()));
        };
        if num.0.len().max(den.0.len()) > 3 {
            self.spend(2_000).ok()?;
        }
        let mut poles = zeros(&den)?;
        poles.extend(below.then(|| Expr::int(0)));
        Some((zeros(&num)?, poles))
    }

    /// The zero of a linear expression whose coefficients are any numbers.
    fn zero_of_line(&mut self, expr: &Expr, name: &str) -> Option<Vec<Expr>> {
        let start = substitute(expr, name, &Expr::int(0));
        let slope = minus(&substitute(expr, name, &Expr::int(1)), &start);
        let product = Expr::Mul(vec![slope.clone(), Expr::Sym(name.to_string())]);
        let line = Expr::Add(vec![start.clone(), product]);
        if !self.scalar(expr, &line).is_equal() || self.finite_end(&slope, true)?.approx == 0.0 {
            return None;
        }
        let zero = Expr::Div(Box::new(start), Box::new(slope));
        Some(vec![Expr::Neg(Box::new(zero))])
    }
}

/// The sign of an infinite expression.
fn infinite(expr: &Expr) -> Option<Sign> {
    match expr {
        Expr::Const(Constant::Infinity) => Some(Sign::Plus),
        Expr::Neg(inner) if **inner == Expr::Const(Constant::Infinity) => Some(Sign::Minus),
        _ => None,
    }
}

/// An absolute value of an expression without another one.
fn absolute_value(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Fun(Func::Abs, inner) => absolute_value(&inner[0]).or_else(|| Some(inner[0].clone())),
        _ => expr.children().into_iter().find_map(absolute_value),
    }
}

/// The coefficients of a polynomial in one variable, if they are rational.
fn coefficients(canon: &Canon, poly: &Poly, name: &str) -> Option<Univariate> {
    let mut all = Vec::new();
    for (monomial, coefficient) in poly.terms() {
        let power = match monomial.factors() {
            [] => 0,
            [(kernel, power)] if canon.kernels().is_named(*kernel, name) && power.is_integer() => {
                usize::try_from(power.to_integer()).ok()?
            }
            _ => return None,
        };
        if power > MAX_DEGREE {
            return None;
        }
        if all.len() <= power {
            all.resize(power + 1, BigRational::zero());
        }
        all[power] = coefficient.clone();
    }
    Some(Univariate(all))
}

/// The real zeros of a polynomial: rational ones, and what is left by square roots.
fn zeros(poly: &Univariate) -> Option<Vec<Expr>> {
    let (rational, rest) = poly.split(2)?;
    let mut found: Vec<Expr> = rational.into_iter().map(|(zero, _)| number(zero)).collect();
    match rest.0.as_slice() {
        [] => return None,
        [c, b] => found.push(number(-c / b)),
        [c, b, a] => {
            let four = BigRational::from_integer(4.into());
            let under = b * b - four * a * c;
            if under.is_negative() {
                return Some(found);
            }
            let root = Expr::Root(Box::new(number(under)), Box::new(Expr::int(2)));
            let below = number(a + a);
            for root in [root.clone(), Expr::Neg(Box::new(root))] {
                let above = Expr::Add(vec![number(-b), root]);
                found.push(Expr::Div(Box::new(above), Box::new(below.clone())));
            }
        }
        _ => {}
    }
    Some(found)
}

fn number(value: BigRational) -> Expr {
    Expr::Num(Number {
        value,
        decimal: false,
    })
}
