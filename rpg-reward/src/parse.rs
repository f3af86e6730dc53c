//! Parses the tokens of an answer into an [`Expr`].
//!
//! Recursive descent with a bound on the nesting. Forms that have no single reading are refused
//! rather than guessed at: `2 3` is not a product.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Zero};

use crate::ast::{Constant, Expr, Func, Number, RelOp, SetOp};
use crate::lex::{Tok, Token, lex};
use crate::names;
use crate::verdict::{Budget, Failure};

mod functions;
mod groups;
mod primary;

/// Deepest nesting of brackets, fractions, roots and powers.
const MAX_DEPTH: usize = 64;
/// Most decimal places.
const MAX_PLACES: usize = 4_000;

/// Parses a whole answer. With `thousands`, `1,000` outside brackets is one number.
pub(crate) fn parse(text: &str, thousands: bool) -> Result<Expr, Failure> {
    let text = text.trim();
    let bold = text.strip_prefix("**").and_then(|t| t.strip_suffix("**"));
    let tokens = lex(bold.unwrap_or(text), thousands)?;
    let mut parser = Parser {
        tokens,
        pos: 0,
        depth: 0,
        bars: 0,
    };
    parser.drop_trailing_punctuation();
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
    /// Open `|`, inside which a further `|` closes.
    bars: usize,
}

type Parsed = Result<Expr, Failure>;

