//! Low-rank adapters (LoRA; Hu et al., 2021, arXiv 2106.09685), in the format of the Python package PEFT.

mod config;
mod files;

pub use config::{AdapterError, LoraConfig};
pub use files::{ADAPTER_CONFIG, AdapterFolder};

use super::block::Block;
use super::linear::{Linear, Matrix, product, values};
use super::weights::{modules, param_name};
use super::{CausalLm, ModelConfig, param_id};
use crate::ops::ModelBackend;
use crate::seed::{derive, stream};
use burn::module::{Module, Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// What is added to some outputs of a linear layer: `scale * x * a' * b'`.
#[derive(Module, Debug)]
pub(super) struct Adapter<B: Backend> {
    /// `[rank, inputs]`.
    a: Param<Tensor<B, 2>>,
    /// `[rows, rank]`.
    b: Param<Tensor<B, 2>>,
    #[module(skip)]
    place: Place,
}

/// Which module of the checkpoint an adapter belongs to.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    /// As PEFT calls it, such as `model.layers.0.self_attn.q_proj`.
    module: String,
    /// Its outputs among those of the layer, which may be several modules one below the other.
    rows: Range<usize>,
    scale: f64,
}

impl<B: ModelBackend> Adapter<B> {
    pub(super) fn n_parameters(&self, rank: usize) -> usize {
        let [_, n_inputs] = self.a.dims();
        rank * (n_inputs + self.place.rows.len())
    }

    /// What it adds to its outputs, `[N, rows]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let project = |x: Tensor<B, 2>, weight: &Param<Tensor<B, 2>>| {
            let weight = Matrix::Float(weight.clone());
            product(x, &weight, None)
        };
        let inner = project(x, &self.a).mul_scalar(self.place.scale);
        project(inner, &self.b)
    }
}

/// What adapters, in the order of their outputs, add to all `n_outputs` of a layer.
pub(super) fn sum<B: ModelBackend>(
    adapters: &[Adapter<B>],
    x: &Tensor<B, 2>,
    n_outputs: usize,
) -> Option<Tensor<B, 2>> {
    let [n_tokens, _] = x.dims();
    let gap = |n: usize| Tensor::zeros([n_tokens, n], (&x.device(), x.dtype()));
    let (mut parts, mut end) = (Vec::new(), 0);
    for adapter in adapters {
        let rows = &adapter.place.rows;
        if rows.start > end {
            parts.push(gap(rows.start - end));
        }
        parts.push(adapter.forward(x.clone()));
        end = rows.end;
    }
    if !parts.is_empty() && end < n_outputs {
        parts.push(gap(n_outputs - end));
    }
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Tensor::cat(parts, 1)),
    }
}

impl<B: ModelBackend> Linear<B> {
    /// Some rows of the matrix as f32, with what the adapters add to them.
    pub(super) fn merged_rows(&self, rows: Range<usize>) -> Vec<f32> {
        let mut weights = self.matrix.rows(rows.clone());
        let n_inputs = weights.len() / rows.len().max(1);
        for adapter in &self.adapters {
            let place = &adapter.place;
            let (start, end) = (
                rows.start.max(place.rows.start),
                rows.end.min(place.rows.end),
            );
            if start >= end {
                continue;
            }
            let b = adapter.b.val();
            let b = b.narrow(0, start - place.rows.start, end - start);
            let added = b.matmul(adapter.a.val()).mul_scalar(place.scale);
            let to = &mut weights[(start - rows.start) * n_inputs..];
            for (to, added) in to.iter_mut().zip(values(added)) {
                *to += added;
            }
        }
        weights
    }
}

impl<B: ModelBackend> CausalLm<B> {
    /// The adapter's configuration, if the model has one. Such a model trains nothing else.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// The parameters of the adapter.
    pub(super) fn adapter_params(&self) -> impl Iterator<Item = ParamId> {
        let linears = self.blocks.iter().flat_map(Block::linears);
        let adapters = linears.flat_map(|(_, linear)| &linear.adapters);
        adapters.flat_map(|adapter| [adapter.a.id, adapter.b.id])
    }

