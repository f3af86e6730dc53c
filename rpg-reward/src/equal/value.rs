//! The interpretation of an expression as a value.

use super::families::{with_own_parameter, with_parameter};
use super::rewrite::split_plus_minus;
use super::{Comparer, normalized};
use crate::ast::{Constant, Expr, Fold, RelOp, SetOp};
use crate::verdict::{Budget, Failure};

/// An answer, by its kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A number or an expression.
    Scalar(Expr),
    Infinity(Sign),
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
    Inequality(Inequality),
    /// All real numbers, or another set with a name.
    NamedSet(Constant),
    Matrix(Vec<Vec<Expr>>),
    /// Two sides and the modulus.
    Congruence([Expr; 3]),
    Ratio(Vec<Expr>),
    /// A time of day.
    Time(Vec<u32>),
    /// The branches of a function, each with its condition.
    Cases(Vec<(Value, Value)>),
    /// Quantities that are equal to each other, in any order. If the last may also be the value of the
    /// first, that.
    Chain(Vec<Value>, Option<Box<Value>>),
    /// The elements of a form that satisfy conditions.
    Builder(Expr, Vec<Value>),
    Based(String, u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

/// A chain of inequalities: its sides and the relations between them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inequality {
    pub(super) sides: Vec<Expr>,
    pub(super) ops: Vec<RelOp>,
}

