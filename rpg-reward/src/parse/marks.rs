//! Marks that are rewritten before parsing: the letters of the parts of an answer, brackets turned outwards.

use super::Parser;
use crate::ast::{Constant, RelOp};
use crate::lex::{Tok, Token};

/// How the parts of an answer are counted.
const COUNTS: [[&str; 6]; 3] = [
    ["1", "2", "3", "4", "5", "6"],
    ["a", "b", "c", "d", "e", "f"],
    ["i", "ii", "iii", "iv", "v", "vi"],
];

impl Parser {
    /// Makes the letters of parts names: `(a) 12, (b) 35` states two values in this order.
    pub(super) fn name_parts(&mut self) {
        let Some((first, _)) = self.label_at(0) else {
            return;
        };
        let Some(count) = COUNTS.iter().find(|count| count[0] == first) else {
            return;
        };
        let mut labels: Vec<(usize, usize)> = Vec::new();
        for at in 0..self.tokens.len() {
            let expected = count.get(labels.len());
            match self.label_at(at) {
                Some((name, length)) if Some(&name.as_str()) == expected => {
                    labels.push((at, length));
                }
                _ => {}
            }
        }
        if labels.len() < 2 {
            return;
        }
        let mut end = self.tokens.len();
        for (index, &(at, length)) in labels.iter().enumerate().rev() {
            let part = &self.tokens[at + length..end];
            let named = part.iter().any(|t| matches!(t.tok, Tok::Rel(_)));
            let mut mark = Vec::new();
            if at > 0 && !separates_parts(&self.tokens[at - 1].tok) {
                mark.push(Tok::Op(','));
            }
            if !named {
                mark.push(Tok::Sym(format!("({})", count[index])));
                mark.push(Tok::Rel(RelOp::Eq));
            }
            let mark = mark.into_iter().map(|tok| Token::new(tok, true));
            self.tokens.splice(at..at + length, mark);
            end = at;
        }
    }

    /// The letter of a part that begins at a token, and the number of its tokens.
    fn label_at(&self, at: usize) -> Option<(String, usize)> {
        let tok = |ahead: usize| self.tokens.get(at + ahead).map(|t| &t.tok);
        if let Some(Tok::Text(text)) = tok(0) {
            let name = text.trim().strip_prefix('(')?.strip_suffix(')')?;
            return Some((name.to_string(), 1));
        }
        let name = match (tok(0)?, tok(1)?, tok(2)?) {
            (
                Tok::Open('('),
                Tok::Sym(name) | Tok::Word(name) | Tok::Num(name),
                Tok::Close(')'),
            ) => name.clone(),
            // `a) 5`
            (Tok::Sym(name), Tok::Close(')'), next)
                if *next != Tok::Close(')') && self.unopened(at) =>
            {
                return self.is_apart(at, 2).then(|| (name.clone(), 2));
            }
            (Tok::Open('('), Tok::Const(Constant::I), Tok::Close(')')) => "i".to_string(),
            _ => return None,
        };
        self.is_apart(at, 3).then_some((name, 3))
    }

    /// Whether a label is set off from what stands before and after it.
    fn is_apart(&self, at: usize, length: usize) -> bool {
        let ends_value =
            |tok: &Tok| matches!(tok, Tok::Num(_) | Tok::Close(_) | Tok::End | Tok::Text(_));
        let apart = at == 0 || {
            let before = &self.tokens[at - 1].tok;
            separates_parts(before) || self.tokens[at].space && ends_value(before)
        };
        apart && self.tokens.get(at + length).is_some_and(|t| t.space)
    }

    /// Whether no bracket is open before a token.
    fn unopened(&self, at: usize) -> bool {
        let before = &self.tokens[..at];
        let count = |is: fn(&Tok) -> bool| before.iter().filter(|t| is(&t.tok)).count();
        count(|t| matches!(t, Tok::Open(_))) <= count(|t| matches!(t, Tok::Close(_)))
    }

    /// Makes round brackets of square ones that are turned outwards: `]1,2]` is `(1,2]`.
    pub(super) fn turn_brackets(&mut self) {
        let mut open: Vec<char> = Vec::new();
        for at in 0..self.tokens.len() {
            let ends = match self.tokens.get(at + 1).map(|t| &t.tok) {
                None => true,
                Some(next) => {
                    separates_parts(next)
                        || matches!(
                            next,
                            Tok::Union | Tok::Intersection | Tok::Difference | Tok::Close(_)
                        )
                }
            };
            let is_inside = matches!(open.last(), Some('(' | '['));
            match self.tokens[at].tok {
                Tok::Open('[') if is_inside && ends => {
                    self.tokens[at].tok = Tok::Close(')');
                    open.pop();
                }
                Tok::Close(']') if !is_inside && !ends => {
                    self.tokens[at].tok = Tok::Open('(');
                    open.push('(');
                }
                Tok::Open(bracket) => open.push(bracket),
                Tok::Close(_) => {
                    open.pop();
                }
                _ => {}
            }
        }
    }
}

fn separates_parts(tok: &Tok) -> bool {
    matches!(tok, Tok::Op(',' | ';') | Tok::And | Tok::Or | Tok::Row)
}
