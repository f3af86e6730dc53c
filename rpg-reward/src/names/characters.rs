//! What single characters mean.

use crate::ast::{Constant, RelOp};
use crate::lex::token::Tok;

/// The token of a Unicode symbol or of an ASCII operator.
pub(crate) fn unicode(c: char) -> Option<Tok> {
    let tok = match c {
        '+' | '＋' => Tok::Op('+'),
        '-' | '−' | '–' | '—' | '‐' | '‑' | '－' => Tok::Op('-'),
        '*' | '×' | '·' | '⋅' | '∙' | '•' | '∗' => Tok::Op('*'),
        '/' | '÷' | '∕' | '⁄' | '／' => Tok::Op('/'),
        '^' => Tok::Op('^'),
        '_' => Tok::Op('_'),
        '!' | '！' => Tok::Op('!'),
        ',' | '，' | '、' => Tok::Op(','),
        ';' | '；' => Tok::Op(';'),
        ':' | '：' | '∶' => Tok::Op(':'),
        '{' => Tok::Begin,
        '}' => Tok::End,
        '(' | '[' => Tok::Open(c),
        ')' | ']' => Tok::Close(c),
        '|' => Tok::Bar,
        '&' => Tok::Cell,
        '±' => Tok::Op('±'),
        '∓' => Tok::Op('∓'),
        '（' => Tok::Open('('),
        '）' => Tok::Close(')'),
        '⟨' | '〈' => Tok::Open('⟨'),
        '⟩' | '〉' => Tok::Close('⟩'),
        '⌊' => Tok::Open('⌊'),
        '⌋' => Tok::Close('⌋'),
        '⌈' => Tok::Open('⌈'),
        '⌉' => Tok::Close('⌉'),
        '∣' | '∥' | '‖' => Tok::Bar,
        '=' | '＝' => Tok::Rel(RelOp::Eq),
        '<' | '＜' => Tok::Rel(RelOp::Lt),
        '>' | '＞' => Tok::Rel(RelOp::Gt),
        '≤' | '⩽' | '≦' => Tok::Rel(RelOp::Le),
        '≥' | '⩾' | '≧' => Tok::Rel(RelOp::Ge),
        '≠' => Tok::Rel(RelOp::Ne),
        '≈' | '≃' | '≅' => Tok::Rel(RelOp::Approx),
        '≡' => Tok::Rel(RelOp::Equiv),
        '∈' => Tok::Rel(RelOp::In),
        '∉' => Tok::Rel(RelOp::NotIn),
        '⊂' | '⊆' => Tok::Rel(RelOp::Subset),
        '→' => Tok::Rel(RelOp::To),
        '∪' => Tok::Union,
        '∩' => Tok::Intersection,
        '∖' => Tok::Difference,
        '∨' => Tok::Op('∨'),
        '∧' => Tok::Op('∧'),
        '∞' => Tok::Const(Constant::Infinity),
        '∅' | 'Ø' => Tok::Const(Constant::EmptySet),
        'ℝ' => Tok::Const(Constant::Reals),
        'ℤ' => Tok::Const(Constant::Integers),
        'ℕ' => Tok::Const(Constant::Naturals),
        'ℚ' => Tok::Const(Constant::Rationals),
        'ℂ' => Tok::Const(Constant::Complexes),
        'π' | '𝜋' => Tok::Const(Constant::Pi),
        'ⅈ' => Tok::Const(Constant::I),
        '√' => Tok::Sqrt,
        '∛' => Tok::Cbrt,
        '°' | '˚' | 'º' | '℃' | '℉' => Tok::Degree,
        '%' | '％' => Tok::Percent,
        '\'' | '′' | '’' => Tok::Prime,
        '∑' => Tok::Sum,
        '∫' => Tok::Integral,
        '∂' => Tok::Sym("∂".into()),
        '∏' => Tok::Product,
        '⋯' => Tok::Dots,
        'ϕ' => Tok::Sym("phi".into()),
        'ϵ' => Tok::Sym("epsilon".into()),
        'ϑ' => Tok::Sym("theta".into()),
        '。' | '．' => Tok::Op('.'),
        _ => Tok::Sym(GREEK.iter().find(|(_, letter)| *letter == c)?.0.into()),
    };
    Some(tok)
}

