//! Sets of real numbers: intervals, points, unions, solutions of inequalities.

use super::value::Value;
use super::{Comparer, Outcome};
use crate::ast::{Constant, Expr, Func, RelOp, SetOp};
use crate::numeric::Evaluator;

/// An end of an interval.
#[derive(Debug, Clone)]
struct End {
    /// The exact value, unless the end is infinite.
    value: Option<Expr>,
    /// The value for ordering.
    approx: f64,
    closed: bool,
}

/// The numbers between two ends.
#[derive(Debug, Clone)]
struct Piece {
    low: End,
    high: End,
}

/// Pieces in order that do not touch each other.
type RealSet = Vec<Piece>;

/// The maximum number of pieces of one set.
const MAX_PIECES: usize = 64;

impl Comparer {
    /// Compares two values as sets.
    pub(super) fn same_sets(&mut self, gold: &Value, answer: &Value) -> Outcome {
        if let (Value::Inequality(..), Value::Scalar(_) | Value::Text(_)) = (gold, answer) {
            return Outcome::Different;
        }
        if let (Some(a), Some(b)) = (self.finite_set(gold), self.finite_set(answer)) {
            let (a, b) = (Value::Set(a), Value::Set(b));
            return self.same(&a, &b);
        }
        let (Some(a), Some(b)) = (self.real_set(gold), self.real_set(answer)) else {
            return self.same_parts(gold, answer);
        };
        if a.len() != b.len() {
            return Outcome::Different;
        }
        for (x, y) in a.iter().zip(&b) {
            for (p, q) in [(&x.low, &y.low), (&x.high, &y.high)] {
                let outcome = match (&p.value, &q.value) {
                    (None, None) => Outcome::of(p.approx == q.approx),
                    (Some(v), Some(w)) if p.closed == q.closed => self.scalar(v, w),
                    _ => Outcome::Different,
                };
                if !outcome.is_equal() {
                    return outcome;
                }
            }
        }
        Outcome::Equal
    }

    /// Compares set operations on parts other than sets of real numbers: the same parts in any order.
    fn same_parts(&mut self, gold: &Value, answer: &Value) -> Outcome {
        let (Value::Combined(a, parts), Value::Combined(b, others)) = (gold, answer) else {
            return Outcome::Different;
        };
        if a != b || parts.len() != others.len() {
            return Outcome::Different;
        }
        if *a == SetOp::Difference {
            return self.in_order(
                &parts.iter().collect::<Vec<_>>(),
                &others.iter().collect::<Vec<_>>(),
            );
        }
        let (x, y) = (Value::List(parts.clone()), Value::List(others.clone()));
        self.same(&x, &y)
    }

    fn number(&mut self, expr: &Expr) -> Option<f64> {
        self.spend(20).ok()?;
        let point = Vec::new();
        let mut evaluator = Evaluator {
            prec: 128,
            point: &point,
            real: true,
            gap: 0,
            fuel: 500,
        };
        let value = evaluator.eval(expr).ok()?;
        value
            .is_real()
            .then(|| value.re.to_f64())
            .filter(|v| v.is_finite())
    }

    fn end(&mut self, value: &Value, closed: bool) -> Option<End> {
        match value {
            Value::Infinity(positive) => {
                let approx = if *positive {
                    f64::INFINITY
                } else {
                    f64::NEG_INFINITY
                };
                Some(End {
                    value: None,
                    approx,
                    closed: false,
                })
            }
            Value::Scalar(expr) => self.finite_end(expr, closed),
            _ => None,
        }
    }

    fn finite_end(&mut self, expr: &Expr, closed: bool) -> Option<End> {
        Some(End {
            value: Some(expr.clone()),
            approx: self.number(expr)?,
            closed,
        })
    }

