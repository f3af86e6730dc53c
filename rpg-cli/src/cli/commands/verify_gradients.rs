//! `rpg verify-gradients`: checks the gradients of the losses against the theory.

use super::output;
use crate::backend::{OnBackend, on_backend};
use crate::cli::args::VerifyGradientsArgs;
use crate::device::DeviceChoice;
use crate::failure::{Failure, FailureKind};
use burn::backend::Autodiff;
use rpg_core::ops::DecodeBackend;
use rpg_losses::verify::{Precision, Report, VerifyOptions, run as verify};

/// A verification on a backend that is chosen later.
struct Verification {
    cases: Option<usize>,
    seed: u64,
    precision: Precision,
}

impl OnBackend for Verification {
    type Output = Report;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Report {
        let mut options = VerifyOptions::<Autodiff<B>>::new(device, self.precision);
        options.seed = self.seed;
        options.n_cases = self.cases.unwrap_or(options.n_cases);
        verify(&options)
    }
}

pub(super) fn run(args: VerifyGradientsArgs) -> Result<(), Failure> {
    if args.cases == Some(0) {
        return Err(Failure::input("--cases: found 0; expected at least 1"));
    }
    // Only the CPU computes in f64.
    let precision = match args.backend {
        DeviceChoice::Cpu => Precision::F64,
        _ => Precision::F32,
    };
    let verification = Verification {
        cases: args.cases,
        seed: args.seed,
        precision,
    };
    let (report, _) = on_backend(args.backend, verification)?;
    output::line(if args.json {
        serde_json::to_string(&report).map_err(Failure::internal)?
    } else {
        format!(
            "{}\nBy configuration:\n\n{}",
            report.table(),
            report.summary().trim_end()
        )
    })?;
    if report.passed() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Negative,
        "a row is above its tolerance, or a negative control was accepted",
    ))
}
