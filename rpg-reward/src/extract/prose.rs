//! Running text as tokens: words with what they do to values, numbers, mathematics, marks.

use super::spans::Delimiters;
use crate::lex::Tok;
use crate::lexicon::{Class, entry};
use crate::names;
use std::borrow::Cow;
use std::ops::Range;

/// One token and where it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it is in the argument of `\text{}` or of a font.
    pub(super) dressed: bool,
}

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A word, a known phrase, or the name of a variable.
    Word(Class),
    /// A number, a fraction or a ratio of digits, without sign.
    Number,
    /// What stands between mathematical delimiters: where it starts and ends.
    Math(usize, usize),
    /// Mathematics without delimiters: a command with its arguments, a script, a Greek letter.
    Formula,
    /// Any other character.
    Mark(char),
    /// The end of a line.
    Break,
}

/// A text and its tokens.
pub(super) struct Prose<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Token>,
}

impl<'a> Prose<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut reader = Reader {
            text,
            delimiters: Delimiters::new(text),
            pos: 0,
            dressed_until: 0,
            tokens: Vec::new(),
        };
        while let Some(c) = text[reader.pos..].chars().next() {
            reader.step(c);
        }
        Self {
            text,
            tokens: reader.tokens,
        }
    }

    /// The text of some tokens, with what stands between them.
    pub(super) fn slice(&self, range: Range<usize>) -> &'a str {
        match (
            self.tokens.get(range.start),
            self.tokens[range.clone()].last(),
        ) {
            (Some(first), Some(last)) => &self.text[first.start..last.end],
            _ => "",
        }
    }

    /// The classes of the word at `index`; none for other tokens.
    pub(super) fn class(&self, index: usize) -> Class {
        match self.tokens.get(index).map(|token| token.kind) {
            Some(Kind::Word(class)) => class,
            _ => Class::NONE,
        }
    }

    pub(super) fn is_mark(&self, index: usize, marks: &[char]) -> bool {
        matches!(self.tokens.get(index), Some(Token { kind: Kind::Mark(mark), .. }) if marks.contains(mark))
    }

    /// Whether a word of some class is among the tokens.
    pub(super) fn says(&self, range: Range<usize>, class: Class) -> bool {
        range.into_iter().any(|index| self.class(index).is(class))
    }

    /// The first token from `index` on that is no decoration.
    pub(super) fn skip_decoration(&self, mut index: usize) -> usize {
        while self.is_mark(index, &['*', '_', '"', '\'', '`']) {
            index += 1;
        }
        index
    }
}

impl Token {
    /// Whether it is a value: a number or mathematics.
    pub(super) fn is_value(&self) -> bool {
        matches!(self.kind, Kind::Number | Kind::Math(..) | Kind::Formula)
    }

    /// Whether it is a letter on its own.
    pub(super) fn is_letter(&self) -> bool {
        matches!(self.kind, Kind::Word(_)) && self.end - self.start == 1
    }
}

