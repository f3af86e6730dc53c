//! Cuts the text of an answer, in LaTeX, ASCII or Unicode, into tokens.
//!
//! Layout (`\left`, `\,`, `\displaystyle`) disappears here, and Unicode forms become the same tokens
//! as their LaTeX counterparts, so that the parser sees one language.

use crate::ast::{Constant, Func, RelOp};
use crate::names;
use crate::verdict::{Budget, Failure};

/// One token, and whether white space stood before it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) space: bool,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tok {
    /// Digits with at most one point; thousands separators are gone.
    Num(String),
    /// A decimal whose last digits repeat: the text before them, and the digits that repeat.
    Repeating(String, String),
    /// A one-letter or Greek variable.
    Sym(String),
    /// Several letters in a row that are no known name.
    Word(String),
    /// Text in `\text{}` and its kin.
    Text(String),
    Fun(Func),
    Const(Constant),
    /// `+ - * / ^ _ ! , ; : ±` and a few others.
    Op(char),
    Rel(RelOp),
    /// `(`, `[`, `{` (from `\{`), `⟨`, `⌊`, `⌈`.
    Open(char),
    /// The matching closers.
    Close(char),
    /// `|`, which opens or closes, or means "such that".
    Bar,
    /// Braces that only group.
    Begin,
    End,
    Frac,
    Sqrt,
    /// `\sqrt[3]` written as a name: `cbrt`.
    Cbrt,
    Binom,
    Overline,
    Percent,
    Degree,
    Prime,
    Union,
    Intersection,
    Difference,
    Pmod,
    Bmod,
    Sum,
    Product,
    Dots,
    /// `or`.
    Join,
    /// `and`.
    And,
    Env(String),
    EndEnv(String),
    Cell,
    Row,
    Undefined,
}

/// Most characters in one answer.
pub(crate) const MAX_ANSWER_CHARS: usize = 20_000;
/// Most tokens in one answer.
pub(crate) const MAX_TOKENS: usize = 1_600;
/// Most digits in one number.
pub(crate) const MAX_DIGITS: usize = 10_000;

