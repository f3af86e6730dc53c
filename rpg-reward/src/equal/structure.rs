//! Comparison of values of any kind.

use super::naming::{is_constant, is_segment, same_name, with_arguments};
use super::value::Value;
use super::{Comparer, Outcome, equal_words, normalized};
use crate::ast::{Expr, Func, SetOp};
use crate::verdict::{Budget, Failure};
use std::borrow::Borrow;

impl Comparer {
    /// Compares two values: as the kind they are, if it is the same, otherwise as what both can be read as.
    pub(super) fn same(&mut self, gold: &Value, answer: &Value) -> Outcome {
        if let Err(failure) = self.spend(1) {
            return Outcome::Failed(failure);
        }
        use Value as V;
        match (gold, answer) {
            (V::Scalar(a), V::Scalar(b)) | (V::Percent(a), V::Percent(b)) => self.scalar(a, b),
            (V::Infinity(a), V::Infinity(b)) => Outcome::of(a == b),
            (V::Text(a), V::Text(b)) => Outcome::of(equal_words(a, b)),
            (V::Based(a, m), V::Based(b, n)) => Outcome::of(a == b && m == n),
            (V::Time(a), V::Time(b)) => Outcome::of(a == b),
            (V::Cases(a), V::Cases(b)) => self.same_branches(a, b),
            (V::Chain(a, _), V::Chain(b, _)) => self.in_any_order(a, b),
            (V::Builder(a, x), V::Builder(b, y)) => self.same_builder((a, x), (b, y)),
            (V::Matrix(a), V::Matrix(b)) => self.same_matrix(a, b),
            (V::Congruence(a), V::Congruence(b)) => self.same_congruence(a, b),
            (V::Record(a), V::Record(b)) => self.same_record(a, b),
            (V::Named(a, x), V::Named(b, y)) if same_name(a, b) => self.same(x, y),
            (V::Inequality(a), V::Inequality(b)) => self.same_inequality(a, b),
            (V::NamedSet(a), V::NamedSet(b)) if a == b => Outcome::Equal,
            (V::Set(a), V::Set(b)) if nests(a) || nests(b) => self.same_nested_sets(a, b),
            _ => self.same_view(gold, answer),
        }
    }

