//! Functions, roots, sums, and their arguments.

use super::{Failure, Parsed, Parser, one_or};
use crate::ast::{Constant, Expr, Fold, Func, RelOp};
use crate::lex::{Tok, Token};
use crate::lexicon::{Class, said};
use crate::names;

/// The most tokens between the sign of a series and its index: those of an upper bound.
const MAX_BOUND: usize = 12;

impl Parser {
    /// The argument of a command: a braced group, a bracketed one, or a single digit or letter.
    pub(super) fn argument(&mut self) -> Parsed {
        match self.peek() {
            Some(Tok::Begin) => self.deeper(|p| p.group()),
            Some(Tok::Num(text)) if text.len() > 1 && !text.contains('.') => {
                // TeX takes one digit: `\frac12` is one half, `\sqrt2b` is the root of two, times b.
                let (digit, rest) = (text[..1].to_string(), text[1..].to_string());
                self.tokens[self.pos].tok = Tok::Num(rest);
                Ok(Expr::Num(super::decimal(&digit)?))
            }
            Some(Tok::Num(_)) => {
                let Some(Tok::Num(text)) = self.peek().cloned() else {
                    return Err(Failure::NotParsed);
                };
                self.pos += 1;
                Ok(Expr::Num(super::decimal(&text)?))
            }
            Some(Tok::Word(_)) if self.tokens[self.pos].upright => self.primary(),
            Some(Tok::Word(word)) => {
                let mut letters = word.chars();
                let first = letters.next().ok_or(Failure::NotParsed)?;
                let rest: String = letters.collect();
                let tok = match names::plain(&rest) {
                    Some(tok) => tok,
                    None if rest.len() == 1 => Tok::Sym(rest),
                    None => Tok::Word(rest),
                };
                self.tokens[self.pos].tok = tok;
                Ok(match first {
                    'e' => Expr::Const(Constant::E),
                    'i' => Expr::Const(Constant::I),
                    _ => Expr::Sym(first.to_string()),
                })
            }
            Some(_) => self.deeper(|p| p.primary()),
            None => Err(Failure::NotParsed),
        }
    }

    /// What follows `\sqrt`: an index in brackets, then the radicand.
    pub(super) fn root(&mut self) -> Parsed {
        let mut index = Expr::int(2);
        if self.next_is(&Tok::Open('[')) {
            self.pos += 1;
            index = self.sum()?;
            self.expect(&Tok::Close(']'))?;
        }
        let radicand = self.argument()?;
        Ok(Expr::Root(Box::new(radicand), Box::new(index)))
    }

    /// The arguments in brackets after the name of a function.
    pub(super) fn call_arguments(&mut self) -> Result<Vec<Expr>, Failure> {
        self.deeper(|p| {
            let bars = std::mem::take(&mut p.bars);
            p.pos += 1;
            // `P(A|B)`: a single bar sets a condition off.
            p.bars = usize::from(p.bars_ahead() == 1);
            let mut arguments = vec![p.relation()?];
            if p.bars == 1 && p.eat(&Tok::Bar) {
                let event = arguments.remove(0);
                arguments.push(Expr::Apply("|".into(), vec![event, p.relation()?]));
            }
            p.bars = 0;
            while p.eat(&Tok::Op(',')) || p.eat(&Tok::Op(';')) {
                arguments.push(p.relation()?);
            }
            match p.peek() {
                Some(Tok::Close(')' | ']')) => p.pos += 1,
                _ => return Err(Failure::NotParsed),
            }
            p.bars = bars;
            Ok(arguments)
        })
    }

    /// The number of bars up to the bracket that closes the one before the cursor.
    fn bars_ahead(&self) -> usize {
        let mut depth = 0usize;
        let mut bars = 0;
        for token in &self.tokens[self.pos..] {
            match token.tok {
                Tok::Open(_) => depth += 1,
                Tok::Close(_) if depth == 0 => break,
                Tok::Close(_) => depth -= 1,
                Tok::Bar => bars += 1,
                _ => {}
            }
        }
        bars
    }

    /// `C(n, k)` and `P(n, k)`; with one argument the letter is a variable.
    pub(super) fn combinations(&mut self, name: &str) -> Parsed {
        let mut arguments = self.call_arguments()?;
        if arguments.len() == 2 && name == "C" {
            return Ok(Expr::Fun(Func::Binomial, arguments));
        }
        if arguments.len() == 2 {
            return Ok(Expr::Fun(Func::Permutations, arguments));
        }
        let argument = one_or(std::mem::take(&mut arguments), Expr::List);
        Ok(Expr::Mul(vec![Expr::Sym(name.into()), argument]))
    }

