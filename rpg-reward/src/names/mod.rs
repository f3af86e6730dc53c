//! The vocabulary: LaTeX commands, Unicode symbols, plain names.

mod characters;

pub(crate) use crate::lexicon::{meaning::is_date, units::is_unit};
pub(crate) use characters::{
    SEQUENCES, escaped, is_currency, is_greek, is_invisible, narrow, subscript, superscript,
    unicode, vulgar_fraction,
};

use crate::ast::{Constant, Func, RelOp};
use crate::lex::token::Tok;
use characters::GREEK;

/// The token of a LaTeX command, given without its backslash.
pub(crate) fn command(name: &str) -> Option<Tok> {
    let tok = match name {
        "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" => Tok::Frac,
        "sqrt" => Tok::Sqrt,
        "binom" | "dbinom" | "tbinom" => Tok::Binom,
        "overline" | "bar" => Tok::Overline,
        "cdot" | "times" | "ast" | "star" | "bullet" => Tok::Op('*'),
        "div" => Tok::Op('/'),
        "pm" => Tok::Op('±'),
        "mp" => Tok::Op('∓'),
        "lvert" | "rvert" | "vert" | "mid" | "lVert" | "rVert" | "Vert" => Tok::Bar,
        "lbrace" => Tok::Open('{'),
        "rbrace" => Tok::Close('}'),
        "lbrack" => Tok::Open('['),
        "rbrack" => Tok::Close(']'),
        "lparen" => Tok::Open('('),
        "rparen" => Tok::Close(')'),
        "langle" => Tok::Open('⟨'),
        "rangle" => Tok::Close('⟩'),
        "lfloor" => Tok::Open('⌊'),
        "rfloor" => Tok::Close('⌋'),
        "lceil" => Tok::Open('⌈'),
        "rceil" => Tok::Close('⌉'),
        "leq" | "le" | "leqslant" | "leqq" => Tok::Rel(RelOp::Le),
        "geq" | "ge" | "geqslant" | "geqq" => Tok::Rel(RelOp::Ge),
        "lt" => Tok::Rel(RelOp::Lt),
        "gt" => Tok::Rel(RelOp::Gt),
        "neq" | "ne" => Tok::Rel(RelOp::Ne),
        "approx" | "simeq" | "thickapprox" | "doteq" => Tok::Rel(RelOp::Approx),
        "equiv" => Tok::Rel(RelOp::Equiv),
        "sim" | "cong" => Tok::Rel(RelOp::Similar),
        "in" => Tok::Rel(RelOp::In),
        "notin" => Tok::Rel(RelOp::NotIn),
        "subset" | "subseteq" => Tok::Rel(RelOp::Subset),
        "to" | "rightarrow" | "longrightarrow" | "mapsto" => Tok::Rel(RelOp::To),
        "cup" | "bigcup" => Tok::Union,
        "cap" | "bigcap" => Tok::Intersection,
        "setminus" | "backslash" | "smallsetminus" => Tok::Difference,
        "infty" => Tok::Const(Constant::Infinity),
        "emptyset" | "varnothing" => Tok::Const(Constant::EmptySet),
        "reals" | "Reals" => Tok::Const(Constant::Reals),
        "pi" => Tok::Const(Constant::Pi),
        "imath" | "jmath" => Tok::Const(Constant::I),
        "circ" | "degree" => Tok::Degree,
        "prime" => Tok::Prime,
        "pmod" | "pod" => Tok::Pmod,
        "bmod" | "mod" => Tok::Bmod,
        "sum" => Tok::Sum,
        "prod" => Tok::Product,
        "ldots" | "dots" | "cdots" | "vdots" | "ddots" | "dotsc" | "dotsb" => Tok::Dots,
        "lor" | "vee" => Tok::Op('∨'),
        "land" | "wedge" => Tok::Op('∧'),
        "colon" => Tok::Op(':'),
        "over" => Tok::Over,
        "choose" => Tok::Choose,
        "cr" | "newline" => Tok::Row,
        "max" => Tok::Fun(Func::Max),
        "min" => Tok::Fun(Func::Min),
        "det" => Tok::Fun(Func::Det),
        "gcd" => Tok::Fun(Func::Gcd),
        "Re" => Tok::Fun(Func::Re),
        "Im" => Tok::Fun(Func::Im),
        "varphi" => Tok::Sym("phi".into()),
        "varepsilon" => Tok::Sym("epsilon".into()),
        "vartheta" => Tok::Sym("theta".into()),
        "ell" => Tok::Sym("l".into()),
        "int" | "iint" | "iiint" | "oint" => Tok::Integral,
        "lim" | "limsup" | "liminf" | "sup" | "inf" | "deg" | "dim" => Tok::Named(name.into()),
        "arg" | "ker" | "hom" | "Pr" => Tok::Name(name.into()),
        "neg" | "lnot" => Tok::Name("¬".into()),
        "top" | "intercal" => Tok::Sym("T".into()),
        "partial" => Tok::Sym("∂".into()),
        "triangle" | "angle" | "measuredangle" => Tok::Text(name.into()),
        _ if GREEK.iter().any(|(n, _)| *n == name) => Tok::Sym(name.into()),
        _ => Tok::Fun(function(name)?),
    };
    Some(tok)
}

