//! The syntax tree that answers are parsed into.
//!
//! Sums and products are n-ary, so that a long answer makes a broad tree and never a deep one: the parser
//! bounds the depth, and with it the stack of every function that walks the tree.

use num_rational::BigRational;

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Expr {
    /// A literal.
    Num(Number),
    /// A variable, with its subscript if it has one: `x`, `\theta`, `a_1`.
    Sym(String),
    /// A named constant.
    Const(Constant),
    /// A sum of terms.
    Add(Vec<Expr>),
    /// A negation.
    Neg(Box<Expr>),
    /// A product of factors.
    Mul(Vec<Expr>),
    /// A quotient.
    Div(Box<Expr>, Box<Expr>),
    /// A power.
    Pow(Box<Expr>, Box<Expr>),
    /// A root: radicand and index.
    Root(Box<Expr>, Box<Expr>),
    /// A known function of its arguments.
    Fun(Func, Vec<Expr>),
    /// An unknown function, as in `f(x)`.
    Apply(String, Vec<Expr>),
    /// `\pm a`; in a sum it is one term.
    PlusMinus(Box<Expr>),
    /// A number followed by a percent sign.
    Percent(Box<Expr>),
    /// A number followed by a degree sign.
    Degree(Box<Expr>),
    /// A number written in another base: its digits and the base.
    Based(String, u32),
    /// Words.
    Text(String),
    /// A value with a unit or words beside it.
    Quantity(Box<Expr>, Unit),
    /// Items in brackets: a point, an interval, a vector.
    Tuple(char, Vec<Expr>, char),
    /// A finite set in braces.
    Set(Vec<Expr>),
    /// `{x | condition}`.
    SetBuilder(Box<Expr>, Vec<Expr>),
    /// Items joined by commas, `and` or `or`, without brackets.
    List(Vec<Expr>),
    /// Union, intersection or difference of sets.
    SetOp(SetOp, Vec<Expr>),
    /// Rows of a matrix.
    Matrix(Vec<Vec<Expr>>),
    /// A chain of relations: `a < x <= b`.
    Rel(Box<Expr>, Vec<(RelOp, Expr)>),
    /// `a \equiv b \pmod m`.
    Congruence(Box<Expr>, Box<Expr>, Box<Expr>),
    /// A ratio `a : b : c`.
    Ratio(Vec<Expr>),
    /// A time of day or a duration as on a clock, `4:05`; as a ratio it is one of whole numbers.
    Time(Vec<u32>),
    /// The branches of a function, each with its condition.
    Cases(Vec<(Expr, Expr)>),
    /// `\sum`, `\prod` or `\int`: the index, its first and last value, the body.
    Series(Fold, String, Box<Expr>, Box<Expr>, Box<Expr>),
    /// An expression without a value, such as NaN.
    Undefined,
}

/// What is said beside a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    /// Units as written, with their exponents; words are factors like others.
    pub(crate) factors: Vec<(String, i32)>,
    pub(crate) place: Place,
}

/// Where a unit is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Before,
    After,
    /// After one of several parts of one quantity: `5 ft 3 in`.
    Part,
}

/// A literal number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    /// Its exact value.
    pub(crate) value: BigRational,
    /// Whether it is written with a decimal point and may therefore be rounded.
    pub(crate) decimal: bool,
}

/// What a series does with its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fold {
    Sum,
    Product,
    /// Integrates the body, of which the index is the variable.
    Integral,
}

/// Named constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
    Infinity,
    EmptySet,
    Reals,
    Integers,
    Naturals,
    Rationals,
    Complexes,
}

/// Known functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Func {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Arcsec,
    Arccsc,
    Sinh,
    Cosh,
    Tanh,
    Coth,
    Arcsinh,
    Arccosh,
    Arctanh,
    /// Natural logarithm.
    Ln,
    /// Logarithm: argument, then base.
    Log,
    Exp,
    Abs,
    Floor,
    Ceil,
    Factorial,
    DoubleFactorial,
    /// Binomial coefficient: n, then k.
    Binomial,
    /// Falling factorial P(n, k).
    Permutations,
    Gcd,
    Lcm,
    Max,
    Min,
    Det,
    Trace,
    /// Remainder: dividend, then modulus.
    Mod,
    Re,
    Im,
    Conjugate,
    Sign,
}

/// Operations on sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetOp {
    Union,
    Intersection,
    Difference,
}

/// Relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RelOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Approx,
    In,
    NotIn,
    Subset,
    To,
    Equiv,
    Similar,
}

