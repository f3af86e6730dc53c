//! Evaluation to a chosen precision with proven error bounds.
//!
//! A [`Ball`] is a midpoint with a radius that surely covers the true value, so two different numbers
//! are told apart by proof. The arithmetic stands on `num-bigint`; the elementary functions are
//! Taylor series after argument reduction, each with its error bound beside it.

mod ball;
mod complex;
mod elementary;
mod eval;

pub(crate) use complex::Complex;
pub(crate) use eval::{Evaluator, Point};
