//! The policy: a decoder-only transformer with the shape of a Hugging Face `config.json`.

mod attention;
mod block;
mod config;
mod decode;
mod delta;
mod feed_forward;
mod init;
mod linear;
mod lora;
mod mixer;
mod tape;
mod weights;

pub use config::{
    Attends, ConfigError, Experts, Family, GatedDelta, LongRope, Mixer, ModelConfig, NormPlacement,
    QkNorm, RopeScaling, Rotary, Yarn,
};
pub use lora::{ADAPTER_CONFIG, AdapterError, AdapterFolder, LoraConfig};
pub use tape::{Activations, Tape};
pub use weights::{LoadError, SaveDtype, Storage};

use crate::ops::{Int8Matrix, ModelBackend, Packing, RopeTable, Weight};
use block::Block;
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};
use linear::{Matrix, product};
use mixer::Whole;
use std::collections::HashSet;
use std::sync::Arc;

/// A causal language model.
///
/// Weights are kept as Hugging Face stores them, `[outputs, inputs]`, with the projections of queries,
/// keys and values in one matrix and those of gate and up in another.
#[derive(Module, Debug)]
pub struct CausalLm<B: Backend> {
    embedding: Matrix<B>,
    blocks: Vec<Block<B>>,
    norm: Param<Tensor<B, 1>>,
    lm_head: Option<Matrix<B>>,
    // Takes the place of the output layer in products; only sampling has it.
    #[module(skip)]
    int8_head: Option<Arc<Int8Matrix>>,
    // If the blocks have an adapter.
    #[module(skip)]
    lora: Option<LoraConfig>,
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    ropes: Ropes,
    #[module(skip)]
    origin: Origin,
}

/// The rotary tables of the layers.
#[derive(Debug, Clone)]
struct Ropes {
    global: RopeTable,
    /// Where some layer has it.
    local: Option<RopeTable>,
}

impl Ropes {
    fn new(config: &ModelConfig) -> Self {
        let n = config.context();
        let has_local = config
            .layers
            .iter()
            .filter_map(Mixer::attends)
            .any(|attends| attends.rotary == Rotary::Local);
        Self {
            global: config.rope(n),
            local: has_local.then(|| config.local_rope(n)),
        }
    }

    fn of(&self, rotary: Rotary) -> Option<&RopeTable> {
        match rotary {
            Rotary::Global => Some(&self.global),
            Rotary::Local => self.local.as_ref(),
            Rotary::None => None,
        }
    }
}

/// What a model's folder says besides its shape and weights.
#[derive(Debug, Clone, Default)]
struct Origin {
    /// The keys of `generation_config.json`, which are written again.
    generation: serde_json::Map<String, serde_json::Value>,
    /// What somebody who loads it should know.
    notes: Vec<String>,
}

impl<B: ModelBackend> CausalLm<B> {
    /// The model on the differentiating backend, with gradients for every parameter; for a model with an adapter, for
    /// those of the adapter alone, and the others stay as they are stored.
    pub fn into_trainable(self) -> CausalLm<Autodiff<B>> {
        let trained = self.trained();
        let mut model = self.without_int8();
        if trained.is_none() {
            model = model.widened();
        }
        CausalLm::<Autodiff<B>>::from_inner(model).map(&mut Track(trained))
    }

    /// The parameters that are trained: those of the adapter, or none to name where all are.
    pub fn trained(&self) -> Option<HashSet<ParamId>> {
        self.lora.is_some().then(|| self.adapter_params().collect())
    }

    /// How many numbers the adapter has, if the model has one.
    pub fn n_trained(&self) -> Option<usize> {
        let lora = self.lora.as_ref()?;
        let layers = self.blocks.iter().flat_map(Block::linears);
        let adapters = layers.flat_map(|(_, linear)| &linear.adapters);
        Some(
            adapters
                .map(|adapter| adapter.n_parameters(lora.rank))
                .sum(),
        )
    }

    /// The model with f32 in place of fewer bits.
    fn widened(self) -> Self {
        let device = self.device();
        let mut model = self.map(&mut Widen);
        model.embedding.unpack("embedding", &device);
        if let Some(head) = &mut model.lm_head {
            head.unpack("lm_head", &device);
        }
        for (i, block) in model.blocks.iter_mut().enumerate() {
            for (name, linear) in block.linears_mut() {
                linear.matrix.unpack(&format!("blocks.{i}.{name}"), &device);
            }
            if let Some(router) = block.feed_forward.router_mut() {
                router.unpack(&format!("blocks.{i}.router"), &device);
            }
        }
        model
    }

    /// The model whose products are those with its weights.
    fn without_int8(mut self) -> Self {
        self.int8_head = None;
        for (_, linear) in self.blocks.iter_mut().flat_map(Block::linears_mut) {
            linear.int8 = None;
        }
        self
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What was remarkable about the files that the model was read from, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.origin.notes
    }

