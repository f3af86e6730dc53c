//! LaTeX commands.

use super::{Lexer, Tok, lex};
use crate::ast::{Constant, Func, RelOp};
use crate::lexicon::units::{self, Kind};
use crate::names;
use crate::verdict::Failure;

impl Lexer {
    /// The argument in braces at the cursor, with its nested braces, or one character.
    pub(super) fn raw_argument(&mut self) -> Result<String, Failure> {
        while self.peek(0).is_whitespace() {
            self.pos += 1;
        }
        if self.peek(0) != '{' {
            let start = self.pos;
            self.pos += 1;
            // `\hat\theta`: a command is one argument.
            if self.chars.get(start) == Some(&'\\') {
                while self.peek(0).is_ascii_alphabetic() {
                    self.pos += 1;
                }
            }
            return Ok(self
                .chars
                .get(start..self.pos)
                .unwrap_or_default()
                .iter()
                .collect());
        }
        let start = self.pos + 1;
        let mut depth = 0usize;
        let mut end = self.pos;
        while end < self.chars.len() {
            match self.chars[end] {
                '\\' => end += 1,
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        let text = self.chars[start..end].iter().collect();
                        self.pos = end + 1;
                        return Ok(text);
                    }
                }
                _ => {}
            }
            end += 1;
        }
        Err(Failure::NotParsed)
    }

    /// The position of the brace that closes the group around the cursor.
    fn end_of_group(&self) -> usize {
        let mut depth = 0usize;
        let close = self.chars[self.pos..].iter().position(|c| match c {
            '{' => {
                depth += 1;
                false
            }
            '}' if depth == 0 => true,
            '}' => {
                depth -= 1;
                false
            }
            _ => false,
        });
        close.map_or(self.chars.len(), |length| self.pos + length)
    }

    pub(super) fn command(&mut self) -> Result<(), Failure> {
        self.pos += 1;
        let c = self.peek(0);
        if !c.is_ascii_alphabetic() {
            self.pos += 1;
            if matches!(c, ',' | ';' | ':' | '!' | '>' | '/' | ' ' | '\n' | '\t') {
                self.space = true;
            } else if let Some(tok) = names::escaped(c).ok_or(Failure::NotParsed)? {
                self.push(tok);
            }
            if c == '\\' {
                self.skip_distance();
            }
            return Ok(());
        }
        let start = self.pos;
        while self.peek(0).is_ascii_alphabetic() {
            self.pos += 1;
        }
        let name: String = self.chars[start..self.pos].iter().collect();
        if self.peek(0) == '*'
            && matches!(name.as_str(), "operatorname" | "text" | "tag" | "hspace")
        {
            self.pos += 1;
        }
        self.named_command(&name)
    }

    /// `\\[2pt]` sets the distance between rows.
    fn skip_distance(&mut self) {
        let mut rest = self.chars[self.pos..].iter().take(12);
        if rest.next() == Some(&'[')
            && let Some(length) = rest.clone().position(|c| *c == ']')
            && rest.take(length).any(|c| c.is_alphabetic())
        {
            self.pos += length + 2;
        }
    }

    pub(super) fn named_command(&mut self, name: &str) -> Result<(), Failure> {
        if names::is_layout(name) {
            self.space = true;
            if name == "rm" && self.pos >= self.upright_until {
                self.upright_until = self.end_of_group();
            }
            if matches!(name, "left" | "right" | "middle") {
                while self.peek(0) == ' ' {
                    self.pos += 1;
                }
                // `\left.` is an invisible delimiter.
                if self.peek(0) == '.' {
                    self.pos += 1;
                }
            }
            return Ok(());
        }
        if matches!(
            name,
            "hspace"
                | "vspace"
                | "phantom"
                | "hphantom"
                | "vphantom"
                | "label"
                | "tag"
                | "color"
                | "textcolor"
                | "mspace"
        ) {
            self.raw_argument()?;
            self.space = true;
            return Ok(());
        }
        if names::is_text_command(name) {
            let text = self.raw_argument()?;
            return self.text(&text);
        }
        if names::is_font_command(name) {
            return self.font(name);
        }
        match name {
            "begin" => {
                let env = self.raw_argument()?;
                if env == "array" {
                    while self.peek(0).is_whitespace() {
                        self.pos += 1;
                    }
                    if self.peek(0) == '{' {
                        self.raw_argument()?;
                    }
                }
                self.push(Tok::Env(env));
                Ok(())
            }
            "end" => {
                let env = self.raw_argument()?;
                self.push(Tok::EndEnv(env));
                Ok(())
            }
            "boxed" | "fbox" => Ok(()),
            "times" if self.after_vector() => {
                self.push(Tok::Cross);
                Ok(())
            }
            "not" => self.negated(),
            _ => match names::command(name) {
                Some(tok) => {
                    self.push(tok);
                    Ok(())
                }
                // `\cdotx`, `\pir`: no such command; some models run names together.
                None => Err(Failure::NotParsed),
            },
        }
    }

    /// The content of `\text{}`: a separator, a number, or words.
    pub(super) fn text(&mut self, raw: &str) -> Result<(), Failure> {
        let text = names::plain_text(raw);
        let trimmed = text.trim();
        if trimmed.is_empty() {
            self.space = true;
            return Ok(());
        }
        let lower = trimmed.to_lowercase();
        if lower
            .split(|c: char| !c.is_alphanumeric())
            .all(|w| w.is_empty() || matches!(w, "and" | "or"))
            && lower.chars().any(char::is_alphabetic)
        {
            self.push(if lower.contains("or") {
                Tok::Or
            } else {
                Tok::And
            });
            return Ok(());
        }
        if let Some(
            tok @ (Tok::Percent
            | Tok::Undefined
            | Tok::Degree
            | Tok::Bmod
            | Tok::Fun(Func::Lcm | Func::Gcd)),
        ) = names::plain(&lower)
        {
            self.push(tok);
            return Ok(());
        }
        let plain_list = trimmed.chars().any(|c| c.is_ascii_digit())
            && lower
                .split(|c: char| !c.is_alphabetic())
                .all(|w| matches!(w, "" | "and" | "or"));
        // `\text{A and C}`: several letters of choices.
        let mut words = lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty());
        let choices = trimmed.contains(',') || lower.contains(" and ") || lower.contains(" or ");
        let plain_list =
            plain_list || (choices && words.all(|w| w.len() == 1 || matches!(w, "and" | "or")));
        if plain_list || !trimmed.chars().any(char::is_alphabetic) {
            // Digits and signs in `\text{}` mean what they mean outside it. This call cannot nest, because
            // the commands have been removed.
            for token in lex(trimmed, self.thousands)? {
                self.space |= token.space;
                self.push(token.tok);
            }
            return Ok(());
        }
        // `2 \text{ hours and } 30 \text{ minutes}`
        if let Some(unit) = trimmed.strip_suffix(" and").map(str::trim_end)
            && units::upright_kind(unit).is_some()
        {
            self.push(Tok::Text(unit.into()));
            self.push(Tok::And);
            return Ok(());
        }
        // `\text{42 cm}`: a number and its unit.
        let number = trimmed.len()
            - trimmed
                .trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | ':'))
                .len();
        let words = trimmed[number..].trim_start();
        let is_apart = number + words.len() < trimmed.len()
            || units::is_unit(words)
            || units::kind(words) == Some(Kind::Ordinal);
        if number > 0 && is_apart && !words.contains(|c: char| c.is_ascii_digit()) {
            for token in lex(
                trimmed[..number].trim_end_matches(['.', ',', ':']),
                self.thousands,
            )? {
                self.push(token.tok);
            }
            self.push(Tok::Text(words.into()));
            return Ok(());
        }
        self.push(Tok::Text(text));
        Ok(())
    }

    /// Whether the last token is a vector: a letter with an arrow, or a bold one.
    fn after_vector(&self) -> bool {
        if matches!(self.tokens.last().map(|t| &t.tok), Some(Tok::Sym(name)) if name.starts_with("vec "))
        {
            return true;
        }
        let written: String = self.chars[..self.pos].iter().rev().take(40).collect();
        let Some(before) = written
            .strip_prefix("semit\\")
            .and_then(|rest| rest.trim_start().strip_prefix('}'))
        else {
            return false;
        };
        let mut rest = before.chars();
        rest.next().is_some_and(char::is_alphabetic)
            && ["{fbhtam\\", "{lobmysdlob\\", "{mb\\"]
                .iter()
                .any(|command| rest.as_str().starts_with(command))
    }

    /// `\not=`, `\not\in`: the relation after it, negated.
    fn negated(&mut self) -> Result<(), Failure> {
        while self.peek(0) == ' ' {
            self.pos += 1;
        }
        let (length, op) = if self.peek(0) == '=' {
            (1, RelOp::Ne)
        } else if self.looking_at("\\in") && !self.peek(3).is_ascii_alphabetic() {
            (3, RelOp::NotIn)
        } else {
            return Err(Failure::NotParsed);
        };
        self.pos += length;
        self.push(Tok::Rel(op));
        Ok(())
    }

    /// `\mathrm{..}`, `\mathbf{..}`, `\operatorname{..}`, `\hat{..}`.
    pub(super) fn font(&mut self, name: &str) -> Result<(), Failure> {
        let save = self.pos;
        let raw = self.raw_argument()?;
        // `\mathrm{~C}`: blanks before the letters set them apart.
        let content = raw.strip_prefix("\\ ").unwrap_or(&raw);
        let inner = content.trim_matches([' ', '~']);
        let apart = !raw.starts_with(inner);
        let is_upright = matches!(name, "mathrm" | "mathsf" | "operatorname");
        if names::is_accent(name) || (names::is_bold(name) && matches!(inner, "i" | "j" | "k")) {
            // The letters without dots are there for accents.
            let inner = match inner {
                "\\imath" => "i",
                "\\jmath" => "j",
                other => other,
            };
            // An accent makes a different variable, and a bold i is a unit vector.
            let kind = match name {
                "hat" | "widehat" if !matches!(inner, "i" | "j" | "k") => "hat",
                "tilde" | "widetilde" => "tilde",
                "dot" | "ddot" => name,
                _ => "vec",
            };
            let base: String = inner.chars().filter(|c| c.is_alphanumeric()).collect();
            if base.is_empty() || inner.len() > 40 {
                return Err(Failure::NotParsed);
            }
            self.push(Tok::Sym(format!("{kind} {base}")));
            return Ok(());
        }
        if name == "mathbb" || name == "mathds" {
            let tok = match inner {
                "R" => Tok::Const(Constant::Reals),
                "Z" => Tok::Const(Constant::Integers),
                "N" => Tok::Const(Constant::Naturals),
                "Q" => Tok::Const(Constant::Rationals),
                "C" => Tok::Const(Constant::Complexes),
                _ => Tok::Sym(inner.to_string()),
            };
            self.push(tok);
            return Ok(());
        }
        self.space |= apart;
        let only_letters = inner.bytes().all(|b| b.is_ascii_alphabetic());
        if only_letters && (inner.len() > 1 || (inner.len() == 1 && is_upright)) {
            let is_operator = name == "operatorname" && inner.len() > 1;
            let function = || names::command(inner).filter(|tok| matches!(tok, Tok::Fun(_)));
            let known = names::plain(inner).or_else(|| function().filter(|_| is_operator));
            self.upright_until = self.upright_until.max(self.pos);
            self.push(known.unwrap_or_else(|| match inner.len() {
                1 => Tok::Sym(inner.into()),
                _ if is_operator => Tok::Name(inner.into()),
                _ => Tok::Word(inner.into()),
            }));
            return Ok(());
        }
        let is_word = |c: char| c.is_alphabetic() || matches!(c, ' ' | '~' | '.' | '?');
        if inner.chars().filter(|c| c.is_alphabetic()).count() > 1
            && names::plain_text(inner).chars().all(is_word)
            && names::words_only(inner).is_some()
        {
            return self.text(&raw);
        }
        // The font makes no words of it: read the argument as if it had none.
        if is_upright {
            self.upright_until = self.upright_until.max(self.pos);
        }
        self.pos = save;
        Ok(())
    }
}
