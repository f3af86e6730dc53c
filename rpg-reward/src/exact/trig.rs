//! Trigonometric functions in exact form, and determinants.

use super::canon::{Canon, Result};
use super::kernel::Kernel;
use super::poly::{Exponent, Monomial, Poly, Quot};
use crate::ast::{Expr, Func};
use crate::verdict::{Budget, Failure};
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// The size of the largest matrix whose determinant is expanded.
const MAX_DETERMINANT: usize = 5;

impl Canon {
    /// The six trigonometric functions, as quotients of sine and cosine.
    pub(super) fn trigonometric(&mut self, func: Func, arguments: &[Expr]) -> Result<Option<Quot>> {
        let known = matches!(
            func,
            Func::Sin | Func::Cos | Func::Tan | Func::Cot | Func::Sec | Func::Csc
        );
        let Some(argument) = arguments.first().filter(|_| known) else {
            return Ok(None);
        };
        let angle = self.angle(argument)?;
        let one = Quot::int(1);
        let (top, bottom) = match func {
            Func::Sin => (self.sine(&angle)?, one),
            Func::Cos => (self.cosine(&angle)?, one),
            Func::Tan => (self.sine(&angle)?, self.cosine(&angle)?),
            Func::Cot => (self.cosine(&angle)?, self.sine(&angle)?),
            Func::Sec => (one, self.cosine(&angle)?),
            _ => (one, self.sine(&angle)?),
        };
        self.div(&top, &bottom).map(Some)
    }

    /// An angle: degrees become multiples of pi.
    fn angle(&mut self, argument: &Expr) -> Result<Quot> {
        match argument {
            Expr::Degree(a) => {
                let degrees = self.canon(a)?;
                let pi = self.kernel(Kernel::Pi)?;
                let turned = self.mul(&degrees, &pi)?;
                self.div(&turned, &Quot::int(180))
            }
            Expr::Neg(a) => Ok(self.angle(a)?.neg()),
            Expr::Add(terms) => {
                let mut sum = Quot::int(0);
                for term in terms {
                    let term = self.angle(term)?;
                    sum = self.add(&sum, &term)?;
                }
                Ok(sum)
            }
            _ => self.canon(argument),
        }
    }

    /// The angle as a multiple of pi, if it is a rational one.
    fn multiple_of_pi(&self, angle: &Quot) -> Option<BigRational> {
        if angle.is_zero() {
            return Some(BigRational::zero());
        }
        let (monomial, coefficient) = angle.num.as_term().filter(|_| angle.is_poly())?;
        match monomial.factors() {
            [(id, e)] if e.is_one() && *self.kernels.get(*id) == Kernel::Pi => {
                Some(coefficient.clone())
            }
            _ => None,
        }
    }

    fn sine(&mut self, angle: &Quot) -> Result<Quot> {
        if let Some(turn) = self.multiple_of_pi(angle) {
            return self.sin_pi(&turn);
        }
        if is_negative(angle) {
            let positive = self.kernel(Kernel::Fun(Func::Sin, vec![angle.neg()]))?;
            return Ok(positive.neg());
        }
        self.kernel(Kernel::Fun(Func::Sin, vec![angle.clone()]))
    }

    fn cosine(&mut self, angle: &Quot) -> Result<Quot> {
        if let Some(turn) = self.multiple_of_pi(angle) {
            return self.sin_pi(&(turn + BigRational::new(1.into(), 2.into())));
        }
        let angle = if is_negative(angle) {
            angle.neg()
        } else {
            angle.clone()
        };
        self.kernel(Kernel::Fun(Func::Cos, vec![angle]))
    }

    /// sin(pi r), in radicals where r is a multiple of 1/4 or 1/6.
    pub(super) fn sin_pi(&mut self, r: &BigRational) -> Result<Quot> {
        let half = BigRational::new(1.into(), 2.into());
        let two = BigRational::from_integer(2.into());
        let mut r = r - (r / &two).floor() * &two;
        let negative = r >= BigRational::one();
        if negative {
            r -= BigRational::one();
        }
        if r > half {
            r = BigRational::one() - r;
        }
        let root = |canon: &mut Self, n: i64| -> Result<Quot> {
            let id = canon.kernels.id(Kernel::Prime {
                value: n.into(),
                certain: true,
            })?;
            let monomial = Monomial::power(id, Exponent::new(1, 2));
            Ok(Quot::poly(Poly::term(
                monomial,
                BigRational::new(1.into(), 2.into()),
            )))
        };
        let twelfths = &r * BigRational::from_integer(12.into());
        let value = match twelfths.to_integer().try_into().unwrap_or(0u32) {
            _ if !twelfths.is_integer() => None,
            0 => Some(Quot::int(0)),
            2 => Some(Quot::rational(half)),
            3 => Some(root(self, 2)?),
            4 => Some(root(self, 3)?),
            6 => Some(Quot::int(1)),
            _ => None,
        };
        let value = match value {
            Some(value) => value,
            None => {
                let id = self.kernels.id(Kernel::Pi)?;
                let angle = Quot::poly(Poly::term(Monomial::power(id, Exponent::one()), r));
                self.kernel(Kernel::Fun(Func::Sin, vec![angle]))?
            }
        };
        Ok(if negative { value.neg() } else { value })
    }

    /// Determinant or trace.
    pub(super) fn matrix_function(&mut self, func: Func, argument: &Expr) -> Result<Quot> {
        let Expr::Matrix(rows) = argument else {
            return Err(Failure::Unsupported);
        };
        if rows.len() != rows[0].len() {
            return Err(Failure::Undefined);
        }
        if rows.len() > MAX_DETERMINANT {
            return Err(Failure::OverBudget(Budget::Size));
        }
        let mut cells = Vec::new();
        for row in rows {
            cells.push(
                row.iter()
                    .map(|c| self.canon(c))
                    .collect::<Result<Vec<Quot>>>()?,
            );
        }
        if func == Func::Trace {
            let mut sum = Quot::int(0);
            for (index, row) in cells.iter().enumerate() {
                sum = self.add(&sum, &row[index])?;
            }
            return Ok(sum);
        }
        let columns: Vec<usize> = (0..rows.len()).collect();
        self.determinant(&cells, &columns)
    }

    /// The determinant of the last rows of `cells` in `columns`, expanded along the first of these rows.
    fn determinant(&mut self, cells: &[Vec<Quot>], columns: &[usize]) -> Result<Quot> {
        let Some(row) = cells
            .get(cells.len() - columns.len())
            .filter(|_| !columns.is_empty())
        else {
            return Ok(Quot::int(1));
        };
        let mut sum = Quot::int(0);
        for (position, column) in columns.iter().enumerate() {
            let rest: Vec<usize> = columns.iter().copied().filter(|c| c != column).collect();
            let minor = self.determinant(cells, &rest)?;
            let term = self.mul(&row[*column], &minor)?;
            let term = if position % 2 == 1 { term.neg() } else { term };
            sum = self.add(&sum, &term)?;
        }
        Ok(sum)
    }
}

/// Whether the first coefficient is negative, which decides between an angle and its negative.
fn is_negative(angle: &Quot) -> bool {
    angle
        .num
        .terms()
        .next()
        .is_some_and(|(_, c)| c.is_negative())
}
