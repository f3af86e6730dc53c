//! Numbers with their separators, repeating digits and exponents.

use super::{Lexer, MAX_DIGITS, Tok};
use crate::verdict::{Budget, Failure};

impl Lexer {
    pub(super) fn digits(&mut self, into: &mut String) {
        while self.peek(0).is_ascii_digit() {
            into.push(self.peek(0));
            self.pos += 1;
        }
    }

    /// The thousands separator at the cursor, if exactly three digits follow it.
    pub(super) fn separator(
        &self,
        so_far: &str,
        used: Option<&'static str>,
    ) -> Option<&'static str> {
        const SEPARATORS: [&str; 11] = [
            "{,}", ",\\! ", ",\\!", "\\,", ",", "\\!", " ", "\\ ", "{,\\!}", "\u{202f}", "\u{2009}",
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

    pub(super) fn number(&mut self) -> Result<(), Failure> {
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
            // The point of `5.` before something other than a digit has no meaning.
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
        // `1.5e3`: the exponent follows the digits directly.
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

    /// `\overline{3}` or a similar form at `ahead`: the repeating digits and the length of the form.
    pub(super) fn repetend(&self, ahead: usize) -> Option<(String, usize)> {
        // Without braces the bar covers one digit.
        for command in ["\\overline", "\\bar", "\\dot"] {
            let length = command.len();
            let matches = command
                .chars()
                .enumerate()
                .all(|(i, c)| self.peek(ahead + i) == c);
            if matches && self.peek(ahead + length).is_ascii_digit() {
                return Some((self.peek(ahead + length).to_string(), length + 1));
            }
        }
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
            let mut end = ahead + command.len();
            let mut digits = String::new();
            while self.peek(end).is_ascii_digit() {
                digits.push(self.peek(end));
                end += 1;
            }
            let closed = !command.ends_with('{') || self.peek(end) == '}';
            if closed && !digits.is_empty() && digits.len() <= 200 {
                return Some((digits, end + usize::from(command.ends_with('{'))));
            }
        }
        None
    }

    /// `0.333...`: dots after a decimal that ends with three repetitions of the same digits.
    pub(super) fn repeats_by_dots(&mut self, text: &str) -> Option<(String, String)> {
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
}