struct Reader<'a> {
    text: &'a str,
    delimiters: Delimiters<'a>,
    pos: usize,
    dressed_until: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token {
            kind,
            start: self.pos,
            end: self.pos + length,
            dressed: self.pos < self.dressed_until,
        });
        self.pos += length;
    }

    fn rest(&self) -> &str {
        &self.text[self.pos..]
    }

    fn step(&mut self, c: char) {
        match c {
            '\n' => self.push(Kind::Break, 1),
            'A'..='Z' | 'a'..='z' => self.word(),
            '$' => self.math(),
            '\\' => self.command(),
            '^' | '_' => {
                let length = 1 + script(&self.rest()[1..]);
                let kind = if length > 1 {
                    Kind::Formula
                } else {
                    Kind::Mark(c)
                };
                self.push(kind, length);
            }
            '0'..='9' => {
                let length = number(self.rest().as_bytes());
                self.push(Kind::Number, length);
            }
            '.' if self
                .rest()
                .as_bytes()
                .get(1)
                .is_some_and(u8::is_ascii_digit) =>
            {
                let length = 1 + number(&self.rest().as_bytes()[1..]);
                self.push(Kind::Number, length);
            }
            _ if c.is_whitespace() || names::is_invisible(c) => self.pos += c.len_utf8(),
            _ if c.is_ascii() => self.push(Kind::Mark(c), 1),
            _ if names::vulgar_fraction(c).is_some() => self.push(Kind::Number, c.len_utf8()),
            '√' | 'π' | '∞' | '∅' | 'ℝ' | 'ℤ' | 'ℚ' | 'ℕ' | 'ℂ' => {
                self.push(Kind::Formula, c.len_utf8())
            }
            _ if names::is_greek(c) => self.push(Kind::Formula, c.len_utf8()),
            _ if c.is_alphabetic() => self.word(),
            _ => self.push(Kind::Mark(c), c.len_utf8()),
        }
    }

    /// What begins with a dollar sign or with `\(` or `\[`: mathematics, if it is closed.
    fn math(&mut self) {
        match self.delimiters.span_at(self.pos) {
            Some(span) => {
                let kind = Kind::Math(span.content.0, span.content.1);
                self.push(kind, span.end - span.start);
            }
            None => self.push(Kind::Mark('$'), 1),
        }
    }

    fn command(&mut self) {
        let body = &self.rest()[1..];
        let length = body.bytes().take_while(u8::is_ascii_alphabetic).count();
        let name = &body[..length];
        let Some(next) = body.chars().next() else {
            self.pos += 1;
            return;
        };
        if length == 0 {
            match next {
                '(' | '[' if self.delimiters.span_at(self.pos).is_some() => self.math(),
                '%' | '{' | '}' | '$' | '#' | '&' => self.push(Kind::Mark(next), 2),
                _ => self.pos += 1 + next.len_utf8(),
            }
        } else if names::is_text_command(name) || names::is_font_command(name) {
            let argument = group(&body[length..]);
            let inside = usize::from(argument > 0);
            self.pos += 1 + length + inside;
            self.dressed_until = self.dressed_until.max(self.pos + argument - inside);
        } else if names::is_layout(name) {
            self.pos += 1 + length;
        } else {
            let mut end = length;
            loop {
                let argument = arguments(&body[end..]);
                if argument == 0 {
                    break;
                }
                end += argument;
            }
            self.push(Kind::Formula, 1 + end);
        }
    }

    /// A word with its digits and apostrophes, or the longest phrase that is known.
    fn word(&mut self) {
        let rest = &self.text[self.pos..];
        let first = word(rest);
        let is_lower = first.bytes().all(|b| b.is_ascii_lowercase() || b == b'\'');
        // `sqrt(2)`
        let is_applied = rest[first.len()..].starts_with('(')
            && matches!(
                names::plain(first),
                Some(Tok::Sqrt | Tok::Cbrt | Tok::Fun(_))
            );
        if is_applied {
            return self.push(Kind::Formula, first.len());
        }
        let lower = if is_lower {
            Cow::from(first)
        } else {
            Cow::from(first.to_lowercase().replace('’', "'"))
        };
        let following = Following {
            rest: &rest[first.len()..],
        };
        // The phrases are in lower case, and so is nearly all running text.
        let Some((class, further)) = entry(&lower, following.clone()) else {
            return self.push(Kind::Word(Class::NONE), first.len());
        };
        let mut length = first.len();
        if further > 0 {
            let mut following = following;
            following.nth(further - 1);
            length = rest.len() - following.rest.len();
        }
        self.push(Kind::Word(class), length);
    }
}

/// The words that follow each other with nothing but spaces between them.
#[derive(Clone)]
struct Following<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Following<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start_matches([' ', '\t']);
        let found = word(rest);
        self.rest = &rest[found.len()..];
        (!found.is_empty()).then_some(found)
    }
}

/// The word at the start of a text: letters, and digits and apostrophes between or after them. A Chinese
/// character is a word.
fn word(text: &str) -> &str {
    let is_ideograph = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
    match text.chars().next() {
        Some(c) if is_ideograph(c) => return &text[..c.len_utf8()],
        Some(c) if c.is_alphabetic() => {}
        _ => return "",
    }
    let mut end = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let joins =
            matches!(c, '\'' | '’') && chars.peek().is_some_and(|(_, next)| next.is_alphabetic());
        let inside = c.is_alphabetic() && !is_ideograph(c) && !names::is_greek(c);
        if !inside && !joins && !c.is_ascii_digit() {
            break;
        }
        end = at + c.len_utf8();
    }
    &text[..end]
}

/// The length of the number at the start of a text: groups of three digits, a decimal point, a fraction or a
/// ratio.
fn number(bytes: &[u8]) -> usize {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let mut end = digits(0);
    loop {
        let further = digits(end + 1);
        let joins = match bytes.get(end) {
            Some(b',') => further == 3,
            Some(b'.' | b'/' | b':') => further > 0,
            _ => false,
        };
        if !joins {
            return end;
        }
        end += 1 + further;
    }
}

/// The longest group in braces that is looked for.
const MAX_GROUP: usize = 2_000;

/// The length of the group in braces at the start of a text, with its braces; nothing if it has none.
fn group(text: &str) -> usize {
    if !text.starts_with('{') {
        return 0;
    }
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().take(MAX_GROUP) {
        match byte {
            _ if escaped => {
                escaped = false;
                continue;
            }
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    0
}

/// The length of the script at the start of a text: a group, or signs, letters and digits.
fn script(text: &str) -> usize {
    match group(text) {
        0 => {
            let is_script = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'+');
            text.bytes().take_while(is_script).count()
        }
        length => length,
    }
}

/// The length of one argument of a command: a group, an option in brackets, a script, digits.
fn arguments(text: &str) -> usize {
    match text.as_bytes().first() {
        Some(b'{') => group(text),
        Some(b'[') => text.find(']').map_or(0, |end| end + 1),
        Some(b'^' | b'_') => match script(&text[1..]) {
            0 => 0,
            length => 1 + length,
        },
        Some(b'0'..=b'9') => text.bytes().take_while(u8::is_ascii_digit).count(),
        _ => 0,
    }
}
