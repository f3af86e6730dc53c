//! Evaluation to a chosen precision with proven error bounds.
//!
//! A [`Ball`](ball::Ball) is a midpoint with a radius that certainly covers the true value, so that two numbers are
//! proven different. The arithmetic is built on `num-bigint`; the elementary functions are Taylor series
//! after argument reduction, each with its error bound.

mod ball;
mod complex;
mod elementary;
mod eval;

pub(crate) use complex::Complex;
pub(crate) use eval::{Evaluator, Point};
