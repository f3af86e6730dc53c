//! Units and words beside a value.
//!
//! A unit is a product of factors, joined by `*`, `/`, `per` or nothing, also as a fraction or in brackets;
//! a factor is a name, perhaps with a prefix and a power. Words are factors like the names of units: what
//! either means is decided where answers are compared. Single letters are units in upright type only.

use super::{Expr, MAX_DEPTH, Parsed, Parser, decimal, one_or};
use crate::ast::{Func, Place, Unit};
use crate::lex::{Tok, Token};
use crate::lexicon::offers_more;
use crate::lexicon::units::{self, Kind};

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
    /// Adds to the factors the unit or the words that follow them.
    pub(super) fn with_unit(&mut self, factors: &mut Vec<Expr>) -> bool {
        if let Some(unit) = self.multiplier() {
            // Each of them deepens the tree by one level.
            self.depth += 1;
            return self.depth <= MAX_DEPTH && wrap(factors, unit);
        }
        let Some((end, unit)) = self.scan(self.pos) else {
            return false;
        };
        let unit = Unit::after(unit);
        match self.tokens.get(end).map(|token| &token.tok) {
            Some(Tok::Num(_)) => self.parts(factors, unit, end),
            next if next.is_none_or(ends_term) => {
                self.pos = end;
                wrap(factors, unit)
            }
            _ => false,
        }
    }

    /// `5 ft 3 in`: several numbers, each with a unit of its own, are one quantity.
    fn parts(&mut self, factors: &mut Vec<Expr>, unit: Unit, end: usize) -> bool {
        let [first @ Expr::Num(_)] = factors.as_slice() else {
            return false;
        };
        let mut parts = vec![Expr::Quantity(Box::new(first.clone()), unit)];
        let mut at = end;
        while let Some(Tok::Num(digits)) = self.tokens.get(at).map(|token| &token.tok) {
            let (Ok(number), Some((end, unit))) = (decimal(digits), self.scan(at + 1)) else {
                return false;
            };
            parts.push(Expr::Quantity(
                Box::new(Expr::Num(number)),
                Unit::after(unit),
            ));
            at = end;
        }
        let ends = self
            .tokens
            .get(at)
            .is_none_or(|token| ends_term(&token.tok));
        let Some(sum) = as_parts(&mut parts).filter(|_| ends) else {
            return false;
        };
        *factors = vec![sum];
        self.pos = at;
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
        let (end, factors) = self.scan(start)?;
        self.tokens
            .get(end)
            .is_none_or(|token| ends_term(&token.tok))
            .then_some((end, factors))
    }

    fn scan(&self, start: usize) -> Option<(usize, Vec<(String, i32)>)> {
        let last = self.tokens.len().min(start + MAX_TOKENS);
        if start == 0 || start >= last {
            return None;
        }
        let mut scan = Scan {
            tokens: &self.tokens[..last],
            at: start,
            depth: 0,
            factors: Vec::new(),
            prose: false,
        };
        let found = scan.may_start() && scan.product(1);
        found.then_some((scan.at, scan.factors))
    }

    /// `million` and the like directly after a number; the rest of its text stays.
    fn multiplier(&mut self) -> Option<Unit> {
        let (Tok::Word(text) | Tok::Text(text)) = self.peek()? else {
            return None;
        };
        let before = &self.tokens[self.pos.checked_sub(1)?].tok;
        let scalable = match before {
            Tok::Num(_) | Tok::End => true,
            Tok::Word(word) => units::multiplier(word).is_some(),
            _ => false,
        };
        if !scalable {
            return None;
        }
        let text = text.trim();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        units::multiplier(word)?;
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
            place: Place::Before,
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

    /// Whether a unit may start here, at a glance.
    fn may_start(&self) -> bool {
        let Some(token) = self.tokens.get(self.at) else {
            return false;
        };
        match &token.tok {
            Tok::Sym(name) => token.upright || matches!(name.as_str(), "m" | "mu" | "Omega"),
            Tok::Op('/') => self.is_rate(),
            Tok::Text(_) | Tok::Word(_) | Tok::Name(_) | Tok::Fun(_) => true,
            Tok::Begin | Tok::Frac | Tok::Open('(') => true,
            _ => false,
        }
    }

    /// Whether what follows the slash here is a unit, `18/\text{day}`, and not a divisor.
    fn is_rate(&self) -> bool {
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

    /// Factors with what joins them. In a denominator, `sign` is negative.
    fn product(&mut self, sign: i32) -> bool {
        let mut power = if self.divides() { -sign } else { sign };
        if !self.factor(power) {
            return false;
        }
        loop {
            let (save, count) = (self.at, self.factors.len());
            if self.divides() {
                power = -sign;
            } else if self.eat(&Tok::Op('*')) {
                power = sign;
            }
            if !self.factor(power) {
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
            // `2\text{x}`: a letter that is no unit is a variable.
            Tok::Text(text) if text.len() == 1 && units::kind(text).is_none() => return None,
            Tok::Text(text) if !offers_more(text) => (text.trim(), true),
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
        if !is_micro && !prefix.upright && matches!(prefix.tok, Tok::Sym(_)) {
            return None;
        }
        // `3 μm`, but not `3\mu m`.
        let is_joined = symbol.upright
            || matches!(symbol.tok, Tok::Text(_))
            || (!symbol.space && (second == "Omega" || (is_micro && prefix.space)));
        (is_joined
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
        let kind = || units::kind(letter).filter(|kind| matches!(kind, Kind::Unit | Kind::Apart));
        if letter == "Omega" {
            !is_first || ((token.space || token.upright) && self.after_number())
        } else if token.upright {
            let close = || kind() == Some(Kind::Unit) && self.after_number();
            kind().is_some() && (!is_first || token.space || close())
        } else if is_first {
            // `10 m/s`: in plain type, a letter is a unit only next to another one.
            let per = || matches!(self.tok(2), Some(Tok::Sym(time)) if time == "s" || time == "h");
            letter == "m" && token.space && self.tok(1) == Some(&Tok::Op('/')) && per()
        } else {
            let before = &self.tokens[self.at - 1].tok;
            let joined = token.space || matches!(before, Tok::Op('/' | '*'));
            // `2 miles a day`
            let is_article = letter == "a" && matches!(self.tok(1), Some(Tok::Word(_)));
            kind().is_some() && joined || is_article && self.prose || self.names_condition()
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

/// Makes one quantity of the factors and their unit.
fn wrap(factors: &mut Vec<Expr>, unit: Unit) -> bool {
    let value = one_or(std::mem::take(factors), Expr::Mul);
    factors.push(Expr::Quantity(Box::new(value), unit));
    true
}

/// Values with units of their own as the parts of one quantity, if no two have the same one.
pub(super) fn as_parts(items: &mut Vec<Expr>) -> Option<Expr> {
    let mut symbols: Vec<&str> = Vec::new();
    for item in items.iter() {
        let Expr::Quantity(value, unit) = item else {
            return None;
        };
        let symbol = units::symbol(unit.name()?)?;
        if !matches!(**value, Expr::Num(_)) || symbols.contains(&symbol) {
            return None;
        }
        symbols.push(symbol);
    }
    if items.len() < 2 {
        return None;
    }
    let mut parts = std::mem::take(items);
    for part in &mut parts {
        if let Expr::Quantity(_, unit) = part {
            unit.place = Place::Part;
        }
    }
    Some(Expr::Add(parts))
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
