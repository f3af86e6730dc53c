//! Expressions with some of their parts replaced.

use crate::ast::Expr;

/// `expr` with each part for which `change` has something else replaced by that. What lies in matrices, series
/// and the like stays as it is.
pub(super) fn rewrite(expr: &Expr, change: &dyn Fn(&Expr) -> Option<Expr>) -> Expr {
    if let Some(other) = change(expr) {
        return other;
    }
    let each = |items: &[Expr]| items.iter().map(|e| rewrite(e, change)).collect();
    let one = |e: &Expr| Box::new(rewrite(e, change));
    match expr {
        Expr::Add(items) => Expr::Add(each(items)),
        Expr::Mul(items) => Expr::Mul(each(items)),
        Expr::Neg(a) => Expr::Neg(one(a)),
        Expr::Div(a, b) => Expr::Div(one(a), one(b)),
        Expr::Pow(a, b) => Expr::Pow(one(a), one(b)),
        Expr::Root(a, b) => Expr::Root(one(a), one(b)),
        Expr::Percent(a) => Expr::Percent(one(a)),
        Expr::Degree(a) => Expr::Degree(one(a)),
        Expr::Fun(f, items) => Expr::Fun(*f, each(items)),
        Expr::List(items) => Expr::List(each(items)),
        Expr::Set(items) => Expr::Set(each(items)),
        Expr::SetBuilder(form, conditions) => Expr::SetBuilder(one(form), each(conditions)),
        Expr::Rel(first, rest) => {
            let rest = rest.iter().map(|(op, side)| (*op, rewrite(side, change)));
            Expr::Rel(one(first), rest.collect())
        }
        Expr::Tuple(open, items, close) => Expr::Tuple(*open, each(items), *close),
        other => other.clone(),
    }
}

/// `expr` with a variable replaced.
pub(super) fn substitute(expr: &Expr, name: &str, value: &Expr) -> Expr {
    let is_variable = |e: &Expr| matches!(e, Expr::Sym(n) if n == name);
    rewrite(expr, &|e| is_variable(e).then(|| value.clone()))
}

/// The two values of an expression with plus-minus signs, all with the same sign.
pub(super) fn split_plus_minus(expr: &Expr) -> Option<[Expr; 2]> {
    expr.any(&mut |e| is_plus_minus(e))
        .then(|| [false, true].map(|negative| with_sign(expr, negative)))
}

pub(super) fn is_plus_minus(expr: &Expr) -> bool {
    matches!(expr, Expr::PlusMinus(_))
}

pub(super) fn with_sign(expr: &Expr, negative: bool) -> Expr {
    rewrite(expr, &|e| match e {
        Expr::PlusMinus(a) if negative => Some(Expr::Neg(Box::new(with_sign(a, negative)))),
        Expr::PlusMinus(a) => Some(with_sign(a, negative)),
        _ => None,
    })
}