    /// Compares sets with sets among their elements. A set is no element of itself: `{{1}}` is not `{1}`.
    fn same_nested_sets(&mut self, gold: &[Value], answer: &[Value]) -> Outcome {
        let parts = |items: &'_ [Value]| -> [Vec<Value>; 2] {
            let (sets, others) = items
                .iter()
                .cloned()
                .partition(|i| matches!(i, Value::Set(_)));
            [sets, others]
        };
        let ([sets, others], [their_sets, their_others]) = (parts(gold), parts(answer));
        let (a, b) = (
            self.distinct(sets.iter().collect()),
            self.distinct(their_sets.iter().collect()),
        );
        self.in_any_order(&a, &b).and(|| {
            let a = self.distinct(others.iter().collect());
            let b = self.distinct(their_others.iter().collect());
            self.in_any_order(&a, &b)
        })
    }

    /// Compares two values as the first of their common readings, from the strictest to the widest.
    fn same_view(&mut self, gold: &Value, answer: &Value) -> Outcome {
        if let Some(outcome) = self.same_within(gold, answer, Value::end_of_chain) {
            return outcome;
        }
        if let (Value::Named(a, x), Value::Named(b, y)) = (gold, answer)
            && let Some(y) = with_arguments(a, b, y)
        {
            return self.same(x, &y);
        }
        if gold.is_equation() && answer.is_equation() {
            return self.same_equation(gold, answer);
        }
        // Only an answer may name the quantity that is asked for.
        if let Value::Equation(left, right) = answer
            && matches!(
                gold,
                Value::Scalar(_)
                    | Value::Percent(_)
                    | Value::Infinity(_)
                    | Value::Ratio(_)
                    | Value::Time(_)
            )
        {
            return self.named_quantity(gold, left, right);
        }
        // `AB = CD` says something of two segments.
        if let Value::Named(a, b) = gold
            && is_segment(a)
            && matches!(&**b, Value::Scalar(b) if is_segment(b))
        {
            return Outcome::Different;
        }
        if let Some(outcome) = self.same_within(gold, answer, Value::named) {
            return outcome;
        }
        if let (Some(a), Some(b)) = (gold.ratio(), answer.ratio()) {
            return self.same_ratio(&a, &b);
        }
        if matches!(gold, Value::Scalar(_)) || matches!(answer, Value::Scalar(_)) {
            let (a, b) = (gold.numbers(), answer.numbers());
            let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
            for (x, y) in pairs {
                if self.scalar(x, y).is_equal() {
                    return Outcome::Equal;
                }
            }
        }
        if let Some((a, b)) = self.sequences(gold, answer)
            && a.dress.fits(b.dress)
        {
            return self.in_order(&a.items, &b.items);
        }
        if (gold.is_described_set() || answer.is_described_set())
            && (gold.may_be_set() && answer.may_be_set())
        {
            let outcome = self.same_sets(gold, answer);
            if outcome.is_equal() {
                return outcome;
            }
        }
        if gold.is_collection() || answer.is_collection() {
            let (mut a, mut b) = (gold.members(), answer.members());
            // In a set, repetitions do not count; in a list they are guesses, unless one value is given in
            // several forms.
            if matches!(gold, Value::Set(_)) || matches!(answer, Value::Set(_)) {
                (a, b) = (self.distinct(a), self.distinct(b));
            } else if a.len() == 1 && !repeats(&b) {
                b = self.distinct(b);
            }
            return self.in_any_order(&a, &b);
        }
        Outcome::Different
    }

    /// Compares what `part` finds in the values, if it finds something in one at least.
    fn same_within(
        &mut self,
        gold: &Value,
        answer: &Value,
        part: fn(&Value) -> Option<&Value>,
    ) -> Option<Outcome> {
        match (part(gold), part(answer)) {
            (None, None) => None,
            (a, b) => Some(self.same(a.unwrap_or(gold), b.unwrap_or(answer))),
        }
    }

    /// Compares a gold answer that is no equation with an equation that names the quantity asked for:
    /// `m+n=109` is 109. A side that is a value itself names nothing, unless it is equal to the other one.
    fn named_quantity(&mut self, gold: &Value, left: &Expr, right: &Expr) -> Outcome {
        let (name, value) = match (is_constant(left), is_constant(right)) {
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
        let (unmatched, left, _) = self.pair_off(gold, answer, 1, |comparer, a, b| {
            let values = comparer.same(&a.0, &b.0);
            values.and(|| comparer.same(&a.1, &b.1))
        });
        match (unmatched.as_slice(), left.as_slice()) {
            ([], []) => Outcome::Equal,
            ([a], [b]) if is_otherwise(&a.1) || is_otherwise(&b.1) => self.same(&a.0, &b.0),
            _ => Outcome::Different,
        }
    }

    fn same_ratio(&mut self, gold: &[Expr], answer: &[Expr]) -> Outcome {
        let product = |a: &Expr, b: &Expr| Expr::Mul(vec![a.clone(), b.clone()]);
        self.all_same(gold, answer, |comparer, x, y| {
            comparer.scalar(&product(&gold[0], y), &product(&answer[0], x))
        })
    }

    fn same_congruence(&mut self, gold: &[Expr; 3], answer: &[Expr; 3]) -> Outcome {
        let ([a, x, m], [b, y, n]) = (gold, answer);
        let is_unnamed = |e: &Expr| matches!(e, Expr::Sym(s) if s.is_empty());
        let rest = |e: &Expr, m: &Expr| Expr::Fun(Func::Mod, vec![e.clone(), m.clone()]);
        let named = is_unnamed(a) || is_unnamed(b) || self.scalar(a, b).is_equal();
        Outcome::of(named)
            .and(|| self.scalar(m, n))
            .and(|| self.scalar(&rest(x, m), &rest(y, n)))
    }

    fn same_record(&mut self, gold: &[(Expr, Value)], answer: &[(Expr, Value)]) -> Outcome {
        self.all_same(gold, answer, |comparer, (a, x), (b, y)| {
            Outcome::of(same_name(a, b)).and(|| comparer.same(x, y))
        })
    }

    pub(super) fn in_order<T: Borrow<Value>>(&mut self, gold: &[T], answer: &[T]) -> Outcome {
        self.all_same(gold, answer, |comparer, a, b| {
            comparer.same(a.borrow(), b.borrow())
        })
    }

    /// Compares as many items one by one.
    pub(super) fn all_same<T>(
        &mut self,
        gold: &[T],
        answer: &[T],
        mut same: impl FnMut(&mut Self, &T, &T) -> Outcome,
    ) -> Outcome {
        let mut pairs = gold.iter().zip(answer);
        if gold.len() != answer.len() {
            return Outcome::Different;
        }
        pairs
            .find_map(|(a, b)| Some(same(self, a, b)).filter(|outcome| !outcome.is_equal()))
            .unwrap_or(Outcome::Equal)
    }

    pub(super) fn in_any_order<T: Borrow<Value>>(&mut self, gold: &[T], answer: &[T]) -> Outcome {
        let (unmatched, left, outcome) = self.pair_off(gold, answer, 0, |comparer, a, b| {
            comparer.same(a.borrow(), b.borrow())
        });
        if unmatched.is_empty() && left.is_empty() {
            Outcome::Equal
        } else {
            outcome
        }
    }

    /// Pairs equal items off, until more than `spare` of as many have no equal. What is left of both sides,
    /// and how the comparisons failed.
    fn pair_off<'a, T>(
        &mut self,
        gold: &'a [T],
        answer: &'a [T],
        spare: usize,
        mut same: impl FnMut(&mut Self, &T, &T) -> Outcome,
    ) -> (Vec<&'a T>, Vec<&'a T>, Outcome) {
        let (mut unmatched, mut left) = (Vec::new(), answer.iter().collect::<Vec<_>>());
        let mut worst = Outcome::Different;
        if gold.len() != answer.len() {
            return (gold.iter().collect(), left, worst);
        }
        for a in gold {
            let found = left.iter().position(|b| match same(self, a, b) {
                Outcome::Equal => true,
                Outcome::Different => false,
                other => {
                    worst = other;
                    false
                }
            });
            match found {
                Some(index) => drop(left.remove(index)),
                None => unmatched.push(a),
            }
            if self.fuel == 0 {
                worst = Outcome::Failed(Failure::OverBudget(Budget::Work));
            }
            if unmatched.len() > spare || self.fuel == 0 {
                break;
            }
        }
        (unmatched, left, worst)
    }

    /// The items without repetitions.
    pub(super) fn distinct<'a>(&mut self, items: Vec<&'a Value>) -> Vec<&'a Value> {
        let mut kept: Vec<&Value> = Vec::new();
        for item in items {
            if !self.contains(&kept, item) {
                kept.push(item);
            }
        }
        kept
    }

    fn contains(&mut self, items: &[&Value], item: &Value) -> bool {
        items.iter().any(|other| self.same(other, item).is_equal())
    }

    /// The elements of a finite set, or of unions, intersections and differences of finite sets.
    pub(super) fn finite_set<'a>(&mut self, value: &'a Value) -> Option<Vec<&'a Value>> {
        let (op, parts) = match value {
            Value::Set(items) => return Some(self.distinct(items.iter().collect())),
            Value::Combined(op, parts) => (*op, parts),
            _ => return None,
        };
        let (first, rest) = parts.split_first()?;
        let mut result = self.finite_set(first)?;
        for part in rest {
            let other = self.finite_set(part)?;
            if op == SetOp::Union {
                result.extend(other);
                result = self.distinct(result);
            } else {
                result.retain(|item| self.contains(&other, item) == (op == SetOp::Intersection));
            }
        }
        Some(result)
    }
}

/// Whether two of the values are written alike.
fn repeats(values: &[&Value]) -> bool {
    let mut rest = values.iter().enumerate();
    rest.any(|(index, value)| values[..index].contains(value))
}

/// Whether a set has sets among its elements.
fn nests(items: &[Value]) -> bool {
    items.iter().any(|item| matches!(item, Value::Set(_)))
}

fn is_otherwise(condition: &Value) -> bool {
    matches!(condition, Value::Text(text)
        if normalized(text).is_some_and(|words| matches!(words.as_str(), "otherwise" | "else")))
}
