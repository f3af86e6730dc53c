//! What the units and words beside a value mean.
//!
//! By convention, units, currencies and the endings of ordinals mean nothing. A word that multiplies and a half of
//! the day count, unless only one side says one and is right without it. Words that change a value make another one of
//! it; opposite words, and different words before a number, make two answers different.

use super::{Comparer, Outcome};
use crate::ast::{Expr, Place, Unit};
use crate::lexicon::{Class, alters, meaning, said, units};
use crate::verdict::Failure;
use std::borrow::Cow;

/// The longest words before a number that are compared, in bytes.
const MAX_LEAD: usize = 200;

/// What an answer says beside its values.
#[derive(Debug, Default)]
struct Remarks {
    /// Whether there is anything.
    any: bool,
    /// The words that have opposites.
    words: Vec<&'static str>,
    /// The words before each number.
    leads: Vec<Vec<String>>,
    /// Whether a word computes with a number, `5 million`, `4:15 PM`, or a unit tells parts apart, `5 ft 3 in`.
    computes: bool,
}

/// Compares an answer with the gold answer: their values, and what is said beside them.
pub(crate) fn compare(gold: &Expr, answer: &Expr) -> Outcome {
    let (said, also) = (Remarks::of(gold), Remarks::of(answer));
    let values = |compute: bool| {
        let gold = value_of(gold, &said, compute);
        let answer = value_of(answer, &also, compute);
        Comparer::new().compare(&gold, &answer)
    };
    let mut outcome = values(true);
    // `5 million` where the question asks for millions: what only one side says may be a unit.
    if !outcome.is_equal() && said.computes != also.computes && values(false).is_equal() {
        outcome = Outcome::Equal;
    }
    if outcome.is_equal() && said.differ(&also) {
        outcome = Outcome::Different;
    }
    outcome
}

/// Whether an answer has a value.
pub(crate) fn understand(expr: &Expr) -> Result<(), Failure> {
    let said = Remarks::of(expr);
    Comparer::new().understand(&value_of(expr, &said, true))
}

impl Remarks {
    fn of(expr: &Expr) -> Self {
        let mut remarks = Self::default();
        remarks.collect(expr);
        remarks
    }

    fn collect(&mut self, expr: &Expr) {
        if let Expr::Quantity(value, unit) = expr {
            self.any = true;
            self.computes |= unit.place == Place::Part || computed(value, unit).is_some();
            // `p.m.` is one word.
            let names: Vec<_> = unit
                .factors
                .iter()
                .map(|(name, _)| name.replace(".m", "m"))
                .collect();
            let words = names.iter().flat_map(|name| meaning::words(name));
            let length: usize = names.iter().map(String::len).sum();
            if unit.place == Place::Before && is_number(value) && length <= MAX_LEAD {
                let said = words.clone().filter(|word| is_said(word));
                self.leads.push(said.map(str::to_lowercase).collect());
            }
            for word in words {
                if let Some(word) = meaning::with_opposite(word)
                    && !self.words.contains(&word)
                {
                    self.words.push(word);
                }
            }
        }
        expr.each_child(&mut |child| self.collect(child));
    }

    /// Whether the words of the gold answer and those of `other` give equal values different meanings.
    fn differ(&self, other: &Self) -> bool {
        // The day alone is no date.
        let months = [self, other].map(|side| side.words.iter().any(|w| meaning::is_month(w)));
        if months == [true, false] {
            return true;
        }
        let lacks = |some: &[String], others: &[String]| some.iter().any(|w| !others.contains(w));
        let leads = self.leads.iter().zip(&other.leads);
        meaning::are_opposed(&self.words, &other.words)
            || leads.into_iter().any(|(a, b)| lacks(a, b) && lacks(b, a))
    }
}

/// Whether a word before a number says something about it.
fn is_said(word: &str) -> bool {
    // `\text{Team A by } 3`: a capital letter is a name.
    let is_name = word.chars().count() > 1 || word.contains(|c: char| c.is_ascii_uppercase());
    is_name
        && word.contains(char::is_alphabetic)
        && !units::is_unit(word)
        && !is_introduction(&word.to_lowercase())
}

