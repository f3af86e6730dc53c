//! The interpretation of an expression as a value.

use super::naming::{is_constant, is_name};
use super::{Comparer, Outcome};
use crate::ast::{Constant, Expr, RelOp, SetOp};
use crate::verdict::{Budget, Failure};

/// An answer, by its kind.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A number or an expression.
    Scalar(Expr),
    /// Infinity, with its sign.
    Infinity(bool),
    /// A percentage.
    Percent(Expr),
    /// Words.
    Text(String),
    /// Values without brackets, in any order.
    List(Vec<Value>),
    /// Values in braces, in any order.
    Set(Vec<Value>),
    /// Values in brackets.
    Tuple(char, Vec<Value>, char),
    /// A set built from others.
    Combined(SetOp, Vec<Value>),
    /// `name = value`.
    Named(Expr, Box<Value>),
    /// Several named values with different names, sorted by name.
    Record(Vec<(Expr, Value)>),
    /// The two sides of an equation.
    Equation(Expr, Expr),
    /// A chain of inequalities.
    Inequality(Vec<Expr>, Vec<RelOp>),
    /// All real numbers, or another set with a name.
    NamedSet(Constant),
    Matrix(Vec<Vec<Expr>>),
    Congruence(Expr, Expr, Expr),
    Ratio(Vec<Expr>),
    /// A time of day.
    Time(Vec<u32>),
    /// The branches of a function, each with its condition.
    Cases(Vec<(Value, Value)>),
    /// Quantities that are equal to each other, in any order. If the last may also be the value of the
    /// first, that.
    Chain(Vec<Expr>, Option<Box<Value>>),
    /// The elements of a form that satisfy conditions.
    Builder(Expr, Vec<Value>),
    Based(String, u32),
}

/// The maximum number of items of a list, set or tuple.
const MAX_ITEMS: usize = 200;
/// The deepest nesting of lists.
const MAX_NESTING: usize = 12;

type Result<T> = std::result::Result<T, Failure>;

impl Comparer {
    /// Interprets `expr` as a value.
    pub(super) fn interpret(&mut self, expr: &Expr, depth: usize) -> Result<Value> {
        self.spend(1)?;
        if depth > MAX_NESTING {
            return Err(Failure::OverBudget(Budget::Depth));
        }
        match expr {
            Expr::Undefined => Err(Failure::Undefined),
            Expr::Text(text) => Ok(match super::normalized(text).as_deref() {
                Some("all real numbers" | "all reals" | "real numbers") => {
                    Value::NamedSet(Constant::Reals)
                }
                _ => Value::Text(text.clone()),
            }),
            Expr::Const(Constant::Infinity) => Ok(Value::Infinity(true)),
            Expr::Const(Constant::EmptySet) => Ok(Value::Set(Vec::new())),
            Expr::Const(
                constant @ (Constant::Reals
                | Constant::Integers
                | Constant::Naturals
                | Constant::Rationals
                | Constant::Complexes),
            ) => Ok(Value::NamedSet(*constant)),
            Expr::Neg(inner) if **inner == Expr::Const(Constant::Infinity) => {
                Ok(Value::Infinity(false))
            }
            Expr::Percent(inner) => Ok(Value::Percent((**inner).clone())),
            Expr::Neg(inner) if matches!(**inner, Expr::Percent(_)) => match &**inner {
                Expr::Percent(value) => Ok(Value::Percent(Expr::Neg(value.clone()))),
                _ => Err(Failure::NotParsed),
            },
            Expr::Based(digits, base) => Ok(Value::Based(digits.clone(), *base)),
            Expr::List(items) => {
                let items = self.interpret_all(items, depth)?;
                Ok(gather(items))
            }
            Expr::Set(items) => Ok(Value::Set(flatten(self.interpret_all(items, depth)?))),
            Expr::SetBuilder(form, conditions) => self.interpret_builder(form, conditions, depth),
            Expr::Tuple(open, items, close) => {
                // A point with `\pm` in it is two points.
                if let Some((plus, minus)) = split_plus_minus(expr) {
                    let pair = vec![
                        self.interpret(&plus, depth + 1)?,
                        self.interpret(&minus, depth + 1)?,
                    ];
                    return Ok(Value::List(pair));
                }
                let items = self.interpret_all(items, depth)?;
                // An interval never contains infinity, whatever its bracket.
                let open = match items.first() {
                    Some(Value::Infinity(_)) if *open == '[' => '(',
                    _ => *open,
                };
                let close = match items.last() {
                    Some(Value::Infinity(_)) if *close == ']' => ')',
                    _ => *close,
                };
                Ok(Value::Tuple(open, items, close))
            }
            Expr::SetOp(op, items) => Ok(Value::Combined(*op, self.interpret_all(items, depth)?)),
            Expr::Congruence(a, b, m) => Ok(Value::Congruence(
                (**a).clone(),
                (**b).clone(),
                (**m).clone(),
            )),
            Expr::Ratio(items) => Ok(Value::Ratio(items.clone())),
            Expr::Time(parts) => Ok(Value::Time(parts.clone())),
            Expr::Cases(branches) => {
                if branches.len() > MAX_ITEMS {
                    return Err(Failure::OverBudget(Budget::Size));
                }
                let mut values = Vec::new();
                for (value, condition) in branches {
                    values.push((
                        self.interpret(value, depth + 1)?,
                        self.interpret(condition, depth + 1)?,
                    ));
                }
                Ok(Value::Cases(values))
            }
            // A row with the sign that makes it a column.
            Expr::Pow(row, sign)
                if matches!(&**row, Expr::Tuple('(' | '[', ..))
                    && **sign == Expr::Sym("T".into()) =>
            {
                self.interpret(row, depth)
            }
            Expr::Rel(first, rest) => self.interpret_relation(first, rest, depth),
            _ => self.interpret_scalar(expr, depth),
        }
    }

