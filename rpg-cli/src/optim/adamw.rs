//! AdamW (Loshchilov and Hutter, 2019) with a state that can be saved.

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData, TensorMetadata, TensorPrimitive};
use rpg_core::ops::{AdamWUpdate, DecodeBackend};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use std::collections::HashMap;
use std::marker::PhantomData;

/// What stays the same from update to update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// The optimizer and its state: two moments per parameter.
#[derive(Debug)]
pub struct AdamW<B: DecodeBackend> {
    config: AdamWConfig,
    n_updates: u32,
    moments: HashMap<ParamId, Moments<B>>,
}

type Moments<B> = [<B as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive; 2];

/// Why a saved state does not fit.
#[derive(Debug)]
pub enum StateError {
    /// The file is damaged.
    Format(SafeTensorError),
    /// A parameter of the model has no moments in the file, or of another size.
    Mismatch(String),
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StateError::Format(e) => write!(f, "not a usable safetensors file: {e}"),
            StateError::Mismatch(what) => write!(f, "does not fit the model: {what}"),
        }
    }
}

impl std::error::Error for StateError {}

impl<B: DecodeBackend> AdamW<B> {
    /// Without any history.
    pub fn new(config: AdamWConfig) -> Self {
        Self {
            config,
            n_updates: 0,
            moments: HashMap::new(),
        }
    }

    /// Updates so far.
    pub fn n_updates(&self) -> u64 {
        self.n_updates.into()
    }

    /// One update. The gradients are multiplied by `grad_scale` first.
    ///
    /// # Panics
    /// If no parameter has a gradient: the model was not tracked.
    pub fn step<M: AutodiffModule<Autodiff<B>>>(
        &mut self,
        model: M,
        grads: GradientsParams,
        lr: f64,
        grad_scale: f64,
    ) -> M {
        assert!(
            !grads.is_empty(),
            "no parameter of the model has a gradient"
        );
        self.n_updates += 1;
        let update = AdamWUpdate {
            lr: lr as f32,
            beta_1: self.config.betas[0] as f32,
            beta_2: self.config.betas[1] as f32,
            eps: self.config.eps as f32,
            weight_decay: self.config.weight_decay as f32,
            time: self.n_updates,
            grad_scale: grad_scale as f32,
        };
        model.map(&mut Updater {
            moments: &mut self.moments,
            grads,
            update,
        })
    }

    /// The state as a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensor = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let stored: Vec<(String, Vec<u8>)> = self
            .moments
            .iter()
            .flat_map(|(id, moments)| {
                moments.iter().enumerate().map(move |(i, moment)| {
                    (
                        format!("{}.{i}", id.val()),
                        tensor(&read::<B>(moment.clone())),
                    )
                })
            })
            .collect();
        let views = stored.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
            (
                name,
                view.expect("the bytes of n floats are a tensor of n floats"),
            )
        });
        let updates = HashMap::from([("n_updates".to_owned(), self.n_updates.to_string())]);
        safetensors::serialize(views, Some(updates)).expect("float tensors can be serialized")
    }

    /// Takes up a saved state; every parameter of `model` must have its moments there.
    pub fn from_bytes<M: Module<B>>(
        config: AdamWConfig,
        model: &M,
        bytes: &[u8],
        device: &B::Device,
    ) -> Result<Self, StateError> {
        let file = SafeTensors::deserialize(bytes).map_err(StateError::Format)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(StateError::Format)?;
        let n_updates = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get("n_updates")?.parse().ok())
            .ok_or_else(|| StateError::Mismatch("`n_updates` is missing".into()))?;
        let mut loader = Loader::<B> {
            file,
            device,
            moments: HashMap::new(),
            missing: None,
            backend: PhantomData,
        };
        // No moments at all is the state before the first update.
        if !loader.file.is_empty() {
            model.visit(&mut loader);
        }
        match loader.missing {
            Some(what) => Err(StateError::Mismatch(what)),
            None => Ok(Self {
                config,
                n_updates,
                moments: loader.moments,
            }),
        }
    }
}

fn read<B: DecodeBackend>(moment: B::FloatTensorPrimitive) -> Vec<f32> {
    let n = moment.shape().num_elements();
    let flat = B::float_reshape(moment, [n].into());
    let tensor = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat));
    tensor
        .into_data()
        .convert::<f32>()
        .into_vec()
        .expect("f32 data is a vector of f32")
}

struct Updater<'a, B: DecodeBackend> {
    moments: &'a mut HashMap<ParamId, Moments<B>>,
    grads: GradientsParams,
    update: AdamWUpdate,
}

impl<B: DecodeBackend> ModuleMapper<Autodiff<B>> for Updater<'_, B> {
    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Autodiff<B>, D>>,
    ) -> Param<Tensor<Autodiff<B>, D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = self.grads.remove::<B, D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let value = tensor.inner();
        let [first, second] = self.moments.entry(id).or_insert_with(|| {
            let zeros = || value.zeros_like().into_primitive().tensor();
            [zeros(), zeros()]
        });
        let value = B::adamw(
            value.into_primitive().tensor(),
            grad.into_primitive().tensor(),
            first,
            second,
            self.update,
        );
        let value = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(value));
        Param::from_mapped_value(id, Tensor::from_inner(value).require_grad(), mapper)
    }
}