    /// A known function whose name has just been read.
    pub(super) fn function(&mut self, func: Func) -> Parsed {
        let mut base = None;
        let mut exponent = None;
        loop {
            if self.next_is(&Tok::Op('_')) && base.is_none() {
                self.pos += 1;
                base = Some(self.subscript_value()?);
            } else if self.next_is(&Tok::Op('^')) && exponent.is_none() {
                self.pos += 1;
                exponent = Some(self.exponent()?);
            } else {
                break;
            }
        }
        let mut arguments = match self.peek() {
            Some(Tok::Open('(' | '[')) => self.call_arguments()?,
            Some(Tok::Begin) => match self.argument()? {
                Expr::Set(items) => items,
                other => vec![other],
            },
            _ => vec![self.bare_argument()?],
        };
        let variadic = matches!(func, Func::Max | Func::Min | Func::Gcd | Func::Lcm);
        if let (true, [Expr::Set(items)]) = (variadic, arguments.as_slice()) {
            arguments = items.clone();
        }
        if variadic {
            // In any order.
            arguments.sort_by_cached_key(|argument| format!("{argument:?}"));
        }
        if func == Func::Log {
            if arguments.len() == 1 {
                arguments.push(base.take().unwrap_or_else(|| Expr::int(10)));
            }
            if arguments.len() != 2 {
                return Err(Failure::NotParsed);
            }
        } else if base.is_some() || (!variadic && arguments.len() != 1) {
            return Err(Failure::NotParsed);
        }
        Ok(match exponent {
            None => Expr::Fun(func, arguments),
            Some(Expr::Num(n)) if n.value == Expr::minus_one() && func.inverse().is_some() => {
                Expr::Fun(func.inverse().unwrap_or(func), arguments)
            }
            Some(exponent) => Expr::Pow(Box::new(Expr::Fun(func, arguments)), Box::new(exponent)),
        })
    }

    /// The base of a logarithm: a group, a whole number or a letter.
    fn subscript_value(&mut self) -> Parsed {
        match self.peek() {
            Some(Tok::Num(_)) => self.primary(),
            _ => self.argument(),
        }
    }

    /// An argument without brackets: factors up to the next operator or function.
    fn bare_argument(&mut self) -> Parsed {
        let (negative, _) = self.signs();
        let mut factors: Vec<Expr> = Vec::new();
        loop {
            match self.peek() {
                Some(
                    Tok::Num(_)
                    | Tok::Repeating(..)
                    | Tok::Sym(_)
                    | Tok::Word(_)
                    | Tok::Const(_)
                    | Tok::Frac
                    | Tok::Sqrt
                    | Tok::Cbrt
                    | Tok::Binom,
                ) => {
                    if !factors.is_empty() && self.at_unit() {
                        break;
                    }
                    factors.push(self.power()?);
                }
                Some(Tok::Bar) if self.bars == 0 && factors.is_empty() => {
                    factors.push(self.power()?);
                }
                Some(Tok::Begin | Tok::Open('⌊' | '⌈') | Tok::Fun(_) | Tok::Env(_))
                    if factors.is_empty() =>
                {
                    factors.push(self.power()?);
                    break;
                }
                // `\sin \pi/4`: an angle is divided before the function is applied.
                Some(Tok::Op('/'))
                    if factors.contains(&Expr::Const(Constant::Pi))
                        && matches!(self.peek_at(1), Some(Tok::Num(_))) =>
                {
                    self.pos += 1;
                    let divisor = self.power()?;
                    factors.push(Expr::Div(Box::new(Expr::int(1)), Box::new(divisor)));
                    break;
                }
                _ => break,
            }
        }
        if factors.is_empty() {
            return Err(Failure::NotParsed);
        }
        let product = one_or(factors, Expr::Mul);
        Ok(if negative {
            Expr::Neg(Box::new(product))
        } else {
            product
        })
    }

    /// Whether a series has an index that starts with a value: `_{k=1}`.
    pub(super) fn counts_ahead(&self) -> bool {
        let ahead = &self.tokens[self.pos..];
        let is_script = |tok: &Tok| matches!(tok, Tok::Op('_' | '^'));
        let index = ahead
            .iter()
            .take(MAX_BOUND)
            .position(|t| t.tok == Tok::Op('_'));
        let Some(index) = index.filter(|_| is_script(&ahead[0].tok)) else {
            return false;
        };
        let mut head = ahead[index..].iter().take_while(|t| t.tok != Tok::End);
        head.any(|t| t.tok == Tok::Rel(RelOp::Eq))
    }

