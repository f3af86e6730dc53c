//! Polynomials in kernels with rational exponents, and their quotients.

use num_rational::{BigRational, Ratio};
use num_traits::{One, Zero};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// The exponent of a kernel.
pub(crate) type Exponent = Ratio<i64>;

/// A product of powers of kernels, sorted by kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Monomial(Vec<(u32, Exponent)>);

impl Monomial {
    pub(crate) fn one() -> Self {
        Self::default()
    }

    pub(crate) fn power(kernel: u32, exponent: Exponent) -> Self {
        Self(if exponent.is_zero() {
            Vec::new()
        } else {
            vec![(kernel, exponent)]
        })
    }

    /// From factors in any order.
    pub(super) fn from_factors(factors: BTreeMap<u32, Exponent>) -> Self {
        Self(factors.into_iter().filter(|(_, e)| !e.is_zero()).collect())
    }

    pub(crate) fn factors(&self) -> &[(u32, Exponent)] {
        &self.0
    }

    pub(crate) fn is_one(&self) -> bool {
        self.0.is_empty()
    }

    /// The factors that satisfy `test`, and the others.
    pub(crate) fn split(&self, test: impl Fn(u32) -> bool) -> (Self, Self) {
        let (yes, no) = self.0.iter().partition(|(kernel, _)| test(*kernel));
        (Self(yes), Self(no))
    }
}

/// A sum of monomials with coefficients other than zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Poly(pub(super) BTreeMap<Monomial, BigRational>);

// `Ratio` compares and hashes by continued fractions, which takes thousands of divisions for long numbers.
// Ours are reduced, so numerators and denominators can be compared directly.
impl PartialEq for Poly {
    fn eq(&self, other: &Self) -> bool {
        let same = |((m, a), (n, b)): ((&Monomial, &BigRational), (&Monomial, &BigRational))| {
            m == n && a.numer() == b.numer() && a.denom() == b.denom()
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Eq for Poly {}

impl Hash for Poly {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (monomial, coefficient) in &self.0 {
            (monomial, coefficient.numer(), coefficient.denom()).hash(state);
        }
    }
}

impl Poly {
    pub(crate) fn constant(value: BigRational) -> Self {
        Self::term(Monomial::one(), value)
    }

    pub(crate) fn term(monomial: Monomial, coefficient: BigRational) -> Self {
        let mut terms = BTreeMap::new();
        if !coefficient.is_zero() {
            terms.insert(monomial, coefficient);
        }
        Self(terms)
    }

    pub(crate) fn one() -> Self {
        Self::constant(BigRational::one())
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn terms(&self) -> impl Iterator<Item = (&Monomial, &BigRational)> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value, if no kernel occurs.
    pub(crate) fn as_rational(&self) -> Option<BigRational> {
        match self.0.len() {
            0 => Some(BigRational::zero()),
            1 => self
                .0
                .iter()
                .next()
                .filter(|(m, _)| m.is_one())
                .map(|(_, c)| c.clone()),
            _ => None,
        }
    }

    /// The only term, if there is just one.
    pub(crate) fn as_term(&self) -> Option<(&Monomial, &BigRational)> {
        if self.0.len() == 1 {
            self.0.iter().next()
        } else {
            None
        }
    }

    /// Sets the coefficient of a monomial that does not occur yet.
    pub(crate) fn insert(&mut self, monomial: Monomial, coefficient: BigRational) {
        self.0.insert(monomial, coefficient);
    }

    pub(super) fn coefficient(&self, monomial: &Monomial) -> Option<&BigRational> {
        self.0.get(monomial)
    }

    pub(crate) fn neg(&self) -> Self {
        Self(self.0.iter().map(|(m, c)| (m.clone(), -c)).collect())
    }

    /// The kernels that occur, in order.
    pub(crate) fn kernels(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .0
            .keys()
            .flat_map(|m| m.factors().iter().map(|(k, _)| *k))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// A quotient; the denominator is not zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Quot {
    pub(crate) num: Poly,
    pub(crate) den: Poly,
}

impl Quot {
    pub(crate) fn poly(num: Poly) -> Self {
        Self {
            num,
            den: Poly::one(),
        }
    }

    pub(crate) fn rational(value: BigRational) -> Self {
        Self::poly(Poly::constant(value))
    }

    pub(crate) fn int(value: i64) -> Self {
        Self::rational(BigRational::from_integer(value.into()))
    }

    pub(crate) fn kernel(id: u32, exponent: Exponent) -> Self {
        Self::poly(Poly::term(
            Monomial::power(id, exponent),
            BigRational::one(),
        ))
    }

    pub(crate) fn as_rational(&self) -> Option<BigRational> {
        if self.is_poly() {
            self.num.as_rational()
        } else {
            None
        }
    }

    pub(crate) fn is_poly(&self) -> bool {
        self.den.as_rational().is_some_and(|d| d.is_one())
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.num.is_zero()
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            num: self.num.neg(),
            den: self.den.clone(),
        }
    }

    /// All monomials of the numerator and the denominator.
    pub(crate) fn monomials(&self) -> impl Iterator<Item = &Monomial> {
        self.num.0.keys().chain(self.den.0.keys())
    }
}
