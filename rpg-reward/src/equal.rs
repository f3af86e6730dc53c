//! Decides whether two answers are equal.
//!
//! An answer is first taken for what it is meant as (a value, a list, an interval, an equation, words)
//! in [`value`], then compared with one of the same kind: numbers and expressions in [`scalar`], sets
//! of real numbers in [`sets`], equations and inequalities in [`relations`].

mod matrices;
mod relations;
mod scalar;
mod sets;
mod structure;
mod text;
mod value;

use crate::ast::Expr;
use crate::verdict::{Budget, Failure};

pub(crate) use text::{choice_letter, equal_words, normalised, same_choice};

/// What a comparison shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Equal,
    Different,
    /// Neither could be shown.
    Undecided,
    /// The answer has no value that could be compared.
    Failed(Failure),
}

impl Outcome {
    fn of(equal: bool) -> Self {
        if equal { Self::Equal } else { Self::Different }
    }

    pub(crate) fn is_equal(self) -> bool {
        self == Self::Equal
    }

    /// Both must hold: the first that does not decides.
    fn and(self, other: impl FnOnce() -> Self) -> Self {
        if self.is_equal() { other() } else { self }
    }
}

/// One comparison, with the work that is left for it.
pub(crate) struct Comparer {
    fuel: u64,
}

/// Steps of work for one comparison of answers.
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

    /// Compares an answer with the gold answer.
    pub(crate) fn compare(&mut self, gold: &Expr, answer: &Expr) -> Outcome {
        let gold = match self.interpret(gold, 0) {
            Ok(value) => value,
            Err(failure) => return Outcome::Failed(failure),
        };
        let answer = match self.interpret(answer, 0) {
            Ok(value) => value,
            Err(failure) => return Outcome::Failed(failure),
        };
        self.same(&gold, &answer)
    }
}
