//! What to verify, and how closely.

use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;

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

impl Precision {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}
