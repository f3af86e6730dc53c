//! An autoregressive policy small enough that every response can be written down.

use super::random::Random;
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

/// All responses over a small vocabulary: token 0 or the length limit ends a response.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    n_vocab: usize,
    n_prefixes: usize,
    max_length: usize,
    /// Each response as (prefix, token) pairs.
    responses: Vec<Vec<(usize, usize)>>,
}

/// One measure over the responses: `lp(token | prefix) = log_softmax(logits)[token] + log_mass`.
///
/// With all log-masses 0 it is a distribution. A free mass tells every divergence from its
/// unnormalized form: for distributions their gradients have the same expectation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measure {
    /// `[P * V]`, then `[P]` log-masses.
    pub(super) parameters: Vec<f64>,
}

impl Tree {
    pub(super) fn new(n_vocab: usize, max_length: usize) -> Self {
        let mut tree = Self {
            n_vocab,
            n_prefixes: 0,
            max_length,
            responses: Vec::new(),
        };
        tree.grow(&mut Vec::new());
        tree
    }

    fn grow(&mut self, path: &mut Vec<(usize, usize)>) {
        let prefix = self.n_prefixes;
        self.n_prefixes += 1;
        for token in 0..self.n_vocab {
            path.push((prefix, token));
            if token == 0 || path.len() == self.max_length {
                self.responses.push(path.clone());
            } else {
                self.grow(path);
            }
            path.pop();
        }
    }

    pub(super) fn responses(&self) -> &[Vec<(usize, usize)>] {
        &self.responses
    }

    pub(super) fn n_prefixes(&self) -> usize {
        self.n_prefixes
    }

    pub(super) fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    pub(super) fn max_length(&self) -> usize {
        self.max_length
    }

    pub(super) fn n_parameters(&self) -> usize {
        self.n_prefixes * (self.n_vocab + 1)
    }

    /// Normal logits; log-masses all equal to `log_mass` plus noise of size `mass_noise`.
    pub(super) fn random_measure(
        &self,
        random: &mut Random,
        scale: f64,
        log_mass: f64,
        mass_noise: f64,
    ) -> Measure {
        let n_logits = self.n_prefixes * self.n_vocab;
        let parameters = (0..self.n_parameters())
            .map(|idx| {
                let noise = random.normal();
                if idx < n_logits {
                    scale * noise
                } else {
                    log_mass + mass_noise * noise
                }
            })
            .collect();
        Measure { parameters }
    }

    /// Makes a measure a distribution.
    pub(super) fn normalize(&self, measure: &mut Measure) {
        measure.parameters[self.n_logits()..].fill(0.0);
    }

    /// How many of the parameters are logits; the log-masses follow them.
    pub(super) fn n_logits(&self) -> usize {
        self.n_prefixes * self.n_vocab
    }

    /// `lp(token | prefix)`, `[P][V]`.
    pub(super) fn log_table(&self, measure: &Measure) -> Vec<Vec<f64>> {
        let n_logits = self.n_prefixes * self.n_vocab;
        let (logits, masses) = measure.parameters.split_at(n_logits);
        (logits.chunks(self.n_vocab).zip(masses))
            .map(|(row, mass)| {
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_sum = max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
                row.iter().map(|x| x - log_sum + mass).collect()
            })
            .collect()
    }

    /// Log-probability of every token of every response, padded with NaN to `[N][T]`.
    pub(super) fn token_log_probs(&self, measure: &Measure) -> Vec<Vec<f64>> {
        let table = self.log_table(measure);
        self.per_token(|prefix, token| table[prefix][token], f64::NAN)
    }

    /// Log-probability of every response.
    pub(super) fn response_log_probs(&self, measure: &Measure) -> Vec<f64> {
        let table = self.log_table(measure);
        (self.responses.iter())
            .map(|response| response.iter().map(|(s, a)| table[*s][*a]).sum())
            .collect()
    }

    /// True where a response has a token, `[N][T]`.
    pub(super) fn mask(&self) -> Vec<Vec<bool>> {
        self.per_token(|_, _| true, false)
    }

    fn per_token<T: Clone>(&self, value: impl Fn(usize, usize) -> T, padding: T) -> Vec<Vec<T>> {
        (self.responses.iter())
            .map(|response| {
                let mut row = vec![padding.clone(); self.max_length];
                for (idx, (prefix, token)) in response.iter().enumerate() {
                    row[idx] = value(*prefix, *token);
                }
                row
            })
            .collect()
    }

    /// The gradient in the parameters, given that in every token's log-probability.
    pub(super) fn pull_back(&self, measure: &Measure, token_grads: &[Vec<f64>]) -> Vec<f64> {
        let n_logits = self.n_prefixes * self.n_vocab;
        let table = self.log_table(measure);
        let mut grads = vec![0.0; self.n_parameters()];
        for (response, row) in self.responses.iter().zip(token_grads) {
            for ((prefix, token), grad) in response.iter().zip(row) {
                if *grad == 0.0 {
                    continue; // Where single responses are pulled back, almost all of them.
                }
                let log_mass = measure.parameters[n_logits + prefix];
                for v in 0..self.n_vocab {
                    let probability = (table[*prefix][v] - log_mass).exp();
                    let indicator = if v == *token { 1.0 } else { 0.0 };
                    grads[prefix * self.n_vocab + v] += grad * (indicator - probability);
                }
                grads[n_logits + prefix] += grad;
            }
        }
        grads
    }

    /// [`Self::token_log_probs`] as tensors `[N, T]`, with gradient to `parameters`.
    pub(super) fn token_log_probs_tensor<B: Backend>(
        &self,
        parameters: Tensor<B, 1>,
    ) -> Tensor<B, 2> {
        let (n_prefixes, n_vocab) = (self.n_prefixes, self.n_vocab);
        let n_logits = n_prefixes * n_vocab;
        let logits = parameters
            .clone()
            .narrow(0, 0, n_logits)
            .reshape([n_prefixes, n_vocab]);
        let masses = parameters
            .narrow(0, n_logits, n_prefixes)
            .reshape([n_prefixes, 1]);
        let table = (log_softmax(logits, 1) + masses).reshape([n_logits]);
        // Padding points to the first entry; the mask excludes it.
        let idxs: Vec<i64> = self
            .per_token(|prefix, token| (prefix * n_vocab + token) as i64, 0)
            .concat();
        let shape = [self.responses.len(), self.max_length];
        let idxs = Tensor::<B, 1, Int>::from_data(idxs.as_slice(), &table.device());
        table.select(0, idxs).reshape(shape)
    }
}

/// A matrix as a tensor of the given type.
pub(super) fn matrix<B: Backend>(
    rows: &[Vec<f64>],
    device: &B::Device,
    dtype: DType,
) -> Tensor<B, 2> {
    let n_columns = rows.first().map_or(0, Vec::len);
    let data = TensorData::new(rows.concat(), [rows.len(), n_columns]);
    Tensor::from_data(data.convert_dtype(dtype), (device, dtype))
}

/// A boolean matrix as a tensor.
pub(super) fn bool_matrix<B: Backend>(
    rows: &[Vec<bool>],
    device: &B::Device,
) -> Tensor<B, 2, Bool> {
    let n_columns = rows.first().map_or(0, Vec::len);
    Tensor::from_data(
        TensorData::new(rows.concat(), [rows.len(), n_columns]),
        device,
    )
}
