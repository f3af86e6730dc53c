//! Splits the text of an answer, in LaTeX, ASCII or Unicode, into tokens.
//!
//! Layout (`\left`, `\,`, `\displaystyle`) is dropped here, and Unicode forms become the same tokens as
//! their LaTeX counterparts, so that the parser sees one language.

mod commands;
mod numbers;
pub(crate) mod token;

pub(crate) use token::{Tok, Token};

use crate::ast::RelOp;
use crate::lexicon::units;
use crate::names;
use crate::verdict::{Budget, Failure};

/// The maximum number of characters in one answer.
pub(crate) const MAX_ANSWER_CHARS: usize = 20_000;
/// The maximum number of tokens in one answer.
pub(crate) const MAX_TOKENS: usize = 1_600;
/// The maximum number of digits in one number.
pub(crate) const MAX_DIGITS: usize = 10_000;

/// Splits `text` into tokens. With `thousands`, `1,000` is one number, otherwise two.
pub(crate) fn lex(text: &str, thousands: bool) -> Result<Vec<Token>, Failure> {
    if text.len() > MAX_ANSWER_CHARS {
        return Err(Failure::OverBudget(Budget::Length));
    }
    let mut lexer = Lexer {
        chars: text.chars().map(names::narrow).collect(),
        pos: 0,
        tokens: Vec::new(),
        space: false,
        brackets: 0,
        upright_until: 0,
        thousands,
    };
    while lexer.pos < lexer.chars.len() {
        lexer.step()?;
        if lexer.tokens.len() > MAX_TOKENS {
            return Err(Failure::OverBudget(Budget::Length));
        }
    }
    Ok(lexer.tokens)
}

