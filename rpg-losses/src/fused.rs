//! The loss in one pass over host memory, with its closed-form gradient.
//!
//! Composed tensor operations read and write the whole batch some thirty times per loss. Where
//! tensors are in host memory anyway, one loop over the tokens that applies the verified closed
//! form of [`crate::reference`] does the same in a single pass. Arithmetic is f64 throughout.

use crate::aggregate::StepTotals;
use crate::config::ObjectiveConfig;
use crate::diagnostics::{DiagnosticSums, Diagnostics};
use crate::formula::Unit;
use crate::inputs::{LossInputs, LossOutput};
use crate::reference::{RowEvaluator, TokenRow};
use burn::tensor::backend::Backend;
use burn::tensor::{BoolStore, DType, Element, Tensor, TensorData};
use std::ops::Range;

/// Tokens per chunk: the sums of chunks are added in order, whatever the number of threads.
const CHUNK_TOKENS: usize = 16_384;

/// Whether the tensors of this backend are in host memory, in a type the loop can read.
///
/// Burn's backends do not tell where their memory is, and their device ids overlap: only the name is
/// left to go by.
pub(crate) fn is_available<B: Backend>(device: &B::Device, dtype: DType) -> bool {
    is_readable(&B::name(device), dtype)
}

fn is_readable(backend: &str, dtype: DType) -> bool {
    let is_host = ["flex", "ndarray"]
        .iter()
        .any(|host| backend.contains(host));
    is_host && matches!(dtype, DType::F32 | DType::F64)
}

/// [`crate::policy_loss`] in one pass; the inputs have equal shapes and at least one token.
pub(crate) fn policy_loss<B: Backend>(
    config: &ObjectiveConfig,
    inputs: LossInputs<B>,
    totals: &StepTotals,
) -> LossOutput<B> {
    if inputs.logp.dtype() == DType::F64 {
        typed::<B, f64>(config, inputs, totals)
    } else {
        typed::<B, f32>(config, inputs, totals)
    }
}

/// A stored number; arithmetic is in f64.
trait HostFloat: Element + Copy + Send + Sync {
    fn to_f64(self) -> f64;
    fn from_f64(value: f64) -> Self;
}

impl HostFloat for f32 {
    fn to_f64(self) -> f64 {
        self.into()
    }

    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl HostFloat for f64 {
    fn to_f64(self) -> f64 {
        self
    }

    fn from_f64(value: f64) -> Self {
        value
    }
}

fn typed<B: Backend, E: HostFloat>(
    config: &ObjectiveConfig,
    inputs: LossInputs<B>,
    totals: &StepTotals,
) -> LossOutput<B> {
    let shape = inputs.logp.dims();
    let n = shape[0] * shape[1];
    let device = inputs.logp.device();
    let evaluator = RowEvaluator::new(config, totals);
    // The gradient is attached below, in closed form.
    let logp = inputs.logp.clone().detach();
    let constant = LossInputs { logp, ..inputs };
    let (grad, chunks) = evaluate::<B, E>(&evaluator, &constant, shape);
    let mut sums = DiagnosticSums::default();
    chunks.iter().for_each(|chunk| sums.add(&chunk.sums));

    // The product has the closed form as its derivative; its value cancels exactly. The gradient is 0
    // where masked, so that only what is not finite there has to be kept out.
    let options = (&device, E::dtype());
    let logp = if chunks.iter().all(|chunk| chunk.is_finite_where_masked) {
        inputs.logp
    } else {
        inputs.logp.mask_fill(constant.mask.bool_not(), 0.0)
    };
    let grad = Tensor::<B, 2>::from_data(TensorData::new(grad, [n, 1]), options);
    let linear = logp.reshape([1, n]).matmul(grad).reshape([1]);
    let zero = linear.clone() - linear.detach();
    let sums_data = TensorData::from(sums.to_array()).convert_dtype(E::dtype());
    LossOutput {
        loss: zero + sums.loss,
        diagnostics: Diagnostics::from_sums(Tensor::from_data(sums_data, options)),
    }
}

/// What a chunk of rows adds up to.
#[derive(Clone)]
struct ChunkSums {
    sums: DiagnosticSums,
    is_finite_where_masked: bool,
}

/// The gradient of all tokens, and the sums over each chunk of them.
fn evaluate<B: Backend, E: HostFloat>(
    evaluator: &RowEvaluator,
    inputs: &LossInputs<B>,
    [n_rows, n_columns]: [usize; 2],
) -> (Vec<E>, Vec<ChunkSums>) {
    let n_chunk_rows = (CHUNK_TOKENS / n_columns).max(1);
    let mut grad = vec![E::from_f64(0.0); n_rows * n_columns];
    let work = |chunk_idx: usize, grad: &mut [E]| {
        let first_row = chunk_idx * n_chunk_rows;
        let rows = first_row..first_row + grad.len() / n_columns;
        Chunk::read(inputs, rows).evaluate(evaluator, grad, n_columns)
    };
    let chunks: Vec<(usize, &mut [E])> = grad
        .chunks_mut(n_chunk_rows * n_columns)
        .enumerate()
        .collect();
    let n_chunks = chunks.len();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = n_cores.min(n_chunks);
    let sums = if n_threads <= 1 {
        chunks
            .into_iter()
            .map(|(idx, chunk)| work(idx, chunk))
            .collect()
    } else {
        let mut shares: Vec<Vec<(usize, &mut [E])>> = (0..n_threads).map(|_| Vec::new()).collect();
        for (idx, chunk) in chunks {
            shares[idx % n_threads].push((idx, chunk));
        }
        let work = &work;
        let mut sums: Vec<(usize, ChunkSums)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (shares.into_iter())
                .map(|share| {
                    scope.spawn(move || -> Vec<(usize, ChunkSums)> {
                        let share = share.into_iter();
                        share.map(|(idx, chunk)| (idx, work(idx, chunk))).collect()
                    })
                })
                .collect();
            (threads.into_iter())
                .flat_map(|thread| thread.join().expect("the loop over tokens does not panic"))
                .collect()
        });
        sums.sort_by_key(|(idx, _)| *idx);
        sums.into_iter().map(|(_, sums)| sums).collect()
    };
    (grad, sums)
}