    /// The model with a new adapter, which at first changes nothing: `a` is uniform between `-1 / sqrt(inputs)` and its
    /// opposite, as in PEFT, and `b` is 0. The values are the same on every backend.
    ///
    /// A model that has an adapter already loses that one.
    pub fn with_adapter(self, lora: &LoraConfig, seed: u64) -> Result<Self, AdapterError> {
        lora.check(self.config())?;
        let device = self.device();
        self.adapted(
            lora,
            |module, rank, [n_rows, n_inputs]| {
                if !lora.targets(module) {
                    return Ok(None);
                }
                let a_name = param_name(module, "a");
                let seed = derive(seed, &[stream::INIT, param_id(&a_name).val()]);
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let bound = 1.0 / (n_inputs as f64).sqrt();
                let uniform = (0..rank * n_inputs)
                    .map(|_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32)
                    .collect();
                Ok(Some([
                    TensorData::new::<f32, _>(uniform, [rank, n_inputs]),
                    TensorData::zeros::<f32, _>([n_rows, rank]),
                ]))
            },
            &device,
        )
    }

    /// The base of an adapter.
    pub fn without_adapter(mut self) -> Self {
        self.lora = None;
        for (_, linear) in self.blocks.iter_mut().flat_map(Block::linears_mut) {
            linear.adapters.clear();
        }
        self
    }

    /// The model with the adapter whose matrices `values` gives, by module, rank and the module's outputs and inputs;
    /// none for modules that it leaves alone.
    fn adapted(
        self,
        lora: &LoraConfig,
        mut values: impl FnMut(&str, usize, [usize; 2]) -> Result<Option<[TensorData; 2]>, AdapterError>,
        device: &B::Device,
    ) -> Result<Self, AdapterError> {
        let mut model = self.without_adapter();
        let config = model.config.clone();
        for (i, block) in model.blocks.iter_mut().enumerate() {
            for (name, linear) in block.linears_mut() {
                let layer = format!("blocks.{i}.{name}");
                linear.adapters = adapters(&config, &layer, lora, &mut values, device)?;
            }
        }
        model.lora = Some(lora.clone());
        Ok(model)
    }
}

