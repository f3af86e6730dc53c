//! Sets of real numbers: intervals, points, unions, solutions of inequalities.

use super::scalar::variables;
use super::value::{Sign, Value};
use super::{Comparer, Outcome};
use crate::ast::{Constant, Expr, SetOp};
use crate::numeric::Evaluator;

/// An end of an interval.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// The exact value, unless the end is infinite.
    value: Option<Expr>,
    /// The value for ordering.
    pub(super) approx: f64,
    pub(super) closed: bool,
}

/// The numbers between two ends.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) low: End,
    pub(super) high: End,
}

/// Pieces in order that do not touch each other.
pub(super) type RealSet = Vec<Piece>;

/// The maximum number of pieces of one set.
const MAX_PIECES: usize = 64;

impl End {
    pub(super) fn infinite(sign: Sign) -> Self {
        let approx = match sign {
            Sign::Plus => f64::INFINITY,
            Sign::Minus => f64::NEG_INFINITY,
        };
        Self {
            value: None,
            approx,
            closed: false,
        }
    }

    pub(super) fn closed_if(self, closed: bool) -> Self {
        Self { closed, ..self }
    }
}

impl Piece {
    pub(super) fn point(end: End) -> Self {
        Self {
            low: end.clone(),
            high: end,
        }
    }
}

impl Comparer {
    /// Compares two values as sets.
    pub(super) fn same_sets(&mut self, gold: &Value, answer: &Value) -> Outcome {
        if let (Some(a), Some(b)) = (self.finite_set(gold), self.finite_set(answer)) {
            return self.in_any_order(&a, &b);
        }
        if let (Some(a), Some(b)) = (self.real_set(gold), self.real_set(answer)) {
            return self.same_real_sets(&a, &b);
        }
        // Other sets: the same parts in any order.
        let (Value::Combined(a, parts), Value::Combined(b, others)) = (gold, answer) else {
            return Outcome::Different;
        };
        Outcome::of(a == b).and(|| match a {
            SetOp::Difference => self.in_order(parts, others),
            SetOp::Union | SetOp::Intersection => self.in_any_order(parts, others),
        })
    }

    pub(super) fn same_real_sets(&mut self, gold: &RealSet, answer: &RealSet) -> Outcome {
        let ends = |set: &RealSet| -> Vec<End> {
            let pieces = set.iter().cloned();
            pieces.flat_map(|piece| [piece.low, piece.high]).collect()
        };
        self.all_same(&ends(gold), &ends(answer), |comparer, p, q| {
            match (&p.value, &q.value) {
                (None, None) => Outcome::of(p.approx == q.approx),
                (Some(v), Some(w)) if p.closed == q.closed => comparer.scalar(v, w),
                _ => Outcome::Different,
            }
        })
    }

    /// An end whose value is a number.
    pub(super) fn finite_end(&mut self, expr: &Expr, closed: bool) -> Option<End> {
        self.spend(20).ok()?;
        let point = Vec::new();
        let mut evaluator = Evaluator::new(128, &point, true, 500);
        let value = evaluator.eval(expr).ok().filter(|value| value.is_real())?;
        let approx = Some(value.re.to_f64()).filter(|approx| approx.is_finite())?;
        Some(End {
            value: Some(expr.clone()),
            approx,
            closed,
        })
    }

    fn end(&mut self, value: &Value, closed: bool) -> Option<End> {
        match value {
            Value::Infinity(sign) => Some(End::infinite(*sign)),
            Value::Scalar(expr) => self.finite_end(expr, closed),
            _ => None,
        }
    }