/// The function with this name in LaTeX or ASCII.
fn function(name: &str) -> Option<Func> {
    Some(match name {
        "sin" => Func::Sin,
        "cos" => Func::Cos,
        "tan" | "tg" => Func::Tan,
        "cot" | "ctg" => Func::Cot,
        "sec" => Func::Sec,
        "csc" | "cosec" => Func::Csc,
        "arcsin" | "asin" => Func::Arcsin,
        "arccos" | "acos" => Func::Arccos,
        "arctan" | "atan" | "arctg" => Func::Arctan,
        "arccot" | "acot" => Func::Arccot,
        "arcsec" | "asec" => Func::Arcsec,
        "arccsc" | "acsc" => Func::Arccsc,
        "sinh" => Func::Sinh,
        "cosh" => Func::Cosh,
        "tanh" => Func::Tanh,
        "coth" => Func::Coth,
        "arcsinh" | "asinh" | "arsinh" => Func::Arcsinh,
        "arccosh" | "acosh" | "arcosh" => Func::Arccosh,
        "arctanh" | "atanh" | "artanh" => Func::Arctanh,
        "ln" => Func::Ln,
        "log" | "lg" => Func::Log,
        "exp" => Func::Exp,
        "sgn" | "sign" => Func::Sign,
        "lcm" => Func::Lcm,
        "gcd" => Func::Gcd,
        "tr" => Func::Trace,
        _ => return None,
    })
}

/// The token of a name in plain letters, if it is a known one.
pub(crate) fn plain(word: &str) -> Option<Tok> {
    let tok = match word {
        "pi" | "Pi" | "PI" => Tok::Const(Constant::Pi),
        "e" => Tok::Const(Constant::E),
        "i" => Tok::Const(Constant::I),
        "inf" | "infinity" | "infty" | "oo" | "Infinity" | "Inf" => Tok::Const(Constant::Infinity),
        "nan" | "NaN" | "NAN" | "Nan" => Tok::Undefined,
        "sqrt" => Tok::Sqrt,
        "cbrt" => Tok::Cbrt,
        "abs" | "Abs" => Tok::Fun(Func::Abs),
        "floor" => Tok::Fun(Func::Floor),
        "ceil" | "ceiling" => Tok::Fun(Func::Ceil),
        "max" => Tok::Fun(Func::Max),
        "min" => Tok::Fun(Func::Min),
        "det" => Tok::Fun(Func::Det),
        "lim" => Tok::Named(word.into()),
        "mod" => Tok::Bmod,
        "and" => Tok::And,
        "or" => Tok::Or,
        "percent" | "pct" | "percents" | "percentage" => Tok::Percent,
        "degree" | "degrees" | "deg" => Tok::Degree,
        "times" => Tok::Op('*'),
        "union" | "cup" => Tok::Union,
        _ if GREEK.iter().any(|(n, _)| *n == word) && word.len() > 2 => Tok::Sym(word.into()),
        "tr" | "tg" | "lg" => return None,
        _ => Tok::Fun(function(word)?),
    };
    Some(tok)
}

