//! Equations up to rearranging and scaling, inequalities up to flipping and positive scaling.

use super::scalar::variables;
use super::value::{Inequality, Value};
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
        outcome_of(result)
    }

    /// Compares two chains of inequalities: as sets of numbers, otherwise relation by relation.
    pub(super) fn same_inequality(&mut self, gold: &Inequality, answer: &Inequality) -> Outcome {
        let names = variables(&gold.sides);
        if names != variables(&answer.sides) {
            return Outcome::Different;
        }
        if let [name] = names.as_slice()
            && let Some(gold) = self.solutions(gold, name)
            && let Some(answer) = self.solutions(answer, name)
        {
            let outcome = self.same_real_sets(&gold, &answer);
            if outcome.is_equal() {
                return outcome;
            }
        }
        let (gold, answer) = (gold.ascending(), answer.ascending());
        if gold.ops != answer.ops {
            return Outcome::Different;
        }
        let pairs = gold.differences().into_iter().zip(answer.differences());
        let mut canon = Canon::new(self.fuel);
        let mut outcome = Outcome::Equal;
        for (op, (a, b)) in gold.ops.iter().zip(pairs) {
            let result = proportional(&mut canon, &a, &b, *op != RelOp::Ne);
            outcome = outcome.and(|| outcome_of(result));
        }
        self.fuel -= canon.spent().min(self.fuel);
        outcome
    }
}

impl Inequality {
    /// The chain in the direction in which its values increase.
    fn ascending(&self) -> Self {
        let falls = |op: &RelOp| matches!(op, RelOp::Gt | RelOp::Ge);
        if !self.ops.iter().all(falls) {
            return self.clone();
        }
        Self {
            sides: self.sides.iter().rev().cloned().collect(),
            ops: self.ops.iter().rev().map(|op| op.mirrored()).collect(),
        }
    }

    /// Left minus right of each relation.
    fn differences(&self) -> Vec<Expr> {
        let pairs = self.sides.windows(2);
        pairs.map(|pair| minus(&pair[0], &pair[1])).collect()
    }
}

fn outcome_of(result: Result<bool, Failure>) -> Outcome {
    match result {
        Ok(equal) => Outcome::of(equal),
        Err(Failure::Unsupported) => Outcome::Undecided,
        Err(failure) => Outcome::Failed(failure),
    }
}

pub(super) fn minus(a: &Expr, b: &Expr) -> Expr {
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
    let (whole_a, whole_b) = (
        whole_exponents(canon, &a.num)?,
        whole_exponents(canon, &b.num)?,
    );
    // Multiplying an inequality by a variable may turn it round.
    if signed && (whole_a != a.num || whole_b != b.num) {
        return Err(Failure::Unsupported);
    }
    let (a, b) = (whole_a, whole_b);
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
pub(super) fn whole_exponents(canon: &mut Canon, poly: &Poly) -> Result<Poly, Failure> {
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
