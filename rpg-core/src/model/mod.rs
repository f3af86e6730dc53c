//! The policy: a decoder-only transformer with the shape of a Hugging Face `config.json`.

mod block;
mod config;
mod init;
mod weights;

pub use config::{ConfigError, ModelConfig, SUPPORTED};
pub use weights::{LoadError, SaveDtype};

use crate::cache::KvCache;
use crate::ops::{CacheRows, ModelBackend, Packing, RopeTable};
use block::Block;
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};

/// A causal language model.
///
/// Weights are kept as Hugging Face stores them, `[outputs, inputs]`, with the projections of queries,
/// keys and values in one matrix and those of gate and up in another.
#[derive(Module, Debug)]
pub struct CausalLm<B: Backend> {
    embedding: Param<Tensor<B, 2>>,
    blocks: Vec<Block<B>>,
    norm: Param<Tensor<B, 1>>,
    lm_head: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    rope: RopeTable,
}

impl<B: ModelBackend> CausalLm<B> {
    /// The model on the differentiating backend, with gradients for every parameter.
    pub fn into_trainable(self) -> CausalLm<Autodiff<B>> {
        struct Track;
        impl<B: AutodiffBackend> ModuleMapper<B> for Track {
            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<B, D>>,
            ) -> Param<Tensor<B, D>> {
                param.map(Tensor::require_grad)
            }
        }
        CausalLm::<Autodiff<B>>::from_inner(self.map(&mut Widen)).map(&mut Track)
    }

    /// The model for sampling: weight matrices that bf16 holds exactly are kept as bf16.
    ///
    /// Every weight and the arithmetic stay what they were, only the order of sums changes; the matrices
    /// take half the memory, and decoding, which waits for them to be read, takes less time. That is so
    /// for checkpoints that are published in bf16, not for weights that were trained further in f32.
    /// Nothing changes on backends that would have to widen the matrices again at every product.
    pub fn compact(self) -> Self {
        struct Compact;
        impl<B: ModelBackend> ModuleMapper<B> for Compact {
            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<B, D>>,
            ) -> Param<Tensor<B, D>> {
                param.map(|weight| match D {
                    2 if weight.dtype() == DType::F32 => exact_bf16(weight),
                    _ => weight,
                })
            }
        }
        match B::READS_BF16 {
            true => self.map(&mut Compact),
            false => self,
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> B::Device {
        self.embedding.val().device()
    }

    /// The weights of the output layer, `[V, D]`.
    pub fn head(&self) -> Tensor<B, 2> {
        widened(self.stored_head())
    }

    fn stored_head(&self) -> Tensor<B, 2> {
        self.lm_head.as_ref().unwrap_or(&self.embedding).val()
    }

    /// Hidden states behind the final norm, `[N, D]`, of packed sequences (`tokens`: N of them).
    pub fn hidden(&self, tokens: &[u32], packing: &Packing) -> Tensor<B, 2> {
        assert_eq!(
            tokens.len(),
            packing.n_tokens(),
            "one token per position of the packing"
        );
        let x = self.embed(tokens);
        let x = self.blocks.iter().fold(x, |x, block| {
            block.forward(x, &self.config, &self.rope, packing, |qkv, heads| {
                B::causal_attention(qkv, heads, packing).0
            })
        });
        self.final_norm(x)
    }

    /// Like [`hidden`](Self::hidden), and keeps keys and values: sequence `s` goes to slot `slots[s]`.
    pub fn prefill(
        &self,
        tokens: &[u32],
        packing: &Packing,
        slots: &[usize],
        cache: &mut KvCache<B>,
    ) -> Tensor<B, 2> {
        assert_eq!(slots.len(), packing.n_sequences(), "one slot per sequence");
        let slots: Vec<usize> = packing
            .ranges()
            .zip(slots)
            .flat_map(|(range, &slot)| std::iter::repeat_n(slot, range.len()))
            .collect();
        let rows = CacheRows {
            slots: &slots,
            positions: packing.positions(),
        };
        let x = self.embed(tokens);
        let x = self.blocks.iter().enumerate().fold(x, |x, (layer, block)| {
            block.forward(x, &self.config, &self.rope, packing, |qkv, heads| {
                cache.write(layer, qkv.clone(), heads, &rows);
                B::causal_attention(qkv, heads, packing).0
            })
        });
        self.final_norm(x)
    }

    /// Hidden states of one further token per row, which stands at `rows.positions[i]` of slot
    /// `rows.slots[i]`; the cache holds what came before and receives the token's key and value.
    pub fn decode(&self, tokens: &[u32], rows: &CacheRows, cache: &mut KvCache<B>) -> Tensor<B, 2> {
        assert_eq!(tokens.len(), rows.slots.len(), "one slot per token");
        let packing = Packing::single_tokens(rows.positions);
        let x = self.embed(tokens);
        let x = self.blocks.iter().enumerate().fold(x, |x, (layer, block)| {
            block.forward(x, &self.config, &self.rope, &packing, |qkv, heads| {
                cache.write(layer, qkv.clone(), heads, rows);
                cache.attend(layer, qkv, heads, rows)
            })
        });
        self.final_norm(x)
    }

    /// Logits of hidden states: `[M, D]` to `[M, V]`.
    pub fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        float(B::project(primitive(hidden), primitive(self.stored_head())))
    }

    fn embed(&self, tokens: &[u32]) -> Tensor<B, 2> {
        let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let ids = TensorData::new(ids, [tokens.len()]);
        let ids = Tensor::<B, 1, Int>::from_data(ids, &self.device());
        widened(float(B::embed(
            primitive(self.embedding.val()),
            ids.into_primitive(),
        )))
    }

    fn final_norm(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        norm(x, &self.norm, self.config.rms_norm_eps)
    }
}

