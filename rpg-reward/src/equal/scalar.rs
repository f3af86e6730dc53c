//! Equality of numbers and expressions: exact where possible, otherwise by evaluation.

use super::rewrite::rewrite;
use super::samples::Random;
use super::{Comparer, Outcome};
use crate::ast::{Constant, Expr, Func};
use crate::exact::Canon;
use crate::numeric::{Complex, Evaluator, Point};
use crate::verdict::{Budget, Failure};
use num_rational::BigRational;
use std::borrow::{Borrow, Cow};

/// The precisions that are tried in turn, in bits.
const PRECISIONS: [u32; 3] = [192, 640, 1920];
/// The maximum number of points at which expressions in variables are compared, and the number of them at
/// which they must have values.
const MAX_POINTS: usize = 14;
const MIN_POINTS: usize = 3;
/// The maximum number of variables of an expression that is evaluated.
const MAX_VARIABLES: usize = 12;

impl Comparer {
    /// Compares two expressions without brackets, relations or percent signs.
    pub(super) fn scalar(&mut self, gold: &Expr, answer: &Expr) -> Outcome {
        let plain = matches!((gold, answer), (Expr::Num(_), Expr::Num(_)));
        if let Err(failure) = self.spend(if plain { 4 } else { 80 }) {
            return Outcome::Failed(failure);
        }
        if let (Expr::Num(a), Expr::Num(b)) = (gold, answer) {
            let equal =
                a.value == b.value || (a.decimal != b.decimal && rounds_to(&a.value, &b.value));
            return Outcome::of(equal);
        }
        let rounded = may_be_rounded(gold, answer);
        match self.exactly(gold, answer) {
            Ok(Some(true)) => return Outcome::Equal,
            Ok(Some(false)) if !rounded => return Outcome::Different,
            Err(Failure::Undefined) => return Outcome::Failed(Failure::Undefined),
            Err(failure @ Failure::OverBudget(_)) if self.fuel == 0 => {
                return Outcome::Failed(failure);
            }
            _ => {}
        }
        // Terms may be written in another way.
        if let (Expr::Series(f, i, from, to, x), Expr::Series(g, j, start, end, y)) = (gold, answer)
            && (f, i, from, to) == (g, j, start, end)
            && matches!(self.exactly(x, y), Ok(Some(true)))
        {
            return Outcome::Equal;
        }
        // A series is not worth evaluating only to find that it equals itself.
        let same = gold == answer;
        if same && gold.any(&mut |e| matches!(e, Expr::Series(..))) {
            return Outcome::Equal;
        }
        let outcome = self.numerically(gold, answer, rounded);
        // An expression equals itself even if it cannot be evaluated.
        if same
            && matches!(
                outcome,
                Outcome::Undecided | Outcome::Failed(Failure::OverBudget(_) | Failure::Unsupported)
            )
        {
            return Outcome::Equal;
        }
        outcome
    }

    /// Whether the difference is zero, if exact arithmetic can tell.
    fn exactly(&mut self, gold: &Expr, answer: &Expr) -> Result<Option<bool>, Failure> {
        let mut canon = Canon::new(self.fuel);
        let result = difference(&mut canon, gold, answer);
        self.fuel -= canon.spent().min(self.fuel);
        result
    }

