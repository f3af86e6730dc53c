//! The loss in one pass over host memory, with its closed-form gradient.
//!
//! Composed tensor operations read and write the whole batch some thirty times per loss. Where
//! tensors live in host memory anyway, one loop over the tokens that applies the verified closed
//! form of [`crate::reference`] does the same in a single pass. Arithmetic is f64 throughout.

use burn::tensor::{DType, Element, Tensor, TensorData, backend::Backend};

use crate::{
    LossInputs, LossOutput, ObjectiveConfig, StepTotals,
    diagnostics::{DiagnosticSums, Diagnostics},
    reference::{RowEvaluator, TokenRow},
};

/// Tokens per chunk: the sums of chunks are added in order, whatever the number of threads.
const CHUNK_TOKENS: usize = 1 << 14;

/// Whether the tensors of this backend lie in host memory, in a type the loop can read.
pub(crate) fn is_available<B: Backend>(device: &B::Device, dtype: DType) -> bool {
    let name = B::name(device);
    let is_host = ["flex", "ndarray"].iter().any(|host| name.contains(host));
    is_host && matches!(dtype, DType::F32 | DType::F64)
}

/// [`crate::policy_loss`] in one pass; the inputs have equal shapes and at least one token.
pub(crate) fn policy_loss<B: Backend>(
    config: &ObjectiveConfig,
    inputs: LossInputs<B>,
    totals: &StepTotals,
) -> LossOutput<B> {
    match inputs.logp.dtype() {
        DType::F64 => typed::<B, f64>(config, inputs, totals),
        _ => typed::<B, f32>(config, inputs, totals),
    }
}

/// The batch as it lies in memory.
struct Host {
    logp: TensorData,
    logp_old: TensorData,
    logp_ref: Option<TensorData>,
    advantages: TensorData,
    mask: Vec<bool>,
}

/// A number that is computed with in f64.
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
    let device = inputs.logp.device();
    let dtype = E::dtype();
    let read = |tensor: Tensor<B, 2>| tensor.into_data().convert_dtype(dtype);
    let host = Host {
        // The gradient is attached below, in closed form.
        logp: read(inputs.logp.clone()),
        logp_old: read(inputs.logp_old),
        logp_ref: inputs.logp_ref.map(read),
        advantages: read(inputs.advantages),
        mask: inputs.mask.clone().into_data().iter::<bool>().collect(),
    };
    let evaluator = RowEvaluator::new(config, totals);
    let (grad, sums) = evaluate::<E>(&evaluator, &host, shape);
    let n_masked = shape[0] * shape[1] - sums.n_tokens as usize;

    let options = (&device, dtype);
    let grad = Tensor::from_data(TensorData::new(grad, shape), options);
    // `sum(logp*grad)` has the closed form as its derivative; its value cancels exactly. Filling
    // keeps what stands behind the mask out of the sum.
    let logp = match n_masked {
        0 => inputs.logp,
        _ => inputs.logp.mask_fill(inputs.mask.bool_not(), 0.0),
    };
    let linear = (logp * grad).sum();
    let zero = linear.clone() - linear.detach();
    let sums_data = TensorData::from(sums.to_array()).convert_dtype(dtype);
    LossOutput {
        loss: zero + sums.loss,
        diagnostics: Diagnostics::from_sums(Tensor::from_data(sums_data, options)),
    }
}

/// The gradient of all tokens and the sums over them.
fn evaluate<E: HostFloat>(
    evaluator: &RowEvaluator,
    host: &Host,
    [n_rows, n_columns]: [usize; 2],
) -> (Vec<E>, DiagnosticSums) {
    let logp = slice::<E>(&host.logp);
    let logp_old = slice::<E>(&host.logp_old);
    let logp_ref = host.logp_ref.as_ref().map_or(logp_old, slice::<E>);
    let advantages = slice::<E>(&host.advantages);
    let mut grad = vec![E::from_f64(0.0); n_rows * n_columns];

    let chunk_size = (CHUNK_TOKENS / n_columns).max(1) * n_columns;
    let chunk_sums = |chunk_idx: usize, grad: &mut [E]| {
        let mut sums = DiagnosticSums::default();
        let start = chunk_idx * chunk_size;
        for (row_idx, row_grad) in grad.chunks_mut(n_columns).enumerate() {
            let from = start + row_idx * n_columns;
            let row = from..from + n_columns;
            let tokens = HostRow {
                logp: &logp[row.clone()],
                logp_old: &logp_old[row.clone()],
                logp_ref: &logp_ref[row.clone()],
                advantages: &advantages[row.clone()],
                mask: &host.mask[row],
            };
            let write = |idx: usize, grad: f64| row_grad[idx] = E::from_f64(grad);
            evaluator.evaluate(&tokens, write, &mut sums);
        }
        sums
    };

    let chunks: Vec<(usize, &mut [E])> = grad.chunks_mut(chunk_size).enumerate().collect();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = n_cores.min(chunks.len());
    let mut sums: Vec<(usize, DiagnosticSums)> = if n_threads <= 1 {
        chunks
            .into_iter()
            .map(|(idx, chunk)| (idx, chunk_sums(idx, chunk)))
            .collect()
    } else {
        let mut shares: Vec<Vec<(usize, &mut [E])>> = (0..n_threads).map(|_| Vec::new()).collect();
        for (idx, chunk) in chunks {
            shares[idx % n_threads].push((idx, chunk));
        }
        let chunk_sums = &chunk_sums;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (shares.into_iter())
                .map(|share| {
                    scope.spawn(move || -> Vec<(usize, DiagnosticSums)> {
                        let share = share.into_iter();
                        share
                            .map(|(idx, chunk)| (idx, chunk_sums(idx, chunk)))
                            .collect()
                    })
                })
                .collect();
            (threads.into_iter())
                .flat_map(|thread| thread.join().expect("the loop over tokens does not panic"))
                .collect()
        })
    };
    sums.sort_by_key(|(idx, _)| *idx);
    let mut total = DiagnosticSums::default();
    for (_, chunk) in &sums {
        total.add(chunk);
    }
    (grad, total)
}

/// One response.
struct HostRow<'a, E> {
    logp: &'a [E],
    logp_old: &'a [E],
    logp_ref: &'a [E],
    advantages: &'a [E],
    mask: &'a [bool],
}

impl<E: HostFloat> TokenRow for HostRow<'_, E> {
    fn mask(&self) -> &[bool] {
        self.mask
    }

    fn token(&self, idx: usize) -> crate::reference::Unit {
        crate::reference::Unit {
            lp: self.logp[idx].to_f64(),
            lp_old: self.logp_old[idx].to_f64(),
            lp_ref: self.logp_ref[idx].to_f64(),
            advantage: self.advantages[idx].to_f64(),
        }
    }
}

fn slice<E: HostFloat>(data: &TensorData) -> &[E] {
    data.as_slice()
        .expect("the data was converted to this type")
}