impl Parser {
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
        // `= 5` and `: 5` are what remains of a sentence; `= = =` is nothing.
        if skip == 1 {
            self.tokens.remove(0);
        }
    }

    /// The words of an answer that is made of nothing else.
    fn only_words(&self) -> Option<String> {
        let mut words: Vec<String> = Vec::new();
        let mut wordy = 0;
        for (index, token) in self.tokens.iter().enumerate() {
            let outer = index == 0 || index + 1 == self.tokens.len();
            match &token.tok {
                Tok::Word(w) => {
                    let capitals = w.len() == 3 && w.bytes().all(|b| b.is_ascii_uppercase());
                    wordy += if w.len() > 3 || capitals || names::is_short_word(w) {
                        2
                    } else {
                        1
                    };
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

    /// Relations separated by commas, semicolons, `and`, `or`, or rows.
    fn list(&mut self) -> Parsed {
        let mut groups: Vec<Vec<Expr>> = vec![Vec::new()];
        let mut grouped = false;
        let (mut conjunction, mut disjunction) = (false, false);
        loop {
            let item = self.relation()?;
            groups.last_mut().expect("one group at least").push(item);
            let before = self.pos;
            let ordered = matches!(groups.last().and_then(|g| g.last()),
                Some(Expr::Rel(_, rest)) if rest.iter().all(|(op, _)| op.is_order()));
            if ordered && self.eat(&Tok::Union) {
                disjunction = true;
                continue;
            }
            let mut semicolon = false;
            while let Some(Tok::Op(',' | ';') | Tok::Join | Tok::And | Tok::Row) = self.peek() {
                conjunction |= self.next_is(&Tok::And);
                disjunction |= !self.next_is(&Tok::And);
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
        let restrictions = items.iter().all(|item| match item {
            Expr::Rel(_, rest) => rest.iter().all(|(op, _)| op.is_order()),
            _ => false,
        });
        if restrictions && conjunction && !disjunction && items.len() > 1 {
            return Ok(Expr::SetOp(SetOp::Intersection, items));
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
            // A relation that is followed by nothing, as in `x = `, has no value.
            // `x < 1 \\cup x > 3` unites what the inequalities describe.
            let side = if op.is_order() {
                self.ratio()?
            } else {
                self.set_expression()?
            };
            rest.push((op, side));
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

    /// `f(x)`, `f(x, y)`, `P(n)` directly before an equals sign: the name of a function, and
    /// how many tokens it takes.
    fn function_head(&self) -> Option<(Expr, usize)> {
        let Some(Tok::Sym(name)) = self.peek() else {
            return None;
        };
        if self.peek_at(1) != Some(&Tok::Open('(')) {
            return None;
        }
        let mut at = 2;
        let mut arguments = Vec::new();
        loop {
            let Some(Tok::Sym(argument)) = self.peek_at(at) else {
                return None;
            };
            arguments.push(Expr::Sym(argument.clone()));
            match self.peek_at(at + 1) {
                Some(Tok::Op(',')) => at += 2,
                Some(Tok::Close(')')) => break,
                _ => return None,
            }
        }
        (self.peek_at(at + 2) == Some(&Tok::Rel(RelOp::Eq)))
            .then(|| (Expr::Apply(name.clone(), arguments), at + 2))
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
                    // Each change of operation nests the tree once more.
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(Failure::OverBudget(Budget::Depth));
                    }
                    Expr::SetOp(op, vec![other, right])
                }
            };
        }
    }

    fn ratio(&mut self) -> Parsed {
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

    fn sum(&mut self) -> Parsed {
        let mut terms = vec![self.signed_term()?];
        loop {
            match self.peek() {
                Some(Tok::Op('+' | '-' | '±' | '∓')) => terms.push(self.signed_term()?),
                Some(Tok::Bmod) => {
                    self.pos += 1;
                    let modulus = self.product()?;
                    let left = one_or(terms, Expr::Add);
                    terms = vec![Expr::Fun(Func::Mod, vec![left, modulus])];
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(Failure::OverBudget(Budget::Depth));
                    }
                }
                _ => return Ok(one_or(terms, Expr::Add)),
            }
        }
    }

    /// A term with the signs before it.
    fn signed_term(&mut self) -> Parsed {
        let (negative, plus_minus) = self.signs();
        let term = self.product()?;
        Ok(with_signs(term, negative, plus_minus))
    }

    fn signs(&mut self) -> (bool, bool) {
        let mut negative = false;
        let mut plus_minus = false;
        while let Some(Tok::Op(sign @ ('+' | '-' | '±' | '∓'))) = self.peek() {
            match sign {
                '-' => negative = !negative,
                '±' | '∓' => plus_minus = true,
                _ => {}
            }
            self.pos += 1;
        }
        (negative, plus_minus)
    }

    /// Factors, with or without signs of multiplication and division between them.
    fn product(&mut self) -> Parsed {
        let mut factors: Vec<Expr> = vec![self.power()?];
        // Whether the last factor is a plain integer that a fraction may follow as a mixed number.
        let mut mixable = self.ended_with_integer(&factors[0]);
        loop {
            match self.peek() {
                Some(Tok::Op('*')) => {
                    self.pos += 1;
                    let (negative, plus_minus) = self.signs();
                    let factor = self.power()?;
                    mixable = !negative && self.ended_with_integer(&factor);
                    factors.push(with_signs(factor, negative, plus_minus));
                }
                Some(Tok::Op('/')) => {
                    self.pos += 1;
                    let (negative, plus_minus) = self.signs();
                    let divisor = self.power()?;
                    let inverse = match divisor {
                        Expr::Num(n) if !n.value.is_zero() && !n.decimal => Expr::Num(Number {
                            value: n.value.recip(),
                            decimal: false,
                        }),
                        other => Expr::Div(Box::new(Expr::int(1)), Box::new(other)),
                    };
                    factors.push(with_signs(inverse, negative, plus_minus));
                    mixable = false;
                }
                Some(Tok::Percent) => {
                    self.pos += 1;
                    if factors.iter().any(|f| matches!(f, Expr::Percent(_))) {
                        return Err(Failure::NotParsed);
                    }
                    let whole = one_or(std::mem::take(&mut factors), Expr::Mul);
                    factors.push(Expr::Percent(Box::new(whole)));
                    mixable = false;
                }
                // `\frac{\text{m}}{\text{s}}` is a unit.
                Some(Tok::Frac) if matches!(self.peek_at(2), Some(Tok::Text(_))) => {
                    self.pos += 1;
                    let parts = [self.argument()?, self.argument()?];
                    if !parts.iter().all(|p| matches!(p, Expr::Text(_))) {
                        return Err(Failure::NotParsed);
                    }
                }
                Some(Tok::Frac) if mixable => {
                    let fraction = self.power()?;
                    let numeric = matches!(&fraction, Expr::Div(a, b)
                        if matches!((&**a, &**b), (Expr::Num(_), Expr::Num(_))));
                    let last = factors.pop().expect("one factor at least");
                    if numeric {
                        factors.push(Expr::Add(vec![last, fraction]));
                    } else {
                        factors.extend([last, fraction]);
                    }
                    mixable = false;
                }
                Some(tok) if self.starts_factor(tok) => {
                    let factor = self.power()?;
                    mixable = false;
                    factors.push(factor);
                }
                _ => {
                    if self.skip_unit()? {
                        mixable = false;
                        continue;
                    }
                    // Words are no factors.
                    if factors.len() > 1 && factors.iter().any(|f| matches!(f, Expr::Text(_))) {
                        return Err(Failure::NotParsed);
                    }
                    return Ok(one_or(factors, Expr::Mul));
                }
            }
        }
    }

    fn ended_with_integer(&self, factor: &Expr) -> bool {
        matches!(factor, Expr::Num(n) if n.value.is_integer())
            && matches!(
                self.tokens.get(self.pos.wrapping_sub(1)).map(|t| &t.tok),
                Some(Tok::Num(_))
            )
    }

    /// Whether `tok` begins a factor that is multiplied without a sign.
    fn starts_factor(&self, tok: &Tok) -> bool {
        match tok {
            Tok::Sym(_)
            | Tok::Const(_)
            | Tok::Fun(_)
            | Tok::Begin
            | Tok::Frac
            | Tok::Sqrt
            | Tok::Cbrt
            | Tok::Binom
            | Tok::Overline
            | Tok::Env(_)
            | Tok::Sum
            | Tok::Product => true,
            Tok::Word(_) => !self.at_unit(),
            // Digits directly after digits are refused, after anything else they multiply.
            Tok::Num(_) | Tok::Repeating(..) => !matches!(
                self.tokens.get(self.pos.wrapping_sub(1)).map(|t| &t.tok),
                Some(Tok::Num(_) | Tok::Repeating(..))
            ),
            Tok::Open(c) => *c != '{' && !matches!(self.peek_at(1), Some(Tok::Bmod)),
            Tok::Bar => self.bars == 0,
            _ => false,
        }
    }

    /// Whether the token here begins a unit of measurement or words of explanation.
    fn at_unit(&self) -> bool {
        let after_value = self.pos > 0;
        match self.peek() {
            Some(Tok::Text(_)) => true,
            Some(Tok::Word(word)) => {
                after_value && (names::is_unit(word) || (word.len() > 3 && self.space_at(0)))
            }
            _ => false,
        }
    }

    /// Skips units and words after a value, if what follows shows that they end the term.
    fn skip_unit(&mut self) -> Result<bool, Failure> {
        if !self.at_unit() {
            return Ok(false);
        }
        let save = self.pos;
        let mut in_unit = true;
        while in_unit {
            self.pos += 1;
            if self.eat(&Tok::Op('^')) {
                self.argument()?;
            }
            let mut ahead = 0;
            if matches!(self.peek(), Some(Tok::Op('/' | '*'))) {
                ahead = 1;
            }
            in_unit = match self.peek_at(ahead) {
                Some(Tok::Text(_)) => true,
                Some(Tok::Word(w)) => ahead == 1 || names::is_unit(w) || self.space_at(ahead),
                // `m/s`, `cm per s`: one letter is a unit only beside another unit.
                Some(Tok::Sym(_)) => ahead == 1 || self.space_at(ahead),
                _ => false,
            };
            if in_unit {
                self.pos += ahead;
            }
        }
        let ends = match self.peek() {
            None => true,
            Some(tok) => matches!(
                tok,
                Tok::Close(_)
                    | Tok::End
                    | Tok::Op(',' | ';' | '+' | '-' | ':' | '±')
                    | Tok::Rel(_)
                    | Tok::Join
                    | Tok::And
                    | Tok::Row
                    | Tok::Cell
                    | Tok::EndEnv(_)
                    | Tok::Bar
            ),
        };
        if ends {
            Ok(true)
        } else {
            self.pos = save;
            Err(Failure::NotParsed)
        }
    }

    /// A primary with what stands after it: powers, factorials, degree signs.
    fn power(&mut self) -> Parsed {
        let mut base = self.primary()?;
        let mut wrapped = 0;
        loop {
            match self.peek() {
                Some(Tok::Op('^')) => {
                    self.pos += 1;
                    if self.eat_degree() {
                        base = Expr::Degree(Box::new(base));
                    } else if self.eat(&Tok::Prime) || self.eat_ordinal() {
                    } else {
                        let exponent = self.exponent()?;
                        base = Expr::Pow(Box::new(base), Box::new(exponent));
                    }
                }
                Some(Tok::Degree) => {
                    self.eat_degree();
                    base = Expr::Degree(Box::new(base));
                }
                Some(Tok::Op('!')) => {
                    let mut count = 0;
                    while self.eat(&Tok::Op('!')) {
                        count += 1;
                    }
                    let func = match count {
                        1 => Func::Factorial,
                        2 => Func::DoubleFactorial,
                        _ => return Err(Failure::OverBudget(Budget::Size)),
                    };
                    base = Expr::Fun(func, vec![base]);
                }
                Some(Tok::Prime) => {
                    self.pos += 1;
                    continue;
                }
                _ => return Ok(base),
            }
            wrapped += 1;
            if wrapped > 8 {
                return Err(Failure::OverBudget(Budget::Depth));
            }
        }
    }

    /// A degree sign, bare or in braces, with the letter of a temperature scale after it.
    fn eat_degree(&mut self) -> bool {
        let braced = self.next_is(&Tok::Begin)
            && self.peek_at(1) == Some(&Tok::Degree)
            && self.peek_at(2) == Some(&Tok::End);
        if braced {
            self.pos += 3;
        } else if !self.eat(&Tok::Degree) {
            return false;
        }
        if matches!(self.peek(), Some(Tok::Sym(s)) if s == "C" || s == "F") {
            self.pos += 1;
        }
        true
    }

    /// The ending of an ordinal number, as in `3^{\\text{rd}}`.
    fn eat_ordinal(&mut self) -> bool {
        let braced = usize::from(self.next_is(&Tok::Begin));
        let ending = match self.peek_at(braced) {
            Some(Tok::Text(t) | Tok::Word(t)) => matches!(t.trim(), "st" | "nd" | "rd" | "th"),
            _ => false,
        };
        let closed = braced == 0 || self.peek_at(2) == Some(&Tok::End);
        if ending && closed {
            self.pos += 1 + 2 * braced;
        }
        ending && closed
    }

    fn exponent(&mut self) -> Parsed {
        self.deeper(|p| {
            let (negative, _) = p.signs();
            let inner = match p.peek() {
                // `e^xe^y`: of letters in a row only the first one stands above.
                Some(Tok::Begin | Tok::Word(_)) => p.argument()?,
                // `2^3^4` is 2^(3^4), and `2^10` means the whole number.
                _ => {
                    let base = p.primary()?;
                    if p.eat(&Tok::Op('^')) {
                        let top = p.exponent()?;
                        Expr::Pow(Box::new(base), Box::new(top))
                    } else {
                        base
                    }
                }
            };
            Ok(with_signs(inner, negative, false))
        })
    }
}

fn with_signs(term: Expr, negative: bool, plus_minus: bool) -> Expr {
    let term = match (negative, term) {
        (true, Expr::Num(n)) => Expr::Num(Number {
            value: -n.value,
            ..n
        }),
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

/// The number that digits with at most one point stand for.
fn decimal(text: &str) -> Result<Number, Failure> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // Without zeros at its end the fraction has lost all common factors of ten.
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > MAX_PLACES {
        return Err(Failure::OverBudget(Budget::Length));
    }
    let digits: BigInt = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| Failure::NotParsed)?;
    let value = if fraction.is_empty() {
        BigRational::from_integer(digits)
    } else {
        decimal_fraction(digits, fraction.len())
    };
    Ok(Number {
        value,
        decimal: text.contains('.'),
    })
}

/// The number whose digits after `before` repeat for ever.
fn repeating(before: &str, repetend: &str) -> Result<Number, Failure> {
    let start = decimal(before)?;
    let places = before.split_once('.').map_or(0, |(_, f)| f.len());
    let digits: BigInt = repetend.parse().map_err(|_| Failure::NotParsed)?;
    let nines = power_of_ten(repetend.len()) - BigInt::one();
    let tail = BigRational::new(digits, nines * power_of_ten(places));
    Ok(Number {
        value: start.value + tail,
        decimal: false,
    })
}

/// `digits / 10^places` in lowest terms, where ten does not divide the digits. Only twos or only fives
/// can be common, so no greatest common divisor of long numbers is needed.
fn decimal_fraction(mut digits: BigInt, places: usize) -> BigRational {
    let mut denominator = power_of_ten(places);
    let twos = digits.trailing_zeros().unwrap_or(0).min(places as u64);
    if twos > 0 {
        digits >>= twos;
        denominator >>= twos;
    } else {
        let five = BigInt::from(5);
        for _ in 0..places {
            let (quotient, rest) = digits.div_rem(&five);
            if !rest.is_zero() {
                break;
            }
            digits = quotient;
            denominator /= &five;
        }
    }
    BigRational::new_raw(digits, denominator)
}

fn power_of_ten(exponent: usize) -> BigInt {
    num_traits::pow(BigInt::from(10), exponent)
}
