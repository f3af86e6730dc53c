//! Complex numbers whose parts are balls.

use super::ball::Ball;
use super::elementary;
use crate::verdict::Failure;

/// A complex number; the imaginary part of a real number is exactly zero.
#[derive(Debug, Clone)]
pub(crate) struct Complex {
    pub(crate) re: Ball,
    pub(crate) im: Ball,
}

type Result<T> = std::result::Result<T, Failure>;

impl Complex {
    pub(crate) fn real(re: Ball) -> Self {
        Self {
            re,
            im: Ball::zero(),
        }
    }

    pub(crate) fn is_real(&self) -> bool {
        self.im.is_exact_zero()
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            re: self.re.neg(),
            im: self.im.neg(),
        }
    }

    pub(crate) fn add(&self, other: &Self, prec: u32) -> Result<Self> {
        Ok(Self {
            re: self.re.add(&other.re, prec)?,
            im: self.im.add(&other.im, prec)?,
        })
    }

    pub(crate) fn sub(&self, other: &Self, prec: u32) -> Result<Self> {
        self.add(&other.neg(), prec)
    }

    pub(crate) fn mul(&self, other: &Self, prec: u32) -> Result<Self> {
        if self.is_real() && other.is_real() {
            return Ok(Self::real(self.re.mul(&other.re, prec)?));
        }
        let re = self
            .re
            .mul(&other.re, prec)?
            .sub(&self.im.mul(&other.im, prec)?, prec)?;
        let im = self
            .re
            .mul(&other.im, prec)?
            .add(&self.im.mul(&other.re, prec)?, prec)?;
        Ok(Self { re, im })
    }

    /// The square of the absolute value.
    fn norm(&self, prec: u32) -> Result<Ball> {
        self.re
            .mul(&self.re, prec)?
            .add(&self.im.mul(&self.im, prec)?, prec)
    }

    pub(crate) fn div(&self, other: &Self, prec: u32) -> Result<Self> {
        if other.is_real() {
            let im = if self.is_real() {
                Ball::zero()
            } else {
                self.im.div(&other.re, prec)?
            };
            return Ok(Self {
                re: self.re.div(&other.re, prec)?,
                im,
            });
        }
        let norm = other.norm(prec)?;
        let conjugate = Self {
            re: other.re.clone(),
            im: other.im.neg(),
        };
        let product = self.mul(&conjugate, prec)?;
        Ok(Self {
            re: product.re.div(&norm, prec)?,
            im: product.im.div(&norm, prec)?,
        })
    }

    pub(crate) fn abs(&self, prec: u32) -> Result<Ball> {
        if self.is_real() {
            Ok(self.re.abs())
        } else {
            self.norm(prec)?.sqrt(prec)
        }
    }

    /// The angle, in (-pi, pi].
    fn argument(&self, prec: u32) -> Result<Ball> {
        let pi = elementary::pi(prec)?;
        if self.is_real() {
            return match self.re.sign() {
                Some(1) => Ok(Ball::zero()),
                Some(-1) => Ok(pi),
                Some(_) => Err(Failure::Undefined),
                None => Err(Failure::Unsupported),
            };
        }
        let half = Ball::from_int(1).div(&Ball::from_int(2), prec)?;
        match (self.re.sign(), self.im.sign()) {
            (Some(1), _) => elementary::atan(&self.im.div(&self.re, prec)?, prec),
            (_, Some(sign @ (1 | -1))) => {
                // atan2 = +-pi/2 - atan(re/im)
                let quarter = pi.mul(&half, prec)?;
                let quarter = if sign < 0 { quarter.neg() } else { quarter };
                quarter.sub(
                    &elementary::atan(&self.re.div(&self.im, prec)?, prec)?,
                    prec,
                )
            }
            _ => Err(Failure::Unsupported),
        }
    }

    pub(crate) fn exp(&self, prec: u32) -> Result<Self> {
        let modulus = elementary::exp(&self.re, prec)?;
        if self.is_real() {
            return Ok(Self::real(modulus));
        }
        let (sin, cos) = elementary::sin_cos(&self.im, prec)?;
        Ok(Self {
            re: modulus.mul(&cos, prec)?,
            im: modulus.mul(&sin, prec)?,
        })
    }

    pub(crate) fn ln(&self, prec: u32) -> Result<Self> {
        if self.is_real() && self.re.sign() == Some(1) {
            return Ok(Self::real(elementary::ln(&self.re, prec)?));
        }
        let modulus = elementary::ln(&self.abs(prec)?, prec)?;
        Ok(Self {
            re: modulus,
            im: self.argument(prec)?,
        })
    }

    /// The principal square root.
    pub(crate) fn sqrt(&self, prec: u32) -> Result<Self> {
        if self.is_real() {
            return match self.re.sign() {
                Some(-1) => Ok(Self {
                    re: Ball::zero(),
                    im: self.re.neg().sqrt(prec)?,
                }),
                _ => Ok(Self::real(self.re.sqrt(prec)?)),
            };
        }
        let half = Self::real(Ball::from_int(1).div(&Ball::from_int(2), prec)?);
        self.ln(prec)?.mul(&half, prec)?.exp(prec)
    }

    pub(crate) fn powi(&self, exponent: i64, prec: u32) -> Result<Self> {
        let mut result = Self::real(Ball::from_int(1));
        if self.is_real() {
            result = Self::real(self.re.powi(exponent.unsigned_abs(), prec)?);
        } else {
            let mut square = self.clone();
            let mut rest = exponent.unsigned_abs();
            while rest > 0 {
                if rest & 1 == 1 {
                    result = result.mul(&square, prec)?;
                }
                rest >>= 1;
                if rest > 0 {
                    square = square.mul(&square, prec)?;
                }
            }
        }
        if exponent < 0 {
            Self::real(Ball::from_int(1)).div(&result, prec)
        } else {
            Ok(result)
        }
    }

    /// The principal power.
    pub(crate) fn pow(&self, exponent: &Self, prec: u32) -> Result<Self> {
        self.ln(prec)?.mul(exponent, prec)?.exp(prec)
    }

    /// Sine and cosine, by exponentials for numbers that are not real.
    pub(crate) fn sin_cos(&self, prec: u32) -> Result<(Self, Self)> {
        if self.is_real() {
            let (sin, cos) = elementary::sin_cos(&self.re, prec)?;
            return Ok((Self::real(sin), Self::real(cos)));
        }
        let i_times = Self {
            re: self.im.neg(),
            im: self.re.clone(),
        };
        let plus = i_times.exp(prec)?;
        let minus = i_times.neg().exp(prec)?;
        let half = Self::real(Ball::from_int(1).div(&Ball::from_int(2), prec)?);
        let cos = plus.add(&minus, prec)?.mul(&half, prec)?;
        let difference = plus.sub(&minus, prec)?.mul(&half, prec)?;
        // Dividing by i rotates by a quarter turn.
        let sin = Self {
            re: difference.im.clone(),
            im: difference.re.neg(),
        };
        Ok((sin, cos))
    }

    /// Whether zero is among the values.
    pub(crate) fn contains_zero(&self) -> bool {
        self.re.contains_zero() && self.im.contains_zero()
    }
}
