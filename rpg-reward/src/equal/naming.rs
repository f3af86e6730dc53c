//! What names a quantity.

use super::rewrite::rewrite;
use super::value::Value;
use crate::ast::{Expr, Fold, Func};

/// Whether an expression names something: a variable, `f(x)`, a point of variables, words.
pub(super) fn is_name(expr: &Expr) -> bool {
    let is_sym = |e: &Expr| matches!(e, Expr::Sym(_));
    let is_capital =
        |e: &Expr| matches!(e, Expr::Sym(s) if s.starts_with(|c: char| c.is_ascii_uppercase()));
    let is_event = |e: &Expr| match e {
        Expr::SetOp(_, sets) => sets.iter().all(is_capital),
        Expr::Apply(bar, events) => bar == "|" && events.iter().all(is_capital),
        _ => is_capital(e),
    };
    match expr {
        Expr::Sym(_) | Expr::Text(_) => true,
        Expr::Apply(_, arguments) => arguments.iter().all(|a| !matches!(a, Expr::Rel(..))),
        Expr::Tuple(_, items, _) => items.iter().all(is_sym),
        // A segment or an angle, `AB`; the probability `P(A)`; the inverse `f^{-1}(x)`.
        Expr::Mul(factors) => {
            let inverse = matches!(factors.as_slice(), [Expr::Pow(f, e), Expr::Sym(_)]
                if is_sym(f) && matches!(&**e, Expr::Num(n) if n.value == Expr::minus_one()));
            // `(f \circ g)(x)`
            let composed =
                matches!(factors.as_slice(), [Expr::Apply(f, _), Expr::Sym(_)] if f == "∘");
            inverse
                || composed
                || is_derivative(expr)
                || factors.iter().all(is_event)
                || has_integral(expr)
        }
        Expr::Div(..) => is_derivative(expr) || has_integral(expr),
        Expr::Fun(Func::Conjugate | Func::Abs, inner) => {
            let conjugate = matches!(expr, Expr::Fun(Func::Conjugate, _));
            (conjugate && is_sym(&inner[0]))
                || matches!(&inner[0], Expr::Mul(factors) if factors.iter().all(is_capital))
        }
        _ => has_integral(expr),
    }
}

/// Whether an integral occurs, which names what it is equal to.
fn has_integral(expr: &Expr) -> bool {
    expr.any(&mut |e| matches!(e, Expr::Series(Fold::Integral, ..)))
}

/// Whether an expression is a variable or a multiple of one.
pub(super) fn is_multiple(expr: &Expr) -> bool {
    match expr {
        Expr::Sym(_) => true,
        Expr::Mul(factors) => match factors.as_slice() {
            [number, Expr::Sym(_)] => is_constant(number),
            _ => false,
        },
        _ => false,
    }
}

/// Whether an expression is a segment: a product of several capital letters.
pub(super) fn is_segment(expr: &Expr) -> bool {
    let is_capital =
        |e: &Expr| matches!(e, Expr::Sym(s) if s.starts_with(|c: char| c.is_ascii_uppercase()));
    matches!(expr, Expr::Mul(factors) if factors.len() > 1 && factors.iter().all(is_capital))
}

/// Whether two names are the same; a name in words matches any name.
pub(super) fn same_name(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Text(_), _) | (_, Expr::Text(_)) => true,
        (Expr::Apply(f, _), Expr::Sym(g)) | (Expr::Sym(g), Expr::Apply(f, _)) => f == g,
        _ => a == b,
    }
}

/// The value of `f(t)` for the variable of the other side, `f(x)`.
pub(super) fn with_arguments(gold: &Expr, answer: &Expr, value: &Value) -> Option<Value> {
    let (Expr::Apply(f, xs), Expr::Apply(g, ts), Value::Scalar(value)) = (gold, answer, value)
    else {
        return None;
    };
    let is_variable = |e: &Expr| matches!(e, Expr::Sym(_));
    let comparable = f == g && xs.len() == ts.len() && xs.iter().chain(ts).all(is_variable);
    // What is said of one event or point holds for no other: the value must depend on the variables. One with
    // another meaning there would be confused with the new one.
    let depends = ts.iter().all(|t| value.any(&mut |e| e == t));
    let is_taken = |e: &Expr| xs.contains(e) && !ts.contains(e);
    if !comparable || !depends || value.any(&mut |e| is_taken(e)) {
        return None;
    }
    let place = |e: &Expr| ts.iter().position(|t| t == e);
    let renamed = rewrite(value, &|e| place(e).map(|index| xs[index].clone()));
    Some(Value::Scalar(renamed))
}

/// Whether an expression contains neither variables, other than the index of a series, nor unknown functions.
pub(super) fn is_constant(expr: &Expr) -> bool {
    !expr.any(&mut |e| match e {
        Expr::Sym(name) => !name.starts_with('#'),
        _ => matches!(e, Expr::Apply(..)),
    })
}

/// `\frac{dy}{dx}`, `dy/dx`, `\frac{d^2y}{dx^2}`, `\frac{\partial u}{\partial x}`.
fn is_derivative(expr: &Expr) -> bool {
    let is_d = |e: &Expr| matches!(e, Expr::Sym(s) if s == "d" || s == "∂");
    let starts = |e: &Expr| match e {
        Expr::Pow(base, _) => is_d(base),
        _ => is_d(e),
    };
    let is_differential = |e: &Expr| match e {
        Expr::Mul(factors) => factors.first().is_some_and(starts),
        _ => starts(e),
    };
    match expr {
        Expr::Div(above, below) => {
            is_differential(above) && matches!(&**below, Expr::Mul(_)) && is_differential(below)
        }
        Expr::Mul(factors) => match factors.as_slice() {
            [above, Expr::Div(one, below)] => {
                **one == Expr::int(1)
                    && is_differential(above)
                    && matches!(&**below, Expr::Mul(_))
                    && is_differential(below)
            }
            [derivative @ Expr::Div(..), Expr::Sym(_) | Expr::Apply(..)] => {
                is_derivative(derivative)
            }
            _ => false,
        },
        _ => false,
    }
}