/// Back from what [`CausalLm::compact`] made of it.
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

/// The weights as bf16 if that is what they are, else as they were.
fn exact_bf16<B: ModelBackend, const D: usize>(weight: Tensor<B, D>) -> Tensor<B, D> {
    let data = weight.to_data();
    let exact = data
        .as_slice::<f32>()
        .is_ok_and(|values| values.iter().all(|value| value.to_bits() & 0xffff == 0));
    match exact {
        true => weight.cast(DType::BF16),
        false => weight,
    }
}

pub(crate) fn norm<B: ModelBackend>(
    x: Tensor<B, 2>,
    weight: &Param<Tensor<B, 1>>,
    eps: f64,
) -> Tensor<B, 2> {
    float(B::rms_norm(primitive(x), primitive(weight.val()), eps))
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use std::path::Path;

    fn matrices(model: &CausalLm<Flex>) -> Vec<DType> {
        let block = &model.blocks[0];
        let all = [&block.qkv, &block.output, &block.gate_up, &block.down];
        let stored = all.into_iter().chain([&model.embedding]);
        stored.map(|weight| weight.val().dtype()).collect()
    }

    #[test]
    fn only_what_bf16_holds_exactly_is_kept_as_bf16() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3");
        let model = CausalLm::<Flex>::load_hf(&fixture, &Default::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        model.save_hf(dir.path(), SaveDtype::Bf16).unwrap();
        let rounded = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
        assert_eq!(matrices(&rounded), [DType::F32; 5]);
        let compact = rounded.clone().compact();
        assert_eq!(matrices(&compact), [DType::BF16; 5]);
        assert_eq!(compact.blocks[0].input_norm.val().dtype(), DType::F32);
        assert_eq!(matrices(&model.compact()), [DType::F32; 5]);
        // Nothing is lost, and whoever needs f32 gets it.
        let widened = compact.into_trainable();
        let head = |weight: Tensor<Flex, 2>| weight.into_data().into_vec::<f32>().unwrap();
        assert_eq!(head(widened.head().inner()), head(rounded.head()));
    }
}
