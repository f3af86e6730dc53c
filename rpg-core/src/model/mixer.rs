//! The half of a block in which tokens learn of each other.

use super::attention::AttentionLayer;
use super::delta::DeltaLayer;
use super::linear::Linear;
use super::{ModelConfig, Ropes};
use crate::ops::{Attention, DeltaHeads, DeltaInputs, ModelBackend, Packing};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A layer that mixes tokens, between norms.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a block has one, which is small beside its weights"
)]
pub(super) enum MixerLayer<B: Backend> {
    Attention(AttentionLayer<B>),
    Delta(DeltaLayer<B>),
}

/// A vector of a block that may be absent, and its name.
pub(super) type Vector<'a, B> = (&'static str, Option<&'a Param<Tensor<B, 1>>>);

impl<B: Backend> MixerLayer<B> {
    /// Its linear layers and their names.
    pub(super) fn linears(&self) -> Vec<(&'static str, &Linear<B>)> {
        match self {
            Self::Attention(layer) => layer.linears().into(),
            Self::Delta(layer) => layer.linears().into(),
        }
    }

    pub(super) fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear<B>)> {
        match self {
            Self::Attention(layer) => layer.linears_mut().into(),
            Self::Delta(layer) => layer.linears_mut().into(),
        }
    }

    /// Its vectors and their names, biases aside.
    pub(super) fn vectors(&self) -> Vec<Vector<'_, B>> {
        match self {
            Self::Attention(layer) => layer.norms().into(),
            Self::Delta(layer) => layer.vectors().into(),
        }
    }
}

impl<B: ModelBackend> MixerLayer<B> {
    /// `[N, D]` to `[N, D]`.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        ropes: &Ropes,
        past: &mut impl Past<B>,
    ) -> Tensor<B, 2> {
        match self {
            Self::Attention(layer) => layer.forward(x, config, ropes, past),
            Self::Delta(layer) => layer.forward(x, config, past),
        }
    }
}

/// Where a layer finds what came before its tokens: the one place where training, prefill and decoding differ.
pub(super) trait Past<B: ModelBackend> {
    /// The tokens.
    fn packing(&self) -> &Packing;

    /// Rotated rows of queries, keys and values `[N, W]` to the heads' outputs `[N, n_heads * head_dim]`.
    fn attend(
        &mut self,
        qkv: B::FloatTensorPrimitive,
        attention: Attention,
    ) -> B::FloatTensorPrimitive;

    /// [`causal_conv`](crate::ops::DeltaBackend::causal_conv).
    fn convolve(
        &mut self,
        x: B::FloatTensorPrimitive,
        weight: B::FloatTensorPrimitive,
    ) -> B::FloatTensorPrimitive;

    /// [`delta_rule`](crate::ops::DeltaBackend::delta_rule).
    fn recall(&mut self, inputs: DeltaInputs<B>, heads: DeltaHeads) -> B::FloatTensorPrimitive;
}

/// Sequences with nothing before them but, for attention, those that they go on from: a state cannot be had at their ends.
pub(super) struct Whole<'a>(pub(super) &'a Packing);

impl<B: ModelBackend> Past<B> for Whole<'_> {
    fn packing(&self) -> &Packing {
        self.0
    }

    fn attend(
        &mut self,
        qkv: B::FloatTensorPrimitive,
        attention: Attention,
    ) -> B::FloatTensorPrimitive {
        B::causal_attention(qkv, attention, self.0).0
    }

    fn convolve(
        &mut self,
        x: B::FloatTensorPrimitive,
        weight: B::FloatTensorPrimitive,
    ) -> B::FloatTensorPrimitive {
        assert!(!self.0.is_branched(), "every sequence is whole");
        B::causal_conv(x, weight, self.0)
    }

    fn recall(&mut self, inputs: DeltaInputs<B>, heads: DeltaHeads) -> B::FloatTensorPrimitive {
        assert!(!self.0.is_branched(), "every sequence is whole");
        B::delta_rule(inputs, heads, self.0)
    }
}
