//! The interpretation of relations: what is named, computed, or stated to be equal.

use super::naming::{is_constant, is_multiple, is_name};
use super::rewrite::{is_plus_minus, with_sign};
use super::value::{Inequality, Result, Value};
use super::{Comparer, Outcome};
use crate::ast::{Expr, Number, RelOp};
use crate::verdict::{Budget, Failure};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};

/// The longest chain of equals signs.
const MAX_SIDES: usize = 13;

impl Comparer {
    pub(super) fn interpret_relation(
        &mut self,
        first: &Expr,
        rest: &[(RelOp, Expr)],
        depth: usize,
    ) -> Result<Value> {
        let sides: Vec<&Expr> = std::iter::once(first)
            .chain(rest.iter().map(|(_, side)| side))
            .collect();
        // Of an exact value and a rounded one, the exact one counts.
        if let Some(index) = rest.iter().position(|(op, _)| *op == RelOp::Approx) {
            let (before, after) = (sides[index], sides[index + 1]);
            if !self.may_be_rounded(before, after) {
                return Err(Failure::Unsupported);
            }
            if before.has_decimal() && !after.has_decimal() {
                return self.interpret(after, depth + 1);
            }
            return match index {
                0 if is_name(first) => self.named(first, after, depth),
                0 => self.interpret(first, depth + 1),
                _ => self.interpret_relation(first, &rest[..index], depth + 1),
            };
        }
        let all = |test: fn(RelOp) -> bool| rest.iter().all(|(op, _)| test(*op));
        if let [(RelOp::In, set)] = rest {
            self.named(first, set, depth)
        } else if all(|op| matches!(op, RelOp::Eq | RelOp::Equiv)) {
            self.interpret_equation(&sides, depth)
        } else if all(RelOp::is_order) {
            let ops: Vec<RelOp> = rest.iter().map(|(op, _)| *op).collect();
            let chain = |sides: Vec<Expr>| {
                let ops = ops.clone();
                Value::Inequality(Inequality { sides, ops })
            };
            // `x \ne \pm 1` excludes both.
            let splits = ops == [RelOp::Ne] && rest[0].1.any(&mut |e| is_plus_minus(e));
            if splits {
                let with_sign = |negative| sides.iter().map(|e| with_sign(e, negative)).collect();
                let pair = [false, true].map(|negative| chain(with_sign(negative)));
                return Ok(Value::List(pair.into()));
            }
            Ok(chain(sides.into_iter().cloned().collect()))
        } else {
            Err(Failure::Unsupported)
        }
    }

    fn named(&mut self, name: &Expr, value: &Expr, depth: usize) -> Result<Value> {
        let value = match self.interpret(value, depth + 1)? {
            // `(x, y) = (1, 2)` is a point and no interval.
            Value::Tuple('(', items, ')') if matches!(name, Expr::Tuple(..)) => {
                Value::Tuple('⟨', items, '⟩')
            }
            other => other,
        };
        Ok(Value::Named(name.clone(), Box::new(value)))
    }

    /// A chain of equals signs is a computation that ends with a value, or states that several quantities
    /// are equal, as `x = y = z` does.
    fn interpret_equation(&mut self, sides: &[&Expr], depth: usize) -> Result<Value> {
        let (first, rest) = (sides[0], &sides[1..]);
        let last = self.end_of_chain(rest)?;
        if rest.len() > 1 && !is_constant(last) {
            let quantities = || {
                let sides = sides.iter().map(|&side| Value::Scalar(side.clone()));
                sides.collect()
            };
            let names = rest.iter().any(|side| is_name(side));
            if names || !is_name(first) && !self.all_equal(first, rest) {
                return Ok(Value::Chain(quantities(), None));
            }
            // `x = 2y = 3z` is no computation.
            let multiples = sides.iter().all(|side| is_multiple(side));
            if depth == 0 && is_name(first) && !self.all_equal(last, rest) {
                if multiples {
                    return Ok(Value::Chain(quantities(), None));
                }
                let named = self.named(first, last, depth)?;
                return Ok(Value::Chain(quantities(), Some(Box::new(named))));
            }
        }
        if is_name(first) {
            return self.named(first, last, depth);
        }
        if rest.len() > 1 {
            return self.interpret(last, depth + 1);
        }
        if is_name(last) {
            return self.named(last, first, depth);
        }
        if !is_constant(first) || !is_constant(last) {
            return Ok(Value::Equation(first.clone(), last.clone()));
        }
        // A computation: its result counts if it is right.
        match self.scalar(first, last) {
            Outcome::Equal => self.interpret(last, depth + 1),
            Outcome::Failed(failure) => Err(failure),
            _ => Err(Failure::Unsupported),
        }
    }