struct Loader<'a, B: DecodeBackend> {
    file: SafeTensors<'a>,
    device: &'a B::Device,
    moments: HashMap<ParamId, Moments<B>>,
    missing: Option<String>,
    backend: PhantomData<B>,
}

impl<B: DecodeBackend> ModuleVisitor<B> for Loader<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let shape = param.val().shape();
        let load = |i: usize| {
            let name = format!("{}.{i}", param.id.val());
            let view = self.file.tensor(&name).ok()?;
            let is_right = view.dtype() == Dtype::F32 && view.shape() == [shape.num_elements()];
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            let data = TensorData::new(values, [shape.num_elements()]);
            is_right.then(|| {
                let flat = Tensor::<B, 1>::from_data(data, (self.device, DType::F32));
                flat.reshape::<D, _>(shape.clone())
                    .into_primitive()
                    .tensor()
            })
        };
        match (load(0), load(1)) {
            (Some(first), Some(second)) => {
                self.moments.insert(param.id, [first, second]);
            }
            _ => {
                let what = format!("no moments for a parameter of shape {:?}", shape.to_vec());
                self.missing.get_or_insert(what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::global_norm;
    use burn::backend::Flex;
    use rpg_core::model::{CausalLm, ModelConfig};
    use rpg_core::score::{ScoreItem, score};

    type Grad = Autodiff<Flex>;

    fn model() -> CausalLm<Grad> {
        let json = serde_json::json!({
            "model_type": "qwen3", "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "max_position_embeddings": 16, "vocab_size": 5,
        });
        let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
        CausalLm::<Flex>::init(&config, 1, &Default::default()).into_trainable()
    }

    const CONFIG: AdamWConfig = AdamWConfig {
        betas: [0.9, 0.99],
        eps: 1e-8,
        weight_decay: 0.1,
    };

    fn items() -> Vec<ScoreItem> {
        vec![
            ScoreItem::response(&[0, 1], &[2, 3, 4]),
            ScoreItem::response(&[4], &[2]),
        ]
    }

    fn loss(model: &CausalLm<Grad>) -> Tensor<Grad, 1> {
        score(model, &items(), 1.0).logprobs.sum().neg()
    }

    fn value(model: &CausalLm<Grad>) -> f64 {
        loss(model).into_data().iter::<f64>().next().unwrap()
    }

    fn update(model: CausalLm<Grad>, optimizer: &mut AdamW<Flex>) -> CausalLm<Grad> {
        let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
        let norm = global_norm(&model, &grads);
        assert!(norm.is_finite() && norm > 0.0);
        optimizer.step(model, grads, 0.01, (1.0 / norm).min(1.0))
    }

    #[test]
    fn many_steps_descend_and_stay_finite() {
        let (mut model, mut optimizer) = (model(), AdamW::new(CONFIG));
        let before = value(&model);
        for _ in 0..100 {
            model = update(model, &mut optimizer);
        }
        let after = value(&model);
        assert!(
            after.is_finite() && after < 0.1 * before,
            "{before} {after}"
        );
    }

    #[test]
    fn a_saved_state_goes_on_bit_for_bit() {
        let (mut model, mut optimizer) = (model(), AdamW::new(CONFIG));
        for _ in 0..3 {
            model = update(model, &mut optimizer);
        }
        let bytes = optimizer.to_bytes();
        let device = Default::default();
        let mut restored =
            AdamW::<Flex>::from_bytes(CONFIG, &model.clone().valid(), &bytes, &device).unwrap();
        assert_eq!(restored.n_updates(), 3);
        let straight = update(update(model.clone(), &mut optimizer), &mut optimizer);
        let resumed = update(update(model, &mut restored), &mut restored);
        assert_eq!(value(&straight).to_bits(), value(&resumed).to_bits());
    }

    #[test]
    fn a_state_that_does_not_fit_is_an_error() {
        let model = model();
        let mut optimizer = AdamW::new(CONFIG);
        let model = update(model, &mut optimizer);
        let bytes = optimizer.to_bytes();
        let load = |bytes: &[u8]| {
            let model = model.clone().valid();
            AdamW::<Flex>::from_bytes(CONFIG, &model, bytes, &Default::default())
        };
        assert!(matches!(
            load(&bytes[..bytes.len() / 2]),
            Err(StateError::Format(_))
        ));
        let empty: [(&str, TensorView); 0] = [];
        let bare = safetensors::serialize(empty, None).unwrap();
        assert!(matches!(load(&bare), Err(StateError::Mismatch(_))));
    }

    #[test]
    fn the_global_norm_is_that_of_all_gradients_as_one_vector() {
        let model = model();
        let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
        struct Collect<'a>(&'a GradientsParams, Vec<f64>);
        impl ModuleVisitor<Grad> for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Grad, D>>) {
                let grad = self
                    .0
                    .get::<Flex, D>(param.id)
                    .expect("every parameter has one");
                self.1.extend(grad.into_data().iter::<f64>());
            }
        }
        let mut all = Collect(&grads, Vec::new());
        model.visit(&mut all);
        let expected = all.1.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((global_norm(&model, &grads) - expected).abs() < 1e-6 * expected);
    }
}