    /// `\sum_{k=1}^{n} body`.
    pub(super) fn series(&mut self, fold: Fold) -> Parsed {
        let mut head = None;
        let mut last = None;
        for _ in 0..2 {
            if self.eat(&Tok::Op('_')) {
                head = Some(self.argument()?);
            } else if self.eat(&Tok::Op('^')) {
                last = Some(self.exponent()?);
            }
        }
        // In the terms of its series, an index has a name of its own, so that its letter does not matter; one
        // called i is not the imaginary unit.
        let written = match &head {
            Some(Expr::Rel(index, _)) => match &**index {
                Expr::Sym(name) => Tok::Sym(name.clone()),
                Expr::Const(Constant::I) => Tok::Const(Constant::I),
                _ => return Err(Failure::NotParsed),
            },
            _ => return Err(Failure::NotParsed),
        };
        let name = format!("#{}", self.depth);
        let variable = Tok::Sym(name.clone());
        self.replace_ahead(&written, &variable);
        let body = self.product()?;
        self.replace_ahead(&variable, &written);
        let (Some(Expr::Rel(_, first)), Some(last)) = (head, last) else {
            return Err(Failure::NotParsed);
        };
        let [(RelOp::Eq, first)] = first.as_slice() else {
            return Err(Failure::NotParsed);
        };
        Ok(Expr::Series(
            fold,
            name,
            Box::new(first.clone()),
            Box::new(last),
            Box::new(body),
        ))
    }

    /// `\operatorname{rank}(A)`, `\operatorname{tr} A`: a function that is known by its name only.
    pub(super) fn named_function(&mut self, name: String) -> Parsed {
        let name = self.with_subscript(name)?;
        match self.peek() {
            // What is denied may be a statement in brackets.
            Some(_) if name == "¬" => Ok(Expr::Apply(name, vec![self.primary()?])),
            Some(Tok::Open('(' | '[')) => Ok(Expr::Apply(name, self.call_arguments()?)),
            Some(tok) if self.starts_factor(tok) => {
                let argument = self.bare_argument()?;
                Ok(Expr::Apply(name, vec![argument]))
            }
            _ => Ok(Expr::Sym(name)),
        }
    }

    /// What is integrated, or what tends to a limit, up to the next relation or separator: it has no value here,
    /// but may be the name of one.
    pub(super) fn uncomputed(&mut self, name: &str) -> Expr {
        let mut depth = 0usize;
        let mut written = name.to_string();
        while let Some(tok) = self.peek() {
            match tok {
                Tok::Begin | Tok::Open(_) => depth += 1,
                Tok::End | Tok::Close(_) if depth == 0 => break,
                Tok::End | Tok::Close(_) => depth -= 1,
                Tok::Rel(_) | Tok::Op(',' | ';') | Tok::Or | Tok::And if depth == 0 => break,
                Tok::Row | Tok::Cell | Tok::EndEnv(_) => break,
                _ => {}
            }
            written.push_str(&format!("{tok:?} "));
            self.pos += 1;
        }
        Expr::Apply(written, Vec::new())
    }

    /// Gives a variable another name in all that follows, in products of letters too.
    pub(super) fn replace_ahead(&mut self, old: &Tok, new: &Tok) {
        if let Tok::Sym(letter) = old {
            self.split_words_with(letter);
        }
        for token in &mut self.tokens[self.pos..] {
            if token.tok == *old {
                token.tok = new.clone();
            }
        }
    }

    fn split_words_with(&mut self, letter: &str) {
        let is_product = |tok: &Tok| {
            matches!(tok, Tok::Word(word)
                if word.len() <= 3 && word.contains(letter) && !said(word).is(Class::SHORT))
        };
        let ahead = &self.tokens[self.pos..];
        if !ahead.iter().any(|token| is_product(&token.tok)) {
            return;
        }
        for token in self.tokens.split_off(self.pos) {
            match &token.tok {
                Tok::Word(word) if is_product(&token.tok) => {
                    let letters = word.chars().enumerate().map(|(at, c)| {
                        let tok = match c {
                            'e' => Tok::Const(Constant::E),
                            'i' => Tok::Const(Constant::I),
                            c => Tok::Sym(c.into()),
                        };
                        Token::new(tok, token.space && at == 0)
                    });
                    self.tokens.extend(letters);
                }
                _ => self.tokens.push(token),
            }
        }
    }

    /// `\mathbb{Z}^+`, `\mathbb{R}_{>0}`: a set with a script that is part of its name.
    pub(super) fn decorated_set(&mut self, constant: Constant) -> Parsed {
        if constant == Constant::Infinity || constant == Constant::EmptySet {
            return Ok(Expr::Const(constant));
        }
        let mut name = format!("{constant:?}");
        for _ in 0..2 {
            let Some(Tok::Op(script @ ('^' | '_'))) = self.peek() else {
                break;
            };
            name.push(*script);
            self.pos += 1;
            let mut depth = 0usize;
            loop {
                let tok = self.peek().cloned().ok_or(Failure::NotParsed)?;
                self.pos += 1;
                match tok {
                    Tok::Begin => depth += 1,
                    Tok::End => depth = depth.checked_sub(1).ok_or(Failure::NotParsed)?,
                    Tok::Num(t) | Tok::Sym(t) => name.push_str(&t),
                    Tok::Op(c) => name.push(c),
                    Tok::Rel(op) => name.push_str(&format!("{op:?}")),
                    _ => return Err(Failure::NotParsed),
                }
                if depth == 0 {
                    break;
                }
            }
        }
        Ok(Expr::Sym(name))
    }
}
