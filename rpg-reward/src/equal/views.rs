//! What a value can be read as, so that values of different kinds are compared as the same.

use super::Comparer;
use super::rewrite::substitute;
use super::value::Value;
use crate::ast::Expr;
use std::borrow::Cow;

/// Values in a fixed order.
pub(super) struct Sequence<'a> {
    pub(super) dress: Dress,
    pub(super) items: Vec<Cow<'a, Value>>,
}

/// How a sequence is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dress {
    Brackets(char, char),
    /// A row or column of a matrix, or a sum of unit vectors.
    Vector,
    /// With a name for each value.
    Names,
    Bare,
}

impl Dress {
    /// Whether sequences in the two dresses may be the same. Bare values have an order only where the other
    /// side has one.
    pub(super) fn fits(self, other: Self) -> bool {
        let is_point = |dress| {
            matches!(
                dress,
                Self::Brackets('(', ')') | Self::Brackets('⟨', '⟩') | Self::Bare
            )
        };
        match (self, other) {
            (Self::Bare, Self::Bare | Self::Vector) | (Self::Vector, Self::Bare) => false,
            (Self::Vector | Self::Names, _) | (_, Self::Vector | Self::Names) => true,
            _ => self == other || is_point(self) && is_point(other),
        }
    }
}

impl Value {
    /// The numbers of which one must be the number on the other side: `28\%` is 28 and 0.28.
    pub(super) fn numbers(&self) -> Vec<Cow<'_, Expr>> {
        match self {
            Self::Scalar(value) => vec![Cow::Borrowed(value)],
            Self::Percent(value) => {
                let fraction = Expr::Percent(Box::new(value.clone()));
                vec![Cow::Borrowed(value), Cow::Owned(fraction)]
            }
            _ => match self.ratio().as_deref() {
                Some([a, b]) => {
                    let quotient = Expr::Div(Box::new(a.clone()), Box::new(b.clone()));
                    vec![Cow::Owned(quotient)]
                }
                _ => Vec::new(),
            },
        }
    }

    /// The terms of a ratio, which may be written like a time.
    pub(super) fn ratio(&self) -> Option<Cow<'_, [Expr]>> {
        match self {
            Self::Ratio(terms) => Some(Cow::Borrowed(terms)),
            Self::Time(parts) => Some(parts.iter().map(|&n| Expr::int(n.into())).collect()),
            _ => None,
        }
    }

    /// Whether it states that two sides are equal.
    pub(super) fn is_equation(&self) -> bool {
        matches!(self, Self::Named(..) | Self::Equation(..))
    }

    /// The value at the end of a chain of equals signs.
    pub(super) fn end_of_chain(&self) -> Option<&Self> {
        match self {
            Self::Chain(_, end) => end.as_deref(),
            _ => None,
        }
    }

    /// The value that has a name.
    pub(super) fn named(&self) -> Option<&Self> {
        match self {
            Self::Named(_, value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is a set that is described rather than listed.
    pub(super) fn is_described_set(&self) -> bool {
        match self {
            Self::Combined(..) | Self::Inequality(..) | Self::NamedSet(_) => true,
            Self::List(items) => items.iter().all(|i| matches!(i, Self::Inequality(..))),
            _ => false,
        }
    }

    /// Whether it may be read as a set of real numbers.
    pub(super) fn may_be_set(&self) -> bool {
        matches!(self, Self::Tuple(..) | Self::Set(_) | Self::List(_)) || self.is_described_set()
    }

    pub(super) fn is_collection(&self) -> bool {
        matches!(self, Self::Set(_) | Self::List(_))
    }

    /// The values in it, in any order; a single value is the only one.
    pub(super) fn members(&self) -> Vec<&Self> {
        match self {
            Self::Set(items) | Self::List(items) => items.iter().collect(),
            single => vec![single],
        }
    }

    fn sequence(&self) -> Option<Sequence<'_>> {
        let (dress, items) = match self {
            Self::Tuple(open, items, close) => (Dress::Brackets(*open, *close), borrowed(items)),
            Self::List(items) => (Dress::Bare, borrowed(items)),
            Self::Record(fields) => (Dress::Names, borrowed(fields.iter().map(|(_, v)| v))),
            Self::Matrix(rows) => {
                if rows.len() != 1 && rows[0].len() != 1 {
                    return None;
                }
                let cells = rows.iter().flatten();
                let cells = cells.map(|cell| Cow::Owned(Self::Scalar(cell.clone())));
                (Dress::Vector, cells.collect())
            }
            _ => return None,
        };
        Some(Sequence { dress, items })
    }
}

fn borrowed<'a>(items: impl IntoIterator<Item = &'a Value>) -> Vec<Cow<'a, Value>> {
    items.into_iter().map(Cow::Borrowed).collect()
}

impl Comparer {
    /// Both values as sequences, if they can be read as such.
    pub(super) fn sequences<'a>(
        &mut self,
        gold: &'a Value,
        answer: &'a Value,
    ) -> Option<(Sequence<'a>, Sequence<'a>)> {
        match (gold.sequence(), answer.sequence()) {
            (Some(gold), Some(answer)) => Some((gold, answer)),
            (Some(gold), None) => {
                let answer = self.unit_vectors(answer, gold.items.len())?;
                Some((gold, answer))
            }
            (None, Some(answer)) => Some((self.unit_vectors(gold, answer.items.len())?, answer)),
            (None, None) => None,
        }
    }

    /// The coordinates of a sum of multiples of the unit vectors i, j and k.
    fn unit_vectors(&mut self, value: &Value, count: usize) -> Option<Sequence<'static>> {
        const UNITS: [&str; 3] = ["vec i", "vec j", "vec k"];
        let Value::Scalar(sum) = value else {
            return None;
        };
        let occurs =
            |units: &[&str]| sum.any(&mut |e| matches!(e, Expr::Sym(s) if units.contains(&&**s)));
        if !(2..=3).contains(&count) || !occurs(&UNITS) || occurs(&UNITS[count..]) {
            return None;
        }
        let coordinate = |axis: usize| {
            (0..count).fold(sum.clone(), |sum, i| {
                substitute(&sum, UNITS[i], &Expr::int((i == axis).into()))
            })
        };
        let coordinates: Vec<Expr> = (0..count).map(coordinate).collect();
        let parts = coordinates.iter().zip(UNITS);
        let parts = parts.map(|(x, unit)| Expr::Mul(vec![x.clone(), Expr::Sym(unit.into())]));
        let linear = self.scalar(sum, &Expr::Add(parts.collect())).is_equal();
        let items = coordinates
            .into_iter()
            .map(|x| Cow::Owned(Value::Scalar(x)));
        linear.then(|| Sequence {
            dress: Dress::Vector,
            items: items.collect(),
        })
    }
}
