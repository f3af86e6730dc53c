//! One transformer block.

use super::linear::Linear;
use super::{ModelConfig, float, norm, primitive};
use crate::ops::{HeadLayout, ModelBackend, Packing, RopeTable};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Attention and feed-forward, each applied after a norm and added to the residual stream.
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    pub(super) input_norm: Param<Tensor<B, 1>>,
    /// To `(n_heads + 2 * n_kv_heads) * head_dim` outputs: queries, keys, values.
    pub(super) qkv: Linear<B>,
    pub(super) q_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) k_norm: Option<Param<Tensor<B, 1>>>,
    /// From `n_heads * head_dim` inputs.
    pub(super) output: Linear<B>,
    pub(super) post_norm: Param<Tensor<B, 1>>,
    /// To `2F` outputs: gate, up.
    pub(super) gate_up: Linear<B>,
    pub(super) down: Linear<B>,
}

impl<B: Backend> Block<B> {
    /// Its linear layers and their names.
    pub(super) fn linears(&self) -> [(&'static str, &Linear<B>); 4] {
        [
            ("qkv", &self.qkv),
            ("output", &self.output),
            ("gate_up", &self.gate_up),
            ("down", &self.down),
        ]
    }

    pub(super) fn linears_mut(&mut self) -> [(&'static str, &mut Linear<B>); 4] {
        [
            ("qkv", &mut self.qkv),
            ("output", &mut self.output),
            ("gate_up", &mut self.gate_up),
            ("down", &mut self.down),
        ]
    }
}

impl<B: ModelBackend> Block<B> {
    /// `x`: `[N, D]`. `attend` turns rotated rows of queries, keys and values `[N, W]` into the heads'
    /// outputs `[N, n_heads * head_dim]`: the one place where training, prefill and decoding differ.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        rope: &RopeTable,
        packing: &Packing,
        attend: impl FnOnce(B::FloatTensorPrimitive, HeadLayout) -> B::FloatTensorPrimitive,
    ) -> Tensor<B, 2> {
        let (heads, eps) = (config.heads(), config.rms_norm_eps);
        let normed = norm(x.clone(), &self.input_norm, eps);
        let mut qkv = primitive(self.qkv.forward(normed));
        if let (Some(q), Some(k)) = (&self.q_norm, &self.k_norm) {
            qkv = B::head_norm(qkv, primitive(q.val()), primitive(k.val()), heads, eps);
        }
        let qkv = B::rotary(qkv, heads, rope, packing);
        let attended = float(attend(qkv, heads));
        let x = x + self.output.forward(attended);
        let normed = norm(x.clone(), &self.post_norm, eps);
        let gate_up = primitive(self.gate_up.forward(normed));
        x + self.down.forward(float(B::swiglu(gate_up)))
    }
}
