//! Sums of rational functions of the index, by their partial fractions.

use super::canon::{Canon, Result};
use super::kernel::Kernel;
use super::poly::Quot;
use super::series::{MAX_SHIFT, Range, whole};
use super::univariate::Univariate;
use crate::verdict::Failure;
use num_rational::BigRational;
use num_traits::{One, ToPrimitive, Zero};

impl Canon {
    /// The sum of a rational function, by its partial fractions. Those with poles at a whole distance cancel
    /// except near the ends of the range; what is left without end is a value of the zeta function.
    pub(super) fn sum_of_fractions(
        &mut self,
        above: Univariate,
        below: Univariate,
        range: &Range,
    ) -> Result<Quot> {
        self.spend(1_000)?;
        let mut total = Quot::int(0);
        for (power, class) in classes(&above, &below).ok_or(Failure::Unsupported)? {
            let nearest = class.iter().map(|(pole, _)| pole.clone()).max();
            let nearest = nearest.ok_or(Failure::Unsupported)?;
            let mut left = BigRational::zero();
            for (pole, factor) in &class {
                left += factor;
                let shift = (&nearest - pole).to_integer().to_i64();
                let shift = shift
                    .filter(|s| *s <= MAX_SHIFT)
                    .ok_or(Failure::Unsupported)?;
                for j in 0..shift {
                    let offset = BigRational::from_integer(j.into()) - &nearest;
                    let near = self.fraction(factor, &range.first, &offset, power)?;
                    total = self.sub(&total, &near)?;
                    if let Some(last) = &range.last {
                        let offset = offset + BigRational::one();
                        let far = self.fraction(factor, last, &offset, power)?;
                        total = self.add(&total, &far)?;
                    }
                }
            }
            if left.is_zero() {
                continue;
            }
            if range.last.is_some() {
                return Err(Failure::Unsupported);
            }
            let zeta = self.zeta(power, &range.first, &nearest)?;
            let zeta = self.mul(&Quot::rational(left), &zeta)?;
            total = self.add(&total, &zeta)?;
        }
        Ok(total)
    }

    /// The sum of `ratio^k` times a rational function with simple poles at whole numbers: of `ratio^k / k` from 1
    /// on it is `-ln(1 - ratio)`.
    pub(super) fn logarithmic(
        &mut self,
        ratio: &Quot,
        above: Univariate,
        below: Univariate,
        range: &Range,
    ) -> Result<Quot> {
        if range.last.is_some() {
            return Err(Failure::Unsupported);
        }
        if *ratio != Quot::int(-1) {
            self.converges(ratio)?;
        }
        let rest = self.sub(&Quot::int(1), ratio)?;
        let logarithm = self.logarithm(rest)?.neg();
        let mut total = Quot::int(0);
        for (power, class) in classes(&above, &below).ok_or(Failure::Unsupported)? {
            for (pole, factor) in class {
                let start = range
                    .first
                    .as_rational()
                    .and_then(|first| whole(&(first - &pole)));
                let start = start.filter(|n| (1..=MAX_SHIFT).contains(n) && power == 1);
                let mut sum = logarithm.clone();
                for j in 1..start.ok_or(Failure::Unsupported)? {
                    let term = self.whole_power(ratio, j)?;
                    let term = self.div(&term, &Quot::int(j))?;
                    sum = self.sub(&sum, &term)?;
                }
                let pole = whole(&pole).ok_or(Failure::Unsupported)?;
                let unshifted = self.whole_power(ratio, pole)?;
                let sum = self.mul(&sum, &unshifted)?;
                let sum = self.mul(&Quot::rational(factor), &sum)?;
                total = self.add(&total, &sum)?;
            }
        }
        Ok(total)
    }

    /// `factor / (x + offset)^power`.
    fn fraction(
        &mut self,
        factor: &BigRational,
        x: &Quot,
        offset: &BigRational,
        power: i64,
    ) -> Result<Quot> {
        let below = self.add(x, &Quot::rational(offset.clone()))?;
        let below = self.whole_power(&below, power)?;
        self.div(&Quot::rational(factor.clone()), &below)
    }

    /// The sum of `1/(k - pole)^power` from `first` on, for a pole at a whole number or a half.
    fn zeta(&mut self, power: i64, first: &Quot, pole: &BigRational) -> Result<Quot> {
        /// pi^n over the value of the zeta function at n = 2, 4, ...
        const DENOMINATORS: [i64; 5] = [6, 90, 945, 9450, 93555];
        let start = first.as_rational().ok_or(Failure::Unsupported)? - pole;
        let even = usize::try_from(power / 2).ok().filter(|_| power % 2 == 0);
        let denominator = even.and_then(|n| DENOMINATORS.get(n.wrapping_sub(1)));
        let denominator = *denominator.ok_or(Failure::Unsupported)?;
        let half = BigRational::new(1.into(), 2.into());
        let (origin, factor) = match start.denom().to_i64() {
            Some(1) => (BigRational::one(), 1),
            Some(2) => (half, (1 << power) - 1),
            _ => return Err(Failure::Unsupported),
        };
        let skipped = (&start - &origin).to_integer().to_i64();
        let skipped = skipped.filter(|n| (0..=MAX_SHIFT).contains(n));
        let pi = self.kernel(Kernel::Pi)?;
        let value = self.whole_power(&pi, power)?;
        let value = self.mul(&value, &Quot::int(factor))?;
        let mut value = self.div(&value, &Quot::int(denominator))?;
        for j in 0..skipped.ok_or(Failure::Unsupported)? {
            let place = Quot::int(j);
            let term = self.fraction(&BigRational::one(), &place, &origin, power)?;
            value = self.sub(&value, &term)?;
        }
        Ok(value)
    }
}

/// For each power of a pole and each class of poles at whole distances: the poles and the numbers above them.
type Classes = Vec<(i64, Vec<(BigRational, BigRational)>)>;

/// The partial fractions of a proper rational function with rational poles.
fn classes(above: &Univariate, below: &Univariate) -> Option<Classes> {
    if above.0.len() >= below.0.len() {
        return None;
    }
    let (poles, _) = below.split(0)?;
    let mut classes: Classes = Vec::new();
    for (pole, times) in poles {
        let mut others = below.clone();
        for _ in 0..times {
            others = others.divided(&pole);
        }
        // The quotient as a power series around the pole.
        let (above, others) = (above.around(&pole), others.around(&pole));
        let mut quotient: Vec<BigRational> = Vec::new();
        for j in 0..times {
            let mut rest = above.get(j).cloned().unwrap_or_default();
            for (i, q) in quotient.iter().enumerate() {
                rest -= q * others.get(j - i).cloned().unwrap_or_default();
            }
            quotient.push(rest / &others[0]);
        }
        for (j, factor) in quotient.into_iter().enumerate() {
            let power = (times - j) as i64;
            let class = classes
                .iter_mut()
                .find(|(p, class)| *p == power && (&class[0].0 - &pole).is_integer());
            match class {
                Some((_, class)) => class.push((pole.clone(), factor)),
                None => classes.push((power, vec![(pole.clone(), factor)])),
            }
        }
    }
    Some(classes)
}