    /// The set of real numbers that a value describes.
    fn real_set(&mut self, value: &Value) -> Option<RealSet> {
        self.spend(5).ok()?;
        match value {
            Value::Tuple(open @ ('(' | '['), items, close @ (')' | ']')) => {
                let [low, high] = items.as_slice() else {
                    return None;
                };
                let low = self.end(low, *open == '[')?;
                let high = self.end(high, *close == ']')?;
                (low.approx < high.approx).then(|| vec![Piece { low, high }])
            }
            Value::NamedSet(Constant::Reals) => Some(everything()),
            Value::Set(items) => {
                let mut points = Vec::new();
                for item in items {
                    let Value::Scalar(expr) = item else {
                        return None;
                    };
                    let end = self.finite_end(expr, true)?;
                    points.push(Piece {
                        low: end.clone(),
                        high: end,
                    });
                }
                self.merged(points)
            }
            Value::Combined(op, parts) => {
                one_variable(parts)?;
                let mut parts = parts.iter();
                let mut result = self.real_set(parts.next()?)?;
                for part in parts {
                    let other = self.real_set(part)?;
                    result = match op {
                        SetOp::Union => {
                            result.extend(other);
                            self.merged(result)?
                        }
                        SetOp::Intersection => self.intersection(&result, &other)?,
                        SetOp::Difference => {
                            let rest = self.complement(&other)?;
                            self.intersection(&result, &rest)?
                        }
                    };
                }
                Some(result)
            }
            Value::Inequality(sides, ops) => self.solutions(sides, ops),
            Value::List(items) => {
                one_variable(items)?;
                let mut pieces = Vec::new();
                for item in items {
                    let sets = matches!(item, Value::Inequality(..) | Value::Tuple(..));
                    if !sets {
                        return None;
                    }
                    pieces.extend(self.real_set(item)?);
                }
                self.merged(pieces)
            }
            Value::Named(_, inner) => self.real_set(inner),
            _ => None,
        }
    }

    /// -1, 0 or 1 if `a` lies before, at or after `b`.
    fn order(&mut self, a: &End, b: &End) -> i8 {
        let scale = a.approx.abs().max(b.approx.abs()).max(1.0);
        let close = a.approx == b.approx || (a.approx - b.approx).abs() <= 1e-9 * scale;
        if close && a.approx.is_finite() && b.approx.is_finite() {
            if let (Some(x), Some(y)) = (&a.value, &b.value)
                && self.scalar(x, y).is_equal()
            {
                return 0;
            }
        } else if a.approx == b.approx {
            return 0;
        }
        if a.approx < b.approx { -1 } else { 1 }
    }

    /// Sorts the pieces and merges those that overlap or touch.
    fn merged(&mut self, mut pieces: Vec<Piece>) -> Option<RealSet> {
        if pieces.len() > MAX_PIECES {
            return None;
        }
        pieces.sort_by(|a, b| {
            a.low
                .approx
                .total_cmp(&b.low.approx)
                .then(b.low.closed.cmp(&a.low.closed))
        });
        let mut tidy: RealSet = Vec::new();
        for piece in pieces {
            let Some(last) = tidy.last_mut() else {
                tidy.push(piece);
                continue;
            };
            let (high, low) = (last.high.clone(), piece.low.clone());
            let gap = self.order(&low, &high);
            if gap < 0 || (gap == 0 && (low.closed || high.closed)) {
                // Of two starts at the same place the closed one wins.
                let start = last.low.clone();
                if self.order(&start, &low) == 0 && low.closed {
                    tidy.last_mut()?.low.closed = true;
                }
                match self.order(&piece.high, &high) {
                    1 => tidy.last_mut()?.high = piece.high,
                    0 if piece.high.closed => tidy.last_mut()?.high.closed = true,
                    _ => {}
                }
            } else {
                tidy.push(piece);
            }
        }
        Some(tidy)
    }