/// Cuts `text` into tokens. With `thousands`, `1,000` is one number, else it is two.
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
    /// Open brackets; inside them a comma always separates.
    brackets: usize,
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
                // A point that ends the answer is punctuation.
                let rest_is_blank = self.chars[self.pos + 1..]
                    .iter()
                    .all(|c| c.is_whitespace() || matches!(c, '$' | '.' | '}' | '*'));
                if rest_is_blank {
                    self.skip(1)
                } else {
                    Err(Failure::NotParsed)
                }
            }
            '\\' => self.command(),
            'A'..='Z' | 'a'..='z' => self.letters(),
            '{' => self.one(Tok::Begin),
            '}' => self.one(Tok::End),
            '(' | '[' => self.one(Tok::Open(c)),
            ')' | ']' => self.one(Tok::Close(c)),
            '|' => {
                let double = self.peek(1) == '|';
                self.pos += usize::from(double);
                self.one(Tok::Bar)
            }
            '*' if self.peek(1) == '*' => {
                self.pos += 1;
                self.one(Tok::Op('^'))
            }
            '<' if self.peek(1) == '=' => self.rel(RelOp::Le, 2),
            '>' if self.peek(1) == '=' => self.rel(RelOp::Ge, 2),
            '!' if self.peek(1) == '=' && self.peek(2) != '=' && self.space => {
                self.rel(RelOp::Ne, 2)
            }
            '=' if self.peek(1) == '=' => self.rel(RelOp::Eq, 2),
            '+' if self.looking_at("+/-") => {
                self.pos += 2;
                self.one(Tok::Op('±'))
            }
            '-' if self.looking_at("->") => self.rel(RelOp::To, 2),
            '~' => {
                // A tie is a space in LaTeX.
                self.space = true;
                self.skip(1)
            }
            '$' => {
                self.space = true;
                self.skip(1)
            }
            '%' => self.one(Tok::Percent),
            '&' => self.one(Tok::Cell),
            '\'' => self.one(Tok::Prime),
            '`' => self.skip(1),
            '"' => self.skip(1),
            _ => self.symbol(c),
        }
    }

    fn skip(&mut self, count: usize) -> Result<(), Failure> {
        self.pos += count;
        Ok(())
    }

    fn rel(&mut self, op: RelOp, length: usize) -> Result<(), Failure> {
        self.pos += length - 1;
        self.one(Tok::Rel(op))
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
            // Words in other scripts are text.
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

    /// `x²³`, `a₁₂`: the run becomes one braced script.
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

    fn digits(&mut self, into: &mut String) {
        while self.peek(0).is_ascii_digit() {
            into.push(self.peek(0));
            self.pos += 1;
        }
    }

    /// How many characters of separator stand here before a group of exactly three digits.
    fn separator(&self, so_far: &str, used: Option<&'static str>) -> Option<&'static str> {
        const SEPARATORS: [&str; 10] = [
            "{,}", ",\\!", "\\,", ",", "\\!", " ", "\\ ", "{,\\!}", "\u{202f}", "\u{2009}",
        ];
        let candidate = SEPARATORS.into_iter().find(|s| self.looking_at(s))?;
        if used.is_some_and(|u| u != candidate) {
            return None;
        }
        if candidate == "," && (!self.thousands || self.brackets > 0) {
            return None;
        }
        let start = self.pos + candidate.chars().count();
        let group = self.chars[start..]
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .count();
        let leading = used.is_some() || (so_far.len() <= 3 && !so_far.starts_with('0'));
        (group == 3 && leading).then_some(candidate)
    }

    fn number(&mut self) -> Result<(), Failure> {
        let mut text = String::new();
        self.digits(&mut text);
        let mut used = None;
        while let Some(separator) = self.separator(&text, used) {
            used = Some(separator);
            self.pos += separator.chars().count();
            self.digits(&mut text);
        }
        let decimal_comma =
            used.is_none() && self.looking_at("{,}") && self.peek(3).is_ascii_digit();
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            self.pos += 1;
            text.push('.');
            self.digits(&mut text);
        } else if decimal_comma {
            self.pos += 3;
            text.push('.');
            self.digits(&mut text);
        } else if self.peek(0) == '.' && self.repetend(1).is_some() {
            self.pos += 1;
            text.push('.');
        } else if self.peek(0) == '.'
            && self.peek(1) != '.'
            && !self.chars[self.pos + 1..].iter().all(|c| c.is_whitespace())
            && !self.peek(1).is_whitespace()
        {
            // `5.` before something that is no digit: the point means nothing.
            self.pos += 1;
        }
        if text.len() > MAX_DIGITS {
            return Err(Failure::OverBudget(Budget::Length));
        }
        if text.starts_with('.') {
            text.insert(0, '0');
        }
        if text.contains('.') {
            if let Some((digits, length)) = self.repetend(0) {
                self.pos += length;
                self.push(Tok::Repeating(text, digits));
                return Ok(());
            }
            if let Some((before, digits)) = self.repeats_by_dots(&text) {
                self.push(Tok::Repeating(before, digits));
                return Ok(());
            }
        }
        // `1.5e3`: an exponent directly after the digits.
        let sign = usize::from(matches!(self.peek(1), '+' | '-'));
        let is_exponent = (self.peek(0) == 'e' && text.contains('.') || self.peek(0) == 'E')
            || (self.peek(0) == 'e' && sign + usize::from(self.peek(1).is_ascii_digit()) > 0);
        if is_exponent && self.peek(1 + sign).is_ascii_digit() {
            let minus = self.peek(1) == '-';
            self.pos += 1 + sign;
            let mut exponent = String::new();
            self.digits(&mut exponent);
            self.push(Tok::Num(text));
            self.push(Tok::Op('*'));
            self.push(Tok::Num("10".into()));
            self.push(Tok::Op('^'));
            self.push(Tok::Begin);
            if minus {
                self.push(Tok::Op('-'));
            }
            self.push(Tok::Num(exponent));
            self.push(Tok::End);
            return Ok(());
        }
        self.push(Tok::Num(text));
        Ok(())
    }

    /// `\overline{3}` and its kin at `ahead`: the digits that repeat, and the length of the whole.
    fn repetend(&self, ahead: usize) -> Option<(String, usize)> {
        for command in [
            "\\overline{",
            "\\bar{",
            "\\dot{",
            "\\overline ",
            "\\overbar{",
        ] {
            let matches = command
                .chars()
                .enumerate()
                .all(|(i, c)| self.peek(ahead + i) == c);
            if !matches {
                continue;
            }
            let mut at = ahead + command.len();
            let mut digits = String::new();
            while self.peek(at).is_ascii_digit() {
                digits.push(self.peek(at));
                at += 1;
            }
            let closed = !command.ends_with('{') || self.peek(at) == '}';
            if closed && !digits.is_empty() && digits.len() <= 200 {
                return Some((
                    digits,
                    at + usize::from(command.ends_with('{')) - ahead + ahead,
                ));
            }
        }
        None
    }

    /// `0.333...`: dots after a decimal whose last digits stand there three times.
    fn repeats_by_dots(&mut self, text: &str) -> Option<(String, String)> {
        let length = ["...", "…", "\\ldots", "\\dots", "\\cdots"]
            .into_iter()
            .find(|dots| self.looking_at(dots))?
            .chars()
            .count();
        let point = text.find('.')?;
        let decimals = &text[point + 1..];
        for period in 1..=decimals.len().min(60) / 3 {
            let last = &decimals[decimals.len() - period..];
            let repeated = (1..3).all(|k| decimals[..decimals.len() - k * period].ends_with(last));
            if repeated {
                self.pos += length;
                return Some((text.to_string(), last.to_string()));
            }
        }
        None
    }

    fn letters(&mut self) -> Result<(), Failure> {
        let start = self.pos;
        while self.peek(0).is_ascii_alphabetic() {
            self.pos += 1;
        }
        let word: String = self.chars[start..self.pos].iter().collect();
        let tok = match names::plain(&word) {
            Some(tok) => tok,
            None if word.len() == 1 => Tok::Sym(word),
            None => Tok::Word(word),
        };
        self.push(tok);
        Ok(())
    }

    /// The argument in braces at the cursor, or one character; nested braces stay in it.
    fn raw_argument(&mut self) -> Result<String, Failure> {
        while self.peek(0).is_whitespace() {
            self.pos += 1;
        }
        if self.peek(0) != '{' {
            let c = self.peek(0);
            self.pos += 1;
            return Ok(c.to_string());
        }
        let start = self.pos + 1;
        let mut depth = 0usize;
        let mut at = self.pos;
        while at < self.chars.len() {
            match self.chars[at] {
                '\\' => at += 1,
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        let text = self.chars[start..at].iter().collect();
                        self.pos = at + 1;
                        return Ok(text);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Err(Failure::NotParsed)
    }

    fn command(&mut self) -> Result<(), Failure> {
        self.pos += 1;
        let c = self.peek(0);
        if !c.is_ascii_alphabetic() {
            self.pos += 1;
            return match c {
                ',' | ';' | ':' | '!' | '>' | '/' | ' ' | '\n' | '\t' => {
                    self.space = true;
                    Ok(())
                }
                '(' | ')' | '[' | ']' => Ok(()),
                '{' => {
                    self.push(Tok::Open('{'));
                    Ok(())
                }
                '}' => {
                    self.push(Tok::Close('}'));
                    Ok(())
                }
                '|' => {
                    self.push(Tok::Bar);
                    Ok(())
                }
                '%' => {
                    self.push(Tok::Percent);
                    Ok(())
                }
                '$' | '#' | '&' | '"' | '\'' | '^' => Ok(()),
                '_' => Err(Failure::NotParsed),
                '\\' => {
                    self.push(Tok::Row);
                    // `\\[2pt]` sets the row distance.
                    if self.peek(0) == '['
                        && let Some(close) = self.chars[self.pos..]
                            .iter()
                            .take(12)
                            .position(|c| *c == ']')
                        && self.chars[self.pos..self.pos + close]
                            .iter()
                            .any(|c| c.is_alphabetic())
                    {
                        self.pos += close + 1;
                    }
                    Ok(())
                }
                _ => Err(Failure::NotParsed),
            };
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

    fn named_command(&mut self, name: &str) -> Result<(), Failure> {
        if names::is_layout(name) {
            self.space = true;
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
            _ => match names::command(name) {
                Some(tok) => {
                    self.push(tok);
                    Ok(())
                }
                // `\cdotx`, `\pir`: no such command; some models glue names together.
                None => Err(Failure::NotParsed),
            },
        }
    }

    /// The content of `\text{}`: a separator, a number, or words.
    fn text(&mut self, raw: &str) -> Result<(), Failure> {
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
                Tok::Join
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
        if plain_list || !trimmed.chars().any(char::is_alphabetic) {
            // Digits and signs in \text{} are as good as outside; the depth cannot grow, because the
            // commands are gone.
            for token in lex(trimmed, self.thousands)? {
                self.space |= token.space;
                self.push(token.tok);
            }
            return Ok(());
        }
        self.push(Tok::Text(text));
        Ok(())
    }

    /// `\mathrm{..}`, `\mathbf{..}`, `\operatorname{..}`, `\hat{..}`.
    fn font(&mut self, name: &str) -> Result<(), Failure> {
        let save = self.pos;
        let raw = self.raw_argument()?;
        let inner = raw.trim();
        if names::is_accent(name) || (names::is_bold(name) && matches!(inner, "i" | "j" | "k")) {
            // An accent makes another variable, and a bold i is a unit vector.
            let base: String = inner.chars().filter(|c| c.is_alphanumeric()).collect();
            if base.is_empty() || inner.len() > 40 {
                return Err(Failure::NotParsed);
            }
            self.push(Tok::Sym(format!("vec {base}")));
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
        let letters = inner.chars().filter(|c| c.is_ascii_alphabetic()).count();
        if letters < 2 || inner.contains('\\') && !inner.contains("\\ ") {
            // The font says nothing: read the argument as if it stood alone.
            self.pos = save;
            return Ok(());
        }
        match names::plain(inner) {
            Some(tok) => self.push(tok),
            None => return self.text(&raw),
        }
        Ok(())
    }
}