    /// `{x | condition}`. A set of numbers with one condition is what the condition describes.
    fn interpret_builder(
        &mut self,
        form: &Expr,
        conditions: &[Expr],
        depth: usize,
    ) -> Result<Value> {
        let mut conditions = self.interpret_all(conditions, depth)?;
        let form = match form {
            Expr::Rel(element, rest) if matches!(rest.as_slice(), [(RelOp::In, _)]) => {
                conditions.push(self.interpret(form, depth + 1)?);
                &**element
            }
            _ => form,
        };
        conditions.retain(|condition| match condition {
            Value::NamedSet(Constant::Reals) => false,
            Value::Named(_, set) => !matches!(**set, Value::NamedSet(Constant::Reals)),
            _ => true,
        });
        if conditions.len() == 1 && matches!(form, Expr::Sym(_)) {
            return Ok(conditions.remove(0));
        }
        Ok(Value::Builder(form.clone(), conditions))
    }

    fn interpret_all(&mut self, items: &[Expr], depth: usize) -> Result<Vec<Value>> {
        if items.len() > MAX_ITEMS {
            return Err(Failure::OverBudget(Budget::Size));
        }
        items
            .iter()
            .map(|item| self.interpret(item, depth + 1))
            .collect()
    }

    fn interpret_scalar(&mut self, expr: &Expr, depth: usize) -> Result<Value> {
        if let Some(rows) = self.matrix_value(expr, 0)? {
            return Ok(Value::Matrix(rows));
        }
        if let Some((plus, minus)) = split_plus_minus(expr) {
            return Ok(Value::List(vec![
                self.interpret(&plus, depth + 1)?,
                self.interpret(&minus, depth + 1)?,
            ]));
        }
        // A series without end may have a value, which is not computed here.
        if expr.any(&mut |e| {
            matches!(e, Expr::Series(_, _, _, last, _) if **last == Expr::Const(Constant::Infinity))
        }) {
            return Err(Failure::Unsupported);
        }
        // `2^\infty`, `\infty - \infty`: no value.
        if expr.any(&mut |e| matches!(e, Expr::Const(Constant::Infinity) | Expr::Undefined)) {
            return Err(Failure::Undefined);
        }
        Ok(Value::Scalar(expr.clone()))
    }

