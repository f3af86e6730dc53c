//! The points at which expressions in variables are compared.

use crate::ast::Expr;
use num_rational::BigRational;

/// Points chosen by a hash of both expressions, so that no answer can be tailored to them.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(gold: &Expr, answer: &Expr) -> Self {
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        hash.expr(gold);
        hash.expr(answer);
        Self(hash.0)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value for the point with this index: in turn near one, larger, small, and negative.
    ///
    /// Whole numbers run through a range, so that even and odd values and similar patterns all occur; each
    /// variable has its own start and step.
    pub(super) fn value(&mut self, index: usize, whole: Option<usize>) -> BigRational {
        if let Some(which) = whole {
            const STEPS: [u64; 6] = [1, 2, 4, 5, 7, 8];
            let step = STEPS[which % STEPS.len()];
            let value = (self.0 % 9 + step * index as u64 + which as u64) % 9 + 2;
            return BigRational::from_integer(value.into());
        }
        let random = self.next();
        let numer = i64::try_from(random % 4001).unwrap_or(0) + 500;
        let (numer, denom) = match index % 5 {
            0 | 3 => (numer, 1009),
            1 => (numer + 1500, 307),
            2 => (-numer, 1013),
            _ => (numer, 5003),
        };
        BigRational::new(numer.into(), denom.into())
    }
}

/// FNV-1a over the nodes of a tree: the same in every build, unlike the hashes of the standard library.
struct Hash(u64);

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        // The length keeps neighbouring texts apart.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        let (kind, detail): (u8, u64) = match expr {
            Expr::Num(number) => (1, u64::from(number.decimal)),
            Expr::Sym(_) => (2, 0),
            Expr::Const(constant) => (3, *constant as u64),
            Expr::Add(_) => (4, 0),
            Expr::Neg(_) => (5, 0),
            Expr::Mul(_) => (6, 0),
            Expr::Div(..) => (7, 0),
            Expr::Pow(..) => (8, 0),
            Expr::Root(..) => (9, 0),
            Expr::Fun(func, _) => (10, *func as u64),
            Expr::Apply(..) => (11, 0),
            Expr::PlusMinus(_) => (12, 0),
            Expr::Percent(_) => (13, 0),
            Expr::Degree(_) => (14, 0),
            Expr::Based(_, base) => (15, u64::from(*base)),
            Expr::Text(_) => (16, 0),
            Expr::Tuple(open, ..) => (17, u64::from(*open)),
            Expr::Set(_) => (18, 0),
            Expr::SetBuilder(..) => (19, 0),
            Expr::List(_) => (20, 0),
            Expr::SetOp(op, _) => (21, *op as u64),
            Expr::Matrix(rows) => (22, rows.len() as u64),
            Expr::Rel(_, rest) => (
                23,
                rest.iter()
                    .fold(0, |ops: u64, (op, _)| ops.wrapping_mul(16) + *op as u64),
            ),
            Expr::Congruence(..) => (24, 0),
            Expr::Ratio(_) => (25, 0),
            Expr::Series(fold, ..) => (26, *fold as u64),
            Expr::Time(parts) => (
                27,
                parts
                    .iter()
                    .fold(0, |sum, part| sum * 60 + u64::from(*part)),
            ),
            Expr::Cases(_) => (28, 0),
            Expr::Undefined => (29, 0),
            Expr::Quantity(..) => (30, 0),
        };
        self.bytes(&[kind]);
        self.bytes(&detail.to_le_bytes());
        match expr {
            Expr::Num(number) => {
                self.bytes(&number.value.numer().to_signed_bytes_le());
                self.bytes(&number.value.denom().to_signed_bytes_le());
            }
            Expr::Sym(text)
            | Expr::Text(text)
            | Expr::Apply(text, _)
            | Expr::Based(text, _)
            | Expr::Series(_, text, ..) => self.bytes(text.as_bytes()),
            _ => {}
        }
        let children = expr.children();
        self.bytes(&(children.len() as u64).to_le_bytes());
        for child in children {
            self.expr(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;
    use crate::parse::parse;

    #[test]
    fn the_points_of_a_pair_of_answers_never_change() {
        let seed = |gold: &str, answer: &str| {
            let (gold, answer) = (parse(gold, true).unwrap(), parse(answer, true).unwrap());
            Random::new(&gold, &answer).0
        };
        assert_eq!(seed("x^2+1", "1+x^2"), 0x714a_63d9_ad30_a371);
        assert_ne!(seed("x^2+1", "1+x^2"), seed("1+x^2", "x^2+1"));
        assert_ne!(seed("x", "y"), seed("y", "x"));
    }
}
