//! Proof by calculation that the losses have the gradients they claim.
//!
//! The policy is an autoregressive softmax whose responses can all be written down, so that
//! expectations are sums. Every configuration is held against three oracles:
//!
//! - **closed form**: the gradient by autodiff is that of [`crate::reference`];
//! - **finite difference**: the closed form is the slope of the loss, written down a second time,
//!   with everything under a stop-gradient held fixed;
//! - **expectation**: with the trust region out of reach, the expected gradient by autodiff is the
//!   slope of the objective `J = E_pi[R] - beta*D` itself, summed over all responses, for sampling
//!   and reference measures that need not sum to one.
//!
//! Whole optimizer steps, with masks and every aggregation, are held against the closed form and
//! against their own micro-batches, by both ways of computing them.
//!
//! Negative controls are losses known to be wrong. Each must fail the oracle by which it is
//! measured; otherwise the verification itself is broken.

mod case;
mod controls;
mod oracle;
mod policy;
mod random;
mod report;
mod rows;
mod steps;
mod study;

use crate::config::ObjectiveConfig;
use crate::formula::Unit;
use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;

pub use report::{Control, Oracle, Path, Report, Row, Subject};
pub use study::{PathPoint, Study, StudyCurve, StudyEstimator, StudyOptions, StudyPoint, study};

/// The floating-point type in which the tensors are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits; every backend has it.
    F32,
    /// 64 bits; the CPU backend has it.
    F64,
}

/// Random cases for every row, unless told otherwise.
pub const DEFAULT_CASES: usize = 64;

/// What to verify, and how closely.
#[derive(Debug, Clone)]
pub struct VerifyOptions<B: AutodiffBackend> {
    /// Random cases for every row.
    pub n_cases: usize,
    /// The seed of the first case.
    pub seed: u64,
    /// Type of the tensors.
    pub precision: Precision,
    /// Where they are computed.
    pub device: B::Device,
}

impl<B: AutodiffBackend> VerifyOptions<B> {
    /// The default number of cases on a device, in the given precision.
    pub fn new(device: B::Device, precision: Precision) -> Self {
        Self {
            n_cases: DEFAULT_CASES,
            seed: 0,
            precision,
            device,
        }
    }
}

/// The error of the closed form of one unit against the slope of its loss, written a second time.
///
/// The larger of the relative errors of loss and derivative. `None` where the unit is so close to a
/// case distinction of its loss, or so far off policy, that a finite difference says nothing.
pub fn unit_error(config: &ObjectiveConfig, unit: Unit) -> Option<f64> {
    rows::unit_error(config, unit)
}

/// Holds every configuration against its oracles, and every negative control too.
pub fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Report {
    let mut rows = rows::run(options);
    rows.extend(steps::run(options));
    Report {
        rows,
        controls: controls::run(options),
    }
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}