/// The adapters of a layer.
fn adapters<B: ModelBackend>(
    config: &ModelConfig,
    layer: &str,
    lora: &LoraConfig,
    values: &mut impl FnMut(&str, usize, [usize; 2]) -> Result<Option<[TensorData; 2]>, AdapterError>,
    device: &B::Device,
) -> Result<Vec<Adapter<B>>, AdapterError> {
    let mut adapters = Vec::new();
    let mut start = 0;
    for (module, [n_rows, n_inputs]) in modules(config, layer) {
        let rows = start..start + n_rows;
        start = rows.end;
        if let Some([a, b]) = values(&module, lora.rank, [n_rows, n_inputs])? {
            let param = |data: TensorData, part: &str| {
                let id = param_id(&param_name(&module, part));
                Param::initialized(id, Tensor::from_data(data, device))
            };
            adapters.push(Adapter {
                a: param(a, "a"),
                b: param(b, "b"),
                place: Place {
                    rows,
                    scale: lora.scale(),
                    module,
                },
            });
        }
    }
    Ok(adapters)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::model::{Activations, Storage};
    use crate::score::{Entropy, ScoreItem, score_on_tape};
    use burn::backend::{Autodiff, Flex};
    use burn::optim::GradientsParams;
    use std::path::Path;

    /// Fixtures, the modules that are adapted, and how many there are of them in all layers.
    const MODELS: [(&str, &[&str], usize); 2] = [
        ("qwen2", &["q_proj", "v_proj", "o_proj", "up_proj"], 2 * 4),
        (
            "qwen35",
            &[
                "in_proj_qkv",
                "in_proj_a",
                "in_proj_z",
                "out_proj",
                "q_proj",
                "v_proj",
                "down_proj",
            ],
            3 * 4 + 2 + 4,
        ),
    ];

    fn model(fixture: &str, modules: &[&str], storage: Storage) -> CausalLm<Flex> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let dir = fixtures.join(fixture);
        let base = CausalLm::<Flex>::load_hf_as(&dir, storage, &Default::default()).unwrap();
        let lora = LoraConfig {
            rank: 3,
            alpha: 2.0,
            target_modules: modules.iter().map(|&module| module.into()).collect(),
            use_rslora: true,
        };
        let mut model = base.with_adapter(&lora, 3).unwrap();
        for (_, linear) in model.blocks.iter_mut().flat_map(Block::linears_mut) {
            for adapter in &mut linear.adapters {
                let [rows, rank] = adapter.b.dims();
                let values = (0..rows * rank).map(|i| ((i * 37 % 19) as f32 - 9.0) * 0.05);
                let values = TensorData::new(values.collect::<Vec<f32>>(), [rows, rank]);
                let b = Tensor::from_data(values, &Default::default());
                adapter.b = Param::initialized(adapter.b.id, b);
            }
        }
        model
    }

    fn gradients(model: &CausalLm<Autodiff<Flex>>, activations: Activations) -> GradientsParams {
        let items: Vec<ScoreItem> = (0..5)
            .map(|i| ScoreItem::response(&[i, i + 1], &[7 * i % 29, 3, i, 11, 2, 1]))
            .collect();
        let (scores, tape) = score_on_tape(model, &items, 0.8, Entropy::Measured, activations);
        let mut sums = GradientsParams::new();
        tape.backward(model, scores.logprobs.square().sum(), &mut sums);
        sums
    }

    fn of(grads: &GradientsParams, param: &Param<Tensor<Autodiff<Flex>, 2>>) -> Tensor<Flex, 2> {
        grads.get::<Flex, 2>(param.id).expect("a gradient")
    }

    /// With `W' = W + s * B * A`: `dA = s * B' * dW'` and `dB = s * dW' * A'`.
    #[test]
    fn gradients_are_those_of_the_merged_weights() {
        for ((fixture, modules, n_modules), tolerance) in MODELS.into_iter().zip([1e-5, 2e-5]) {
            let adapted = model(fixture, modules, Storage::F32);
            compare_with_merged(adapted, n_modules, tolerance);
        }
    }

    fn compare_with_merged(adapted: CausalLm<Flex>, n_modules: usize, tolerance: f32) {
        let lora = adapted.lora().unwrap();
        assert_eq!(
            adapted.n_trained(),
            Some(lora.n_parameters(adapted.config()))
        );
        let dir = tempfile::tempdir().unwrap();
        adapted.save_hf(dir.path(), Default::default()).unwrap();
        let merged = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
        let (adapted, merged) = (adapted.into_trainable(), merged.into_trainable());
        let found = gradients(&adapted, Activations::Keep);
        let of_weights = gradients(&merged, Activations::Keep);
        let mut n_compared = 0;
        for (block, merged) in adapted.blocks.iter().zip(&merged.blocks) {
            for ((_, linear), (_, merged)) in block.linears().into_iter().zip(merged.linears()) {
                let Matrix::Float(weight) = &merged.matrix else {
                    unreachable!("trained weights are numbers");
                };
                for adapter in &linear.adapters {
                    let Place { rows, scale, .. } = &adapter.place;
                    let (a, b) = (adapter.a.val().inner(), adapter.b.val().inner());
                    let d_weight = of(&of_weights, weight).slice([rows.clone()]);
                    let d_a = b.transpose().matmul(d_weight.clone()).mul_scalar(*scale);
                    let d_b = d_weight.matmul(a.transpose()).mul_scalar(*scale);
                    for (param, expected) in [(&adapter.a, d_a), (&adapter.b, d_b)] {
                        let scale = expected.clone().abs().max().into_scalar().max(1.0);
                        let error = (of(&found, param) - expected).abs().max().into_scalar();
                        let error = error / scale;
                        assert!(error < tolerance, "{}: {error:e}", adapter.place.module);
                        n_compared += 1;
                    }
                }
            }
        }
        assert_eq!((n_compared, found.len()), (2 * n_modules, 2 * n_modules));
    }

    #[test]
    fn a_frozen_base_stays_as_it_is_stored_and_checkpointing_changes_no_bit() {
        let storages = [Storage::F32, Storage::Stored, Storage::Nf4];
        let cases = MODELS
            .into_iter()
            .flat_map(|model| storages.map(|storage| (model, storage)));
        for ((fixture, modules, n_modules), storage) in cases {
            let model = model(fixture, modules, storage).into_trainable();
            let (_, first) = model.blocks[0].linears()[0];
            let is_packed = matches!(first.matrix, Matrix::Packed(_));
            assert_eq!(is_packed, storage == Storage::Nf4);
            let kept = gradients(&model, Activations::Keep);
            let again = gradients(&model, Activations::Recompute);
            assert_eq!(kept.len(), 2 * n_modules);
            for (_, linear) in model.blocks.iter().flat_map(Block::linears) {
                for adapter in &linear.adapters {
                    for param in [&adapter.a, &adapter.b] {
                        let [kept, again] = [&kept, &again].map(|grads| {
                            let grad = of(grads, param).into_data();
                            grad.into_vec::<f32>().unwrap()
                        });
                        assert!(kept == again && kept.iter().any(|x| *x != 0.0));
                    }
                }
            }
        }
    }
}