    fn interpret_relation(
        &mut self,
        first: &Expr,
        rest: &[(RelOp, Expr)],
        depth: usize,
    ) -> Result<Value> {
        // Of an exact value and a rounded one, the exact one counts.
        if let Some(index) = rest.iter().position(|(op, _)| *op == RelOp::Approx) {
            let before: &Expr = if index == 0 {
                first
            } else {
                &rest[index - 1].1
            };
            let after = &rest[index].1;
            if before.has_decimal() && !after.has_decimal() {
                return self.interpret(after, depth + 1);
            }
            return if index == 0 {
                if is_name(first) {
                    return Ok(Value::Named(
                        first.clone(),
                        Box::new(self.interpret(after, depth + 1)?),
                    ));
                }
                self.interpret(first, depth + 1)
            } else {
                self.interpret_relation(first, &rest[..index], depth + 1)
            };
        }
        if let [(RelOp::In, set)] = rest {
            let set = self.interpret(set, depth + 1)?;
            return Ok(Value::Named(first.clone(), Box::new(set)));
        }
        if rest
            .iter()
            .all(|(op, _)| matches!(op, RelOp::Eq | RelOp::Equiv))
        {
            return self.interpret_equation(first, rest, depth);
        }
        let ordered = rest.iter().all(|(op, _)| {
            matches!(
                op,
                RelOp::Lt | RelOp::Le | RelOp::Gt | RelOp::Ge | RelOp::Ne
            )
        });
        if ordered {
            let sides = std::iter::once(first)
                .chain(rest.iter().map(|(_, e)| e))
                .cloned()
                .collect();
            return Ok(Value::Inequality(
                sides,
                rest.iter().map(|(op, _)| *op).collect(),
            ));
        }
        Err(Failure::Unsupported)
    }

    /// The value at the end of a chain of equals signs. The constants in it must be equal, so that guesses
    /// cannot be chained; of an exact value and a rounded one, the exact one counts.
    fn end_of_chain<'a>(&mut self, rest: &'a [(RelOp, Expr)]) -> Result<&'a Expr> {
        let mut last = &rest[rest.len() - 1].1;
        if rest.len() > 12 {
            return Err(Failure::OverBudget(Budget::Size));
        }
        for (_, before) in rest[..rest.len() - 1].iter().rev() {
            if !is_constant(before) || !is_constant(last) || self.scalar(before, last).is_equal() {
                continue;
            }
            if last.has_decimal() && !before.has_decimal() {
                last = before;
            } else if !before.has_decimal() || last.has_decimal() {
                return Err(Failure::Unsupported);
            }
        }
        Ok(last)
    }

    fn all_equal(&mut self, expr: &Expr, sides: &[(RelOp, Expr)]) -> bool {
        sides
            .iter()
            .all(|(_, side)| self.scalar(side, expr).is_equal())
    }

    /// A chain of equals signs is a computation that ends with a value, or states that several quantities
    /// are equal, as `x = y = z` does.
    fn interpret_equation(
        &mut self,
        first: &Expr,
        rest: &[(RelOp, Expr)],
        depth: usize,
    ) -> Result<Value> {
        let last = self.end_of_chain(rest)?;
        if rest.len() > 1 && !is_constant(last) {
            let sides = || std::iter::once(first).chain(rest.iter().map(|(_, side)| side));
            let mut named = rest
                .iter()
                .map(|(_, side)| side)
                .filter(|side| is_name(side));
            if named.next().is_some() || !is_name(first) && !self.all_equal(first, rest) {
                return Ok(Value::Chain(sides().cloned().collect(), None));
            }
            if depth == 0 && is_name(first) && !self.all_equal(last, rest) {
                let value = self.interpret(last, depth + 1)?;
                let named = Value::Named(first.clone(), Box::new(value));
                return Ok(Value::Chain(
                    sides().cloned().collect(),
                    Some(Box::new(named)),
                ));
            }
        }
        if is_name(first) {
            let value = self.interpret(last, depth + 1)?;
            return Ok(Value::Named(first.clone(), Box::new(value)));
        }
        if rest.len() == 1 && is_name(last) {
            let value = self.interpret(first, depth + 1)?;
            return Ok(Value::Named(last.clone(), Box::new(value)));
        }
        if rest.len() > 1 {
            return self.interpret(last, depth + 1);
        }
        if is_constant(first) && is_constant(last) {
            // A computation: its result counts if it is right.
            return match self.scalar(first, last) {
                Outcome::Equal => self.interpret(last, depth + 1),
                Outcome::Failed(failure) => Err(failure),
                _ => Err(Failure::Unsupported),
            };
        }
        Ok(Value::Equation(first.clone(), last.clone()))
    }
}

