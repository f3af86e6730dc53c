//! Parses the tokens of an answer into an [`Expr`].
//!
//! Recursive descent with bounded nesting. Ambiguous forms are rejected, not guessed at: `2 3` is not a
//! product.

mod functions;
mod groups;
mod integrals;
mod logic;
mod marks;
mod numbers;
mod primary;
mod terms;
mod units;

use crate::ast::{Constant, Expr, Func, Number, RelOp, SetOp};
use crate::lex::{Tok, Token, lex};
use crate::lexicon::{Class, said};
use crate::verdict::{Budget, Failure};
use logic::{Signs, separates};
use numbers::{decimal, repeating};

/// The deepest nesting of brackets, fractions, roots and powers.
const MAX_DEPTH: usize = 64;

/// Parses a whole answer. With `thousands`, `1,000` outside brackets is one number.
pub(crate) fn parse(text: &str, thousands: bool) -> Result<Expr, Failure> {
    let text = text.trim().trim_end_matches('\\').trim_end();
    let bold = text.strip_prefix("**").and_then(|t| t.strip_suffix("**"));
    let tokens = lex(bold.unwrap_or(text), thousands)?;
    let mut parser = Parser {
        tokens,
        pos: 0,
        depth: 0,
        bars: 0,
    };
    parser.drop_trailing_punctuation();
    parser.drop_choice();
    parser.open_rounded();
    parser.name_parts();
    parser.turn_brackets();
    if parser.tokens.is_empty() {
        return Err(Failure::NotParsed);
    }
    if let Some(words) = parser.only_words() {
        return Ok(Expr::Text(words));
    }
    let expr = parser.list()?;
    if parser.pos == parser.tokens.len() {
        Ok(expr)
    } else {
        Err(Failure::NotParsed)
    }
}

struct Parser {
    tokens: Vec<Token>,
    pos: usize,
    depth: usize,
    /// The number of open `|`, inside which another `|` closes.
    bars: usize,
}

type Parsed = Result<Expr, Failure>;

impl Parser {
    /// Drops the letter of a multiple choice before its value: `(B) 5`. Several letters are guesses.
    fn drop_choice(&mut self) {
        let letter_at = |from: usize| {
            let mut toks = self.tokens[from..].iter().map(|t| &t.tok);
            let braced = matches!(toks.clone().next(), Some(Tok::Begin));
            if braced {
                toks.next();
            }
            let is_letter = matches!(toks.next(), Some(Tok::Open('(')))
                && matches!(toks.next(), Some(Tok::Sym(s)) if matches!(s.as_str(), "A" | "B" | "C" | "D" | "E"))
                && matches!(toks.next(), Some(Tok::Close(')')))
                && (!braced || matches!(toks.next(), Some(Tok::End)));
            is_letter.then_some(if braced { 5 } else { 3 })
        };
        let Some(n) = letter_at(0) else { return };
        // `(A) B` offers two letters.
        let is_letter = matches!(&self.tokens[n..], [one] if matches!(one.tok, Tok::Sym(_)));
        let value_apart = !is_letter && self.tokens.get(n).is_some_and(|t| t.space);
        if value_apart && (n..self.tokens.len()).all(|index| letter_at(index).is_none()) {
            self.tokens.drain(..n);
        }
    }

    /// Takes the brackets off a rounded value at the end: `\frac59 (\approx 0.556)`.
    fn open_rounded(&mut self) {
        let is_open = |t: &Token| t.tok == Tok::Open('(');
        if let Some(Tok::Close(')')) = self.tokens.last().map(|t| &t.tok)
            && let Some(open) = self.tokens.iter().rposition(is_open)
            && open > 0
            && self.tokens[open + 1].tok == Tok::Rel(RelOp::Approx)
        {
            self.tokens.pop();
            self.tokens.remove(open);
        }
    }

    fn peek(&self) -> Option<&Tok> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<&Tok> {
        self.tokens.get(self.pos + ahead).map(|t| &t.tok)
    }