/// Visits the children of a node, shared or to be changed.
macro_rules! visit_children {
    ($node:expr, $visit:expr, $iter:ident) => {
        match $node {
            Expr::Num(_)
            | Expr::Sym(_)
            | Expr::Const(_)
            | Expr::Based(..)
            | Expr::Text(_)
            | Expr::Time(_)
            | Expr::Undefined => {}
            Expr::Add(items)
            | Expr::Mul(items)
            | Expr::Fun(_, items)
            | Expr::Apply(_, items)
            | Expr::Tuple(_, items, _)
            | Expr::Set(items)
            | Expr::List(items)
            | Expr::SetOp(_, items)
            | Expr::Ratio(items) => items.$iter().for_each($visit),
            Expr::Neg(a)
            | Expr::PlusMinus(a)
            | Expr::Percent(a)
            | Expr::Degree(a)
            | Expr::Quantity(a, _) => $visit(a),
            Expr::Div(a, b) | Expr::Pow(a, b) | Expr::Root(a, b) => {
                $visit(a);
                $visit(b);
            }
            Expr::Congruence(a, b, c) | Expr::Series(_, _, a, b, c) => {
                $visit(a);
                $visit(b);
                $visit(c);
            }
            Expr::SetBuilder(form, conditions) => {
                $visit(form);
                conditions.$iter().for_each($visit);
            }
            Expr::Matrix(rows) => rows.$iter().flatten().for_each($visit),
            Expr::Rel(first, rest) => {
                $visit(first);
                rest.$iter().for_each(|(_, side)| $visit(side));
            }
            Expr::Cases(branches) => branches.$iter().for_each(|(value, condition)| {
                $visit(value);
                $visit(condition);
            }),
        }
    };
}

impl Expr {
    /// A literal integer.
    pub(crate) fn int(value: i64) -> Self {
        Self::Num(Number {
            value: BigRational::from_integer(value.into()),
            decimal: false,
        })
    }

    /// Runs `visit` on the direct children, for walks that treat all nodes alike.
    pub(crate) fn each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit_children!(self, visit, iter);
    }

    /// [`Expr::each_child`] for walks that change the children.
    pub(crate) fn each_child_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        visit_children!(self, visit, iter_mut);
    }

    /// The direct children.
    pub(crate) fn children(&self) -> Vec<&Expr> {
        let mut children = Vec::new();
        self.each_child(&mut |child| children.push(child));
        children
    }

    /// Whether any node of the tree satisfies `test`.
    pub(crate) fn any(&self, test: &mut dyn FnMut(&Expr) -> bool) -> bool {
        let mut found = test(self);
        if !found {
            self.each_child(&mut |child| found = found || child.any(test));
        }
        found
    }

    /// The value without the units and words beside it.
    pub(crate) fn plain(&self) -> &Expr {
        let mut value = self;
        while let Self::Quantity(inner, _) = value {
            value = inner;
        }
        value
    }

    /// Whether a decimal literal occurs anywhere.
    pub(crate) fn has_decimal(&self) -> bool {
        self.any(&mut |e| matches!(e, Self::Num(n) if n.decimal))
    }

    /// The value -1.
    pub(crate) fn minus_one() -> BigRational {
        BigRational::from_integer((-1).into())
    }
}

impl Unit {
    /// What is said after a value.
    pub(crate) fn after(factors: Vec<(String, i32)>) -> Self {
        Self {
            factors,
            place: Place::After,
        }
    }

    /// Its name, if it is a single one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self.factors.as_slice() {
            [(name, 1)] => Some(name.trim()),
            _ => None,
        }
    }
}

impl RelOp {
    /// The relation that holds after the sides are exchanged.
    pub(crate) fn mirrored(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            other => other,
        }
    }

    /// Whether the relation is an inequality, `\ne` included.
    pub(crate) fn is_order(self) -> bool {
        matches!(self, Self::Lt | Self::Le | Self::Gt | Self::Ge | Self::Ne)
    }
}

impl Func {
    /// The inverse of a trigonometric or hyperbolic function.
    pub(crate) fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Sin => Self::Arcsin,
            Self::Cos => Self::Arccos,
            Self::Tan => Self::Arctan,
            Self::Cot => Self::Arccot,
            Self::Sec => Self::Arcsec,
            Self::Csc => Self::Arccsc,
            Self::Sinh => Self::Arcsinh,
            Self::Cosh => Self::Arccosh,
            Self::Tanh => Self::Arctanh,
            _ => return None,
        })
    }
}
