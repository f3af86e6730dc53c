//! Brackets, braces, bars and environments.

use super::{Failure, Parsed, Parser, Signs, one_or};
use crate::ast::{Expr, Func, SetOp};
use crate::lex::Tok;
use crate::verdict::Budget;

/// The maximum number of cells of one matrix.
const MAX_CELLS: usize = 400;

impl Parser {
    pub(super) fn group(&mut self) -> Parsed {
        let tok = self.peek().cloned().ok_or(Failure::NotParsed)?;
        self.pos += 1;
        let bars = std::mem::take(&mut self.bars);
        let result = match tok {
            Tok::Begin => self.braces(),
            Tok::Open('{') => self.set(),
            Tok::Open('⌊') => self.enclosed('⌋', Func::Floor),
            Tok::Open('⌈') => self.enclosed('⌉', Func::Ceil),
            Tok::Open(open) => self.brackets(open),
            Tok::Bar => {
                self.bars = bars + 1;
                let inner = self.sum()?;
                self.expect(&Tok::Bar)?;
                Ok(match inner {
                    Expr::Matrix(rows) => Expr::Fun(Func::Det, vec![Expr::Matrix(rows)]),
                    other => Expr::Fun(Func::Abs, vec![other]),
                })
            }
            Tok::Env(name) => self.environment(&name),
            _ => Err(Failure::NotParsed),
        };
        self.bars = bars;
        result
    }

    /// Braces that group; with commas in them they are read as a set.
    fn braces(&mut self) -> Parsed {
        let first = self.relation()?;
        match self.peek() {
            Some(Tok::End) => {
                self.pos += 1;
                Ok(first)
            }
            Some(Tok::Over) => {
                let second = self.second_part()?;
                Ok(Expr::Div(Box::new(first), Box::new(second)))
            }
            Some(Tok::Choose) => {
                let second = self.second_part()?;
                Ok(Expr::Fun(Func::Binomial, vec![first, second]))
            }
            Some(Tok::Op(',')) => {
                let items = self.items(first)?;
                self.expect(&Tok::End)?;
                Ok(Expr::Set(items))
            }
            _ => Err(Failure::NotParsed),
        }
    }

    /// What follows `\over` or `\choose`, with the brace that ends it.
    fn second_part(&mut self) -> Parsed {
        self.pos += 1;
        let second = self.relation()?;
        self.expect(&Tok::End)?;
        Ok(second)
    }

    /// The items after the first one, separated by commas or semicolons.
    fn items(&mut self, first: Expr) -> Result<Vec<Expr>, Failure> {
        let mut items = vec![first];
        while let Some(Tok::Op(',' | ';') | Tok::Or | Tok::And) = self.peek() {
            self.pos += 1;
            if matches!(self.peek(), Some(Tok::Close(_))) {
                break;
            }
            items.push(self.relation()?);
        }
        Ok(items)
    }

    fn set(&mut self) -> Parsed {
        if self.eat(&Tok::Close('}')) {
            return Ok(Expr::Set(Vec::new()));
        }
        self.bars = 1;
        let is_system = matches!(self.peek(), Some(Tok::Env(_)));
        let first = self.relation()?;
        self.bars = 0;
        // The brace before a system of equations has no partner.
        if is_system && !self.next_is(&Tok::Close('}')) {
            return Ok(first);
        }
        if matches!(self.peek(), Some(Tok::Bar | Tok::Op(':'))) {
            self.pos += 1;
            let start = self.pos;
            let condition = self.relation()?;
            let conditions = self.items(condition)?;
            let alternatives = self.tokens[start..self.pos]
                .iter()
                .any(|t| t.tok == Tok::Or);
            self.expect(&Tok::Close('}'))?;
            let op = if alternatives {
                SetOp::Union
            } else {
                SetOp::Intersection
            };
            let conditions = if conditions.len() > 1 && conditions.iter().all(is_restriction) {
                vec![Expr::SetOp(op, conditions)]
            } else {
                conditions
            };
            return Ok(Expr::SetBuilder(Box::new(first), conditions));
        }
        let items = self.items(first)?;
        self.expect(&Tok::Close('}'))?;
        Ok(Expr::Set(items))
    }

    fn enclosed(&mut self, close: char, func: Func) -> Parsed {
        let inner = self.sum()?;
        self.expect(&Tok::Close(close))?;
        Ok(Expr::Fun(func, vec![inner]))
    }

    fn brackets(&mut self, open: char) -> Parsed {
        let first = self.relation()?;
        if open == '(' && matches!(self.peek(), Some(Tok::Op('∧' | '∨'))) {
            let mut signs = Signs::default();
            let mut items = vec![first];
            while let Some(tok @ Tok::Op('∧' | '∨')) = self.peek() {
                signs.add(&tok.clone());
                self.pos += 1;
                items.push(self.relation()?);
            }
            self.expect(&Tok::Close(')'))?;
            return signs.statement(items);
        }
        let items = self.items(first)?;
        let close = match self.peek() {
            Some(Tok::Close(c @ (')' | ']' | '⟩'))) => *c,
            _ => return Err(Failure::NotParsed),
        };
        self.pos += 1;
        let matching = matches!((open, close), ('(', ')') | ('[', ']') | ('⟨', '⟩'));
        if items.len() == 1 {
            if !matching {
                return Err(Failure::NotParsed);
            }
            let inner = one_or(items, Expr::List);
            // `(1011)_2`
            if open == '('
                && self.next_is(&Tok::Op('_'))
                && let (Expr::Num(n), Some(Tok::Num(base))) = (&inner, self.peek_at(1))
                && let Ok(base) = base.parse::<u32>()
                && (2..=10).contains(&base)
            {
                let digits = n.value.to_string();
                self.pos += 2;
                return Ok(Expr::Based(digits, base));
            }
            return Ok(inner);
        }
        Ok(Expr::Tuple(open, items, close))
    }

