//! Units and words beside a value.
//!
//! A unit is a product of factors, joined by `*`, `/`, `per` or nothing, also as a fraction or in brackets;
//! a factor is a name, perhaps with a prefix and a power. Words are factors like the names of units: what
//! either means is decided where answers are compared. Single letters are units in upright type only.

use super::{Expr, Parsed, Parser, one_or};
use crate::ast::{Func, Unit};
use crate::lex::{Tok, Token};
use crate::lexicon::units::{self, Kind};
use crate::names;

/// The most tokens of a unit or of the words after a value.
const MAX_TOKENS: usize = 80;
/// The deepest nesting of brackets in a unit.
const MAX_BRACKETS: usize = 4;

/// A unit that is being read.
struct Scan<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    factors: Vec<(String, i32)>,
    /// Whether the last factor is a word in plain letters or in `\text{}`, so that others may follow.
    prose: bool,
}

impl Parser {
    /// The factors with the unit or the words that follow them.
    pub(super) fn with_unit(&mut self, factors: &mut Vec<Expr>) -> bool {
        let Some(unit) = self.multiplier().or_else(|| self.unit()) else {
            return false;
        };
        let value = one_or(std::mem::take(factors), Expr::Mul);
        factors.push(Expr::Quantity(Box::new(value), unit));
        true
    }

    /// The unit or words after a value, if they end the term.
    pub(super) fn unit(&mut self) -> Option<Unit> {
        let (end, factors) = self.unit_at(self.pos)?;
        self.pos = end;
        Some(Unit::after(factors))
    }

    /// Whether a unit or words follow the value.
    pub(super) fn at_unit(&self) -> bool {
        self.unit_at(self.pos).is_some()
    }

    /// Where the unit that starts at `start` ends, if it ends a term, and its factors.
    pub(super) fn unit_at(&self, start: usize) -> Option<(usize, Vec<(String, i32)>)> {
        let last = self.tokens.len().min(start + MAX_TOKENS);
        let mut scan = Scan {
            tokens: &self.tokens[..last],
            at: start,
            depth: 0,
            factors: Vec::new(),
            prose: false,
        };
        let found = start > 0 && scan.may_start() && scan.product(1);
        let end = scan.at;
        (found && self.tokens.get(end).is_none_or(|t| ends_term(&t.tok)))
            .then_some((end, scan.factors))
    }

    /// `million` and the like directly after a number; the rest of its text stays.
    fn multiplier(&mut self) -> Option<Unit> {
        let (Tok::Word(text) | Tok::Text(text)) = self.peek()? else {
            return None;
        };
        let text = text.trim();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let before = &self.tokens[self.pos.checked_sub(1)?].tok;
        let scaled = units::multiplier(word).is_some()
            && (matches!(before, Tok::Num(_) | Tok::End)
                || matches!(before, Tok::Word(word) if units::multiplier(word).is_some()));
        if !scaled {
            return None;
        }
        let (word, rest) = (word.to_string(), rest.to_string());
        if rest.is_empty() {
            self.pos += 1;
        } else {
            self.tokens[self.pos].tok = Tok::Text(rest);
        }
        Some(Unit::after(vec![(word, 1)]))
    }

    /// The ending of an ordinal number above the line, as in `3^{\text{rd}}`.
    pub(super) fn ordinal(&mut self) -> Option<Unit> {
        let braced = usize::from(self.next_is(&Tok::Begin));
        let (Tok::Text(ending) | Tok::Word(ending)) = self.peek_at(braced)? else {
            return None;
        };
        let ending = ending.trim().to_string();
        let closed = braced == 0 || self.peek_at(2) == Some(&Tok::End);
        if !closed || units::kind(&ending) != Some(Kind::Ordinal) {
            return None;
        }
        self.pos += 1 + 2 * braced;
        Some(Unit::after(vec![(ending, 1)]))
    }

    /// Words that have just been read, with the value that they introduce; on their own they are the value.
    pub(super) fn words(&mut self, words: String) -> Parsed {
        let introduces = self.peek().is_some_and(|next| {
            self.starts_factor(next) || matches!(next, Tok::Op('-') | Tok::Open('{'))
        });
        if !introduces {
            return Ok(Expr::Text(words));
        }
        let value = self.deeper(|p| p.sum())?;
        let unit = Unit {
            factors: vec![(words, 1)],
            before: true,
        };
        Ok(Expr::Quantity(Box::new(value), unit))
    }
}

