//! Exact arithmetic: quotients of polynomials in kernels, with rational coefficients.
//!
//! A kernel is anything that the arithmetic treats as opaque: a variable, pi, the root of a prime, the
//! sine of something. Exponents are rational, so `\sqrt{12}` is the term `2 * 3^(1/2)`. Two expressions
//! are equal if their difference expands to zero; otherwise they are certainly different if all kernels
//! left in the difference are known to be independent of each other.

mod canon;
mod factor;
mod fractions;
mod functions;
mod integrals;
mod kernel;
mod poly;
mod powers;
mod rational;
mod series;
mod trig;
mod univariate;

pub(crate) use canon::Canon;
pub(crate) use poly::{Monomial, Poly};
pub(crate) use univariate::Univariate;
