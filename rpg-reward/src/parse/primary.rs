//! Literals, variables and names.

use super::{Failure, Parsed, Parser, decimal, repeating};
use crate::ast::{Constant, Expr, Fold, Func};
use crate::lex::Tok;
use crate::lexicon::{Class, said, units};
use crate::names;

impl Parser {
    pub(super) fn primary(&mut self) -> Parsed {
        if let Some(based) = self.digits_with_base() {
            return Ok(based);
        }
        let Some(tok) = self.peek().cloned() else {
            return Err(Failure::NotParsed);
        };
        match tok {
            Tok::Num(text) => {
                self.pos += 1;
                let number = Expr::Num(decimal(&text)?);
                Ok(self.plain_mixed_number(&text)?.unwrap_or(number))
            }
            Tok::Repeating(before, repetend) => {
                self.pos += 1;
                Ok(Expr::Num(repeating(&before, &repetend)?))
            }
            Tok::Sym(name) => {
                self.pos += 1;
                let name = self.with_subscript(name)?;
                let is_function = matches!(name.as_str(), "f" | "g" | "h") || name.ends_with('\'');
                if is_function && self.next_is(&Tok::Open('(')) {
                    let arguments = self.call_arguments()?;
                    return Ok(Expr::Apply(name, arguments));
                }
                if matches!(name.as_str(), "C" | "P") && self.next_is(&Tok::Open('(')) {
                    return self.combinations(&name);
                }
                Ok(Expr::Sym(name))
            }
            // `USD 5`
            Tok::Word(word)
                if units::is_currency(&word) && matches!(self.peek_at(1), Some(Tok::Num(_))) =>
            {
                self.pos += 1;
                self.words(word)
            }
            Tok::Word(word) if !self.tokens[self.pos].upright => {
                self.pos += 1;
                self.word(&word)
            }
            Tok::Text(text) | Tok::Word(text) => {
                self.pos += 1;
                // `\text{floor}(x)`: a name directly before brackets is a function.
                if self.names_function(&text) {
                    return match names::plain(&text).or_else(|| names::command(&text)) {
                        Some(Tok::Fun(func)) => self.deeper(|p| p.function(func)),
                        _ => Ok(Expr::Apply(text, self.call_arguments()?)),
                    };
                }
                let is_word = matches!(self.tokens[self.pos - 1].tok, Tok::Word(_));
                if is_word && text.len() <= 3 && !said(&text).is(Class::SHORT) {
                    return self.word(&text);
                }
                self.words(text)
            }
            Tok::Name(name) => {
                self.pos += 1;
                self.deeper(|p| p.named_function(name))
            }
            Tok::Integral => {
                self.pos += 1;
                self.deeper(|p| p.integral())
            }
            Tok::Named(name) => {
                self.pos += 1;
                Ok(self.uncomputed(&name))
            }
            Tok::Fun(Func::Max | Func::Min) if self.peek_at(1) == Some(&Tok::Op('_')) => {
                let name = format!("{tok:?}");
                self.pos += 1;
                Ok(self.uncomputed(&name))
            }
            Tok::Const(constant) => {
                self.pos += 1;
                if matches!(constant, Constant::E | Constant::I) && self.next_is(&Tok::Op('_')) {
                    let name = if constant == Constant::E { "e" } else { "i" };
                    return Ok(Expr::Sym(self.with_subscript(name.into())?));
                }
                if constant != Constant::Pi
                    && constant != Constant::E
                    && constant != Constant::I
                    && matches!(self.peek(), Some(Tok::Op('^' | '_')))
                {
                    return self.decorated_set(constant);
                }
                Ok(Expr::Const(constant))
            }
            Tok::Fun(func) => {
                self.pos += 1;
                self.deeper(|p| p.function(func))
            }
            Tok::Undefined => {
                self.pos += 1;
                Ok(Expr::Undefined)
            }
            Tok::Frac => {
                self.pos += 1;
                self.deeper(|p| {
                    let numerator = p.argument()?;
                    let denominator = p.argument()?;
                    Ok(Expr::Div(Box::new(numerator), Box::new(denominator)))
                })
            }
            Tok::Binom => {
                self.pos += 1;
                self.deeper(|p| {
                    let n = p.argument()?;
                    let k = p.argument()?;
                    Ok(Expr::Fun(Func::Binomial, vec![n, k]))
                })
            }
            Tok::Sqrt => {
                self.pos += 1;
                self.deeper(|p| p.root())
            }
            Tok::Cbrt => {
                self.pos += 1;
                self.deeper(|p| {
                    let radicand = p.argument()?;
                    Ok(Expr::Root(Box::new(radicand), Box::new(Expr::int(3))))
                })
            }
            Tok::Overline => {
                self.pos += 1;
                self.deeper(|p| {
                    let inner = p.argument()?;
                    // What is barred is another variable; a segment `AB` is not.
                    Ok(match inner {
                        Expr::Sym(name) => Expr::Sym(format!("bar {name}")),
                        Expr::Mul(factors) if is_lower_product(&factors) => {
                            Expr::Apply("bar".into(), factors)
                        }
                        other => Expr::Fun(Func::Conjugate, vec![other]),
                    })
                })
            }
            Tok::Sum | Tok::Product => {
                self.pos += 1;
                let is_sum = tok == Tok::Sum;
                if !self.counts_ahead() {
                    return Ok(self.uncomputed(if is_sum { "sum" } else { "product" }));
                }
                let fold = if is_sum { Fold::Sum } else { Fold::Product };
                self.deeper(|p| p.series(fold))
            }
            Tok::Begin | Tok::Open(_) | Tok::Bar | Tok::Env(_) => self.deeper(|p| p.group()),
            Tok::Percent | Tok::Degree => Err(Failure::NotParsed),
            _ => Err(Failure::NotParsed),
        }
    }