/// Signs of several characters, and what they are.
pub(crate) const SEQUENCES: [(&str, Tok); 8] = [
    ("{:}", Tok::Op(':')),
    ("||", Tok::Bar),
    ("**", Tok::Op('^')),
    ("<=", Tok::Rel(RelOp::Le)),
    (">=", Tok::Rel(RelOp::Ge)),
    ("==", Tok::Rel(RelOp::Eq)),
    ("+/-", Tok::Op('±')),
    ("->", Tok::Rel(RelOp::To)),
];

/// What follows a backslash, unless it is a letter: `None` where it means nothing.
pub(crate) fn escaped(c: char) -> Option<Option<Tok>> {
    Some(match c {
        '{' => Some(Tok::Open('{')),
        '}' => Some(Tok::Close('}')),
        '|' => Some(Tok::Bar),
        '%' => Some(Tok::Percent),
        '\\' => Some(Tok::Row),
        '(' | ')' | '[' | ']' | '$' | '#' | '&' | '"' | '\'' | '^' => None,
        _ => return None,
    })
}

pub(super) const GREEK: [(&str, char); 33] = [
    ("alpha", 'α'),
    ("beta", 'β'),
    ("gamma", 'γ'),
    ("delta", 'δ'),
    ("epsilon", 'ε'),
    ("zeta", 'ζ'),
    ("eta", 'η'),
    ("theta", 'θ'),
    ("iota", 'ι'),
    ("kappa", 'κ'),
    ("lambda", 'λ'),
    ("mu", 'μ'),
    ("nu", 'ν'),
    ("xi", 'ξ'),
    ("rho", 'ρ'),
    ("sigma", 'σ'),
    ("tau", 'τ'),
    ("upsilon", 'υ'),
    ("phi", 'φ'),
    ("chi", 'χ'),
    ("psi", 'ψ'),
    ("omega", 'ω'),
    ("Gamma", 'Γ'),
    ("Delta", 'Δ'),
    ("Theta", 'Θ'),
    ("Lambda", 'Λ'),
    ("Xi", 'Ξ'),
    ("Sigma", 'Σ'),
    ("Upsilon", 'Υ'),
    ("Phi", 'Φ'),
    ("Psi", 'Ψ'),
    ("Omega", 'Ω'),
    ("varrho", 'ϱ'),
];

pub(crate) fn is_greek(c: char) -> bool {
    GREEK.iter().any(|(_, letter)| *letter == c)
}

/// Whether a character has neither width nor meaning. Marks that reorder text are not among them, because
/// what they show differs from what is written.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200b}' | '\u{200c}' | '\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}'
    )
}

/// The ASCII form of full-width characters and of digits in mathematical fonts.
pub(crate) fn narrow(c: char) -> char {
    let code = c as u32;
    match code {
        0xff01..=0xff5e => char::from_u32(code - 0xff01 + 0x21).unwrap_or(c),
        // The sign of a millionth is the letter mu.
        0xb5 => 'μ',
        0x1d7ce..=0x1d7ff => char::from_digit((code - 0x1d7ce) % 10, 10).unwrap_or(c),
        _ => c,
    }
}

pub(crate) fn is_currency(c: char) -> bool {
    matches!(c, '$' | '€' | '£' | '¥' | '₹' | '¢' | '₩' | '₽')
}

/// The plain character of a superscript.
pub(crate) fn superscript(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴' => '4',
        '⁵' => '5',
        '⁶' => '6',
        '⁷' => '7',
        '⁸' => '8',
        '⁹' => '9',
        '⁺' => '+',
        '⁻' => '-',
        'ⁿ' => 'n',
        'ˣ' => 'x',
        _ => return None,
    })
}

/// The plain character of a subscript.
pub(crate) fn subscript(c: char) -> Option<char> {
    Some(match c {
        '₀'..='₉' => char::from((c as u32 - '₀' as u32) as u8 + b'0'),
        'ₙ' => 'n',
        'ₖ' => 'k',
        'ᵢ' => 'i',
        _ => return None,
    })
}

/// The numerator and denominator of `½` and similar characters.
pub(crate) fn vulgar_fraction(c: char) -> Option<(u8, u8)> {
    Some(match c {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅐' => (1, 7),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        '⅑' => (1, 9),
        '⅒' => (1, 10),
        _ => return None,
    })
}
