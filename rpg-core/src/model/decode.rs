//! The model as samplers use it: compact weights, a cache of keys and values, one token at a time.

use super::CausalLm;
use super::block::Block;
use super::mixer::Past;
use super::weights::is_bf16;
use crate::cache::KvCache;
use crate::ops::{
    Attention, CacheRows, DecodeBackend, DeltaHeads, DeltaInputs, Int8Matrix, Packing,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use std::sync::Arc;

impl<B: DecodeBackend> CausalLm<B> {
    /// The model for sampling: weight matrices that bf16 holds exactly are kept as bf16.
    ///
    /// The weights and the type of the arithmetic stay the same; only the order of sums changes. The matrices take
    /// half the memory, and decoding, which waits for them to be read, takes less time. This helps with checkpoints
    /// that are published in bf16, not with weights that were trained further in f32. On backends that would have
    /// to widen the matrices again at every product nothing changes.
    pub fn compact(self) -> Self {
        struct Compact;
        impl<B: DecodeBackend> ModuleMapper<B> for Compact {
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
        if B::READS_BF16 {
            self.map(&mut Compact)
        } else {
            self
        }
    }

    /// The model for faster sampling: every product with a weight matrix is one of 8-bit integers, with a scale per row
    /// of the weights and of the inputs ([`Int8Matrix`]).
    ///
    /// What it samples from is another policy, near the one it is made from, and the log-probs of its samples are
    /// its own. Scoring, saving and training use the weights themselves, which are kept beside the integers. On backends
    /// without products of integers ([`DecodeBackend::MULTIPLIES_INT8`]) it is slower than the model.
    ///
    /// # Panics
    /// If a matrix has more than [`Int8Matrix::MAX_INPUTS`] inputs.
    pub fn int8(mut self) -> Self {
        let head = self.output_layer();
        let shape = head.weight().dims();
        self.int8_head = Some(rounded(&head.rows(0..shape[0]), shape));
        for (_, linear) in self.blocks.iter_mut().flat_map(Block::linears_mut) {
            let shape = linear.matrix.weight().dims();
            linear.int8 = Some(rounded(&linear.merged_rows(0..shape[0]), shape));
        }
        self
    }

    /// A cache for `n_slots` sequences of up to `capacity` tokens.
    pub fn new_cache(&self, n_slots: usize, capacity: usize) -> KvCache<B> {
        KvCache::new(self.config(), n_slots, capacity, &self.device())
    }

    /// Like [`hidden`](Self::hidden), and stores keys, values and states: those of sequence `s` in slot `slots[s]`.
    ///
    /// # Panics
    /// If there is not one slot per sequence.
    pub fn prefill(
        &self,
        tokens: &[u32],
        packing: &Packing,
        slots: &[usize],
        cache: &mut KvCache<B>,
    ) -> Tensor<B, 2> {
        assert_eq!(slots.len(), packing.n_sequences(), "one slot per sequence");
        let slot_of_token: Vec<usize> = packing
            .ranges()
            .zip(slots)
            .flat_map(|(range, &slot)| std::iter::repeat_n(slot, range.len()))
            .collect();
        let rows = CacheRows {
            slots: &slot_of_token,
            positions: packing.positions(),
        };
        self.run_cached(
            tokens,
            &mut Cached {
                layer: 0,
                cache,
                packing,
                slots,
                rows,
                begins: true,
            },
        )
    }

    /// Hidden states of one more token per row, at `rows.positions[i]` of slot `rows.slots[i]`; the cache holds
    /// what came before it and receives what the token adds.
    ///
    /// # Panics
    /// If there is not one slot per token, or a layer has a state and the slot holds another number of tokens than came
    /// before this one.
    pub fn decode(&self, tokens: &[u32], rows: &CacheRows, cache: &mut KvCache<B>) -> Tensor<B, 2> {
        assert_eq!(tokens.len(), rows.slots.len(), "one slot per token");
        let packing = Packing::single_tokens(rows.positions);
        self.run_cached(
            tokens,
            &mut Cached {
                layer: 0,
                cache,
                packing: &packing,
                slots: rows.slots,
                rows: *rows,
                begins: false,
            },
        )
    }

    fn run_cached(&self, tokens: &[u32], past: &mut Cached<'_, B>) -> Tensor<B, 2> {
        past.cache.extend(past.packing, past.slots);
        let mut x = self.embed(tokens);
        for (layer, block) in self.blocks.iter().enumerate() {
            past.layer = layer;
            x = block.forward(x, &self.config, &self.ropes, past);
        }
        self.final_norm(x)
    }
}

/// Sequences that begin, or go on, in the slots of a cache.
struct Cached<'a, B: DecodeBackend> {
    layer: usize,
    cache: &'a mut KvCache<B>,
    packing: &'a Packing,
    /// Of each sequence.
    slots: &'a [usize],
    /// Of each token.
    rows: CacheRows<'a>,
    /// Whether nothing comes before them.
    begins: bool,
}

impl<B: DecodeBackend> Past<B> for Cached<'_, B> {
    fn packing(&self) -> &Packing {
        self.packing
    }

    fn attend(
        &mut self,
        qkv: B::FloatTensorPrimitive,
        attention: Attention,
    ) -> B::FloatTensorPrimitive {
        let (layer, rows) = (self.layer, &self.rows);
        self.cache.write(layer, qkv.clone(), attention.heads, rows);
        if self.begins {
            B::causal_attention(qkv, attention, self.packing).0
        } else {
            self.cache.attend(layer, qkv, attention, rows)
        }
    }

    fn convolve(
        &mut self,
        x: B::FloatTensorPrimitive,
        weight: B::FloatTensorPrimitive,
    ) -> B::FloatTensorPrimitive {
        let (packing, slots) = (self.packing, self.slots);
        self.cache.convolve(self.layer, x, weight, packing, slots)
    }

    fn recall(&mut self, inputs: DeltaInputs<B>, heads: DeltaHeads) -> B::FloatTensorPrimitive {
        let (packing, slots) = (self.packing, self.slots);
        self.cache.recall(self.layer, inputs, heads, packing, slots)
    }
}

