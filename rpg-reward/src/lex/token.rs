//! The tokens of an answer.

use crate::ast::{Constant, Func, RelOp};

/// One token, and how it is set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    /// Whether white space precedes it.
    pub(crate) space: bool,
    /// Whether it is in upright type, or letters in a font that makes one name of them.
    pub(crate) upright: bool,
}

impl Token {
    /// A token that is not upright.
    pub(crate) fn new(tok: Tok, space: bool) -> Self {
        let upright = false;
        Self {
            tok,
            space,
            upright,
        }
    }
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
    /// `\over` between the parts of a fraction in braces.
    Over,
    /// `\choose` between the parts of a binomial coefficient in braces.
    Choose,
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
