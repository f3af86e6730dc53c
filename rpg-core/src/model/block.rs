//! One transformer block.

use super::{ModelConfig, float, norm, primitive};
use crate::ops::{HeadLayout, Int8Matrix, ModelBackend, Packing, RopeTable};
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

/// The matrices of a block as 8-bit integers.
#[derive(Debug)]
pub(super) struct Int8Block {
    pub(super) qkv: Int8Matrix,
    pub(super) output: Int8Matrix,
    pub(super) gate_up: Int8Matrix,
    pub(super) down: Int8Matrix,
}

impl<B: ModelBackend> Block<B> {
    /// `x`: `[N, D]`. `attend` turns rotated rows of queries, keys and values `[N, W]` into the heads'
    /// outputs `[N, n_heads * head_dim]`: with `int8`, which takes the place of the matrices, the one place where
    /// training, prefill and decoding differ.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        rope: &RopeTable,
        packing: &Packing,
        int8: Option<&Int8Block>,
        attend: impl FnOnce(B::FloatTensorPrimitive, HeadLayout) -> B::FloatTensorPrimitive,
    ) -> Tensor<B, 2> {
        let (heads, eps) = (config.heads(), config.rms_norm_eps);
        let normed = norm(x.clone(), &self.input_norm, eps);
        let qkv = product(normed, &self.qkv, int8.map(|int8| &int8.qkv));
        let mut qkv = primitive(with_bias(qkv, self.qkv_bias.as_ref()));
        if let (Some(q), Some(k)) = (&self.q_norm, &self.k_norm) {
            qkv = B::head_norm(qkv, primitive(q.val()), primitive(k.val()), heads, eps);
        }
        let qkv = B::rotary(qkv, heads, rope, packing);
        let attended = float(attend(qkv, heads));
        let output = product(attended, &self.output, int8.map(|int8| &int8.output));
        let x = x + with_bias(output, self.output_bias.as_ref());
        let normed = norm(x.clone(), &self.post_norm, eps);
        let gate_up = product(normed, &self.gate_up, int8.map(|int8| &int8.gate_up));
        let hidden = float(B::swiglu(primitive(gate_up)));
        x + product(hidden, &self.down, int8.map(|int8| &int8.down))
    }
}

/// `x * weight'`, by the integers if there are any.
pub(super) fn product<B: ModelBackend>(
    x: Tensor<B, 2>,
    weight: &Param<Tensor<B, 2>>,
    int8: Option<&Int8Matrix>,
) -> Tensor<B, 2> {
    float(match int8 {
        Some(weight) => B::project_int8(primitive(x), weight),
        None => B::project(primitive(x), primitive(weight.val())),
    })
}

fn with_bias<B: ModelBackend>(y: Tensor<B, 2>, bias: Option<&Param<Tensor<B, 1>>>) -> Tensor<B, 2> {
    match bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}
