//! Factors of whole numbers that trial division finds.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// The largest trial divisor.
const LIMIT: u64 = 4096;
/// Numbers with more bits are not factored.
const MAX_BITS: u64 = 512;
/// Numbers with more bits are not even checked for being powers.
const MAX_POWER_BITS: u64 = 2_048;

/// The steps that factoring a number takes.
pub(super) fn cost(number: &BigInt) -> u64 {
    match number.bits() {
        0..=20 => 20,
        21..=64 => 150,
        65..=MAX_POWER_BITS => 4_000,
        _ => 1,
    }
}

/// The factors of a positive number, their exponents, and whether each is certainly prime.
pub(super) fn factor(number: &BigInt) -> Vec<(BigInt, i64, bool)> {
    let mut found = Vec::new();
    if !number.is_positive() || number.is_one() {
        return found;
    }
    if number.bits() > MAX_POWER_BITS {
        return vec![(number.clone(), 1, false)];
    }
    if number.bits() > MAX_BITS {
        return vec![split_power(number)];
    }
    if let Some(small) = number.to_u64() {
        return factor_small(small);
    }
    let mut rest = number.clone();
    let mut divisor = 2u64;
    while divisor <= LIMIT && !rest.is_one() {
        if let Some(small) = rest.to_u64()
            && divisor * divisor > small
        {
            break;
        }
        let mut exponent = 0;
        loop {
            let (quotient, remainder) = rest.div_rem(&BigInt::from(divisor));
            if !remainder.is_zero() {
                break;
            }
            rest = quotient;
            exponent += 1;
        }
        if exponent > 0 {
            found.push((BigInt::from(divisor), exponent, true));
        }
        divisor += if divisor == 2 { 1 } else { 2 };
    }
    if !rest.is_one() {
        if rest < BigInt::from(LIMIT * LIMIT) {
            found.push((rest, 1, true));
        } else {
            found.push(split_power(&rest));
        }
    }
    found
}

/// The same for a number of one machine word.
fn factor_small(mut rest: u64) -> Vec<(BigInt, i64, bool)> {
    let mut found = Vec::new();
    let mut divisor = 2u64;
    while divisor <= LIMIT && divisor * divisor <= rest {
        let mut exponent = 0;
        while rest.is_multiple_of(divisor) {
            rest /= divisor;
            exponent += 1;
        }
        if exponent > 0 {
            found.push((BigInt::from(divisor), exponent, true));
        }
        divisor += if divisor == 2 { 1 } else { 2 };
    }
    if rest > 1 && rest < LIMIT * LIMIT {
        found.push((BigInt::from(rest), 1, true));
    } else if rest > 1 {
        found.push(split_power(&BigInt::from(rest)));
    }
    found
}

/// A number as a power with an exponent from products of 2, 3 and 5, as large as possible; its base is not
/// known to be prime.
fn split_power(number: &BigInt) -> (BigInt, i64, bool) {
    let mut base = number.clone();
    let mut exponent = 1;
    for root in [2u32, 2, 2, 3, 3, 5] {
        let candidate = base.nth_root(root);
        if candidate.pow(root) == base {
            base = candidate;
            exponent *= i64::from(root);
        }
    }
    (base, exponent, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_to_the_number() {
        for n in [
            2u64,
            12,
            97,
            360,
            1_000_003,
            4_194_304,
            600_851_475_143,
            10_403 * 10_403,
        ] {
            let product = factor(&BigInt::from(n))
                .into_iter()
                .fold(BigInt::one(), |p, (base, e, _)| p * base.pow(e as u32));
            assert_eq!(product, BigInt::from(n));
        }
        assert_eq!(
            factor(&BigInt::from(12)),
            [(2.into(), 2, true), (3.into(), 1, true)]
        );
        assert!(
            !factor(&(BigInt::from(1_000_003u64) * 1_000_033u64))
                .iter()
                .all(|f| f.2)
        );
    }
}
