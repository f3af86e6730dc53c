//! Proof by calculation that the losses have the gradients they claim.
//!
//! The policy is an autoregressive softmax whose responses can all be written down, so that
//! expectations are sums. Every configuration is checked against three oracles:
//!
//! - **closed form**: the gradient by autodiff is that of [`crate::reference`];
//! - **finite difference**: the closed form is the slope of the loss, written down a second time,
//!   with everything under a stop-gradient held fixed;
//! - **expectation**: with the trust region out of reach, the expected gradient by autodiff is the
//!   slope of the objective `J = E_pi[R] - beta*D` itself, summed over all responses, for sampling
//!   and reference measures that need not sum to one.
//!
//! Whole optimizer steps, with masks and every aggregation, are checked against the closed form and
//! against their own micro-batches, on both code paths.
//!
//! Negative controls are losses known to be wrong, of the regularizer and of single kinds. Each must fail the oracle by
//! which it is measured; otherwise the verification itself is broken. Mistakes that are harmless in the mean (they add a
//! multiple of `w*grad lp`, whose expectation is 0 for a normalized policy) are listed apart: they must have the
//! right expected gradient there, and a wrong one where the mass of the policy is free.

mod case;
mod controls;
mod mistakes;
mod options;
mod oracle;
#[cfg(test)]
mod paper;
mod policy;
mod random;
mod report;
mod rollout;
mod rows;
mod steps;
mod study;
mod weigh;

use crate::config::ObjectiveConfig;
use crate::formula::Unit;
use burn::tensor::backend::AutodiffBackend;

pub use options::{DEFAULT_CASES, Precision, VerifyOptions};
pub use report::{Control, HarmlessInTheMean, Oracle, Path, Report, Row, Subject};
pub use study::{
    CorrectionCurve, CorrectionStudy, PathPoint, SamplerPoint, Study, StudyCorrection, StudyCurve,
    StudyEstimator, StudyOptions, StudyPoint, study,
};

/// The error of the closed form of one unit, all of its response, against the slope of its loss, written down a
/// second time.
///
/// The larger of the relative errors of loss and derivative. `None` where the unit is so close to a
/// case distinction of its loss, or so far off policy, that a finite difference says nothing.
pub fn unit_error(config: &ObjectiveConfig, unit: Unit) -> Option<f64> {
    rows::response_error(config, &[unit])
}

/// Checks every configuration against its oracles, and that every negative control is rejected.
pub fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Report {
    let mut rows = rows::run(options);
    rows.extend(rollout::run(options));
    rows.extend(steps::run(options));
    let (controls, harmless) = controls::run(options);
    Report {
        rows,
        controls,
        harmless,
    }
}
