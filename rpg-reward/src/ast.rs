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

impl Expr {
    /// A literal integer.
    pub(crate) fn int(value: i64) -> Self {
        Self::Num(Number {
            value: BigRational::from_integer(value.into()),
            decimal: false,
        })
    }

    /// The direct children, for walks that treat all nodes alike.
    pub(crate) fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Num(_)
            | Self::Sym(_)
            | Self::Const(_)
            | Self::Based(..)
            | Self::Text(_)
            | Self::Time(_)
            | Self::Undefined => Vec::new(),
            Self::Add(items)
            | Self::Mul(items)
            | Self::Fun(_, items)
            | Self::Apply(_, items)
            | Self::Tuple(_, items, _)
            | Self::Set(items)
            | Self::List(items)
            | Self::SetOp(_, items)
            | Self::Ratio(items) => items.iter().collect(),
            Self::Neg(a) | Self::PlusMinus(a) | Self::Percent(a) | Self::Degree(a) => vec![a],
            Self::Div(a, b) | Self::Pow(a, b) | Self::Root(a, b) => vec![a, b],
            Self::SetBuilder(a, conditions) => std::iter::once(&**a).chain(conditions).collect(),
            Self::Matrix(rows) => rows.iter().flatten().collect(),
            Self::Rel(first, rest) => std::iter::once(&**first)
                .chain(rest.iter().map(|(_, e)| e))
                .collect(),
            Self::Congruence(a, b, m) => vec![a, b, m],
            Self::Cases(branches) => branches.iter().flat_map(|(v, c)| [v, c]).collect(),
            Self::Series(_, _, a, b, c) => vec![a, b, c],
        }
    }

    /// Whether any node of the tree satisfies `test`.
    pub(crate) fn any(&self, test: &mut dyn FnMut(&Expr) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
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
