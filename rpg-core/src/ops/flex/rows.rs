//! The rows of a weight matrix as f32, some at a time, however they are stored.

use super::Values;
use crate::ops::{PackedMatrix, Weight};
use burn::backend::Flex;
use burn::tensor::{DType, bf16};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Weights that are widened at a time: 4 MiB of f32.
const PANEL: usize = 1 << 20;

/// Weights per unit of parallel work.
const UNIT: usize = 1 << 14;

/// A weight matrix whose rows can be had as f32.
pub(super) enum Rows {
    F32(Values),
    Bf16(FlexTensor),
    Packed(Arc<PackedMatrix>),
}

impl Rows {
    /// None for other types.
    pub(super) fn new(weight: &Weight<Flex>) -> Option<Self> {
        match weight {
            Weight::Packed(matrix) => Some(Self::Packed(Arc::clone(matrix))),
            Weight::Float(weight) => match weight.dtype() {
                DType::F32 => Some(Self::F32(Values::new(weight))),
                DType::BF16 => Some(Self::Bf16(weight.to_contiguous())),
                _ => None,
            },
        }
    }

    /// Some rows of `k` weights.
    pub(super) fn get(&self, rows: Range<usize>, k: usize) -> Cow<'_, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(&values[rows.start * k..rows.end * k]),
            _ => {
                let mut out = vec![0.0; rows.len() * k];
                self.widen(rows, k, &mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Calls `work` with the rows of a panel and their weights, panel after panel.
    pub(super) fn for_each_panel(
        &self,
        n: usize,
        k: usize,
        mut work: impl FnMut(Range<usize>, &[f32]),
    ) {
        let step = (PANEL / k.max(1)).max(1);
        let mut space = vec![0.0; step.min(n) * k];
        for start in (0..n).step_by(step) {
            let rows = start..n.min(start + step);
            let panel = &mut space[..rows.len() * k];
            self.widen(rows.clone(), k, panel);
            work(rows, panel);
        }
    }

    /// Writes some rows as f32, with all threads.
    fn widen(&self, rows: Range<usize>, k: usize, out: &mut [f32]) {
        let step = (UNIT / k.max(1)).max(1);
        out.par_chunks_mut(step * k.max(1))
            .enumerate()
            .for_each(|(i, out)| {
                let start = rows.start + i * step;
                self.widen_here(start..rows.end.min(start + step), k, out);
            });
    }

    /// Writes some rows as f32, in the calling thread.
    pub(super) fn widen_here(&self, rows: Range<usize>, k: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(&values[rows.start * k..rows.end * k]),
            Self::Bf16(weight) => {
                let stored: &[bf16] = &weight.storage()[rows.start * k..rows.end * k];
                for (x, weight) in out.iter_mut().zip(stored) {
                    *x = weight.to_f32();
                }
            }
            Self::Packed(matrix) => matrix.widen(rows, out),
        }
    }
}