    fn intersection(&mut self, a: &RealSet, b: &RealSet) -> Option<RealSet> {
        let mut pieces = Vec::new();
        for x in a {
            for y in b {
                let low = match self.order(&x.low, &y.low) {
                    1 => x.low.clone(),
                    -1 => y.low.clone(),
                    _ => End {
                        closed: x.low.closed && y.low.closed,
                        ..x.low.clone()
                    },
                };
                let high = match self.order(&x.high, &y.high) {
                    -1 => x.high.clone(),
                    1 => y.high.clone(),
                    _ => End {
                        closed: x.high.closed && y.high.closed,
                        ..x.high.clone()
                    },
                };
                match self.order(&low, &high) {
                    -1 => pieces.push(Piece { low, high }),
                    0 if low.closed && high.closed => pieces.push(Piece { low, high }),
                    _ => {}
                }
            }
        }
        self.merged(pieces)
    }

    fn complement(&mut self, set: &RealSet) -> Option<RealSet> {
        let mut pieces = Vec::new();
        let mut low = End {
            value: None,
            approx: f64::NEG_INFINITY,
            closed: false,
        };
        for piece in set {
            let high = End {
                closed: !piece.low.closed,
                ..piece.low.clone()
            };
            if high.value.is_some() {
                pieces.push(Piece {
                    low: low.clone(),
                    high,
                });
            }
            low = End {
                closed: !piece.high.closed,
                ..piece.high.clone()
            };
        }
        if low.value.is_some() || set.is_empty() {
            let high = End {
                value: None,
                approx: f64::INFINITY,
                closed: false,
            };
            pieces.push(Piece { low, high });
        }
        self.merged(pieces)
    }

    /// The solutions of a chain of inequalities that are linear in one variable.
    fn solutions(&mut self, sides: &[Expr], ops: &[RelOp]) -> Option<RealSet> {
        let names = super::scalar::variables(&sides.iter().collect::<Vec<_>>());
        let [name] = names.as_slice() else {
            return None;
        };
        let mut result = everything();
        for (index, op) in ops.iter().enumerate() {
            let set = self.half_line(&sides[index], *op, &sides[index + 1], name)?;
            result = self.intersection(&result, &set)?;
        }
        Some(result)
    }

    fn half_line(&mut self, left: &Expr, op: RelOp, right: &Expr, name: &str) -> Option<RealSet> {
        if let Expr::Fun(Func::Abs, inner) = left
            && !mentions(right, name)
        {
            return self.absolute_value_solutions(&inner[0], op, right, name);
        }
        let variable = Expr::Sym(name.to_string());
        let (bound, flipped) = if *left == variable && !mentions(right, name) {
            (right.clone(), false)
        } else if *right == variable && !mentions(left, name) {
            (left.clone(), true)
        } else {
            self.linear_bound(left, right, name)?
        };
        let op = match (op, flipped) {
            (RelOp::Lt, true) => RelOp::Gt,
            (RelOp::Le, true) => RelOp::Ge,
            (RelOp::Gt, true) => RelOp::Lt,
            (RelOp::Ge, true) => RelOp::Le,
            (op, _) => op,
        };
        let infinite = match bound {
            Expr::Const(Constant::Infinity) => Some(true),
            Expr::Neg(ref inner) if **inner == Expr::Const(Constant::Infinity) => Some(false),
            _ => None,
        };
        if let Some(positive) = infinite {
            // `x < \infty` is always true.
            let trivial = positive == matches!(op, RelOp::Lt | RelOp::Le);
            return trivial.then(everything);
        }
        let closed = matches!(op, RelOp::Le | RelOp::Ge);
        let end = self.finite_end(&bound, closed)?;
        let [whole] = everything().try_into().ok()?;
        let Piece { low, high } = whole;
        match op {
            RelOp::Lt | RelOp::Le => Some(vec![Piece { low, high: end }]),
            RelOp::Gt | RelOp::Ge => Some(vec![Piece { low: end, high }]),
            RelOp::Ne => Some(vec![
                Piece {
                    low,
                    high: end.clone(),
                },
                Piece { low: end, high },
            ]),
            _ => None,
        }
    }

