//! The tokens of an answer.

use crate::ast::{Constant, Func, RelOp};

/// One token, and whether white space precedes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) space: bool,
}

/// The kinds of tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tok {
    /// Digits with at most one decimal point, without thousands separators.
    Num(String),
    /// A decimal whose last digits repeat: the text before them, and the repeating digits.
    Repeating(String, String),
    /// A one-letter or Greek variable.
    Sym(String),
    /// Several letters in a row that are not a known name.
    Word(String),
    /// Text in `\text{}` and similar commands.
    Text(String),
    Fun(Func),
    Const(Constant),
    /// `+ - * / ^ _ ! , ; : ±` and a few others.
    Op(char),
    Rel(RelOp),
    /// `(`, `[`, `{` (from `\{`), `⟨`, `⌊`, `⌈`.
    Open(char),
    /// The matching closing brackets.
    Close(char),
    /// `|`, which opens or closes, or means "such that".
    Bar,
    /// The start of braces that only group.
    Begin,
    /// Their end.
    End,
    Frac,
    Sqrt,
    /// The cube root as a name, `cbrt`, or a sign.
    Cbrt,
    Binom,
    Overline,
    Percent,
    Degree,
    Prime,
    Union,
    Intersection,
    Difference,
    Pmod,
    Bmod,
    Sum,
    Product,
    Integral,
    /// `\lim` and other names of quantities that are not computed.
    Named(String),
    /// `\times` after a vector.
    Cross,
    /// `\operatorname{..}` of a name that is not built in.
    Name(String),
    Dots,
    /// `or`.
    Or,
    /// `and`.
    And,
    Env(String),
    EndEnv(String),
    Cell,
    Row,
    Undefined,
}