    /// Compares by evaluation with error bounds, at several points where there are variables.
    fn numerically(&mut self, gold: &Expr, answer: &Expr, rounded: bool) -> Outcome {
        // Real points do not tell a variable from its real part.
        let complex_parts = in_parts(gold) || in_parts(answer);
        let (gold, answer) = &if complex_parts {
            (Cow::Owned(with_parts(gold)), Cow::Owned(with_parts(answer)))
        } else {
            (Cow::Borrowed(gold), Cow::Borrowed(answer))
        };
        let (gold, answer) = (gold.as_ref(), answer.as_ref());
        let variables = variables(&[gold, answer]);
        if variables.len() > MAX_VARIABLES {
            return Outcome::Failed(Failure::OverBudget(Budget::Size));
        }
        let complex = [gold, answer]
            .iter()
            .any(|e| e.any(&mut |e| matches!(e, Expr::Const(Constant::I))));
        if variables.is_empty() {
            return self.at_point(gold, answer, &Vec::new(), false, rounded);
        }
        let whole = [gold, answer].iter().any(|e| needs_whole_numbers(e));
        let mut random = Random::new(gold, answer);
        let mut valid = 0;
        let mut failure = Failure::Unsupported;
        for index in 0..MAX_POINTS {
            let point: Point = variables
                .iter()
                .enumerate()
                .map(|(which, v)| (v.clone(), random.value(index, whole.then_some(which))))
                .collect();
            match self.at_point(gold, answer, &point, !complex, rounded) {
                Outcome::Equal => valid += 1,
                Outcome::Different => return Outcome::Different,
                Outcome::Failed(budget @ Failure::OverBudget(_)) if self.fuel == 0 => {
                    return Outcome::Failed(budget);
                }
                Outcome::Failed(other) => failure = other,
                Outcome::Undecided => return Outcome::Undecided,
            }
            if valid >= if whole { 9 } else { 6 } {
                break;
            }
        }
        match failure {
            _ if valid >= MIN_POINTS => Outcome::Equal,
            Failure::OverBudget(_) => Outcome::Failed(failure),
            _ => Outcome::Undecided,
        }
    }

    fn at_point(
        &mut self,
        gold: &Expr,
        answer: &Expr,
        point: &Point,
        real: bool,
        rounded: bool,
    ) -> Outcome {
        let literal_bits = i64::from(literal_bits(gold) + literal_bits(answer));
        for prec in PRECISIONS {
            let mut gap = 0;
            let mut evaluate = |expr: &Expr, comparer: &mut Self| -> Result<Complex, Failure> {
                let cost = match prec {
                    192 => 3,
                    640 => 12,
                    _ => 60,
                };
                let fuel = (comparer.fuel / cost).min(20_000) as u32;
                let mut evaluator = Evaluator::new(prec, point, real, fuel);
                let result = evaluator.eval(expr);
                comparer.fuel -= (u64::from(fuel - evaluator.fuel) * cost).min(comparer.fuel);
                gap = gap.max(evaluator.gap);
                result
            };
            let (a, b) = match (evaluate(gold, self), evaluate(answer, self)) {
                (Ok(a), Ok(b)) => (a, b),
                (_, Err(failure @ Failure::OverBudget(Budget::Work)))
                | (Err(failure @ Failure::OverBudget(Budget::Work)), _) => {
                    self.fuel = 0;
                    return Outcome::Failed(failure);
                }
                (_, Err(failure)) | (Err(failure), _) => {
                    // An undecided quotient or branch may be decided with more bits.
                    if failure == Failure::Unsupported && point.is_empty() && prec < 1920 {
                        continue;
                    }
                    return Outcome::Failed(failure);
                }
            };
            let Ok(difference) = a.sub(&b, prec) else {
                return Outcome::Failed(Failure::OverBudget(Budget::Size));
            };
            if rounded && agree(&a, &b, &difference) {
                return Outcome::Equal;
            }
            if !difference.contains_zero() {
                return Outcome::Different;
            }
            let error = difference.re.radius_top().max(difference.im.radius_top());
            let scale = match a.re.top().max(a.im.top()) {
                _ if a.contains_zero() => 0,
                top => top.min(0),
            };
            if error < scale - 96 - gap - literal_bits {
                return Outcome::Equal;
            }
        }
        Outcome::Undecided
    }
}

/// Whether `gold - answer` is zero; `None` if exact arithmetic cannot tell.
fn difference(canon: &mut Canon, gold: &Expr, answer: &Expr) -> Result<Option<bool>, Failure> {
    let b = canon.canon(answer)?;
    let a = match canon.canon(gold) {
        // Nothing equals a gold answer without a value.
        Err(Failure::Undefined) => return Ok(Some(false)),
        other => other?,
    };
    if let (Some(a), Some(b)) = (a.as_rational(), b.as_rational()) {
        return Ok(Some(a == b));
    }
    let left = canon.mul_poly(&a.num, &b.den)?;
    let right = canon.mul_poly(&b.num, &a.den)?;
    let difference = canon.add_poly(&left, &right.neg())?;
    if difference.is_zero() {
        return Ok(Some(true));
    }
    Ok(canon
        .kernels()
        .independent(&difference.kernels())
        .then_some(false))
}