    /// Whether the name that has just been read stands directly before brackets.
    fn names_function(&self, name: &str) -> bool {
        self.next_is(&Tok::Open('('))
            && !self.space_at(0)
            && name.bytes().all(|b| b.is_ascii_alphabetic())
            && !units::is_unit(name)
    }

    /// `1 3/4`: a whole number, a space, and a fraction of two whole numbers.
    fn plain_mixed_number(&mut self, whole: &str) -> Result<Option<Expr>, Failure> {
        let (Some(Tok::Num(numerator)), Some(Tok::Op('/')), Some(Tok::Num(denominator))) =
            (self.peek(), self.peek_at(1), self.peek_at(2))
        else {
            return Ok(None);
        };
        if !self.space_at(0)
            || [whole, numerator, denominator]
                .iter()
                .any(|t| t.contains('.'))
        {
            return Ok(None);
        }
        let (whole, numerator, denominator) =
            (decimal(whole)?, decimal(numerator)?, decimal(denominator)?);
        self.pos += 3;
        Ok(Some(Expr::Add(vec![
            Expr::Num(whole),
            Expr::Div(
                Box::new(Expr::Num(numerator)),
                Box::new(Expr::Num(denominator)),
            ),
        ])))
    }

    /// Letters in a row: a product of one-letter variables, unless they form a word.
    fn word(&mut self, word: &str) -> Parsed {
        if word.len() > 3 || said(word).is(Class::SHORT) {
            return Ok(Expr::Text(word.to_string()));
        }
        let mut letters: Vec<Expr> = Vec::new();
        let count = word.len();
        for (index, letter) in word.chars().enumerate() {
            let expr = match letter {
                'e' => Expr::Const(Constant::E),
                'i' => Expr::Const(Constant::I),
                _ if index + 1 == count => Expr::Sym(self.with_subscript(letter.to_string())?),
                _ => Expr::Sym(letter.to_string()),
            };
            letters.push(expr);
        }
        // A power or factorial after the word belongs to its last letter.
        if let Some(Tok::Op('^')) = self.peek() {
            self.pos += 1;
            let last = letters.pop().expect("a word has letters");
            let exponent = self.exponent()?;
            letters.push(Expr::Pow(Box::new(last), Box::new(exponent)));
        }
        Ok(Expr::Mul(letters))
    }

    /// The name with the subscript that follows it.
    pub(super) fn with_subscript(&mut self, mut name: String) -> Result<String, Failure> {
        loop {
            if self.eat(&Tok::Op('_')) {
                name.push('_');
                name.push_str(&self.flat_text()?);
            } else if let Some((primes, length)) = self.primes() {
                name.extend(std::iter::repeat_n('\'', primes));
                self.pos += length;
            } else {
                return Ok(name);
            }
        }
    }

