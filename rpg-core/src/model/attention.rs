//! Attention, with its projections.

use super::linear::Linear;
use super::mixer::{Past, Vector};
use super::{Attends, ModelConfig, Ropes, float, primitive};
use crate::ops::{HeadLayout, ModelBackend};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;

/// Grouped-query attention.
#[derive(Module, Debug)]
pub(super) struct AttentionLayer<B: Backend> {
    #[module(skip)]
    pub(super) attends: Attends,
    /// To [`ModelConfig::qkv_width`] outputs: queries, keys, values. Where attention has a gate, each query head is followed
    /// by its gates, as many.
    pub(super) qkv: Linear<B>,
    pub(super) q_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) k_norm: Option<Param<Tensor<B, 1>>>,
    /// From `n_heads * head_dim` inputs.
    pub(super) output: Linear<B>,
}

impl<B: Backend> AttentionLayer<B> {
    pub(super) fn linears(&self) -> [(&'static str, &Linear<B>); 2] {
        [("qkv", &self.qkv), ("output", &self.output)]
    }

    pub(super) fn linears_mut(&mut self) -> [(&'static str, &mut Linear<B>); 2] {
        [("qkv", &mut self.qkv), ("output", &mut self.output)]
    }

    pub(super) fn norms(&self) -> [Vector<'_, B>; 2] {
        [
            ("q_norm", self.q_norm.as_ref()),
            ("k_norm", self.k_norm.as_ref()),
        ]
    }
}

impl<B: ModelBackend> AttentionLayer<B> {
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        ropes: &Ropes,
        past: &mut impl Past<B>,
    ) -> Tensor<B, 2> {
        let (heads, eps) = (config.heads(), config.rms_norm_eps);
        let projected = self.qkv.forward(x);
        let (qkv, gates) = if config.attention_gate {
            let (qkv, gates) = split_gates(projected, heads);
            (qkv, Some(gates))
        } else {
            (projected, None)
        };
        let mut qkv = primitive(qkv);
        if let (Some(q), Some(k)) = (&self.q_norm, &self.k_norm) {
            let [q, k] = [q, k].map(|weight| primitive(config.norm_factor(weight.val())));
            qkv = B::head_norm(qkv, q, k, heads, eps);
        }
        if let Some(rope) = ropes.of(self.attends.rotary) {
            qkv = B::rotary(qkv, heads, rope, past.packing());
        }
        let attended = float(past.attend(qkv, config.attention(self.attends)));
        self.output.forward(match gates {
            Some(gates) => attended * sigmoid(gates),
            None => attended,
        })
    }
}

/// Rows of queries, keys and values, and the gates `[N, n_heads * head_dim]`.
fn split_gates<B: Backend>(
    projected: Tensor<B, 2>,
    heads: HeadLayout,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let [n, _] = projected.dims();
    let (width, d) = (heads.q_width(), heads.head_dim);
    let both = projected.clone().narrow(1, 0, 2 * width);
    let both = both.reshape([n, heads.n_heads, 2 * d]);
    let part = |start| both.clone().narrow(2, start, d).reshape([n, width]);
    let rest = projected.narrow(1, 2 * width, 2 * heads.kv_width());
    (Tensor::cat(vec![part(0), rest], 1), part(d))
}
