//! What a model keeps of the tokens that it has seen. It belongs to the caller, not to the model.

use crate::model::{GatedDelta, Mixer, ModelConfig};
use crate::ops::{
    Attention, CacheRows, DecodeBackend, DeltaHeads, DeltaInputs, HeadLayout, Packing,
};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Keys and values, or states, of every layer for a fixed number of slots, allocated once.
///
/// Keys and values of a beginning stay where they are as a text goes on; the state of a recurrent layer changes with each
/// token, and cannot go back. A beginning that several texts have is therefore copied before one of them goes on
/// ([`copy_prefix`](Self::copy_prefix)), or its states are kept beside the slots ([`keep`](Self::keep)).
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    layers: Vec<Layer<B>>,
    n_slots: usize,
    capacity: usize,
    // The tokens of each slot.
    lengths: Vec<usize>,
    // The slot and the length of the beginning that is kept.
    kept: Option<(usize, usize)>,
}

/// What is held of a layer.
#[derive(Debug, Clone)]
enum Layer<B: Backend> {
    /// Each `[n_slots, n_kv_heads, capacity, head_dim]`.
    Attention {
        keys: B::FloatTensorPrimitive,
        values: B::FloatTensorPrimitive,
    },
    /// With one slot more than there are, for what is kept.
    Delta {
        shape: GatedDelta,
        /// What the convolution reaches back to, `[n_slots + 1, 1, kernel - 1, C]`.
        inputs: B::FloatTensorPrimitive,
        /// `[n_slots + 1, n_value_heads, value_dim, key_dim]`.
        states: B::FloatTensorPrimitive,
    },
}

impl<B: DecodeBackend> Layer<B> {
    fn new(
        mixer: &Mixer,
        heads: HeadLayout,
        n_slots: usize,
        capacity: usize,
        device: &B::Device,
    ) -> Self {
        let empty = |shape: [usize; 4]| {
            let zeros = Tensor::<B, 4>::zeros(shape, device);
            zeros.into_primitive().tensor()
        };
        match mixer {
            Mixer::Attention(_) => {
                let shape = [n_slots, heads.n_kv_heads, capacity, heads.head_dim];
                Self::Attention {
                    keys: empty(shape),
                    values: empty(shape),
                }
            }
            &Mixer::GatedDelta(shape) => {
                let (heads, n) = (shape.heads, n_slots + 1);
                Self::Delta {
                    inputs: empty([n, 1, shape.kernel - 1, heads.width()]),
                    states: empty([n, heads.n_value_heads, heads.value_dim, heads.key_dim]),
                    shape,
                }
            }
        }
    }

    /// Copies the first `len` positions of keys and values from one slot to others.
    fn copy_positions(&mut self, from: usize, to: &[usize], len: usize) {
        if let Self::Attention { keys, values } = self {
            B::cache_copy(keys, from, to, len);
            B::cache_copy(values, from, to, len);
        }
    }

    /// Copies states from one slot to others.
    fn copy_states(&mut self, from: usize, to: &[usize]) {
        if let Self::Delta {
            shape,
            inputs,
            states,
        } = self
        {
            B::cache_copy(inputs, from, to, shape.kernel - 1);
            B::cache_copy(states, from, to, shape.heads.value_dim);
        }
    }
}

impl<B: DecodeBackend> KvCache<B> {
    /// Room for `n_slots` sequences of up to `capacity` tokens in a model of this shape; see also
    /// [`CausalLm::new_cache`](crate::model::CausalLm::new_cache).
    pub fn new(config: &ModelConfig, n_slots: usize, capacity: usize, device: &B::Device) -> Self {
        let heads = config.heads();
        let layer = |mixer| Layer::new(mixer, heads, n_slots, capacity, device);
        Self {
            layers: config.layers.iter().map(layer).collect(),
            n_slots,
            capacity,
            lengths: vec![0; n_slots],
            kept: None,
        }
    }

    /// Number of sequences it holds.
    pub fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// Tokens per sequence.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that a cache of this size takes (f32).
    pub fn bytes(config: &ModelConfig, n_slots: usize, capacity: usize) -> usize {
        n_slots * config.cache_bytes(capacity) + config.state_bytes()
    }

