//! One transformer block.

use super::feed_forward::FeedForward;
use super::linear::Linear;
use super::{Attends, ModelConfig, Ropes, float, norm, primitive, times};
use crate::ops::{Attention, ModelBackend, Packing};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Attention and feed-forward, each added to the residual stream, with norms before or after them.
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    #[module(skip)]
    pub(super) attends: Attends,
    /// Before attention.
    pub(super) input_norm: Option<Param<Tensor<B, 1>>>,
    /// To `(n_heads + 2 * n_kv_heads) * head_dim` outputs: queries, keys, values.
    pub(super) qkv: Linear<B>,
    pub(super) q_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) k_norm: Option<Param<Tensor<B, 1>>>,
    /// From `n_heads * head_dim` inputs.
    pub(super) output: Linear<B>,
    /// After attention.
    pub(super) output_norm: Option<Param<Tensor<B, 1>>>,
    /// Before the feed-forward layer.
    pub(super) post_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) feed_forward: FeedForward<B>,
    /// After the feed-forward layer.
    pub(super) down_norm: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Block<B> {
    /// Its linear layers and their names.
    pub(super) fn linears(&self) -> Vec<(String, &Linear<B>)> {
        let attention = [("qkv", &self.qkv), ("output", &self.output)];
        let attention = attention.map(|(name, linear)| (name.to_owned(), linear));
        let feed_forward = self.feed_forward.linears();
        attention.into_iter().chain(feed_forward).collect()
    }

    /// Its norms and their names.
    pub(super) fn norms(&self) -> [(&'static str, Option<&Param<Tensor<B, 1>>>); 6] {
        [
            ("input_norm", self.input_norm.as_ref()),
            ("q_norm", self.q_norm.as_ref()),
            ("k_norm", self.k_norm.as_ref()),
            ("output_norm", self.output_norm.as_ref()),
            ("post_norm", self.post_norm.as_ref()),
            ("down_norm", self.down_norm.as_ref()),
        ]
    }

    pub(super) fn linears_mut(&mut self) -> Vec<(String, &mut Linear<B>)> {
        let attention = [("qkv", &mut self.qkv), ("output", &mut self.output)];
        let attention = attention.map(|(name, linear)| (name.to_owned(), linear));
        let feed_forward = self.feed_forward.linears_mut();
        attention.into_iter().chain(feed_forward).collect()
    }
}

impl<B: ModelBackend> Block<B> {
    /// `x`: `[N, D]`. `attend` turns rotated rows of queries, keys and values `[N, W]` into the heads'
    /// outputs `[N, n_heads * head_dim]`: the one place where training, prefill and decoding differ.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        ropes: &Ropes,
        packing: &Packing,
        attend: impl FnOnce(B::FloatTensorPrimitive, Attention) -> B::FloatTensorPrimitive,
    ) -> Tensor<B, 2> {
        let (heads, eps) = (config.heads(), config.rms_norm_eps);
        let normed = |x: Tensor<B, 2>, weight: &Option<Param<Tensor<B, 1>>>| match weight {
            Some(weight) => norm(x, weight, config),
            None => x,
        };
        let added = |x, y| x + times(y, config.residual_multiplier);
        let mut qkv = primitive(self.qkv.forward(normed(x.clone(), &self.input_norm)));
        if let (Some(q), Some(k)) = (&self.q_norm, &self.k_norm) {
            let [q, k] = [q, k].map(|weight| primitive(config.norm_factor(weight.val())));
            qkv = B::head_norm(qkv, q, k, heads, eps);
        }
        if let Some(rope) = ropes.of(self.attends.rotary) {
            qkv = B::rotary(qkv, heads, rope, packing);
        }
        let attended = float(attend(qkv, config.attention(self.attends)));
        let output = self.output.forward(attended);
        let x = added(x, normed(output, &self.output_norm));
        let input = normed(x.clone(), &self.post_norm);
        let output = self.feed_forward.forward(input, config.activation);
        added(x, normed(output, &self.down_norm))
    }
}