    /// The model for sequences up to `max_position_embeddings` also where LongRoPE was fitted for two lengths: all of them
    /// are rotated with the long factors, as transformers does with those that are longer than the original context
    /// ([`LongRope`]). Other models stay as they are.
    pub fn with_long_context(mut self) -> Self {
        self.config.long_context = self.config.has_long_context();
        self.ropes = Ropes::new(&self.config);
        self
    }

    /// Where the weights are.
    pub fn device(&self) -> B::Device {
        self.norm.val().device()
    }

    /// The weights of the output layer, `[V, D]`.
    pub fn head(&self) -> Weight<B> {
        self.output_layer().weight()
    }

    fn output_layer(&self) -> &Matrix<B> {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
    }

    /// Hidden states as the output layer takes them, `[N, D]`, of packed sequences of N `tokens`: after the final norm, and
    /// divided by what divides the logits.
    ///
    /// # Panics
    /// If there is not one token per position of the packing.
    pub fn hidden(&self, tokens: &[u32], packing: &Packing) -> Tensor<B, 2> {
        let x = self.embed_all(tokens, packing);
        let blocks = self.blocks.iter();
        self.final_norm(blocks.fold(x, |x, block| self.run(block, x, packing)))
    }

    fn embed_all(&self, tokens: &[u32], packing: &Packing) -> Tensor<B, 2> {
        assert_eq!(
            tokens.len(),
            packing.n_tokens(),
            "one token per position of the packing"
        );
        self.embed(tokens)
    }

    /// One of the blocks, which may be on another backend than the model.
    fn run<A: ModelBackend>(
        &self,
        block: &Block<A>,
        x: Tensor<A, 2>,
        packing: &Packing,
    ) -> Tensor<A, 2> {
        block.forward(x, &self.config, &self.ropes, &mut Whole(packing))
    }

    /// Logits of hidden states: `[M, D]` to `[M, V]`.
    pub fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        product(hidden, self.output_layer(), self.int8_head.as_deref())
    }

    fn embed(&self, tokens: &[u32]) -> Tensor<B, 2> {
        let ids = token_ids::<B>(tokens, &self.device()).into_primitive();
        let x = widened(float(B::embed(self.embedding.weight(), ids)));
        times(x, self.config.embedding_multiplier)
    }

    fn final_norm(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        times(
            norm(x, &self.norm, &self.config),
            1.0 / self.config.logits_divisor,
        )
    }
}

fn token_ids<B: Backend>(tokens: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    Tensor::from_data(TensorData::new(ids, [tokens.len()]), device)
}

/// Asks for gradients: of these parameters, or of all.
struct Track(Option<HashSet<ParamId>>);

impl<B: AutodiffBackend> ModuleMapper<B> for Track {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let is_trained = self.0.as_ref().is_none_or(|all| all.contains(&param.id));
        param.map(|tensor| tensor.set_require_grad(is_trained))
    }
}

/// Undoes [`CausalLm::compact`].
struct Widen;

impl<B: ModelBackend> ModuleMapper<B> for Widen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(widened)
    }
}

fn widened<B: ModelBackend, const D: usize>(weight: Tensor<B, D>) -> Tensor<B, D> {
    match weight.dtype() {
        DType::BF16 => weight.cast(DType::F32),
        _ => weight,
    }
}

fn norm<B: ModelBackend>(
    x: Tensor<B, 2>,
    weight: &Param<Tensor<B, 1>>,
    config: &ModelConfig,
) -> Tensor<B, 2> {
    let weight = primitive(config.norm_factor(weight.val()));
    float(B::rms_norm(primitive(x), weight, config.rms_norm_eps))
}

impl ModelConfig {
    /// What a norm multiplies by, given its weight.
    fn norm_factor<B: Backend>(&self, weight: Tensor<B, 1>) -> Tensor<B, 1> {
        if self.norms_add_one {
            weight + 1.0
        } else {
            weight
        }
    }
}

/// `factor * x`; `x` itself for a factor of 1.
fn times<B: Backend>(x: Tensor<B, 2>, factor: f64) -> Tensor<B, 2> {
    if factor == 1.0 { x } else { x * factor }
}

pub(crate) fn primitive<B: ModelBackend, const D: usize>(
    tensor: Tensor<B, D>,
) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

pub(crate) fn float<B: ModelBackend, const D: usize>(
    primitive: B::FloatTensorPrimitive,
) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A parameter's identity is a hash of its name, the same in every process: optimizer state that was
/// saved finds its parameter again.
pub(crate) fn param_id(name: &str) -> ParamId {
    // FNV-1a, 64 bits.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ParamId::from(hash)
}