    /// Whether a layer has a state, which cannot go back.
    pub fn is_recurrent(&self) -> bool {
        let is_state = |layer: &Layer<B>| matches!(layer, Layer::Delta { .. });
        self.layers.iter().any(is_state)
    }

    /// Copies the first `len` tokens of slot `from` to the slots `to`.
    ///
    /// # Panics
    /// If a layer has a state and the slot holds another number of tokens.
    pub fn copy_prefix(&mut self, from: usize, to: &[usize], len: usize) {
        self.assert_stands_at(from, len);
        for layer in &mut self.layers {
            layer.copy_positions(from, to, len);
            layer.copy_states(from, to);
        }
        self.set_length(to, len);
    }

    /// Keeps the first `len` tokens of slot `from` for slots that [`begin`](Self::begin) with them later, in place of what
    /// was kept before. Keys and values stay in the slot, which must not get another beginning.
    ///
    /// # Panics
    /// If a layer has a state and the slot holds another number of tokens.
    pub fn keep(&mut self, from: usize, len: usize) {
        self.assert_stands_at(from, len);
        for layer in &mut self.layers {
            layer.copy_states(from, &[self.n_slots]);
        }
        self.kept = Some((from, len));
    }

    /// Begins slots with what is kept.
    ///
    /// # Panics
    /// If nothing is.
    pub fn begin(&mut self, to: &[usize]) {
        let (from, len) = self.kept.expect("a beginning was kept");
        for layer in &mut self.layers {
            layer.copy_positions(from, to, len);
            layer.copy_states(self.n_slots, to);
        }
        self.set_length(to, len);
    }

    fn set_length(&mut self, slots: &[usize], len: usize) {
        for &slot in slots {
            self.lengths[slot] = len;
        }
    }

    fn assert_stands_at(&self, slot: usize, len: usize) {
        let found = self.lengths[slot];
        assert!(
            !self.is_recurrent() || found == len,
            "slot {slot} holds {found} tokens, and its states cannot be those of {len}"
        );
    }

    /// Notes that sequences of slots go on with the tokens of a packing, before any layer does.
    ///
    /// # Panics
    /// If a layer has a state and a sequence goes on elsewhere than where its slot stands.
    pub(crate) fn extend(&mut self, packing: &Packing, slots: &[usize]) {
        for (range, &slot) in packing.ranges().zip(slots) {
            let Some(&first) = packing.positions().get(range.start) else {
                continue;
            };
            if first > 0 {
                self.assert_stands_at(slot, first as usize);
            }
            self.lengths[slot] = first as usize + range.len();
        }
    }

    pub(crate) fn write(
        &mut self,
        layer: usize,
        qkv: B::FloatTensorPrimitive,
        heads: HeadLayout,
        rows: &CacheRows,
    ) {
        let Layer::Attention { keys, values } = &mut self.layers[layer] else {
            unreachable!("a layer without attention has no keys");
        };
        B::cache_write(keys, values, qkv, heads, rows);
    }

    pub(crate) fn attend(
        &self,
        layer: usize,
        qkv: B::FloatTensorPrimitive,
        attention: Attention,
        rows: &CacheRows,
    ) -> B::FloatTensorPrimitive {
        let Layer::Attention { keys, values } = &self.layers[layer] else {
            unreachable!("a layer without attention has no keys");
        };
        B::cached_attention(qkv, keys, values, attention, rows)
    }

    pub(crate) fn convolve(
        &mut self,
        layer: usize,
        x: B::FloatTensorPrimitive,
        weight: B::FloatTensorPrimitive,
        packing: &Packing,
        slots: &[usize],
    ) -> B::FloatTensorPrimitive {
        let Layer::Delta { inputs, .. } = &mut self.layers[layer] else {
            unreachable!("attention has no convolution");
        };
        B::cached_conv(x, weight, inputs, packing, slots)
    }

    pub(crate) fn recall(
        &mut self,
        layer: usize,
        inputs: DeltaInputs<B>,
        heads: DeltaHeads,
        packing: &Packing,
        slots: &[usize],
    ) -> B::FloatTensorPrimitive {
        let Layer::Delta { states, .. } = &mut self.layers[layer] else {
            unreachable!("attention has no state");
        };
        B::cached_delta_rule(inputs, heads, states, packing, slots)
    }
}