impl Scan<'_> {
    fn tok(&self, ahead: usize) -> Option<&Tok> {
        self.tokens.get(self.at + ahead).map(|token| &token.tok)
    }

    fn eat(&mut self, tok: &Tok) -> bool {
        let found = self.tok(0) == Some(tok);
        self.at += usize::from(found);
        found
    }

    /// Whether a unit may start here. After a slash, `18/\text{day}`, it must not be a divisor.
    fn may_start(&self) -> bool {
        if self.tok(0) != Some(&Tok::Op('/')) {
            return true;
        }
        let Some(next) = self.tokens.get(self.at + 1) else {
            return false;
        };
        let after_digits = matches!(self.tokens[self.at - 1].tok, Tok::Num(_));
        match &next.tok {
            Tok::Text(text) => match text.trim() {
                letter if letter.len() == 1 => after_digits && units::kind(letter).is_some(),
                word => word.len() > 3 || units::upright_kind(word).is_some(),
            },
            Tok::Word(word) => units::is_unit(word),
            Tok::Sym(_) => after_digits && next.upright,
            tok => matches!(tok, Tok::Fun(Func::Min | Func::Sec)),
        }
    }

    /// Factors with what joins them; the powers of all are multiplied by `sign`.
    fn product(&mut self, sign: i32) -> bool {
        let mut sign = if self.divides() { -sign } else { sign };
        if !self.factor(sign) {
            return false;
        }
        loop {
            let (save, count) = (self.at, self.factors.len());
            if self.divides() {
                sign = -sign.abs();
            } else {
                self.eat(&Tok::Op('*'));
            }
            if !self.factor(sign) {
                self.at = save;
                self.factors.truncate(count);
                return true;
            }
        }
    }

    fn divides(&mut self) -> bool {
        let is_per =
            matches!(self.tok(0), Some(Tok::Word(word)) if units::kind(word) == Some(Kind::Per));
        self.at += usize::from(is_per);
        is_per || self.eat(&Tok::Op('/'))
    }

    fn factor(&mut self, sign: i32) -> bool {
        let start = self.factors.len();
        let read = match self.tok(0) {
            Some(Tok::Begin) => self.enclosed(&Tok::End, sign),
            Some(Tok::Open('(')) if start > 0 || self.after_number() => {
                self.enclosed(&Tok::Close(')'), sign)
            }
            Some(Tok::Frac) => {
                self.at += 1;
                self.part(sign) && self.part(-sign)
            }
            Some(_) => self.name().is_some_and(|name| {
                self.factors.push((name, sign));
                true
            }),
            None => false,
        };
        let power = if read { self.power() } else { None };
        for (_, exponent) in &mut self.factors[start..] {
            *exponent = exponent.saturating_mul(power.unwrap_or(1));
        }
        power.is_some()
    }

    /// The numerator or denominator of a unit: a group, or one name with its power.
    fn part(&mut self, sign: i32) -> bool {
        match self.tok(0) {
            Some(Tok::Begin) => self.enclosed(&Tok::End, sign),
            _ => self.factor(sign),
        }
    }

    fn enclosed(&mut self, close: &Tok, sign: i32) -> bool {
        self.at += 1;
        self.depth += 1;
        let read = self.depth <= MAX_BRACKETS && self.product(sign) && self.eat(close);
        self.depth -= 1;
        read
    }

    /// The power after a factor, 1 if there is none.
    fn power(&mut self) -> Option<i32> {
        if !self.eat(&Tok::Op('^')) {
            return Some(1);
        }
        let braced = self.eat(&Tok::Begin);
        let minus = self.eat(&Tok::Op('-'));
        let Some(Tok::Num(digits)) = self.tok(0) else {
            return None;
        };
        let power: i32 = digits.parse().ok()?;
        self.at += 1;
        (!braced || self.eat(&Tok::End)).then_some(if minus { -power } else { power })
    }

    /// The name of a unit, or a word.
    fn name(&mut self) -> Option<String> {
        if let Some(name) = self.prefixed() {
            self.at += 2;
            self.prose = false;
            return Some(name);
        }
        let token = self.tokens.get(self.at)?;
        let (name, prose) = match &token.tok {
            Tok::Text(text) if !names::offers_more(text) => (text.trim(), true),
            Tok::Fun(Func::Min) => ("min", false),
            Tok::Fun(Func::Sec) => ("sec", false),
            Tok::Name(name) if units::upright_kind(name).is_some() => (name.as_str(), false),
            Tok::Word(word) if self.is_said(token, word) => (word.as_str(), !token.upright),
            Tok::Sym(letter) if self.is_unit_letter(token, letter) => (letter.as_str(), self.prose),
            Tok::Op('^') | Tok::Degree => return self.temperature(),
            _ => return None,
        };
        self.at += 1;
        self.prose = prose;
        Some(name.to_string())
    }

    /// `\mu\mathrm{m}`, `\mathrm{k}\Omega`, `μm`: a prefix with the name after it.
    fn prefixed(&self) -> Option<String> {
        let (prefix, symbol) = (self.tokens.get(self.at)?, self.tokens.get(self.at + 1)?);
        let (Tok::Sym(first) | Tok::Text(first)) = &prefix.tok else {
            return None;
        };
        let (Tok::Sym(second) | Tok::Word(second) | Tok::Text(second)) = &symbol.tok else {
            return None;
        };
        let is_micro = first == "mu";
        // `3 μm`, but not `3\mu m`.
        let is_joined = symbol.upright
            || matches!(symbol.tok, Tok::Text(_))
            || (!symbol.space && (second == "Omega" || (is_micro && prefix.space)));
        let is_prefix = is_micro || prefix.upright || matches!(prefix.tok, Tok::Text(_));
        (is_joined
            && is_prefix
            && units::is_prefix(first.trim())
            && units::takes_prefix(second.trim())
            && (prefix.space || self.after_number()))
        .then(|| format!("{}{}", first.trim(), second.trim()))
    }

    /// Whether letters in a row are a unit or a word, and not a product.
    fn is_said(&self, token: &Token, word: &str) -> bool {
        let is_first = self.factors.is_empty();
        let kind = if token.upright {
            units::upright_kind(word)
        } else {
            units::kind(word)
        };
        match kind {
            Some(Kind::Ordinal) => false,
            Some(Kind::Multiplier(..)) => !is_first,
            Some(Kind::Apart) => token.space || token.upright || !is_first,
            Some(_) => true,
            None if word.len() > 3 => token.space || token.upright || !is_first,
            // Short words are words among others only.
            None => self.prose && token.space,
        }
    }

    /// Whether a single letter is a unit.
    fn is_unit_letter(&self, token: &Token, letter: &str) -> bool {
        let is_first = self.factors.is_empty();
        let kind = units::kind(letter).filter(|kind| matches!(kind, Kind::Unit | Kind::Apart));
        if letter == "Omega" {
            !is_first || (token.space && self.after_number())
        } else if token.upright {
            let close = kind == Some(Kind::Unit) && self.after_number();
            kind.is_some() && (!is_first || token.space || close)
        } else if is_first {
            // `10 m/s`: in plain type, a letter is a unit only next to another one.
            let per = matches!(self.tok(2), Some(Tok::Sym(time)) if time == "s" || time == "h");
            letter == "m" && token.space && self.tok(1) == Some(&Tok::Op('/')) && per
        } else {
            let before = &self.tokens[self.at - 1].tok;
            let joined = token.space || matches!(before, Tok::Op('/' | '*'));
            // `2 miles a day`
            let is_article = letter == "a" && matches!(self.tok(1), Some(Tok::Word(_)));
            kind.is_some() && joined || is_article && self.prose || self.names_condition()
        }
    }

    /// Whether a number, something in brackets, or a sign precedes.
    fn after_number(&self) -> bool {
        let before = self.at.checked_sub(1).map(|index| &self.tokens[index].tok);
        matches!(
            before,
            Some(
                Tok::Num(_)
                    | Tok::Repeating(..)
                    | Tok::Const(_)
                    | Tok::Text(_)
                    | Tok::Begin
                    | Tok::End
                    | Tok::Close(_)
                    | Tok::Op('/')
            )
        )
    }

    /// Whether the last words introduce a condition on the variable after them.
    fn names_condition(&self) -> bool {
        self.factors.last().is_some_and(|(words, _)| {
            let first = words.split(' ').next();
            first.is_some_and(|word| matches!(word, "for" | "where" | "with" | "given"))
        })
    }

    /// A degree of a temperature scale: `^\circ\mathrm{C}`.
    fn temperature(&mut self) -> Option<String> {
        self.eat(&Tok::Op('^'));
        let braced = self.eat(&Tok::Begin);
        let degree = self.eat(&Tok::Degree) && (!braced || self.eat(&Tok::End));
        let scale = match self.tok(0) {
            Some(Tok::Sym(scale) | Tok::Text(scale)) if degree => scale.trim(),
            _ => return None,
        };
        let name = matches!(scale, "C" | "F" | "K").then(|| format!("°{scale}"))?;
        self.at += 1;
        Some(name)
    }
}

/// Whether nothing of a term can follow.
pub(super) fn ends_term(tok: &Tok) -> bool {
    matches!(
        tok,
        Tok::Close(_)
            | Tok::End
            | Tok::Op(',' | ';' | '+' | '-' | ':' | '±')
            | Tok::Rel(_)
            | Tok::Or
            | Tok::And
            | Tok::Row
            | Tok::Cell
            | Tok::EndEnv(_)
            | Tok::Bar
    )
}