    fn space_at(&self, ahead: usize) -> bool {
        self.tokens.get(self.pos + ahead).is_some_and(|t| t.space)
    }

    fn next_is(&self, tok: &Tok) -> bool {
        self.peek() == Some(tok)
    }

    fn eat(&mut self, tok: &Tok) -> bool {
        let found = self.next_is(tok);
        self.pos += usize::from(found);
        found
    }

    fn expect(&mut self, tok: &Tok) -> Result<(), Failure> {
        if self.eat(tok) {
            Ok(())
        } else {
            Err(Failure::NotParsed)
        }
    }

    fn drop_trailing_punctuation(&mut self) {
        // `z^*` is not `z`.
        let is_raised = |tok: &Token| tok.tok == Tok::Op('^');
        if self.tokens.iter().rev().take(2).any(is_raised) && self.tokens.len() > 1 {
            return;
        }
        while matches!(
            self.tokens.last().map(|t| &t.tok),
            Some(Tok::Op(',' | ';' | '.' | ':' | '*' | '^') | Tok::Row)
        ) {
            self.tokens.pop();
        }
        let skip = self
            .tokens
            .iter()
            .take_while(|t| {
                matches!(
                    t.tok,
                    Tok::Op(':' | ',' | '*') | Tok::Rel(RelOp::Eq | RelOp::Approx)
                )
            })
            .count();
        // `= 5` and `: 5` are left over from a sentence; `= = =` is nothing.
        if skip == 1 {
            self.tokens.remove(0);
        }
    }

    /// The words of an answer that consists of nothing else.
    fn only_words(&self) -> Option<String> {
        let mut words: Vec<String> = Vec::new();
        let mut wordy = 0;
        for (index, token) in self.tokens.iter().enumerate() {
            let outer = index == 0 || index + 1 == self.tokens.len();
            match &token.tok {
                Tok::Word(w) => {
                    let capitals = w.len() == 3 && w.bytes().all(|b| b.is_ascii_uppercase());
                    let is_word = w.len() > 3 || capitals || said(w).is(Class::SHORT);
                    wordy += if token.upright || is_word { 2 } else { 1 };
                    words.push(w.clone());
                }
                Tok::Text(t) => {
                    wordy += 2;
                    words.push(t.trim().to_string());
                }
                Tok::Sym(s) => words.push(s.clone()),
                Tok::Const(Constant::I) => words.push("i".into()),
                Tok::Open('(') | Tok::Close(')') if outer => {}
                Tok::Op('-' | ',' | '.' | '!') | Tok::Prime => {}
                _ => return None,
            }
        }
        (wordy >= 2).then(|| words.join(" "))
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Failure::OverBudget(Budget::Depth));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Relations separated by commas, semicolons, `and`, `or` or row breaks.
    fn list(&mut self) -> Parsed {
        let mut groups: Vec<Vec<Expr>> = vec![Vec::new()];
        let mut grouped = false;
        let (mut conjunction, mut disjunction, mut alternatives) = (false, false, false);
        let mut signs = Signs::default();
        loop {
            let item = self.relation()?;
            groups.last_mut().expect("at least one group").push(item);
            let before = self.pos;
            let ordered = matches!(groups.last().and_then(|g| g.last()),
                Some(Expr::Rel(_, rest)) if rest.iter().all(|(op, _)| op.is_order()));
            if ordered && self.eat(&Tok::Union) {
                disjunction = true;
                continue;
            }
            let mut semicolon = false;
            while let Some(tok) = self.peek()
                && separates(tok)
            {
                let joins = matches!(tok, Tok::And | Tok::Op('∧'));
                conjunction |= joins;
                disjunction |= !joins;
                alternatives |= matches!(tok, Tok::Or);
                signs.add(&tok.clone());
                semicolon |= matches!(self.peek(), Some(Tok::Op(';') | Tok::Row));
                self.pos += 1;
            }
            if self.pos == before {
                break;
            }
            if self.pos == self.tokens.len() {
                break;
            }
            if semicolon {
                grouped = true;
                groups.push(Vec::new());
            }
        }
        let single_items = groups.iter().all(|g| g.len() == 1);
        let mut items = if !grouped || single_items {
            groups.into_iter().flatten().collect::<Vec<_>>()
        } else {
            groups.into_iter().map(Expr::List).collect()
        };
        if signs.any() && items.iter().all(|item| !matches!(item, Expr::Rel(..))) {
            return signs.statement(items);
        }
        let restrictions = items.iter().all(|item| match item {
            Expr::Rel(_, rest) => rest.iter().all(|(op, _)| op.is_order()),
            _ => false,
        });
        if restrictions && conjunction && !disjunction && items.len() > 1 {
            return Ok(Expr::SetOp(SetOp::Intersection, items));
        }
        // `2 \text{ hours and } 30 \text{ minutes}`
        if !alternatives
            && !grouped
            && let Some(parts) = units::as_parts(&mut items)
        {
            return Ok(parts);
        }
        Ok(if items.len() == 1 {
            items.remove(0)
        } else {
            Expr::List(items)
        })
    }

