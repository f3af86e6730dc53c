//! Definite integrals over a variable.

use super::{Failure, Parsed, Parser};
use crate::ast::{Expr, Fold};
use crate::lex::{Tok, Token};

/// The longest answer, in tokens, whose integrals are read as more than names.
const MAX_TOKENS: usize = 400;

impl Parser {
    /// `\int_0^1 x^2\,dx`; without bounds or in another form only a name.
    pub(super) fn integral(&mut self) -> Parsed {
        if self.tokens.len() > MAX_TOKENS {
            return Ok(self.uncomputed("∫"));
        }
        let (start, tokens) = (self.pos, self.tokens.clone());
        let depth = self.depth;
        self.definite_integral().or_else(|_| {
            (self.pos, self.tokens, self.depth) = (start, tokens, depth);
            Ok(self.uncomputed("∫"))
        })
    }

    fn definite_integral(&mut self) -> Parsed {
        let mut bounds = [None, None];
        for _ in 0..2 {
            if self.eat(&Tok::Op('_')) {
                bounds[0] = Some(self.argument()?);
            } else if self.eat(&Tok::Op('^')) {
                bounds[1] = Some(self.exponent()?);
            }
        }
        let [Some(first), Some(last)] = bounds else {
            return Err(Failure::NotParsed);
        };
        let variable = self.end_integrand().ok_or(Failure::NotParsed)?;
        // Like the index of a sum, the variable has a name of its own.
        let name = format!("#{}", self.depth);
        let own = Tok::Sym(name.clone());
        self.replace_ahead(&variable, &own);
        let body = if self.next_is(&Tok::Cell) {
            Expr::int(1)
        } else {
            self.sum()?
        };
        self.expect(&Tok::Cell)?;
        self.replace_ahead(&own, &variable);
        let [first, last, body] = [first, last, body].map(Box::new);
        Ok(Expr::Series(Fold::Integral, name, first, last, body))
    }

    /// Puts a separator in place of the differential `dx`; its variable.
    fn end_integrand(&mut self) -> Option<Tok> {
        let mut depth = 0usize;
        // Integrals within end first.
        let mut inner = 0usize;
        let mut at = self.pos;
        loop {
            match &self.tokens.get(at)?.tok {
                Tok::Begin | Tok::Open(_) => depth += 1,
                Tok::End | Tok::Close(_) => depth = depth.checked_sub(1)?,
                Tok::Rel(_) | Tok::Cell | Tok::Row if depth == 0 => return None,
                Tok::Integral if depth == 0 => inner += 1,
                Tok::Sym(d) if depth == 0 && d == "d" && inner > 0 => inner -= 1,
                Tok::Sym(d) if depth == 0 && d == "d" => {
                    let variable = self.tokens.get(at + 1).map(|t| t.tok.clone())?;
                    self.tokens.remove(at + 1);
                    self.tokens[at].tok = Tok::Cell;
                    return matches!(variable, Tok::Sym(_)).then_some(variable);
                }
                Tok::Word(word) if depth == 0 && word.is_ascii() && word.len() > 1 => {
                    let (before, last) = word.split_at(word.len() - 2);
                    if let Some(variable) = last.strip_prefix('d') {
                        if inner > 0 {
                            inner -= 1;
                            at += 1;
                            continue;
                        }
                        let variable = Tok::Sym(variable.into());
                        let before = before.chars().map(|c| Tok::Sym(c.into()));
                        let mark = before.chain([Tok::Cell]);
                        let mark: Vec<Token> = mark.map(|tok| Token::new(tok, false)).collect();
                        self.tokens.splice(at..=at, mark);
                        return Some(variable);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}
