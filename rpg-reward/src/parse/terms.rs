//! Sums, products, powers, and the units after them.

use super::{Failure, MAX_DEPTH, Parsed, Parser, one_or, with_signs};
use crate::ast::{Expr, Func, Number};
use crate::lex::Tok;
use crate::lexicon::units;
use crate::verdict::Budget;
use num_traits::Zero;

impl Parser {
    pub(super) fn sum(&mut self) -> Parsed {
        let mut terms = vec![self.signed_term()?];
        loop {
            match self.peek() {
                Some(Tok::Op('+' | '-' | '±' | '∓')) => terms.push(self.signed_term()?),
                Some(Tok::Bmod) => {
                    self.pos += 1;
                    let modulus = self.product()?;
                    let left = one_or(terms, Expr::Add);
                    terms = vec![Expr::Fun(Func::Mod, vec![left, modulus])];
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(Failure::OverBudget(Budget::Depth));
                    }
                }
                _ => return Ok(one_or(terms, Expr::Add)),
            }
        }
    }

    /// A term with the signs before it.
    pub(super) fn signed_term(&mut self) -> Parsed {
        let (negative, plus_minus) = self.signs();
        let term = self.product()?;
        Ok(with_signs(term, negative, plus_minus))
    }

    pub(super) fn signs(&mut self) -> (bool, bool) {
        let mut negative = false;
        let mut plus_minus = false;
        while let Some(Tok::Op(sign @ ('+' | '-' | '±' | '∓'))) = self.peek() {
            match sign {
                '-' => negative = !negative,
                '±' | '∓' => plus_minus = true,
                _ => {}
            }
            self.pos += 1;
        }
        (negative, plus_minus)
    }

    /// Factors, with or without multiplication and division signs between them.
    pub(super) fn product(&mut self) -> Parsed {
        let mut factors: Vec<Expr> = vec![self.power()?];
        // Whether the last factor is a plain integer that a fraction may follow as a mixed number.
        let mut mixable = self.ended_with_integer(&factors[0]);
        loop {
            if self.with_unit(&mut factors) {
                mixable = false;
                continue;
            }
            match self.peek() {
                Some(Tok::Op('*')) => {
                    self.pos += 1;
                    let (negative, plus_minus) = self.signs();
                    let factor = self.power()?;
                    mixable = !negative && self.ended_with_integer(&factor);
                    factors.push(with_signs(factor, negative, plus_minus));
                }
                Some(Tok::Cross) => {
                    self.pos += 1;
                    // Each cross product deepens the tree by one level.
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(Failure::OverBudget(Budget::Depth));
                    }
                    let left = factors.pop().expect("at least one factor");
                    let right = self.power()?;
                    factors.push(cross(left, right));
                    mixable = false;
                }
                Some(Tok::Op('/')) => {
                    self.pos += 1;
                    let (negative, plus_minus) = self.signs();
                    let divisor = self.power()?;
                    let inverse = match divisor {
                        Expr::Num(n) if !n.value.is_zero() && !n.decimal => Expr::Num(Number {
                            value: n.value.recip(),
                            decimal: false,
                        }),
                        other => Expr::Div(Box::new(Expr::int(1)), Box::new(other)),
                    };
                    factors.push(with_signs(inverse, negative, plus_minus));
                    mixable = false;
                }
                Some(Tok::Percent) => {
                    self.pos += 1;
                    if factors.iter().any(|f| matches!(f, Expr::Percent(_))) {
                        return Err(Failure::NotParsed);
                    }
                    let whole = one_or(std::mem::take(&mut factors), Expr::Mul);
                    factors.push(Expr::Percent(Box::new(whole)));
                    mixable = false;
                }
                Some(Tok::Frac) if mixable => {
                    let fraction = self.power()?;
                    let numeric = matches!(&fraction, Expr::Div(a, b)
                        if matches!((&**a, &**b), (Expr::Num(_), Expr::Num(_))));
                    let last = factors.pop().expect("at least one factor");
                    if numeric {
                        factors.push(Expr::Add(vec![last, fraction]));
                    } else {
                        factors.extend([last, fraction]);
                    }
                    mixable = false;
                }
                Some(tok) if self.starts_factor(tok) => {
                    let factor = self.power()?;
                    mixable = false;
                    factors.push(factor);
                }
                _ => {
                    // Words are not factors.
                    if factors.len() > 1 && factors.iter().any(|f| matches!(f, Expr::Text(_))) {
                        return Err(Failure::NotParsed);
                    }
                    return Ok(one_or(factors, Expr::Mul));
                }
            }
        }
    }

    pub(super) fn ended_with_integer(&self, factor: &Expr) -> bool {
        matches!(factor.plain(), Expr::Num(n) if n.value.is_integer())
            && matches!(
                self.tokens.get(self.pos.wrapping_sub(1)).map(|t| &t.tok),
                Some(Tok::Num(_))
            )
    }

    /// Whether `tok` begins a factor that is multiplied without a sign.
    pub(super) fn starts_factor(&self, tok: &Tok) -> bool {
        match tok {
            Tok::Const(_)
            | Tok::Fun(_)
            | Tok::Begin
            | Tok::Frac
            | Tok::Sqrt
            | Tok::Cbrt
            | Tok::Binom
            | Tok::Overline
            | Tok::Env(_)
            | Tok::Sum
            | Tok::Integral
            | Tok::Named(_)
            | Tok::Name(_)
            | Tok::Product => true,
            Tok::Sym(_) => true,
            Tok::Word(word) => !units::is_unit(word) && (word.len() <= 3 || !self.space_at(0)),
            // Digits directly after digits are rejected; after anything else they multiply.
            Tok::Num(_) | Tok::Repeating(..) => !matches!(
                self.tokens.get(self.pos.wrapping_sub(1)).map(|t| &t.tok),
                Some(Tok::Num(_) | Tok::Repeating(..))
            ),
            Tok::Open(c) => *c != '{' && !matches!(self.peek_at(1), Some(Tok::Bmod)),
            Tok::Bar => self.bars == 0,
            _ => false,
        }
    }

    /// A primary with what follows it: powers, factorials, degree signs.
    pub(super) fn power(&mut self) -> Parsed {
        let mut base = self.primary()?;
        let mut wrapped = 0;
        loop {
            match self.peek() {
                Some(Tok::Op('^')) => {
                    self.pos += 1;
                    if self.eat_degree() {
                        base = Expr::Degree(Box::new(base));
                    } else if matches!(base, Expr::Num(_))
                        && let Some(unit) = self.ordinal()
                    {
                        base = Expr::Quantity(Box::new(base), unit);
                    } else if self.eat(&Tok::Prime) {
                    } else {
                        let exponent = self.exponent()?;
                        base = Expr::Pow(Box::new(base), Box::new(exponent));
                    }
                }
                // `f \circ g`
                Some(Tok::Degree)
                    if matches!(base, Expr::Sym(_))
                        && matches!(self.peek_at(1), Some(Tok::Sym(_))) =>
                {
                    self.pos += 1;
                    let inner = self.deeper(|p| p.power())?;
                    base = Expr::Apply("∘".into(), vec![base, inner]);
                }
                Some(Tok::Degree) => {
                    self.eat_degree();
                    base = Expr::Degree(Box::new(base));
                }
                Some(Tok::Op('!')) => {
                    let mut count = 0;
                    while self.eat(&Tok::Op('!')) {
                        count += 1;
                    }
                    let func = match count {
                        1 => Func::Factorial,
                        2 => Func::DoubleFactorial,
                        _ => return Err(Failure::OverBudget(Budget::Size)),
                    };
                    base = Expr::Fun(func, vec![base]);
                }
                Some(Tok::Prime) => {
                    self.pos += 1;
                    continue;
                }
                _ => return Ok(base),
            }
            wrapped += 1;
            if wrapped > 8 {
                return Err(Failure::OverBudget(Budget::Depth));
            }
        }
    }

    /// A degree sign, bare or in braces, with the letter of a temperature scale after it.
    pub(super) fn eat_degree(&mut self) -> bool {
        let braced = self.next_is(&Tok::Begin)
            && self.peek_at(1) == Some(&Tok::Degree)
            && self.peek_at(2) == Some(&Tok::End);
        if braced {
            self.pos += 3;
        } else if !self.eat(&Tok::Degree) {
            return false;
        }
        if matches!(self.peek(), Some(Tok::Sym(s)) if s == "C" || s == "F") {
            self.pos += 1;
        }
        true
    }

    pub(super) fn exponent(&mut self) -> Parsed {
        self.deeper(|p| {
            let (negative, _) = p.signs();
            let inner = match p.peek() {
                // `e^xe^y`: of several letters only the first is the exponent.
                Some(Tok::Begin | Tok::Word(_)) => p.argument()?,
                // `2^3^4` is 2^(3^4), and `2^10` means the whole number.
                _ => {
                    let base = p.primary()?;
                    if p.eat(&Tok::Op('^')) {
                        let top = p.exponent()?;
                        Expr::Pow(Box::new(base), Box::new(top))
                    } else {
                        base
                    }
                }
            };
            Ok(with_signs(inner, negative, false))
        })
    }
}

/// The cross product, which changes its sign when its factors are swapped.
fn cross(left: Expr, right: Expr) -> Expr {
    let swapped = format!("{left:?}") > format!("{right:?}");
    let factors = if swapped {
        vec![right, left]
    } else {
        vec![left, right]
    };
    let product = Expr::Apply("×".into(), factors);
    if swapped {
        Expr::Neg(Box::new(product))
    } else {
        product
    }
}
