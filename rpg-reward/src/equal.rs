//! Decides whether two answers are equal.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use crate::ast::Expr;
use crate::verdict::{Budget, Failure};

/// What a comparison shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Equal,
    Different,
    Undecided,
    Failed(Failure),
}

/// Largest size in bits of a power.
const MAX_BITS: u64 = 1 << 16;

/// Compares an answer with the gold answer.
pub(crate) fn compare(gold: &Expr, answer: &Expr) -> Outcome {
    match (rational(gold), rational(answer)) {
        (Ok(a), Ok(b)) if a == b => Outcome::Equal,
        (Ok(a), Ok(b)) => {
            let rounded = gold.has_decimal() != answer.has_decimal();
            if rounded && agrees(&a, &b) {
                Outcome::Equal
            } else {
                Outcome::Different
            }
        }
        (_, Err(failure @ (Failure::OverBudget(_) | Failure::Undefined))) => {
            Outcome::Failed(failure)
        }
        _ if gold == answer => Outcome::Equal,
        _ => Outcome::Different,
    }
}

/// Whether a decimal and an exact value agree to six decimals.
fn agrees(a: &BigRational, b: &BigRational) -> bool {
    let difference = (a - b).abs();
    let bound = BigRational::new(BigInt::one(), BigInt::from(1_000_000));
    let relative = a.abs().max(b.abs()) / BigRational::from_integer(10_000.into());
    difference < bound && difference <= relative
}

/// The exact value of an expression without variables.
fn rational(expr: &Expr) -> Result<BigRational, Failure> {
    Ok(match expr {
        Expr::Num(n) => n.value.clone(),
        Expr::Add(terms) => {
            let mut sum = BigRational::zero();
            for term in terms {
                sum += rational(term)?;
            }
            sum
        }
        Expr::Mul(factors) => {
            let mut product = BigRational::one();
            for factor in factors {
                product *= rational(factor)?;
            }
            product
        }
        Expr::Neg(a) => -rational(a)?,
        Expr::Div(a, b) => {
            let divisor = rational(b)?;
            if divisor.is_zero() {
                return Err(Failure::Undefined);
            }
            rational(a)? / divisor
        }
        Expr::Percent(a) | Expr::Degree(a) => rational(a)?,
        Expr::Pow(a, b) => {
            let (base, exponent) = (rational(a)?, rational(b)?);
            if !exponent.is_integer() {
                return Err(Failure::Unsupported);
            }
            let bits = base.numer().bits().max(base.denom().bits());
            let exponent = exponent
                .to_integer()
                .to_i32()
                .ok_or(Failure::OverBudget(Budget::Size))?;
            if bits * u64::from(exponent.unsigned_abs()) > MAX_BITS {
                return Err(Failure::OverBudget(Budget::Size));
            }
            if base.is_zero() && exponent <= 0 {
                return Err(Failure::Undefined);
            }
            base.pow(exponent)
        }
        Expr::Undefined => return Err(Failure::Undefined),
        _ => return Err(Failure::Unsupported),
    })
}
