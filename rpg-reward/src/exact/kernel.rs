//! Kernels and the table that numbers them.

use super::poly::{Monomial, Quot};
use crate::ast::Func;
use crate::verdict::{Budget, Failure};
use num_bigint::BigInt;
use std::collections::HashMap;

/// Something that exact arithmetic treats as opaque.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    /// A variable.
    Sym(String),
    Pi,
    /// The base of the natural logarithm.
    E,
    /// The imaginary unit.
    I,
    /// A prime, or a number without small factors that may be none, as the base of a fractional power.
    Prime {
        value: BigInt,
        certain: bool,
    },
    /// The base of a fractional power.
    Base(Box<Quot>),
    /// A kernel to the power of a monomial, as in `2^n`.
    Tower(u32, Monomial),
    /// Any other power.
    Power(Box<Quot>, Box<Quot>),
    /// A function of its arguments.
    Fun(Func, Vec<Quot>),
    /// An unknown function of its arguments.
    Apply(String, Vec<Quot>),
}

/// The kernels of one comparison.
#[derive(Debug, Default)]
pub(crate) struct Kernels {
    table: Vec<Kernel>,
    index: HashMap<Kernel, u32>,
}

/// The maximum number of kernels of one comparison.
const MAX_KERNELS: usize = 256;

impl Kernels {
    pub(crate) fn id(&mut self, kernel: Kernel) -> Result<u32, Failure> {
        if let Some(id) = self.index.get(&kernel) {
            return Ok(*id);
        }
        if self.table.len() >= MAX_KERNELS {
            return Err(Failure::OverBudget(Budget::Size));
        }
        let id = self.table.len() as u32;
        self.table.push(kernel.clone());
        self.index.insert(kernel, id);
        Ok(id)
    }

    /// Whether a kernel is the variable with this name.
    pub(crate) fn is_named(&self, id: u32, name: &str) -> bool {
        matches!(self.get(id), Kernel::Sym(n) if n == name)
    }

    pub(crate) fn get(&self, id: u32) -> &Kernel {
        &self.table[id as usize]
    }

    /// Whether a variable occurs in the kernel.
    pub(crate) fn has_variable(&self, id: u32) -> bool {
        self.any(id, &|_, kernel| {
            matches!(kernel, Kernel::Sym(_) | Kernel::Apply(..))
        })
    }

    /// Whether one kernel occurs in another.
    pub(super) fn contains(&self, id: u32, part: u32) -> bool {
        self.any(id, &|id, _| id == part)
    }

    /// Whether the kernel or one that occurs in it satisfies `test`. Each is looked at once, however often it
    /// occurs.
    fn any(&self, id: u32, test: &dyn Fn(u32, &Kernel) -> bool) -> bool {
        let mut seen = [false; MAX_KERNELS];
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            if std::mem::replace(&mut seen[id as usize], true) {
                continue;
            }
            let kernel = self.get(id);
            if test(id, kernel) {
                return true;
            }
            let mut add = |m: &Monomial| left.extend(m.factors().iter().map(|(part, _)| *part));
            match kernel {
                Kernel::Sym(_) | Kernel::Pi | Kernel::E | Kernel::I | Kernel::Prime { .. } => {}
                Kernel::Base(q) => q.monomials().for_each(add),
                Kernel::Tower(base, m) => {
                    add(m);
                    left.push(*base);
                }
                Kernel::Power(a, b) => a.monomials().chain(b.monomials()).for_each(add),
                Kernel::Fun(_, arguments) | Kernel::Apply(_, arguments) => {
                    arguments.iter().flat_map(Quot::monomials).for_each(add);
                }
            }
        }
        false
    }

    /// Whether a polynomial in `ids` with a coefficient other than zero certainly has a value other than
    /// zero.
    ///
    /// Variables, roots of different primes and i are independent, and pi or e is transcendental over all
    /// of them; for pi and e together this is not known.
    pub(crate) fn independent(&self, ids: &[u32]) -> bool {
        let mut transcendental = 0;
        ids.iter().all(|id| match self.get(*id) {
            Kernel::Sym(_) | Kernel::I | Kernel::Prime { certain: true, .. } => true,
            Kernel::Pi | Kernel::E => {
                transcendental += 1;
                transcendental <= 1
            }
            Kernel::Tower(base, m) => {
                matches!(
                    self.get(*base),
                    Kernel::Prime { certain: true, .. } | Kernel::E
                ) && m
                    .factors()
                    .iter()
                    .all(|(k, e)| matches!(self.get(*k), Kernel::Sym(_)) && e.is_integer())
            }
            _ => false,
        })
    }
}