/// Some rows of the batch, copied for the loop: they stay in the processor's cache.
struct Chunk {
    logp: TensorData,
    logp_old: TensorData,
    logp_ref: Option<TensorData>,
    advantages: TensorData,
    weights: Option<TensorData>,
    mask: TensorData,
}

impl Chunk {
    fn read<B: Backend>(inputs: &LossInputs<B>, rows: Range<usize>) -> Self {
        let dtype = inputs.logp.dtype();
        let read = |tensor: &Tensor<B, 2>| {
            let rows = tensor.clone().slice([rows.clone()]);
            rows.into_data().convert_dtype(dtype)
        };
        Self {
            logp: read(&inputs.logp),
            logp_old: read(&inputs.logp_old),
            logp_ref: inputs.logp_ref.as_ref().map(read),
            advantages: read(&inputs.advantages),
            weights: inputs.weights.as_ref().map(read),
            mask: inputs
                .mask
                .clone()
                .slice([rows.clone()])
                .into_data()
                .convert_dtype(DType::Bool(BoolStore::Native)),
        }
    }

    /// The sums over the chunk; writes its gradient.
    fn evaluate<E: HostFloat>(
        &self,
        evaluator: &RowEvaluator,
        grad: &mut [E],
        n_columns: usize,
    ) -> ChunkSums {
        let (logp, logp_old) = (slice::<E>(&self.logp), slice::<E>(&self.logp_old));
        let logp_ref = self.logp_ref.as_ref().map_or(logp_old, slice::<E>);
        let advantages = slice::<E>(&self.advantages);
        let weights = self.weights.as_ref().map(slice::<E>);
        let mask: &[bool] = slice(&self.mask);
        assert_eq!(
            mask.len(),
            grad.len(),
            "a chunk reads the rows that it writes"
        );
        let mut sums = DiagnosticSums::default();
        for (row_idx, row_grad) in grad.chunks_mut(n_columns).enumerate() {
            let row = row_idx * n_columns..(row_idx + 1) * n_columns;
            let tokens = HostRow {
                logp: &logp[row.clone()],
                logp_old: &logp_old[row.clone()],
                logp_ref: &logp_ref[row.clone()],
                advantages: &advantages[row.clone()],
                weights: weights.map(|weights| &weights[row.clone()]),
                mask: &mask[row],
            };
            let write = |idx: usize, grad: f64| row_grad[idx] = E::from_f64(grad);
            evaluator.evaluate(&tokens, write, &mut sums);
        }
        let mut masked = logp.iter().zip(mask).filter(|(_, is_token)| !**is_token);
        let is_finite_where_masked = masked.all(|(logp, _)| logp.to_f64().is_finite());
        ChunkSums {
            sums,
            is_finite_where_masked,
        }
    }
}

/// One response.
struct HostRow<'a, E> {
    logp: &'a [E],
    logp_old: &'a [E],
    logp_ref: &'a [E],
    advantages: &'a [E],
    weights: Option<&'a [E]>,
    mask: &'a [bool],
}

impl<E: HostFloat> TokenRow for HostRow<'_, E> {
    fn mask(&self) -> &[bool] {
        self.mask
    }

    #[inline(always)]
    fn weight(&self, idx: usize) -> f64 {
        self.weights.map_or(1.0, |weights| weights[idx].to_f64())
    }

    #[inline(always)]
    fn token(&self, idx: usize) -> Unit {
        Unit {
            lp: self.logp[idx].to_f64(),
            lp_old: self.logp_old[idx].to_f64(),
            lp_ref: self.logp_ref[idx].to_f64(),
            advantage: self.advantages[idx].to_f64(),
        }
    }
}

fn slice<E: Element>(data: &TensorData) -> &[E] {
    data.as_slice()
        .expect("the data was converted to this type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};

    #[test]
    fn the_loop_reads_floats_in_host_memory() {
        let device = Default::default();
        for dtype in [DType::F32, DType::F64] {
            assert!(is_available::<Autodiff<Flex>>(&device, dtype));
            assert!(!is_readable("fusion<cubecl<cuda>>", dtype));
        }
        assert!(!is_available::<Flex>(&device, DType::BF16));
    }
}
