//! Values with a parameter that runs through a set of numbers: `x = k\pi, k \in \mathbb{Z}`.

use super::relations::minus;
use super::rewrite::{rewrite, substitute};
use super::value::Value;
use super::{Comparer, Outcome};
use crate::ast::{Constant, Expr, RelOp};
use crate::exact::Canon;
use num_rational::BigRational;

/// The name that a parameter gets, so that its letter does not matter.
const PARAMETER: &str = "parameter";

/// Values that are followed by the set of their parameter, as the sets of the values. Inequalities keep the
/// condition beside them.
pub(super) fn with_parameter(items: &[Expr]) -> Option<Vec<Expr>> {
    let (condition, values) = items.split_last()?;
    let (name, set) = membership(condition)?;
    let mentions = |e: &Expr| e.any(&mut |e| e == name);
    if *name == parameter() || values.is_empty() || !values.iter().all(mentions) {
        return None;
    }
    let condition = Expr::Rel(Box::new(parameter()), vec![(RelOp::In, set.clone())]);
    let family = |value: &Expr| Expr::SetBuilder(Box::new(value.clone()), vec![condition.clone()]);
    let wrapped = |value: &Expr| match value {
        Expr::Rel(first, rest) if rest.iter().all(|(op, _)| *op == RelOp::Eq) => {
            let mut rest = rest.clone();
            let (_, last) = rest.last_mut()?;
            *last = family(last);
            Some(Expr::Rel(first.clone(), rest))
        }
        Expr::Rel(..) => None,
        value => Some(family(value)),
    };
    let mut renamed: Vec<Expr> = values.iter().map(|value| rename(value, name)).collect();
    let families: Option<Vec<Expr>> = renamed.iter().map(wrapped).collect();
    Some(families.unwrap_or_else(|| {
        renamed.push(condition.clone());
        renamed
    }))
}

/// The form and the conditions of the elements of a set, with a name of its own for the parameter.
pub(super) fn with_own_parameter(form: &Expr, conditions: &[Expr]) -> Option<(Expr, Vec<Expr>)> {
    let mut names = conditions.iter().filter_map(membership);
    let (name, _) = names.next().filter(|(name, _)| *name != form)?;
    if names.next().is_some() || *name == parameter() {
        return None;
    }
    let conditions = conditions.iter().map(|c| rename(c, name)).collect();
    Some((rename(form, name), conditions))
}

/// The variable and the set of numbers of `k \in \mathbb{Z}`.
fn membership(condition: &Expr) -> Option<(&Expr, &Expr)> {
    match condition {
        Expr::Rel(name, rest) => match (&**name, rest.as_slice()) {
            (Expr::Sym(_), [(RelOp::In, set @ Expr::Const(_))]) => Some((name, set)),
            _ => None,
        },
        _ => None,
    }
}

fn parameter() -> Expr {
    Expr::Sym(PARAMETER.into())
}

fn rename(expr: &Expr, name: &Expr) -> Expr {
    rewrite(expr, &|e| (e == name).then(parameter))
}

impl Comparer {
    /// Compares sets of values of a form.
    pub(super) fn same_builder(
        &mut self,
        gold: (&Expr, &[Value]),
        answer: (&Expr, &[Value]),
    ) -> Outcome {
        let outcome = self
            .compare_at(gold.0, answer.0, 1)
            .and(|| self.in_any_order(gold.1, answer.1));
        if outcome.is_equal() || !is_whole(gold.1) || !is_whole(answer.1) {
            return outcome;
        }
        if self.same_progression(gold.0, answer.0) == Some(true) {
            Outcome::Equal
        } else {
            outcome
        }
    }

    /// Whether two forms that are linear in a whole parameter run through the same values: with the same step,
    /// up to its sign, from starts at a whole number of steps.
    fn same_progression(&mut self, gold: &Expr, answer: &Expr) -> Option<bool> {
        let (start, step) = self.progression(gold)?;
        let (other, other_step) = self.progression(answer)?;
        let over = |above: &Expr| Expr::Div(Box::new(above.clone()), Box::new(step.clone()));
        let ratio = self.rational(&over(&other_step))?;
        let shift = self.rational(&over(&minus(&other, &start)))?;
        let one = BigRational::from_integer(1.into());
        Some((ratio == one || ratio == -one) && shift.is_integer())
    }

    /// The start and the step of a form that is linear in the parameter.
    fn progression(&mut self, form: &Expr) -> Option<(Expr, Expr)> {
        let at = |value: i64| substitute(form, PARAMETER, &Expr::int(value));
        let (start, step) = (at(0), minus(&at(1), &at(0)));
        let product = Expr::Mul(vec![step.clone(), parameter()]);
        let line = Expr::Add(vec![start.clone(), product]);
        self.scalar(form, &line).is_equal().then_some((start, step))
    }

    fn rational(&mut self, expr: &Expr) -> Option<BigRational> {
        let mut canon = Canon::new(self.fuel);
        let value = canon.canon(expr);
        self.fuel -= canon.spent().min(self.fuel);
        value.ok()?.as_rational()
    }
}

/// Whether the only condition is that the parameter is a whole number.
fn is_whole(conditions: &[Value]) -> bool {
    matches!(conditions, [Value::Named(name, set)]
        if *name == parameter() && matches!(**set, Value::NamedSet(Constant::Integers)))
}
