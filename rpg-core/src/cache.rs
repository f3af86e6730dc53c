//! The key-value cache. It belongs to the caller, not to the model.

use crate::ops::{Attention, CacheRows, DecodeBackend, HeadLayout};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Keys and values of every layer for a fixed number of slots, allocated once.
#[derive(Debug, Clone)]
pub struct KvCache<B: Backend> {
    // Keys and values of each layer, `[n_slots, n_kv_heads, capacity, head_dim]`.
    layers: Vec<(B::FloatTensorPrimitive, B::FloatTensorPrimitive)>,
    n_slots: usize,
    capacity: usize,
}

impl<B: DecodeBackend> KvCache<B> {
    /// Room for `n_slots` sequences of up to `capacity` tokens in a model of `n_layers`; see also
    /// [`CausalLm::new_cache`](crate::model::CausalLm::new_cache).
    pub fn new(
        heads: HeadLayout,
        n_layers: usize,
        n_slots: usize,
        capacity: usize,
        device: &B::Device,
    ) -> Self {
        let shape = [n_slots, heads.n_kv_heads, capacity, heads.head_dim];
        let empty = || {
            Tensor::<B, 4>::zeros(shape, device)
                .into_primitive()
                .tensor()
        };
        Self {
            layers: (0..n_layers).map(|_| (empty(), empty())).collect(),
            n_slots,
            capacity,
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
    pub fn bytes(heads: HeadLayout, n_layers: usize, n_slots: usize, capacity: usize) -> usize {
        2 * 4 * n_layers * n_slots * capacity * heads.kv_width()
    }

    /// Copies the first `len` positions of slot `from` to the slots `to`.
    pub fn copy_prefix(&mut self, from: usize, to: &[usize], len: usize) {
        for (keys, values) in &mut self.layers {
            for cache in [keys, values] {
                B::cache_copy(cache, from, to, len);
            }
        }
    }

    pub(crate) fn write(
        &mut self,
        layer: usize,
        qkv: B::FloatTensorPrimitive,
        heads: HeadLayout,
        rows: &CacheRows,
    ) {
        let (keys, values) = &mut self.layers[layer];
        B::cache_write(keys, values, qkv, heads, rows);
    }

    pub(crate) fn attend(
        &self,
        layer: usize,
        qkv: B::FloatTensorPrimitive,
        attention: Attention,
        rows: &CacheRows,
    ) -> B::FloatTensorPrimitive {
        let (keys, values) = &self.layers[layer];
        B::cached_attention(qkv, keys, values, attention, rows)
    }
}