    /// The value at the end of a chain of equals signs. The constants in it must be equal, so that guesses
    /// cannot be chained; of an exact value and a rounded one, the exact one counts.
    fn end_of_chain<'a>(&mut self, rest: &[&'a Expr]) -> Result<&'a Expr> {
        if rest.len() >= MAX_SIDES {
            return Err(Failure::OverBudget(Budget::Size));
        }
        let mut last = rest[rest.len() - 1];
        for &before in rest[..rest.len() - 1].iter().rev() {
            if !is_constant(before) || !is_constant(last) || self.scalar(before, last).is_equal() {
                continue;
            }
            if last.has_decimal() && !before.has_decimal() && self.may_be_rounded(before, last) {
                last = before;
            } else if !before.has_decimal() || last.has_decimal() {
                return Err(Failure::Unsupported);
            }
        }
        Ok(last)
    }

    /// Whether one of two values that are said to be about equal may be the other one rounded; of those before the sign, only a decimal
    /// is taken for a rounded one. Otherwise a guess could stand beside any value, as in `4 + 39 \approx 165`. What has no value is
    /// not judged.
    fn may_be_rounded(&mut self, before: &Expr, after: &Expr) -> bool {
        let (before, after) = (before.plain(), after.plain());
        let mut value = |side| self.finite_end(side, true).map(|end| end.approx);
        let (Some(a), Some(b)) = (value(before), value(after)) else {
            return true;
        };
        let is_decimal = number(before).is_some_and(|number| number.decimal);
        if is_decimal && number(after).is_none() {
            return is_rounded(b, before, a);
        }
        is_rounded(a, after, b) || is_decimal && is_rounded(b, before, a)
    }

    fn all_equal(&mut self, expr: &Expr, sides: &[&Expr]) -> bool {
        sides.iter().all(|side| self.scalar(side, expr).is_equal())
    }
}

/// Whether an expression of the value `rounded` may be `exact` rounded, or cut off, at its last digit that is not a zero. Where
/// that is left of the point (350 for 347), or where it is no single number (`\frac{22}{7}` for `\pi`), they are also within a
/// twentieth: 1000 is not about 43.
fn is_rounded(exact: f64, expr: &Expr, rounded: f64) -> bool {
    let gap = (exact - rounded).abs();
    let is_near = 20.0 * gap <= exact.abs();
    let Some(number) = number(expr) else {
        return is_near;
    };
    let unit = unit_of_last_digit(&number.value);
    // What is a half in decimals is not one in f64.
    let half = 0.5 * unit * (1.0 + 1e-9);
    let is_cut_off = rounded.abs() < exact.abs() && gap < unit * (1.0 - 1e-9);
    (gap <= half || is_cut_off) && (unit <= 1.0 || is_near)
}

/// What is written as one number, with or without a sign.
fn number(expr: &Expr) -> Option<&Number> {
    match expr {
        Expr::Num(number) => Some(number),
        Expr::Neg(inner) => number(inner),
        _ => None,
    }
}

/// The place of the last digit that is not a zero: 0.01 of 3.14, 10 of 350; 1 of 0.
fn unit_of_last_digit(value: &BigRational) -> f64 {
    const MAX_DIGITS: usize = 30;
    let ten = BigInt::from(10);
    let powers = std::iter::successors(Some(BigInt::one()), |power| Some(power * &ten));
    if !value.is_integer() {
        let mut powers = powers.take(MAX_DIGITS);
        let decimals = powers.position(|power| (power % value.denom()).is_zero());
        return 0.1f64.powi(decimals.unwrap_or(MAX_DIGITS) as i32);
    }
    let ends_in_zeros = |power: &BigInt| !value.is_zero() && (value.numer() % power).is_zero();
    let zeros = powers.skip(1).take_while(ends_in_zeros).count();
    10f64.powi(zeros as i32)
}