/// Whether a word introduces any value.
fn is_introduction(word: &str) -> bool {
    let introduces = Class::INTRODUCE | Class::BE | Class::FILLER | Class::DETERMINER | Class::AND;
    word.starts_with("答案") || (word.len() > 1 && said(word).is(introduces))
}

/// Whether a value starts with a number.
fn is_number(value: &Expr) -> bool {
    match value.plain() {
        Expr::Num(_) | Expr::Time(_) => true,
        Expr::Neg(inner) | Expr::Percent(inner) | Expr::Degree(inner) | Expr::Pow(inner, _) => {
            is_number(inner)
        }
        Expr::Mul(items) | Expr::Add(items) | Expr::Ratio(items) => {
            items.first().is_some_and(is_number)
        }
        Expr::Div(numerator, _) => is_number(numerator),
        _ => false,
    }
}

/// The value with what is said beside it, if that computes with it: `5 million`, `4:15 PM`.
fn computed(value: &Expr, unit: &Unit) -> Option<Expr> {
    let name = unit.name()?;
    match value {
        _ if unit.place == Place::Part => None,
        Expr::Time(parts) => {
            let (hour, rest) = parts.split_first()?;
            let hour = match (hour, half_of_day(name)?) {
                (12, "am") => 0,
                (hour @ 0..12, "pm") => hour + 12,
                (hour, _) => *hour,
            };
            Some(Expr::Time([&[hour], rest].concat()))
        }
        _ => {
            let (base, exponent) = units::multiplier(name)?;
            let factor = Expr::Pow(
                Box::new(Expr::int(base.into())),
                Box::new(Expr::int(exponent.into())),
            );
            Some(Expr::Mul(vec![value.clone(), factor]))
        }
    }
}

/// The half of a day that is said: `PM`, `p.m.`
fn half_of_day(name: &str) -> Option<&'static str> {
    let letters = name.chars().filter(|c| c.is_alphabetic());
    let lower: String = letters.flat_map(char::to_lowercase).collect();
    ["am", "pm"].into_iter().find(|half| *half == lower)
}

/// The answer without units and words, as they are dropped or change its values.
fn value_of<'a>(expr: &'a Expr, said: &Remarks, compute: bool) -> Cow<'a, Expr> {
    if !said.any {
        return Cow::Borrowed(expr);
    }
    let mut value = expr.clone();
    drop_units(&mut value, compute);
    Cow::Owned(value)
}

fn drop_units(expr: &mut Expr, compute: bool) {
    // `5 ft 3 in` without its units is two numbers.
    if let Expr::Add(items) = expr
        && !compute
        && items
            .iter()
            .all(|item| matches!(item, Expr::Quantity(_, unit) if unit.place == Place::Part))
    {
        *expr = Expr::List(std::mem::take(items));
    }
    expr.each_child_mut(&mut |child| drop_units(child, compute));
    if let Expr::Quantity(value, unit) = expr {
        *expr = match computed(value, unit) {
            Some(computed) if compute => computed,
            Some(_) => std::mem::replace(&mut **value, Expr::Undefined),
            None => changed(
                std::mem::replace(&mut **value, Expr::Undefined),
                unit,
                compute,
            ),
        };
    }
}

/// The value with the words beside it if they change it: `at least 5`. The unit of a part of a quantity is a
/// variable.
fn changed(value: Expr, unit: &Unit, compute: bool) -> Expr {
    if unit.place == Place::Part && compute {
        let symbol = unit.name().and_then(units::symbol).unwrap_or_default();
        return Expr::Mul(vec![value, Expr::Sym(format!("unit {symbol}"))]);
    }
    let words: Vec<&str> = unit.factors.iter().map(|(name, _)| name.trim()).collect();
    let words = words.join(" ").to_lowercase();
    let changes = if unit.place == Place::Before {
        alters(&words)
    } else {
        said(&words).is(Class::LIMIT)
    };
    if changes {
        Expr::Apply(words, vec![value])
    } else {
        value
    }
}