    /// The number of primes that follow, `''` or `^{\prime\prime}`, and the number of their tokens.
    fn primes(&self) -> Option<(usize, usize)> {
        // `f^{(4)}`
        if self.next_is(&Tok::Op('^'))
            && self.peek_at(2) == Some(&Tok::Open('('))
            && let (Some(Tok::Num(order)), Some(Tok::Close(')')), Some(Tok::End)) =
                (self.peek_at(3), self.peek_at(4), self.peek_at(5))
        {
            let order = order.parse().ok().filter(|order| *order <= 9);
            return order.map(|order| (order, 6));
        }
        let raised = usize::from(self.next_is(&Tok::Op('^')));
        let braced = usize::from(raised == 1 && self.peek_at(1) == Some(&Tok::Begin));
        let start = raised + braced;
        let count = (start..)
            .take_while(|&ahead| self.peek_at(ahead) == Some(&Tok::Prime))
            .take(9)
            .count();
        let closed = braced == 0 || self.peek_at(start + count) == Some(&Tok::End);
        (count > 0 && closed).then_some((count, start + count + braced))
    }

    /// A braced group or one token as text, without recursion.
    fn flat_text(&mut self) -> Result<String, Failure> {
        let mut text = String::new();
        let mut depth = 0usize;
        loop {
            let Some(tok) = self.peek().cloned() else {
                return Err(Failure::NotParsed);
            };
            self.pos += 1;
            match tok {
                Tok::Begin => depth += 1,
                Tok::End => {
                    if depth == 0 {
                        return Err(Failure::NotParsed);
                    }
                    depth -= 1;
                }
                Tok::Num(t) | Tok::Sym(t) | Tok::Word(t) => text.push_str(&t),
                Tok::Text(t) => text.push_str(t.trim()),
                Tok::Fun(func) => text.push_str(&format!("{func:?}").to_lowercase()),
                Tok::Const(Constant::I) => text.push('i'),
                Tok::Const(Constant::E) => text.push('e'),
                Tok::Const(Constant::Pi) => text.push('π'),
                Tok::Op(c) | Tok::Open(c) | Tok::Close(c) if depth > 0 => text.push(c),
                _ => return Err(Failure::NotParsed),
            }
            if depth == 0 {
                return Ok(text);
            }
        }
    }

    /// `1011_2`, `A3_{16}`: digits, an underscore and a base.
    fn digits_with_base(&mut self) -> Option<Expr> {
        let mut digits = String::new();
        let mut ahead = 0;
        loop {
            if ahead > 0 && self.space_at(ahead) {
                return None;
            }
            match self.peek_at(ahead)? {
                Tok::Num(t) if !t.contains('.') => digits.push_str(t),
                Tok::Sym(t) | Tok::Word(t) if t.is_ascii() && !digits.is_empty() || t.len() > 1 => {
                    digits.push_str(t);
                }
                Tok::Const(Constant::E) => digits.push('e'),
                Tok::Op('_') => break,
                _ => return None,
            }
            ahead += 1;
        }
        let numeric = digits.chars().all(|c| c.is_ascii_digit());
        let (braced, start) = match self.peek_at(ahead + 1)? {
            Tok::Begin => (true, ahead + 2),
            _ => (false, ahead + 1),
        };
        let base = match self.peek_at(start)? {
            Tok::Num(t) => t.parse::<u32>().ok()?,
            Tok::Text(t) | Tok::Word(t) => names::number_word(t.trim())?,
            _ => return None,
        };
        if braced && self.peek_at(start + 1) != Some(&Tok::End) {
            return None;
        }
        let fits = (2..=36).contains(&base)
            && digits
                .chars()
                .all(|c| c.to_digit(36).is_some_and(|d| d < base));
        if !fits || (!numeric && base <= 10) {
            return None;
        }
        self.pos += start + 1 + usize::from(braced);
        let digits = digits.trim_start_matches('0').to_lowercase();
        Some(Expr::Based(
            if digits.is_empty() {
                "0".into()
            } else {
                digits
            },
            base,
        ))
    }
}

/// Whether the factors are digits and small letters, as in the number `\overline{abc}`.
fn is_lower_product(factors: &[Expr]) -> bool {
    factors.iter().all(|factor| match factor {
        Expr::Sym(name) => name.starts_with(|c: char| c.is_ascii_lowercase()),
        Expr::Num(_) | Expr::Const(_) => true,
        _ => false,
    })
}
