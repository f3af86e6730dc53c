//! Comparison of values of any kind.

use super::naming::{is_constant, is_name};
use super::sets::substitute;
use super::value::Value;
use super::{Comparer, Outcome};
use crate::ast::{Expr, SetOp};
use crate::verdict::Failure;

impl Comparer {
    /// Compares two values, also of different kinds where one can be read as the other.
    pub(super) fn same(&mut self, gold: &Value, answer: &Value) -> Outcome {
        if let Err(failure) = self.spend(1) {
            return Outcome::Failed(failure);
        }
        use Value as V;
        match (gold, answer) {
            (V::Scalar(a), V::Scalar(b)) => self.scalar(a, b),
            (V::Infinity(a), V::Infinity(b)) => Outcome::of(a == b),
            (V::Percent(a), V::Percent(b)) => self.scalar(a, b),
            (V::Percent(a), V::Scalar(b)) => self.percent(a, b, true),
            (V::Scalar(a), V::Percent(b)) => self.percent(b, a, false),
            (V::Text(a), V::Text(b)) => Outcome::of(super::equal_words(a, b)),
            (V::Based(a, m), V::Based(b, n)) => Outcome::of(a == b && m == n),
            (V::Ratio(a), V::Ratio(b)) => self.same_ratio(a, b),
            (V::Ratio(a), V::Scalar(b)) | (V::Scalar(b), V::Ratio(a)) if a.len() == 2 => {
                let quotient = Expr::Div(Box::new(a[0].clone()), Box::new(a[1].clone()));
                self.scalar(&quotient, b)
            }
            (V::Time(a), V::Time(b)) => Outcome::of(a == b),
            (V::Time(parts), V::Ratio(_)) => self.same(&as_ratio(parts), answer),
            (V::Time(parts), V::Scalar(_)) => self.same(&as_ratio(parts), answer),
            (V::Ratio(_) | V::Scalar(_), V::Time(parts)) => self.same(gold, &as_ratio(parts)),
            (V::Cases(a), V::Cases(b)) => self.same_branches(a, b),
            (V::Chain(a, _), V::Chain(b, _)) => self.same_sides(a, b),
            (V::Chain(_, Some(value)), _) => self.same(value, answer),
            (_, V::Chain(_, Some(value))) => self.same(gold, value),
            (V::Chain(_, None), _) | (_, V::Chain(_, None)) => Outcome::Different,
            (V::Builder(a, x), V::Builder(b, y)) => self.form(a, b).and(|| self.in_any_order(x, y)),
            (V::Matrix(a), V::Matrix(b)) => self.same_matrix(a, b),
            (V::Matrix(rows), V::Tuple(_, items, _)) => self.vector(rows, items, true),
            (V::Tuple(_, items, _), V::Matrix(rows)) => self.vector(rows, items, false),
            (V::Congruence(a, b, m), V::Congruence(c, d, n)) => {
                self.same_congruence([a, b, m], [c, d, n])
            }
            (V::Record(a), V::Record(b)) => self.same_record(a, b),
            (V::Record(fields), V::Tuple(_, items, _)) => {
                let values: Vec<&Value> = fields.iter().map(|(_, v)| v).collect();
                self.in_order(&values, &items.iter().collect::<Vec<_>>())
            }
            (V::Tuple(_, items, _), V::Record(fields)) => {
                let values: Vec<&Value> = fields.iter().map(|(_, v)| v).collect();
                self.in_order(&items.iter().collect::<Vec<_>>(), &values)
            }
            (V::Record(fields), V::List(items)) | (V::List(items), V::Record(fields)) => {
                let values: Vec<&Value> = fields.iter().map(|(_, v)| v).collect();
                let items: Vec<&Value> = items.iter().collect();
                if matches!(gold, V::Record(_)) {
                    self.in_order(&values, &items)
                } else {
                    self.in_order(&items, &values)
                }
            }
            (V::Named(a, x), V::Named(b, y)) => self.same_named(a, x, b, y),
            (V::Named(..) | V::Equation(..), V::Named(..) | V::Equation(..)) => {
                self.same_equation(gold, answer)
            }
            (V::Named(name, value), V::Inequality(..)) if is_name(name) => self.same(value, answer),
            (V::Scalar(_) | V::Percent(_) | V::Infinity(_), V::Equation(a, b)) => {
                self.named_quantity(gold, a, b)
            }
            (V::Tuple(_, items, _), V::Scalar(sum)) => self.unit_vectors(items, sum, true),
            (V::Scalar(sum), V::Tuple(_, items, _)) => self.unit_vectors(items, sum, false),
            (V::Named(_, value), _) => self.same(value, answer),
            (_, V::Named(_, value)) => self.same(gold, value),
            (V::Tuple(a, x, b), V::Tuple(c, y, d)) => {
                let vector = |open: char| open == '⟨';
                let brackets =
                    (a == c && b == d) || vector(*a) && *c == '(' || vector(*c) && *a == '(';
                Outcome::of(brackets).and(|| {
                    self.in_order(&x.iter().collect::<Vec<_>>(), &y.iter().collect::<Vec<_>>())
                })
            }
            (V::Inequality(a, ops), V::Inequality(b, others)) => {
                self.same_inequality((a, ops), (b, others))
            }
            (V::NamedSet(a), V::NamedSet(b)) if a == b => Outcome::Equal,
            (V::Combined(..) | V::Inequality(..) | V::NamedSet(_), _)
            | (_, V::Combined(..) | V::Inequality(..) | V::NamedSet(_)) => {
                self.same_sets(gold, answer)
            }
            // A set is no element of itself: `{{1}}` is not `{1}`.
            (V::Set(a), V::Set(b)) if nests(a) != nests(b) => Outcome::Different,
            (V::Set(a), V::Set(b)) | (V::Set(a), V::List(b)) | (V::List(a), V::Set(b)) => {
                let (a, b) = (self.distinct(a), self.distinct(b));
                self.in_any_order(&a, &b)
            }
            (V::List(a), V::List(b)) => self.same_lists(gold, a, answer, b),
            (V::List(items), V::Tuple('(' | '⟨', others, ')' | '⟩')) => self.in_order(
                &items.iter().collect::<Vec<_>>(),
                &others.iter().collect::<Vec<_>>(),
            ),
            (V::Tuple('(', items, ')'), V::List(others)) => self.in_order(
                &items.iter().collect::<Vec<_>>(),
                &others.iter().collect::<Vec<_>>(),
            ),
            (V::Set(items) | V::List(items), single) | (single, V::Set(items) | V::List(items)) => {
                // In a set, repetitions do not count; in a list they are guesses.
                let items = match (gold, answer) {
                    (V::Set(_), _) | (_, V::Set(_)) => self.distinct(items),
                    _ => items.clone(),
                };
                match items.as_slice() {
                    [item] if matches!(gold, V::Set(_) | V::List(_)) => self.same(item, single),
                    [item] => self.same(single, item),
                    _ => Outcome::Different,
                }
            }
            _ => Outcome::Different,
        }
    }