    fn environment(&mut self, name: &str) -> Parsed {
        let end = Tok::EndEnv(name.to_string());
        let kind = name.trim_end_matches('*');
        let is_list = matches!(
            kind,
            "cases"
                | "aligned"
                | "align"
                | "gathered"
                | "gather"
                | "split"
                | "equation"
                | "dcases"
                | "rcases"
                | "alignat"
                | "alignedat"
        );
        let is_matrix = matches!(
            kind,
            "pmatrix"
                | "bmatrix"
                | "vmatrix"
                | "Vmatrix"
                | "Bmatrix"
                | "matrix"
                | "array"
                | "smallmatrix"
                | "psmallmatrix"
                | "bsmallmatrix"
        );
        if !is_list && !is_matrix {
            return Err(Failure::NotParsed);
        }
        let is_piecewise = matches!(kind, "cases" | "dcases" | "rcases");
        let mut rows: Vec<Vec<Expr>> = vec![Vec::new()];
        let mut cells = 0;
        while !self.eat(&end) {
            match self.peek() {
                Some(Tok::Row) => {
                    self.pos += 1;
                    rows.push(Vec::new());
                }
                Some(Tok::Cell) | Some(Tok::Op(',' | ';')) => self.pos += 1,
                Some(_) => {
                    let is_condition = is_piecewise && !rows.last().is_none_or(Vec::is_empty);
                    let cell = if is_condition {
                        self.condition()?
                    } else if is_list {
                        self.aligned_relation()?
                    } else {
                        self.relation()?
                    };
                    cells += 1;
                    if cells > MAX_CELLS {
                        return Err(Failure::OverBudget(Budget::Size));
                    }
                    rows.last_mut().expect("at least one row").push(cell);
                }
                None => return Err(Failure::NotParsed),
            }
        }
        rows.retain(|row| !row.is_empty());
        let branches = is_piecewise
            && rows
                .iter()
                .all(|row| row.len() > 1 && !matches!(row[0], Expr::Rel(..)));
        if branches && !rows.is_empty() {
            let branch = |mut row: Vec<Expr>| {
                let value = row.remove(0);
                (value, one_or(row, Expr::List))
            };
            return Ok(Expr::Cases(rows.into_iter().map(branch).collect()));
        }
        if is_list {
            let items: Vec<Expr> = rows
                .into_iter()
                .map(|row| one_or(row, Expr::List))
                .collect();
            return if items.is_empty() {
                Err(Failure::NotParsed)
            } else {
                Ok(one_or(items, Expr::List))
            };
        }
        if rows.is_empty() || rows.iter().any(|row| row.len() != rows[0].len()) {
            return Err(Failure::NotParsed);
        }
        if rows
            .iter()
            .flatten()
            .all(|cell| matches!(cell, Expr::Rel(..)))
        {
            return Ok(one_or(rows.into_iter().flatten().collect(), Expr::List));
        }
        let matrix = Expr::Matrix(rows);
        Ok(if kind == "vmatrix" {
            Expr::Fun(Func::Det, vec![matrix])
        } else {
            matrix
        })
    }

    /// The condition of a branch: a relation, or words about a variable, as in `n \text{ even}`.
    fn condition(&mut self) -> Parsed {
        if let Some(Tok::Text(text) | Tok::Word(text)) = self.peek()
            && matches!(
                text.trim(),
                "if" | "when" | "for" | "where" | "if and only if"
            )
            && !matches!(self.peek_at(1), Some(Tok::Row | Tok::EndEnv(_)))
        {
            self.pos += 1;
        }
        let ends = matches!(self.peek_at(2), None | Some(Tok::Row | Tok::EndEnv(_)));
        if let (Some(Tok::Sym(name)), Some(Tok::Text(text) | Tok::Word(text)), true) =
            (self.peek(), self.peek_at(1), ends)
        {
            let text = text.trim().to_lowercase();
            let property = text.strip_prefix("is ").unwrap_or(&text).trim().to_string();
            let about = Expr::Sym(name.clone());
            self.pos += 2;
            return Ok(Expr::Apply(property, vec![about]));
        }
        self.relation()
    }

    /// A relation whose sign may follow a `&` that aligns it.
    fn aligned_relation(&mut self) -> Parsed {
        let aligned = self.tokens[self.pos..]
            .iter()
            .take_while(|t| !matches!(t.tok, Tok::Row | Tok::EndEnv(_)))
            .position(|t| t.tok == Tok::Cell);
        if let Some(offset) = aligned {
            let index = self.pos + offset;
            let before_sign = matches!(
                self.tokens.get(index + 1).map(|t| &t.tok),
                Some(Tok::Rel(_))
            );
            let after_sign = matches!(
                self.tokens.get(index.wrapping_sub(1)).map(|t| &t.tok),
                Some(Tok::Rel(_))
            );
            if before_sign || after_sign {
                self.tokens.remove(index);
            }
        }
        self.relation()
    }
}

/// Whether an expression is an inequality.
fn is_restriction(expr: &Expr) -> bool {
    matches!(expr, Expr::Rel(_, rest) if rest.iter().all(|(op, _)| op.is_order()))
}