/// The two values of an expression with plus-minus signs, all with the same sign.
fn split_plus_minus(expr: &Expr) -> Option<(Expr, Expr)> {
    if !expr.any(&mut |e| matches!(e, Expr::PlusMinus(_))) {
        return None;
    }
    Some((take_sign(expr, false), take_sign(expr, true)))
}

fn take_sign(expr: &Expr, negative: bool) -> Expr {
    let each = |items: &[Expr]| items.iter().map(|e| take_sign(e, negative)).collect();
    let one = |e: &Expr| Box::new(take_sign(e, negative));
    match expr {
        Expr::PlusMinus(a) if negative => Expr::Neg(one(a)),
        Expr::PlusMinus(a) => take_sign(a, negative),
        Expr::Add(items) => Expr::Add(each(items)),
        Expr::Mul(items) => Expr::Mul(each(items)),
        Expr::Neg(a) => Expr::Neg(one(a)),
        Expr::Div(a, b) => Expr::Div(one(a), one(b)),
        Expr::Pow(a, b) => Expr::Pow(one(a), one(b)),
        Expr::Root(a, b) => Expr::Root(one(a), one(b)),
        Expr::Percent(a) => Expr::Percent(one(a)),
        Expr::Degree(a) => Expr::Degree(one(a)),
        Expr::Fun(f, items) => Expr::Fun(*f, each(items)),
        Expr::Tuple(open, items, close) => Expr::Tuple(*open, each(items), *close),
        other => other.clone(),
    }
}

/// The items with nested lists flattened.
fn flatten(items: Vec<Value>) -> Vec<Value> {
    let mut flat = Vec::new();
    for item in items {
        match item {
            Value::List(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    flat
}

/// A list, or a record if the items name different variables.
fn gather(items: Vec<Value>) -> Value {
    let names: Vec<&Expr> = items
        .iter()
        .filter_map(|i| match i {
            Value::Named(name @ (Expr::Sym(_) | Expr::Apply(..) | Expr::Text(_)), _) => Some(name),
            _ => None,
        })
        .collect();
    let distinct = names
        .iter()
        .enumerate()
        .all(|(i, name)| !names[..i].contains(name));
    if names.len() == items.len() && distinct && items.len() > 1 {
        let mut fields: Vec<(Expr, Value)> = items
            .into_iter()
            .filter_map(|i| match i {
                Value::Named(name, value) => Some((name, *value)),
                _ => None,
            })
            .collect();
        fields.sort_by_key(|(name, _)| format!("{name:?}"));
        return Value::Record(fields);
    }
    // `x = 1, x = 2` and `x = 1, 2` list the values of one variable.
    let mut name: Option<Expr> = None;
    let mut consistent = true;
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::Named(n, _) => consistent &= *name.get_or_insert_with(|| n.clone()) == *n,
            Value::Scalar(_) | Value::Percent(_) => consistent &= index > 0 || name.is_none(),
            _ => consistent = false,
        }
    }
    let starts_named = matches!(items.first(), Some(Value::Named(..)));
    match name {
        Some(name) if consistent && starts_named => {
            let values = items
                .into_iter()
                .map(|i| match i {
                    Value::Named(_, value) => *value,
                    other => other,
                })
                .collect();
            Value::Named(name, Box::new(Value::List(flatten(values))))
        }
        _ => {
            // Groups between semicolons stay together.
            Value::List(items.into_iter().flat_map(unlist).collect())
        }
    }
}

fn unlist(item: Value) -> Vec<Value> {
    match item {
        Value::List(inner) => inner,
        other => vec![other],
    }
}