/// Whether a command changes only the appearance, or is the sign of a currency, which is dropped as `$` is.
pub(crate) fn is_layout(name: &str) -> bool {
    matches!(
        name,
        "left"
            | "right"
            | "middle"
            | "big"
            | "Big"
            | "bigg"
            | "Bigg"
            | "bigl"
            | "bigr"
            | "Bigl"
            | "Bigr"
            | "biggl"
            | "biggr"
            | "Biggl"
            | "Biggr"
            | "quad"
            | "qquad"
            | "enspace"
            | "enskip"
            | "thinspace"
            | "medspace"
            | "thickspace"
            | "negthinspace"
            | "space"
            | "displaystyle"
            | "textstyle"
            | "scriptstyle"
            | "limits"
            | "nolimits"
            | "mathstrut"
            | "strut"
            | "hfill"
            | "rm"
            | "bf"
            | "it"
            | "Large"
            | "large"
            | "small"
            | "hline"
            | "allowbreak"
            | "nobreak"
            | "mathord"
            | "mathop"
            | "mathrel"
            | "mathbin"
            | "mathopen"
            | "mathclose"
            | "ensuremath"
            | "smash"
            | "checkmark"
            | "underline"
            | "pounds"
            | "yen"
            | "euro"
            | "textdollar"
    )
}

pub(crate) fn is_text_command(name: &str) -> bool {
    matches!(
        name,
        "text"
            | "textbf"
            | "textit"
            | "textrm"
            | "textsf"
            | "texttt"
            | "textnormal"
            | "mbox"
            | "hbox"
            | "emph"
            | "textup"
            | "textsl"
            | "textsc"
    )
}

/// Whether a command chooses a font for mathematics or puts an accent on it.
pub(crate) fn is_font_command(name: &str) -> bool {
    is_accent(name)
        || is_bold(name)
        || matches!(
            name,
            "mathrm"
                | "mathit"
                | "mathsf"
                | "mathtt"
                | "mathcal"
                | "mathscr"
                | "mathfrak"
                | "mathbb"
                | "mathds"
                | "mathnormal"
                | "operatorname"
                | "rm"
        )
}

pub(crate) fn is_bold(name: &str) -> bool {
    matches!(name, "mathbf" | "boldsymbol" | "bm" | "pmb")
}

pub(crate) fn is_accent(name: &str) -> bool {
    matches!(
        name,
        "vec" | "hat" | "overrightarrow" | "widehat" | "tilde" | "widetilde" | "dot" | "ddot"
    )
}

/// The content of `\text{}` without the commands in it.
pub(crate) fn plain_text(raw: &str) -> String {
    let mut out = String::new();
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let mut letters = false;
                while chars.next_if(char::is_ascii_alphabetic).is_some() {
                    letters = true;
                }
                if !letters && let Some(escaped) = chars.next() {
                    out.push(if matches!(escaped, '%' | '&' | '#' | '_') {
                        escaped
                    } else {
                        ' '
                    });
                }
            }
            '{' | '}' | '$' => {}
            '~' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

/// The number base that a word names.
pub(crate) fn number_word(word: &str) -> Option<u32> {
    const WORDS: [&str; 11] = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    ];
    let index = WORDS.iter().position(|w| w.eq_ignore_ascii_case(word))?;
    u32::try_from(index).ok().map(|i| i + 2)
}

/// The words of a text whose commands only choose fonts or set the layout; `None` for mathematics.
pub(crate) fn words_only(raw: &str) -> Option<String> {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        let body = &rest[at + 1..];
        let length = body.bytes().take_while(u8::is_ascii_alphabetic).count();
        let name = &body[..length];
        let harmless = length == 0
            || is_text_command(name)
            || is_layout(name)
            || (is_font_command(name) && !is_accent(name));
        if !harmless {
            return None;
        }
        rest = if length == 0 {
            body.get(1..).unwrap_or("")
        } else {
            &body[length..]
        };
    }
    Some(plain_text(raw))
}