    /// Compares a gold answer that is no equation with an equation that names the quantity asked for:
    /// `m+n=109` is 109. A side that is a value itself names nothing, unless it is equal to the other one.
    fn named_quantity(&mut self, gold: &Value, left: &Expr, right: &Expr) -> Outcome {
        let (name, value) = match (is_constant(left), is_constant(right)) {
            (false, true) => (left, right),
            (true, false) => (right, left),
            _ => (left, right),
        };
        let named = is_constant(value) || self.scalar(name, value).is_equal();
        if !named {
            return Outcome::Different;
        }
        match self.interpret(value, 1) {
            Ok(value) => self.same(gold, &value),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Compares branches in any order, each value with its condition. The condition of one branch may be
    /// `otherwise`.
    fn same_branches(&mut self, gold: &[(Value, Value)], answer: &[(Value, Value)]) -> Outcome {
        if gold.len() != answer.len() {
            return Outcome::Different;
        }
        let mut left: Vec<&(Value, Value)> = answer.iter().collect();
        let mut unmatched: Vec<&(Value, Value)> = Vec::new();
        for branch in gold {
            let found = left.iter().position(|other| {
                self.same(&branch.0, &other.0).is_equal()
                    && self.same(&branch.1, &other.1).is_equal()
            });
            match found {
                Some(index) => {
                    left.remove(index);
                }
                None => unmatched.push(branch),
            }
        }
        match (unmatched.as_slice(), left.as_slice()) {
            ([], []) => Outcome::Equal,
            ([a], [b]) if is_otherwise(&a.1) || is_otherwise(&b.1) => self.same(&a.0, &b.0),
            _ => Outcome::Different,
        }
    }

    /// Compares quantities that are equal to each other, in any order.
    fn same_sides(&mut self, gold: &[Expr], answer: &[Expr]) -> Outcome {
        let sides = |sides: &[Expr]| sides.iter().cloned().map(Value::Scalar).collect::<Vec<_>>();
        self.in_any_order(&sides(gold), &sides(answer))
    }

    /// Compares the forms of the elements of two sets.
    fn form(&mut self, gold: &Expr, answer: &Expr) -> Outcome {
        if gold == answer {
            return Outcome::Equal;
        }
        match (self.interpret(gold, 1), self.interpret(answer, 1)) {
            (Ok(gold), Ok(answer)) => self.same(&gold, &answer),
            (Err(failure), _) | (_, Err(failure)) => Outcome::Failed(failure),
        }
    }

    /// Compares a vector in brackets with a sum of multiples of the unit vectors i, j and k.
    fn unit_vectors(&mut self, items: &[Value], sum: &Expr, tuple_is_gold: bool) -> Outcome {
        const UNITS: [&str; 3] = ["vec i", "vec j", "vec k"];
        let is_unit = |e: &Expr| matches!(e, Expr::Sym(s) if UNITS.contains(&s.as_str()));
        if !(2..=3).contains(&items.len()) || !sum.any(&mut |e| is_unit(e)) {
            return Outcome::Different;
        }
        let at = |coordinates: [i64; 3]| {
            let units = UNITS.iter().zip(coordinates);
            units.fold(sum.clone(), |sum, (unit, value)| {
                substitute(&sum, unit, &Expr::int(value))
            })
        };
        // Without a constant part and linear, as far as two points on each axis show.
        let zero = Expr::int(0);
        let mut outcome = self.scalar(&zero, &at([0, 0, 0]));
        for (axis, unit) in UNITS.iter().enumerate() {
            let along = |value: i64| {
                let mut point = [0; 3];
                point[axis] = value;
                at(point)
            };
            let twice = Expr::Mul(vec![Expr::int(2), along(1)]);
            outcome =
                outcome
                    .and(|| self.scalar(&twice, &along(2)))
                    .and(|| match items.get(axis) {
                        Some(Value::Scalar(item)) if tuple_is_gold => self.scalar(item, &along(1)),
                        Some(Value::Scalar(item)) => self.scalar(&along(1), item),
                        Some(_) => Outcome::Different,
                        None => Outcome::of(!sum.any(&mut |e| *e == Expr::Sym((*unit).into()))),
                    });
        }
        outcome
    }

    /// `28\%` is 28 percent, 28 and 0.28.
    fn percent(&mut self, percent: &Expr, plain: &Expr, percent_is_gold: bool) -> Outcome {
        let fraction = Expr::Percent(Box::new(percent.clone()));
        for value in [percent, &fraction] {
            let outcome = if percent_is_gold {
                self.scalar(value, plain)
            } else {
                self.scalar(plain, value)
            };
            if outcome.is_equal() {
                return outcome;
            }
        }
        Outcome::Different
    }

    fn same_ratio(&mut self, a: &[Expr], b: &[Expr]) -> Outcome {
        if a.len() != b.len() {
            return Outcome::Different;
        }
        for (x, y) in a.iter().zip(b).skip(1) {
            let left = Expr::Mul(vec![a[0].clone(), y.clone()]);
            let right = Expr::Mul(vec![b[0].clone(), x.clone()]);
            let outcome = self.scalar(&left, &right);
            if !outcome.is_equal() {
                return outcome;
            }
        }
        Outcome::Equal
    }

    /// A row or a column is the same as the vector in brackets.
    fn vector(&mut self, rows: &[Vec<Expr>], items: &[Value], matrix_is_gold: bool) -> Outcome {
        let cells: Vec<&Expr> = match rows {
            [row] => row.iter().collect(),
            _ if rows[0].len() == 1 => rows.iter().map(|row| &row[0]).collect(),
            _ => return Outcome::Different,
        };
        if cells.len() != items.len() {
            return Outcome::Different;
        }
        for (cell, item) in cells.into_iter().zip(items) {
            let Value::Scalar(item) = item else {
                return Outcome::Different;
            };
            let outcome = if matrix_is_gold {
                self.scalar(cell, item)
            } else {
                self.scalar(item, cell)
            };
            if !outcome.is_equal() {
                return outcome;
            }
        }
        Outcome::Equal
    }

    fn same_congruence(&mut self, gold: [&Expr; 3], answer: [&Expr; 3]) -> Outcome {
        let unnamed = |e: &Expr| matches!(e, Expr::Sym(s) if s.is_empty());
        if !unnamed(gold[0]) && !unnamed(answer[0]) {
            let named = self.scalar(gold[0], answer[0]);
            if !named.is_equal() {
                return named;
            }
        }
        let modulus = self.scalar(gold[2], answer[2]);
        modulus.and(|| {
            let rest =
                |e: &Expr, m: &Expr| Expr::Fun(crate::ast::Func::Mod, vec![e.clone(), m.clone()]);
            self.scalar(&rest(gold[1], gold[2]), &rest(answer[1], answer[2]))
        })
    }

    fn same_record(&mut self, gold: &[(Expr, Value)], answer: &[(Expr, Value)]) -> Outcome {
        if gold.len() != answer.len() {
            return Outcome::Different;
        }
        for ((name, value), (other, answer)) in gold.iter().zip(answer) {
            let outcome = Outcome::of(same_name(name, other)).and(|| self.same(value, answer));
            if !outcome.is_equal() {
                return outcome;
            }
        }
        Outcome::Equal
    }

    fn same_named(&mut self, a: &Expr, x: &Value, b: &Expr, y: &Value) -> Outcome {
        if same_name(a, b) {
            return self.same(x, y);
        }
        let (gold, answer) = (
            Value::Named(a.clone(), Box::new(x.clone())),
            Value::Named(b.clone(), Box::new(y.clone())),
        );
        self.same_equation(&gold, &answer)
    }

    /// Compares lists in any order; lists of inequalities are unions.
    fn same_lists(&mut self, gold: &Value, a: &[Value], answer: &Value, b: &[Value]) -> Outcome {
        let is_set = |v: &Value| matches!(v, Value::Inequality(..));
        if a.iter().all(is_set) || b.iter().all(is_set) {
            let outcome = self.same_sets(gold, answer);
            if outcome.is_equal() {
                return outcome;
            }
        }
        self.in_any_order(a, b)
    }

    pub(super) fn in_order(&mut self, gold: &[&Value], answer: &[&Value]) -> Outcome {
        if gold.len() != answer.len() {
            return Outcome::Different;
        }
        for (a, b) in gold.iter().zip(answer) {
            let outcome = self.same(a, b);
            if !outcome.is_equal() {
                return outcome;
            }
        }
        Outcome::Equal
    }

    fn in_any_order(&mut self, gold: &[Value], answer: &[Value]) -> Outcome {
        if gold.len() != answer.len() {
            return Outcome::Different;
        }
        let mut left: Vec<&Value> = answer.iter().collect();
        let mut worst = Outcome::Different;
        for a in gold {
            let mut found = None;
            for (index, b) in left.iter().enumerate() {
                match self.same(a, b) {
                    Outcome::Equal => {
                        found = Some(index);
                        break;
                    }
                    Outcome::Different => {}
                    other => worst = other,
                }
                if self.fuel == 0 {
                    return Outcome::Failed(Failure::OverBudget(crate::verdict::Budget::Work));
                }
            }
            match found {
                Some(index) => left.remove(index),
                None => return worst,
            };
        }
        Outcome::Equal
    }

    /// The items without repetitions.
    pub(super) fn distinct(&mut self, items: &[Value]) -> Vec<Value> {
        let mut kept: Vec<Value> = Vec::new();
        for item in items {
            if !kept.iter().any(|k| self.same(k, item).is_equal()) {
                kept.push(item.clone());
            }
        }
        kept
    }

    /// The elements of a finite set, or of unions, intersections and differences of finite sets.
    pub(super) fn finite_set(&mut self, value: &Value) -> Option<Vec<Value>> {
        match value {
            Value::Set(items) => Some(self.distinct(items)),
            Value::Combined(op, parts) => {
                let mut parts = parts.iter();
                let mut result = self.finite_set(parts.next()?)?;
                for part in parts {
                    let other = self.finite_set(part)?;
                    match op {
                        SetOp::Union => {
                            result.extend(other);
                            result = self.distinct(&result);
                        }
                        SetOp::Intersection | SetOp::Difference => {
                            let keep = *op == SetOp::Intersection;
                            let mut rest = Vec::new();
                            for item in result {
                                if other.iter().any(|o| self.same(o, &item).is_equal()) == keep {
                                    rest.push(item);
                                }
                            }
                            result = rest;
                        }
                    }
                }
                Some(result)
            }
            _ => None,
        }
    }
}

/// The ratio that is written like a time.
fn as_ratio(parts: &[u32]) -> Value {
    Value::Ratio(parts.iter().map(|&part| Expr::int(part.into())).collect())
}

/// Whether a set has sets among its elements.
fn nests(items: &[Value]) -> bool {
    items.iter().any(|item| matches!(item, Value::Set(_)))
}

fn is_otherwise(condition: &Value) -> bool {
    matches!(condition, Value::Text(text)
        if super::normalized(text).is_some_and(|words| matches!(words.as_str(), "otherwise" | "else")))
}

/// Whether two names are the same; a name in words matches any name.
fn same_name(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Text(_), _) | (_, Expr::Text(_)) => true,
        (Expr::Apply(f, _), Expr::Sym(g)) | (Expr::Sym(g), Expr::Apply(f, _)) => f == g,
        _ => a == b,
    }
}
