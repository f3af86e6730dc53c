//! What joins the items of a list.

use super::Parsed;
use crate::ast::Expr;
use crate::lex::Tok;
use crate::verdict::Failure;

/// Whether a token separates the items of a list.
pub(super) fn separates(tok: &Tok) -> bool {
    matches!(
        tok,
        Tok::Op(',' | ';' | '∧' | '∨') | Tok::Or | Tok::And | Tok::Row
    )
}

/// What joins the items of a list: the signs of logic, or something else.
#[derive(Debug, Default)]
pub(super) struct Signs {
    and: bool,
    or: bool,
    other: bool,
}

impl Signs {
    pub(super) fn add(&mut self, tok: &Tok) {
        match tok {
            Tok::Op('∧') => self.and = true,
            Tok::Op('∨') => self.or = true,
            _ => self.other = true,
        }
    }

    pub(super) fn any(&self) -> bool {
        self.and || self.or
    }

    /// Statements joined by signs of one kind, in any order. Which of two kinds binds more tightly is not
    /// guessed at.
    pub(super) fn statement(&self, mut items: Vec<Expr>) -> Parsed {
        if self.other || self.and == self.or {
            return Err(Failure::NotParsed);
        }
        items.sort_by_cached_key(|item| format!("{item:?}"));
        Ok(Expr::Apply(if self.and { "∧" } else { "∨" }.into(), items))
    }
}