/// The maximum number of items of a list, set or tuple.
const MAX_ITEMS: usize = 200;
/// The deepest nesting of lists.
const MAX_NESTING: usize = 12;

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Comparer {
    /// Interprets `expr` as a value.
    pub(super) fn interpret(&mut self, expr: &Expr, depth: usize) -> Result<Value> {
        self.spend(1)?;
        if depth > MAX_NESTING {
            return Err(Failure::OverBudget(Budget::Depth));
        }
        match expr {
            Expr::Undefined => Err(Failure::Undefined),
            Expr::Text(text) => Ok(match normalized(text).as_deref() {
                Some("all real numbers" | "all reals" | "real numbers") => {
                    Value::NamedSet(Constant::Reals)
                }
                _ => Value::Text(text.clone()),
            }),
            Expr::Const(constant) => match constant {
                Constant::Infinity => Ok(Value::Infinity(Sign::Plus)),
                Constant::EmptySet => Ok(Value::Set(Vec::new())),
                Constant::Pi | Constant::E | Constant::I => Ok(Value::Scalar(expr.clone())),
                set => Ok(Value::NamedSet(*set)),
            },
            Expr::Neg(inner) => match &**inner {
                Expr::Const(Constant::Infinity) => Ok(Value::Infinity(Sign::Minus)),
                Expr::Percent(value) => Ok(Value::Percent(Expr::Neg(value.clone()))),
                _ => self.interpret_scalar(expr, depth),
            },
            // The positive numbers, and those with zero.
            Expr::Sym(name) => Ok(match name.as_str() {
                "Reals^+" | "Reals_+" | "Reals_Gt0" => ray('('),
                "Reals_Ge0" | "Reals^Ge0" => ray('['),
                _ => Value::Scalar(expr.clone()),
            }),
            Expr::Percent(inner) => Ok(Value::Percent((**inner).clone())),
            Expr::Based(digits, base) => Ok(Value::Based(digits.clone(), *base)),
            Expr::List(items) => match with_parameter(items) {
                Some(items) => Ok(gather(self.interpret_all(&items, depth)?)),
                None => Ok(gather(self.interpret_all(items, depth)?)),
            },
            Expr::Set(items) => Ok(Value::Set(flatten(self.interpret_all(items, depth)?))),
            Expr::SetBuilder(form, conditions) => self.interpret_builder(form, conditions, depth),
            Expr::Tuple(open, items, close) => {
                // A point with `\pm` in it is two points.
                if let Some(pair) = split_plus_minus(expr) {
                    return Ok(Value::List(self.interpret_all(&pair, depth)?));
                }
                let items = self.interpret_all(items, depth)?;
                // An interval never contains infinity, whatever its bracket.
                let bracket = |bracket: char, round: char, end: Option<&Value>| match end {
                    Some(Value::Infinity(_)) if matches!(bracket, '[' | ']') => round,
                    _ => bracket,
                };
                let open = bracket(*open, '(', items.first());
                let close = bracket(*close, ')', items.last());
                Ok(Value::Tuple(open, items, close))
            }
            Expr::SetOp(op, items) => Ok(Value::Combined(*op, self.interpret_all(items, depth)?)),
            Expr::Congruence(a, b, m) => {
                Ok(Value::Congruence([a, b, m].map(|part| (**part).clone())))
            }
            Expr::Ratio(items) => Ok(Value::Ratio(items.clone())),
            Expr::Time(parts) => Ok(Value::Time(parts.clone())),
            Expr::Cases(branches) => {
                let (values, conditions): (Vec<_>, Vec<_>) = branches.iter().cloned().unzip();
                let values = self.interpret_all(&values, depth)?;
                let conditions = self.interpret_all(&conditions, depth)?;
                Ok(Value::Cases(values.into_iter().zip(conditions).collect()))
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
        if let Some((form, conditions)) = with_own_parameter(form, conditions) {
            return self.interpret_builder(&form, &conditions, depth);
        }
        if let Some(forms) = split_plus_minus(form) {
            let sets = forms.map(|form| self.interpret_builder(&form, conditions, depth));
            return Ok(Value::List(sets.into_iter().collect::<Result<_>>()?));
        }
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
            let condition = conditions.remove(0);
            // The letter of the elements does not matter.
            let is_bound =
                matches!(condition, Value::Inequality(_)) && self.is_solvable(&condition);
            return Ok(match condition {
                condition if is_bound => Value::Combined(SetOp::Union, vec![condition]),
                condition => condition,
            });
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
        if let Some(pair) = split_plus_minus(expr) {
            return Ok(Value::List(self.interpret_all(&pair, depth)?));
        }
        // `2^\infty`, `\infty - \infty`: no value.
        if is_endless(expr) {
            return Err(Failure::Undefined);
        }
        Ok(Value::Scalar(expr.clone()))
    }
}

/// `x \ne 1, 2` excludes both numbers.
fn exclude_all(items: &mut [Value]) {
    let Some((Value::Inequality(first), others)) = items.split_first_mut() else {
        return;
    };
    if first.ops != [RelOp::Ne] || !others.iter().all(|o| matches!(o, Value::Scalar(_))) {
        return;
    }
    for other in others {
        if let Value::Scalar(number) = other {
            let mut excluded = first.clone();
            excluded.sides[1] = number.clone();
            *other = Value::Inequality(excluded);
        }
    }
}

/// The interval from zero on.
fn ray(open: char) -> Value {
    let ends = vec![Value::Scalar(Expr::int(0)), Value::Infinity(Sign::Plus)];
    Value::Tuple(open, ends, ')')
}

/// Whether infinity occurs, other than as the end of a series, or what has no value.
fn is_endless(expr: &Expr) -> bool {
    match expr {
        Expr::Const(Constant::Infinity) | Expr::Undefined => true,
        Expr::Series(Fold::Integral, _, _, _, body) => is_endless(body),
        Expr::Series(_, _, first, last, body) => {
            let endless = **last == Expr::Const(Constant::Infinity);
            is_endless(first) || !endless && is_endless(last) || is_endless(body)
        }
        _ => expr.children().into_iter().any(is_endless),
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
fn gather(mut items: Vec<Value>) -> Value {
    exclude_all(&mut items);
    let names: Vec<&Expr> = items
        .iter()
        .filter_map(|item| match item {
            Value::Named(name, _) => Some(name),
            _ => None,
        })
        .collect();
    let Some(&name) = names.first() else {
        return Value::List(flatten(items));
    };
    let is_one = names.iter().all(|other| *other == name);
    let are_different = (1..names.len()).all(|i| !names[..i].contains(&names[i]));
    let is_field = |name: &&Expr| matches!(name, Expr::Sym(_) | Expr::Apply(..) | Expr::Text(_));
    if names.len() == items.len() && names.len() > 1 && are_different && names.iter().all(is_field)
    {
        let fields = items.into_iter().filter_map(|item| match item {
            Value::Named(name, value) => Some((name, *value)),
            _ => None,
        });
        let mut fields: Vec<(Expr, Value)> = fields.collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        return Value::Record(fields);
    }
    // `x = 1, x = 2` and `x = 1, 2` list the values of one variable.
    let is_plain = |item: &Value| {
        matches!(
            item,
            Value::Named(..) | Value::Scalar(_) | Value::Percent(_)
        )
    };
    if is_one && matches!(items[0], Value::Named(..)) && items.iter().all(is_plain) {
        let name = name.clone();
        let values = items.into_iter().map(|item| match item {
            Value::Named(_, value) => *value,
            other => other,
        });
        return Value::Named(name, Box::new(Value::List(flatten(values.collect()))));
    }
    // Groups between semicolons stay together.
    Value::List(flatten(items))
}