/// Whether one of the values may be the other one rounded: a decimal and an exact value.
fn may_be_rounded(gold: &Expr, answer: &Expr) -> bool {
    let (a, b) = (gold.has_decimal(), answer.has_decimal());
    a != b || (a && b && is_literal(gold) != is_literal(answer))
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Num(_) => true,
        Expr::Neg(inner) => is_literal(inner),
        // Scientific notation.
        Expr::Mul(factors) => factors.iter().all(|f| {
            is_literal(f) || matches!(f, Expr::Pow(a, b) if is_literal(a) && is_literal(b))
        }),
        _ => false,
    }
}

/// Whether two rational numbers agree to six decimals and to four digits.
fn rounds_to(a: &BigRational, b: &BigRational) -> bool {
    let size = |r: &BigRational| r.numer().bits() + r.denom().bits();
    if size(a) + size(b) > 8_192 {
        return false;
    }
    let difference = num_traits::Signed::abs(&(a - b));
    let largest = num_traits::Signed::abs(a).max(num_traits::Signed::abs(b));
    let million = BigRational::from_integer(1_000_000.into());
    let ten_thousand = BigRational::from_integer(10_000.into());
    &difference * million <= BigRational::from_integer(1.into())
        && difference * ten_thousand <= largest
}

/// The same for evaluated numbers.
fn agree(a: &Complex, b: &Complex, difference: &Complex) -> bool {
    let size = |z: &Complex| z.re.to_f64().hypot(z.im.to_f64());
    let off = size(difference);
    off <= 1e-6 && off * 1e4 <= size(a).max(size(b))
}

/// The variables of some expressions, in order.
pub(super) fn variables<T: Borrow<Expr>>(expressions: &[T]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for expr in expressions {
        expr.borrow().any(&mut |e| {
            if let Expr::Sym(name) = e
                && !name.starts_with('#')
                && !names.contains(name)
                && names.len() <= MAX_VARIABLES
            {
                names.push(name.clone());
            }
            false
        });
    }
    names.sort();
    names
}

/// Whether real parts, imaginary parts or conjugates of variables occur.
fn in_parts(expr: &Expr) -> bool {
    expr.any(&mut |e| match e {
        Expr::Fun(Func::Re | Func::Im | Func::Conjugate, arguments) => arguments
            .iter()
            .any(|a| a.any(&mut |e| is_complex_variable(e))),
        _ => false,
    })
}

fn is_complex_variable(expr: &Expr) -> bool {
    matches!(expr, Expr::Sym(name) if name.starts_with(char::is_lowercase))
}

/// The expression with its variables split into their real and imaginary parts.
fn with_parts(expr: &Expr) -> Expr {
    rewrite(expr, &|e| match e {
        Expr::Sym(name) if is_complex_variable(e) => {
            let part = |of: &str| Expr::Sym(format!("{of} {name}"));
            let imaginary = Expr::Mul(vec![Expr::Const(Constant::I), part("im")]);
            Some(Expr::Add(vec![part("re"), imaginary]))
        }
        _ => None,
    })
}

/// Whether an expression makes sense for whole numbers only: `n!`, `(-1)^n`.
fn needs_whole_numbers(expr: &Expr) -> bool {
    let has_variable = |e: &Expr| e.any(&mut |e| matches!(e, Expr::Sym(_)));
    expr.any(&mut |e| match e {
        Expr::Series(_, _, first, last, _) => has_variable(first) || has_variable(last),
        Expr::Fun(Func::Factorial | Func::Binomial | Func::Mod | Func::Gcd | Func::Lcm, arguments) => {
            arguments.iter().any(has_variable)
        }
        Expr::Pow(base, exponent) => {
            has_variable(exponent)
                && (matches!(&**base, Expr::Neg(_))
                    || matches!(&**base, Expr::Num(n) if n.value < BigRational::from_integer(0.into())))
        }
        _ => false,
    })
}

/// The bits of all number literals: the more bits, the closer two different values can be.
fn literal_bits(expr: &Expr) -> u32 {
    let mut bits = 0u64;
    expr.any(&mut |e| {
        if let Expr::Num(n) = e {
            bits += n.value.numer().bits() + n.value.denom().bits() - 1;
        }
        false
    });
    u32::try_from(bits).unwrap_or(u32::MAX)
}
