//! Decides whether two answers are equal.
//!
//! [`value`] first interprets an answer as a value of some kind: a number, a list, an interval, an
//! equation, words. [`structure`] compares values of one kind as that kind, and others as what [`views`] finds
//! that both can be read as: numbers and expressions in [`scalar`], sets of real numbers in [`sets`], equations
//! and inequalities in [`relations`].

mod chains;
mod families;
mod matrices;
mod naming;
mod quantity;
mod relations;
mod rewrite;
mod samples;
mod scalar;
mod sets;
mod solve;
mod structure;
mod text;
mod value;
mod views;

pub(crate) use quantity::{compare, understand};
pub(crate) use text::{choice_letter, equal_words, normalized, same_choice};

use crate::ast::Expr;
use crate::verdict::{Budget, Failure};

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Equal,
    Different,
    /// Neither equality nor difference could be shown.
    Undecided,
    /// An answer has no value that could be compared.
    Failed(Failure),
}

impl Outcome {
    fn of(equal: bool) -> Self {
        if equal { Self::Equal } else { Self::Different }
    }

    pub(crate) fn is_equal(self) -> bool {
        self == Self::Equal
    }

    /// Equal if both are, otherwise the first outcome that is not.
    fn and(self, other: impl FnOnce() -> Self) -> Self {
        if self.is_equal() { other() } else { self }
    }
}

/// One comparison and its remaining budget of work.
pub(crate) struct Comparer {
    fuel: u64,
}

/// The steps of work that one comparison may take.
const FUEL: u64 = 120_000;

impl Comparer {
    pub(crate) fn new() -> Self {
        Self { fuel: FUEL }
    }

    fn spend(&mut self, steps: u64) -> Result<(), Failure> {
        self.fuel = self
            .fuel
            .checked_sub(steps)
            .ok_or(Failure::OverBudget(Budget::Work))?;
        Ok(())
    }

    /// Whether an answer has a value: it equals itself.
    pub(crate) fn understand(&mut self, expr: &Expr) -> Result<(), Failure> {
        let value = self.interpret(expr, 0)?;
        match self.same(&value, &value) {
            Outcome::Failed(failure) => Err(failure),
            Outcome::Equal | Outcome::Different | Outcome::Undecided => Ok(()),
        }
    }

    /// Compares an answer with the gold answer.
    pub(crate) fn compare(&mut self, gold: &Expr, answer: &Expr) -> Outcome {
        self.compare_at(gold, answer, 0)
    }

    /// Compares parts of answers.
    fn compare_at(&mut self, gold: &Expr, answer: &Expr, depth: usize) -> Outcome {
        let gold = self.interpret(gold, depth);
        match gold.and_then(|gold| Ok((gold, self.interpret(answer, depth)?))) {
            Ok((gold, answer)) => self.same(&gold, &answer),
            Err(failure) => Outcome::Failed(failure),
        }
    }
}