    /// Whether a value describes a set of real numbers.
    pub(super) fn is_solvable(&mut self, value: &Value) -> bool {
        self.real_set(value).is_some()
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
                    points.push(Piece::point(self.finite_end(expr, true)?));
                }
                self.merged(points)
            }
            Value::Combined(op, parts) => {
                let sets = self.real_sets(parts)?;
                sets.into_iter()
                    .try_fold(None, |result: Option<RealSet>, set| {
                        let Some(result) = result else {
                            return Some(Some(set));
                        };
                        Some(Some(match op {
                            SetOp::Union => self.merged(result.into_iter().chain(set).collect())?,
                            SetOp::Intersection => self.intersection(&result, &set)?,
                            SetOp::Difference => self.intersection(&result, &complement(&set))?,
                        }))
                    })?
            }
            Value::Inequality(inequality) => match variables(&inequality.sides).as_slice() {
                [name] => self.solutions(inequality, name),
                _ => None,
            },
            Value::List(items) => {
                let is_part = |v: &Value| matches!(v, Value::Inequality(_) | Value::Tuple(..));
                let sets = Some(items).filter(|items| items.iter().all(is_part))?;
                let sets = self.real_sets(sets)?;
                let union = self.merged(sets.concat())?;
                if !is_everything(&union) {
                    return Some(union);
                }
                // Alternatives that exclude nothing together are not meant as such.
                sets.iter()
                    .try_fold(union, |result, set| self.intersection(&result, set))
            }
            Value::Named(_, inner) => self.real_set(inner),
            _ => None,
        }
    }

    /// The sets that values describe. Conditions on different variables describe no set of numbers.
    fn real_sets(&mut self, values: &[Value]) -> Option<Vec<RealSet>> {
        let sides = values.iter().filter_map(|value| match value {
            Value::Inequality(inequality) => Some(&inequality.sides),
            _ => None,
        });
        let sides: Vec<&Expr> = sides.flatten().collect();
        if variables(&sides).len() > 1 {
            return None;
        }
        values.iter().map(|value| self.real_set(value)).collect()
    }

    /// -1, 0 or 1 if `a` lies before, at or after `b`.
    pub(super) fn order(&mut self, a: &End, b: &End) -> i8 {
        let equal = match (&a.value, &b.value) {
            (Some(x), Some(y)) => {
                let scale = a.approx.abs().max(b.approx.abs()).max(1.0);
                (a.approx - b.approx).abs() <= 1e-9 * scale && self.scalar(x, y).is_equal()
            }
            _ => a.approx == b.approx,
        };
        if equal {
            0
        } else if a.approx < b.approx {
            -1
        } else {
            1
        }
    }

    /// Sorts the pieces and merges those that overlap or touch.
    pub(super) fn merged(&mut self, mut pieces: Vec<Piece>) -> Option<RealSet> {
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
            let gap = self.order(&piece.low, &last.high);
            if gap > 0 || gap == 0 && !piece.low.closed && !last.high.closed {
                tidy.push(piece);
                continue;
            }
            // Of two ends at the same place the closed one wins.
            if self.order(&last.low, &piece.low) == 0 {
                last.low.closed |= piece.low.closed;
            }
            match self.order(&piece.high, &last.high) {
                1 => last.high = piece.high,
                0 => last.high.closed |= piece.high.closed,
                _ => {}
            }
        }
        Some(tidy)
    }

    pub(super) fn intersection(&mut self, a: &RealSet, b: &RealSet) -> Option<RealSet> {
        let mut pieces = Vec::new();
        for x in a {
            for y in b {
                let low = self.inner_end(&x.low, &y.low, 1);
                let high = self.inner_end(&x.high, &y.high, -1);
                let order = self.order(&low, &high);
                if order < 0 || order == 0 && low.closed && high.closed {
                    pieces.push(Piece { low, high });
                }
            }
        }
        self.merged(pieces)
    }

    /// Of two ends the one that lies on the `inner` side of the other, as [`Self::order`] says it.
    fn inner_end(&mut self, x: &End, y: &End, inner: i8) -> End {
        match self.order(x, y) {
            0 => x.clone().closed_if(x.closed && y.closed),
            order if order == inner => x.clone(),
            _ => y.clone(),
        }
    }
}

/// What lies between and around the pieces.
pub(super) fn complement(set: &RealSet) -> RealSet {
    let mut rest = Vec::new();
    let mut low = End::infinite(Sign::Minus);
    for piece in set {
        let flipped = |end: &End| end.clone().closed_if(!end.closed);
        rest.push(Piece {
            low,
            high: flipped(&piece.low),
        });
        low = flipped(&piece.high);
    }
    rest.push(Piece {
        low,
        high: End::infinite(Sign::Plus),
    });
    // Nothing lies beyond an infinite end.
    rest.retain(|p| p.high.approx > f64::NEG_INFINITY && p.low.approx < f64::INFINITY);
    rest
}

pub(super) fn everything() -> RealSet {
    vec![Piece {
        low: End::infinite(Sign::Minus),
        high: End::infinite(Sign::Plus),
    }]
}

fn is_everything(set: &RealSet) -> bool {
    matches!(set.as_slice(), [Piece { low, high }] if low.value.is_none() && high.value.is_none())
}
