//! Exact arithmetic: quotients of polynomials in kernels, with rational coefficients.
//!
//! A kernel is anything that the arithmetic does not look into: a variable, pi, the root of a prime,
//! the sine of something. Exponents are rational, so `\sqrt{12}` is the term `2 * 3^(1/2)`. Two
//! expressions whose difference expands to nothing are equal; where every kernel left in the
//! difference is known to be independent of the others, they are otherwise surely different.

mod canon;
mod factor;
mod functions;
mod kernel;
mod poly;
mod powers;
mod rational;
mod trig;

pub(crate) use canon::Canon;
pub(crate) use poly::{Monomial, Poly};