/// A matrix as 8-bit integers.
fn rounded(values: &[f32], [n_outputs, n_inputs]: [usize; 2]) -> Arc<Int8Matrix> {
    Arc::new(Int8Matrix::new(values, n_outputs, n_inputs))
}

/// The weights as bf16 if that loses nothing, else as they are.
fn exact_bf16<B: DecodeBackend, const D: usize>(weight: Tensor<B, D>) -> Tensor<B, D> {
    let data = weight.to_data();
    let exact = data.as_slice::<f32>().is_ok_and(is_bf16);
    if exact {
        weight.cast(DType::BF16)
    } else {
        weight
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::model::SaveDtype;
    use crate::model::linear::Matrix;
    use burn::backend::Flex;
    use burn::module::AutodiffModule;
    use std::path::Path;

    fn matrices(model: &CausalLm<Flex>) -> Vec<DType> {
        let block = &model.blocks[0];
        let all = block.linears().into_iter();
        let all = all.map(|(_, linear)| &linear.matrix);
        let stored = all.chain([&model.embedding]);
        let dtype = |matrix: &Matrix<Flex>| match matrix {
            Matrix::Float(weight) => weight.val().dtype(),
            Matrix::Packed(_) => unreachable!("nothing packs them"),
        };
        stored.map(dtype).collect()
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
        let norm = compact.blocks[0].input_norm.as_ref().unwrap();
        assert_eq!(norm.val().dtype(), DType::F32);
        assert_eq!(matrices(&model.compact()), [DType::F32; 5]);
        // Nothing is lost, and the trainable model has f32.
        let widened = compact.into_trainable();
        let head = |model: &CausalLm<Flex>| model.output_layer().rows(0..model.config().vocab_size);
        assert_eq!(head(&widened.valid()), head(&rounded));
    }

    #[test]
    fn integers_are_for_products_alone() {
        for fixture in ["qwen3", "qwen3_moe", "qwen35"] {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
            let model = CausalLm::load_hf(&fixtures.join(fixture), &Default::default());
            compare_with_integers(fixture, model.unwrap());
        }
    }

    fn compare_with_integers(name: &str, model: CausalLm<Flex>) {
        let int8 = model.clone().int8();
        let logits = |model: &CausalLm<Flex>| {
            let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
            let mut cache = model.new_cache(1, tokens.len());
            let hidden = model.prefill(&tokens, &Packing::new([tokens.len()]), &[0], &mut cache);
            model.logits(hidden).into_data().into_vec::<f32>().unwrap()
        };
        let (exact, rounded) = (logits(&model), logits(&int8));
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
        let error = square(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b));
        let error = (error / square(&mut exact.iter().copied())).sqrt();
        assert!(
            (1e-4..0.05).contains(&error),
            "{name}: relative error {error}"
        );
        // What is saved and trained are the weights.
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        model.save_hf(a.path(), SaveDtype::F32).unwrap();
        int8.save_hf(b.path(), SaveDtype::F32).unwrap();
        let weights = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
        assert!(weights(a.path()) == weights(b.path()));
        let trained = int8.into_trainable().valid();
        assert_eq!(logits(&trained), exact);
    }
}