    /// A chain of sums with relations between them.
    fn relation(&mut self) -> Parsed {
        self.deeper(|p| {
            if let Some((name, length)) = p.function_head() {
                p.pos += length;
                p.expect(&Tok::Rel(RelOp::Eq))?;
                let value = p.set_expression()?;
                return p.relation_tail(name, vec![(RelOp::Eq, value)]);
            }
            let first = p.set_expression()?;
            p.relation_tail(first, Vec::new())
        })
    }

    fn relation_tail(&mut self, first: Expr, mut rest: Vec<(RelOp, Expr)>) -> Parsed {
        while let Some(Tok::Rel(op)) = self.peek() {
            let op = *op;
            self.pos += 1;
            // The `\cup` of `x < 1 \cup x > 3` unites the inequalities, not their sides.
            let side = if op.is_order() {
                self.ratio()?
            } else {
                self.set_expression()?
            };
            rest.push((op, side));
        }
        // `x \equiv 2 \mod 5`
        if let Some((RelOp::Equiv, Expr::Fun(Func::Mod, parts))) = rest.last_mut()
            && let [value, modulus] = parts.as_mut_slice()
        {
            let (value, modulus) = (std::mem::replace(value, Expr::int(0)), modulus.clone());
            return match rest.len() {
                1 => Ok(Expr::Congruence(
                    Box::new(first),
                    Box::new(value),
                    Box::new(modulus),
                )),
                _ => Err(Failure::NotParsed),
            };
        }
        if let Some(modulus) = self.modulus()? {
            return Ok(match rest.pop() {
                Some((RelOp::Equiv | RelOp::Eq, value)) if rest.is_empty() => {
                    Expr::Congruence(Box::new(first), Box::new(value), Box::new(modulus))
                }
                None => Expr::Congruence(
                    Box::new(Expr::Sym(String::new())),
                    Box::new(first),
                    Box::new(modulus),
                ),
                _ => return Err(Failure::NotParsed),
            });
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Expr::Rel(Box::new(first), rest)
        })
    }

    /// `\pmod m`, `(mod m)`.
    fn modulus(&mut self) -> Result<Option<Expr>, Failure> {
        if self.eat(&Tok::Pmod) {
            return if matches!(self.peek(), Some(Tok::Begin)) {
                self.argument().map(Some)
            } else {
                self.power().map(Some)
            };
        }
        let bracketed = matches!(self.peek(), Some(Tok::Open('(')))
            && matches!(self.peek_at(1), Some(Tok::Bmod));
        if bracketed {
            self.pos += 2;
            let modulus = self.sum()?;
            self.expect(&Tok::Close(')'))?;
            return Ok(Some(modulus));
        }
        Ok(None)
    }

    /// `f(x)`, `f(x, y)`, `P(n)` directly before an equals sign: the function with its variables, and the
    /// number of its tokens.
    fn function_head(&self) -> Option<(Expr, usize)> {
        let Some(Tok::Sym(name)) = self.peek() else {
            return None;
        };
        if self.peek_at(1) != Some(&Tok::Open('(')) {
            return None;
        }
        let mut index = 2;
        let mut arguments = Vec::new();
        loop {
            let Some(Tok::Sym(argument)) = self.peek_at(index) else {
                return None;
            };
            arguments.push(Expr::Sym(argument.clone()));
            match self.peek_at(index + 1) {
                Some(Tok::Op(',')) => index += 2,
                Some(Tok::Close(')')) => break,
                _ => return None,
            }
        }
        (self.peek_at(index + 2) == Some(&Tok::Rel(RelOp::Eq)))
            .then(|| (Expr::Apply(name.clone(), arguments), index + 2))
    }

    /// Sums joined by set operations.
    fn set_expression(&mut self) -> Parsed {
        let mut result = self.ratio()?;
        loop {
            let op = match self.peek() {
                Some(Tok::Union) => SetOp::Union,
                Some(Tok::Intersection) => SetOp::Intersection,
                Some(Tok::Difference) => SetOp::Difference,
                _ => return Ok(result),
            };
            self.pos += 1;
            let right = self.sum()?;
            result = match result {
                Expr::SetOp(same, mut items) if same == op && op != SetOp::Difference => {
                    items.push(right);
                    Expr::SetOp(same, items)
                }
                other => {
                    // Each change of operation deepens the tree by one level.
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(Failure::OverBudget(Budget::Depth));
                    }
                    Expr::SetOp(op, vec![other, right])
                }
            };
        }
    }

    /// `4:05`, `12:30:15`: a number of one or two digits and one or two numbers of two digits below 60.
    fn clock(&mut self) -> Option<Expr> {
        let part = |parser: &Self, ahead: usize| match parser.peek_at(ahead) {
            Some(Tok::Num(digits)) if digits.len() <= 2 && !digits.contains('.') => {
                Some((digits.len(), digits.parse::<u32>().ok()?))
            }
            _ => None,
        };
        let mut parts = vec![part(self, 0)?.1];
        let mut length = 1;
        while self.peek_at(length) == Some(&Tok::Op(':')) {
            let (2, value @ 0..60) = part(self, length + 1)? else {
                return None;
            };
            parts.push(value);
            length += 2;
        }
        let ends = self.peek_at(length).is_none_or(units::ends_term)
            || self.unit_at(self.pos + length).is_some();
        if !ends || !(2..=3).contains(&parts.len()) || self.bars > 0 {
            return None;
        }
        self.pos += length;
        Some(Expr::Time(parts))
    }

    fn ratio(&mut self) -> Parsed {
        if let Some(time) = self.clock() {
            return Ok(match self.unit() {
                Some(unit) => Expr::Quantity(Box::new(time), unit),
                None => time,
            });
        }
        let first = self.sum()?;
        if !self.next_is(&Tok::Op(':')) || self.bars > 0 {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.eat(&Tok::Op(':')) {
            items.push(self.sum()?);
        }
        Ok(Expr::Ratio(items))
    }
}

fn with_signs(term: Expr, negative: bool, plus_minus: bool) -> Expr {
    let term = match (negative, term) {
        (true, Expr::Num(n)) => Expr::Num(Number {
            value: -n.value,
            ..n
        }),
        (true, Expr::Quantity(value, unit)) => {
            Expr::Quantity(Box::new(with_signs(*value, true, false)), unit)
        }
        (true, term) => Expr::Neg(Box::new(term)),
        (false, term) => term,
    };
    if plus_minus {
        Expr::PlusMinus(Box::new(term))
    } else {
        term
    }
}

fn one_or(mut items: Vec<Expr>, wrap: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    if items.len() == 1 {
        items.remove(0)
    } else {
        wrap(items)
    }
}
