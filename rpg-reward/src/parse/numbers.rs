//! The values of literals.

use crate::ast::Number;
use crate::verdict::{Budget, Failure};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Zero};

/// The maximum number of decimal places.
const MAX_PLACES: usize = 4_000;

/// The number written as digits with at most one decimal point.
pub(super) fn decimal(text: &str) -> Result<Number, Failure> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // Without trailing zeros the fraction has no common factor of ten.
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > MAX_PLACES {
        return Err(Failure::OverBudget(Budget::Length));
    }
    let digits: BigInt = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| Failure::NotParsed)?;
    let value = if fraction.is_empty() {
        BigRational::from_integer(digits)
    } else {
        decimal_fraction(digits, fraction.len())
    };
    Ok(Number {
        value,
        decimal: text.contains('.'),
    })
}

/// The number whose digits after `before` repeat forever.
pub(super) fn repeating(before: &str, repetend: &str) -> Result<Number, Failure> {
    let start = decimal(before)?;
    let places = before.split_once('.').map_or(0, |(_, f)| f.len());
    let digits: BigInt = repetend.parse().map_err(|_| Failure::NotParsed)?;
    let nines = power_of_ten(repetend.len()) - BigInt::one();
    let tail = BigRational::new(digits, nines * power_of_ten(places));
    Ok(Number {
        value: start.value + tail,
        decimal: false,
    })
}

/// `digits / 10^places` in lowest terms, where ten does not divide the digits. Only twos or only fives can
/// be common factors, so no greatest common divisor of long numbers is needed.
fn decimal_fraction(mut digits: BigInt, places: usize) -> BigRational {
    let mut denominator = power_of_ten(places);
    let twos = digits.trailing_zeros().unwrap_or(0).min(places as u64);
    if twos > 0 {
        digits >>= twos;
        denominator >>= twos;
    } else {
        let five = BigInt::from(5);
        for _ in 0..places {
            let (quotient, rest) = digits.div_rem(&five);
            if !rest.is_zero() {
                break;
            }
            digits = quotient;
            denominator /= &five;
        }
    }
    BigRational::new_raw(digits, denominator)
}

fn power_of_ten(exponent: usize) -> BigInt {
    num_traits::pow(BigInt::from(10), exponent)
}