struct Lexer {
    chars: Vec<char>,
    pos: usize,
    tokens: Vec<Token>,
    space: bool,
    /// The number of open brackets; inside them a comma always separates.
    brackets: usize,
    /// Where upright type ends.
    upright_until: usize,
    thousands: bool,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.pos + ahead).copied().unwrap_or('\0')
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.peek(i) == c)
    }

    fn push(&mut self, tok: Tok) {
        match tok {
            Tok::Open(_) => self.brackets += 1,
            Tok::Close(_) => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Token {
            tok,
            space: self.space,
            upright: self.pos <= self.upright_until,
        });
        self.space = false;
    }

    fn one(&mut self, tok: Tok) -> Result<(), Failure> {
        self.pos += 1;
        self.push(tok);
        Ok(())
    }

    fn step(&mut self) -> Result<(), Failure> {
        let c = self.peek(0);
        match c {
            _ if c.is_whitespace() || names::is_invisible(c) => {
                self.pos += 1;
                self.space = true;
                Ok(())
            }
            '0'..='9' => self.number(),
            '.' if self.peek(1).is_ascii_digit() && !self.after_number() => self.number(),
            '.' | '…' => {
                let mut dots = 0;
                while self.peek(dots) == '.' || self.peek(dots) == '…' {
                    dots += if self.peek(dots) == '…' { 3 } else { 1 };
                }
                if c == '…' || dots >= 3 {
                    let end = self.pos + if c == '…' { 1 } else { dots };
                    self.pos = end.min(self.chars.len());
                    self.push(Tok::Dots);
                    return Ok(());
                }
                // A period that ends the answer is punctuation.
                let rest_is_blank = self.chars[self.pos + 1..]
                    .iter()
                    .all(|c| c.is_whitespace() || matches!(c, '$' | '.' | '}' | '*'));
                let rest: String = self.chars[self.pos + 1..].iter().take(12).collect();
                if rest_is_blank || rest.trim_start().starts_with("\\end{") {
                    self.skip(1)
                } else {
                    Err(Failure::NotParsed)
                }
            }
            '\\' => self.command(),
            'A'..='Z' | 'a'..='z' => self.letters(),
            // The empty base of a script before a letter: `25\ {}^\circ C`.
            '{' if self.looking_at("{}^") => self.skip(2),
            '!' if self.peek(1) == '=' && self.peek(2) != '=' && self.space => {
                self.pos += 1;
                self.one(Tok::Rel(RelOp::Ne))
            }
            // A tie is a space in LaTeX; money is told from mathematics elsewhere.
            '~' | '$' => {
                self.space = true;
                self.skip(1)
            }
            '`' | '"' => self.skip(1),
            _ => self.symbol(c),
        }
    }

    fn skip(&mut self, count: usize) -> Result<(), Failure> {
        self.pos += count;
        Ok(())
    }

    fn after_number(&self) -> bool {
        !self.space
            && matches!(
                self.tokens.last().map(|t| &t.tok),
                Some(Tok::Num(_) | Tok::Repeating(..))
            )
    }

    /// A character that is an operator or has a counterpart in LaTeX.
    fn symbol(&mut self, c: char) -> Result<(), Failure> {
        if matches!(c, '√' | '∛') {
            return self.root_sign(c);
        }
        if matches!(c, '{' | '|' | '*' | '<' | '>' | '=' | '+' | '-')
            && let Some((sign, tok)) = names::SEQUENCES
                .iter()
                .find(|(sign, _)| self.looking_at(sign))
        {
            self.pos += sign.len() - 1;
            return self.one(tok.clone());
        }
        if let Some(tok) = names::unicode(c) {
            return self.one(tok);
        }
        if let Some((numerator, denominator)) = names::vulgar_fraction(c) {
            self.pos += 1;
            self.push(Tok::Frac);
            self.push(Tok::Num(numerator.to_string()));
            self.push(Tok::Num(denominator.to_string()));
            return Ok(());
        }
        if names::superscript(c).is_some() {
            return self.scripts('^', names::superscript);
        }
        if names::subscript(c).is_some() {
            return self.scripts('_', names::subscript);
        }
        if names::is_currency(c) {
            return self.skip(1);
        }
        if c.is_alphabetic() {
            // Words in non-Latin scripts are text.
            let mut text = String::new();
            while self.peek(0).is_alphabetic() && !self.peek(0).is_ascii() {
                text.push(self.peek(0));
                self.pos += 1;
            }
            let tok = if text.chars().count() == 1 && names::is_greek(c) {
                Tok::Sym(text)
            } else {
                Tok::Text(text)
            };
            self.push(tok);
            return Ok(());
        }
        Err(Failure::NotParsed)
    }

    /// `√15` is the root of 15, whereas `\sqrt15` is the root of 1, times 5.
    fn root_sign(&mut self, c: char) -> Result<(), Failure> {
        self.one(names::unicode(c).ok_or(Failure::NotParsed)?)?;
        while self.peek(0) == ' ' {
            self.pos += 1;
        }
        if self.peek(0).is_ascii_digit() {
            self.push(Tok::Begin);
            self.number()?;
            self.push(Tok::End);
        }
        Ok(())
    }

    /// `x²³`, `a₁₂`: a run of them becomes one braced script.
    fn scripts(&mut self, op: char, plain: fn(char) -> Option<char>) -> Result<(), Failure> {
        self.push(Tok::Op(op));
        self.push(Tok::Begin);
        let mut digits = String::new();
        while let Some(p) = plain(self.peek(0)) {
            self.pos += 1;
            if p.is_ascii_digit() {
                digits.push(p);
                continue;
            }
            if !digits.is_empty() {
                self.push(Tok::Num(std::mem::take(&mut digits)));
            }
            self.push(if p.is_alphabetic() {
                Tok::Sym(p.to_string())
            } else {
                Tok::Op(p)
            });
        }
        if !digits.is_empty() {
            self.push(Tok::Num(digits));
        }
        self.push(Tok::End);
        Ok(())
    }

    fn letters(&mut self) -> Result<(), Failure> {
        let start = self.pos;
        while self.peek(0).is_ascii_alphabetic() {
            self.pos += 1;
        }
        let word: String = self.chars[start..self.pos].iter().collect();
        // The period of an abbreviation: `Rs. 5`.
        if self.peek(0) == '.' && self.peek(1) != '.' && units::is_unit(&word) {
            self.pos += 1;
        }
        // `4:15 p.m.`
        if matches!(word.as_str(), "a" | "p") && self.peek(0) == '.' && self.peek(1) == 'm' {
            self.pos += 2;
            self.push(Tok::Text(word + "m"));
            return self.skip(usize::from(self.peek(0) == '.'));
        }
        let tok = match names::plain(&word) {
            Some(tok) => tok,
            None if word.len() == 1 => Tok::Sym(word),
            None => Tok::Word(word),
        };
        self.push(tok);
        Ok(())
    }
}
