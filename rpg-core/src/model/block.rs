//! One transformer block.

use super::{ModelConfig, float, norm, primitive};
use crate::ops::{HeadLayout, ModelBackend, Packing, RopeTable};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Attention and feed-forward, each applied after a norm and added to the residual stream.
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    pub(super) input_norm: Param<Tensor<B, 1>>,
    /// `[(n_heads + 2 * n_kv_heads) * head_dim, D]`: queries, keys, values.
    pub(super) qkv: Param<Tensor<B, 2>>,
    pub(super) qkv_bias: Option<Param<Tensor<B, 1>>>,
    pub(super) q_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) k_norm: Option<Param<Tensor<B, 1>>>,
    /// `[D, n_heads * head_dim]`.
    pub(super) output: Param<Tensor<B, 2>>,
    pub(super) output_bias: Option<Param<Tensor<B, 1>>>,
    pub(super) post_norm: Param<Tensor<B, 1>>,
    /// `[2F, D]`: gate, up.
    pub(super) gate_up: Param<Tensor<B, 2>>,
    /// `[D, F]`.
    pub(super) down: Param<Tensor<B, 2>>,
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
        let mut qkv = primitive(linear(normed, &self.qkv, self.qkv_bias.as_ref()));
        if let (Some(q), Some(k)) = (&self.q_norm, &self.k_norm) {
            qkv = B::head_norm(qkv, primitive(q.val()), primitive(k.val()), heads, eps);
        }
        let qkv = B::rotary(qkv, heads, rope, packing);
        let attended = float(attend(qkv, heads));
        let x = x + linear(attended, &self.output, self.output_bias.as_ref());
        let normed = norm(x.clone(), &self.post_norm, eps);
        let gate_up = linear(normed, &self.gate_up, None);
        x + linear(float(B::swiglu(primitive(gate_up))), &self.down, None)
    }
}

fn linear<B: ModelBackend>(
    x: Tensor<B, 2>,
    weight: &Param<Tensor<B, 2>>,
    bias: Option<&Param<Tensor<B, 1>>>,
) -> Tensor<B, 2> {
    let y = float(B::project(primitive(x), primitive(weight.val())));
    match bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}