    /// The solutions of `|inner| op bound`.
    fn absolute_value_solutions(
        &mut self,
        inner: &Expr,
        op: RelOp,
        bound: &Expr,
        name: &str,
    ) -> Option<RealSet> {
        let negative = Expr::Neg(Box::new(bound.clone()));
        if self.number(bound)? <= 0.0 {
            return None;
        }
        let mirrored = match op {
            RelOp::Lt => RelOp::Gt,
            RelOp::Le => RelOp::Ge,
            RelOp::Gt => RelOp::Lt,
            RelOp::Ge => RelOp::Le,
            _ => return None,
        };
        let above = self.half_line(inner, op, bound, name)?;
        let below = self.half_line(inner, mirrored, &negative, name)?;
        if matches!(op, RelOp::Lt | RelOp::Le) {
            self.intersection(&above, &below)
        } else {
            self.merged(above.into_iter().chain(below).collect())
        }
    }

    /// Where two sides that are linear in the variable are equal, and whether dividing flips the relation.
    fn linear_bound(&mut self, left: &Expr, right: &Expr, name: &str) -> Option<(Expr, bool)> {
        let value_at = |value: i64| {
            let replace = |e: &Expr| substitute(e, name, &Expr::int(value));
            Expr::Add(vec![replace(left), Expr::Neg(Box::new(replace(right)))])
        };
        let (f0, f1, f2) = (value_at(0), value_at(1), value_at(2));
        let negative = |e: &Expr| Expr::Neg(Box::new(e.clone()));
        let slope = Expr::Add(vec![f1.clone(), negative(&f0)]);
        let next = Expr::Add(vec![f2, negative(&f1)]);
        if !self.scalar(&slope, &next).is_equal() {
            return None;
        }
        // Three points on a line do not prove linearity; a fourth one off the grid suffices for polynomials
        // as small as those of answers.
        let far = Expr::Add(vec![value_at(11), negative(&f0)]);
        let expected = Expr::Mul(vec![Expr::int(11), slope.clone()]);
        if !self.scalar(&far, &expected).is_equal() {
            return None;
        }
        let value = self.number(&slope)?;
        if value.abs() < 1e-12 {
            return None;
        }
        let bound = Expr::Div(Box::new(negative(&f0)), Box::new(slope));
        Some((bound, value < 0.0))
    }
}

/// `None` if there are conditions on different variables, which do not describe a set of numbers.
fn one_variable(items: &[Value]) -> Option<()> {
    let sides: Vec<&Expr> = items
        .iter()
        .filter_map(|item| match item {
            Value::Inequality(sides, _) => Some(sides),
            _ => None,
        })
        .flatten()
        .collect();
    (super::scalar::variables(&sides).len() <= 1).then_some(())
}

fn everything() -> RealSet {
    let end = |approx| End {
        value: None,
        approx,
        closed: false,
    };
    vec![Piece {
        low: end(f64::NEG_INFINITY),
        high: end(f64::INFINITY),
    }]
}

fn mentions(expr: &Expr, name: &str) -> bool {
    expr.any(&mut |e| matches!(e, Expr::Sym(n) if n == name))
}

/// `expr` with a variable replaced.
pub(super) fn substitute(expr: &Expr, name: &str, value: &Expr) -> Expr {
    let each = |items: &[Expr]| items.iter().map(|e| substitute(e, name, value)).collect();
    let one = |e: &Expr| Box::new(substitute(e, name, value));
    match expr {
        Expr::Sym(n) if n == name => value.clone(),
        Expr::Add(items) => Expr::Add(each(items)),
        Expr::Mul(items) => Expr::Mul(each(items)),
        Expr::Neg(a) => Expr::Neg(one(a)),
        Expr::Div(a, b) => Expr::Div(one(a), one(b)),
        Expr::Pow(a, b) => Expr::Pow(one(a), one(b)),
        Expr::Root(a, b) => Expr::Root(one(a), one(b)),
        Expr::Fun(f, items) => Expr::Fun(*f, each(items)),
        other => other.clone(),
    }
}
