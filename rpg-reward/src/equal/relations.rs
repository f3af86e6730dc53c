//! Equations up to rearranging and scaling, inequalities up to flipping and positive scaling.

use super::value::Value;
use super::{Comparer, Outcome};
use crate::ast::{Expr, RelOp};
use crate::exact::{Canon, Monomial, Poly};
use crate::verdict::Failure;
use num_traits::{One, Signed};
use std::collections::BTreeMap;

impl Comparer {
    /// Compares two equations: left minus right of one must be a constant multiple of that of the other.
    pub(super) fn same_equation(&mut self, gold: &Value, answer: &Value) -> Outcome {
        let (Some(a), Some(b)) = (zero_side(gold), zero_side(answer)) else {
            return Outcome::Different;
        };
        let mut canon = Canon::new(self.fuel);
        let result = proportional(&mut canon, &a, &b, false);
        self.fuel -= canon.spent().min(self.fuel);
        match result {
            Ok(equal) => Outcome::of(equal),
            Err(Failure::Unsupported) => Outcome::Undecided,
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Compares two chains of inequalities.
    pub(super) fn same_inequality(
        &mut self,
        gold: (&[Expr], &[RelOp]),
        answer: (&[Expr], &[RelOp]),
    ) -> Outcome {
        let names = |sides: &[Expr]| super::scalar::variables(&sides.iter().collect::<Vec<_>>());
        if names(gold.0) != names(answer.0) {
            return Outcome::Different;
        }
        if names(gold.0).len() == 1 {
            let value =
                |(sides, ops): (&[Expr], &[RelOp])| Value::Inequality(sides.to_vec(), ops.to_vec());
            let outcome = self.same_sets(&value(gold), &value(answer));
            if outcome.is_equal() {
                return outcome;
            }
        }
        let (gold, answer) = (ascending(gold), ascending(answer));
        if gold.1 != answer.1 {
            return Outcome::Different;
        }
        let mut canon = Canon::new(self.fuel);
        let mut outcome = Outcome::Equal;
        for index in 0..gold.1.len() {
            let signed = gold.1[index] != RelOp::Ne;
            let side = |sides: &[Expr]| minus(&sides[index], &sides[index + 1]);
            match proportional(&mut canon, &side(&gold.0), &side(&answer.0), signed) {
                Ok(true) => {}
                Ok(false) => outcome = Outcome::Different,
                Err(Failure::Unsupported) => outcome = Outcome::Undecided,
                Err(failure) => outcome = Outcome::Failed(failure),
            }
            if !outcome.is_equal() {
                break;
            }
        }
        self.fuel -= canon.spent().min(self.fuel);
        outcome
    }
}

fn minus(a: &Expr, b: &Expr) -> Expr {
    Expr::Add(vec![a.clone(), Expr::Neg(Box::new(b.clone()))])
}

/// Left minus right of an equation.
fn zero_side(value: &Value) -> Option<Expr> {
    match value {
        Value::Equation(a, b) => Some(minus(a, b)),
        Value::Named(name, value) => match &**value {
            Value::Scalar(expr) => Some(minus(name, expr)),
            _ => None,
        },
        _ => None,
    }
}

/// The chain in the direction in which its values increase.
fn ascending((sides, ops): (&[Expr], &[RelOp])) -> (Vec<Expr>, Vec<RelOp>) {
    if ops.iter().all(|op| matches!(op, RelOp::Gt | RelOp::Ge)) {
        let flip = |op: &RelOp| {
            if *op == RelOp::Gt {
                RelOp::Lt
            } else {
                RelOp::Le
            }
        };
        return (
            sides.iter().rev().cloned().collect(),
            ops.iter().rev().map(flip).collect(),
        );
    }
    (sides.to_vec(), ops.to_vec())
}

/// Whether the numerators of two expressions differ by a constant factor, which must be positive if
/// `signed`.
fn proportional(canon: &mut Canon, a: &Expr, b: &Expr, signed: bool) -> Result<bool, Failure> {
    let (a, b) = (canon.canon(a)?, canon.canon(b)?);
    if signed && !(a.is_poly() && b.is_poly()) {
        return Err(Failure::Unsupported);
    }
    if a.is_zero() || b.is_zero() {
        return Ok(false);
    }
    let (a, b) = (
        whole_exponents(canon, &a.num)?,
        whole_exponents(canon, &b.num)?,
    );
    let (parts_a, parts_b) = (by_variables(canon, &a), by_variables(canon, &b));
    let Some((lead, factor_a)) = parts_a.iter().next_back().filter(|(m, _)| !m.is_one()) else {
        return Ok(false);
    };
    let Some(factor_b) = parts_b.get(lead) else {
        return Ok(false);
    };
    if signed {
        let sign = |p: &Poly| p.as_rational().map(|r| r.is_positive());
        match (sign(factor_a), sign(factor_b)) {
            (Some(x), Some(y)) if x == y => {}
            (Some(_), Some(_)) => return Ok(false),
            _ => return Err(Failure::Unsupported),
        }
    }
    let left = canon.mul_poly(&a, factor_b)?;
    let right = canon.mul_poly(&b, factor_a)?;
    Ok(canon.add_poly(&left, &right.neg())?.is_zero())
}

/// A polynomial multiplied by the powers that its negative exponents divide by.
fn whole_exponents(canon: &mut Canon, poly: &Poly) -> Result<Poly, Failure> {
    let mut result = poly.clone();
    for id in poly.kernels() {
        if !canon.kernels().has_variable(id) {
            continue;
        }
        let lowest = result
            .terms()
            .map(|(m, _)| {
                m.factors()
                    .iter()
                    .find(|(k, _)| *k == id)
                    .map_or_else(Default::default, |(_, e)| *e)
            })
            .min();
        if let Some(lowest) = lowest.filter(|e| e.numer() < &0) {
            let factor = Poly::term(
                Monomial::power(id, -lowest),
                num_rational::BigRational::one(),
            );
            result = canon.mul_poly(&result, &factor)?;
        }
    }
    Ok(result)
}

/// The constant coefficients of the products of variables.
fn by_variables(canon: &Canon, poly: &Poly) -> BTreeMap<Monomial, Poly> {
    let mut parts: BTreeMap<Monomial, Poly> = BTreeMap::new();
    for (monomial, coefficient) in poly.terms() {
        let (variables, constants) = monomial.split(|kernel| canon.kernels().has_variable(kernel));
        let entry = parts.entry(variables).or_default();
        entry.insert(constants, coefficient.clone());
    }
    parts
}
