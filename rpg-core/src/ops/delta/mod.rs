//! The operations of gated delta networks (Yang et al., 2024, arXiv 2412.06464), as Qwen3.5 has them: a state of fixed size
//! per head in place of keys and values.
//!
//! [`DeltaBackend`] has those of a forward and backward pass, [`DeltaDecode`] those that go on from a state. As in
//! [`ModelBackend`](super::ModelBackend) the provided methods compose tensor operations: a loop over time, right on any
//! backend and slow.

mod autodiff;

use super::{Packing, composed};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use serde::{Deserialize, Serialize};

/// How a row of queries, keys and values of a delta layer is divided: all query heads, then all key heads, as many, then
/// all value heads. Each query and key head serves as many neighbouring value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaHeads {
    /// Number of query heads, and of key heads.
    pub n_key_heads: usize,
    /// Number of value heads; a multiple of `n_key_heads`. There is a state for each.
    pub n_value_heads: usize,
    /// Width of a query or key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
}

impl DeltaHeads {
    /// Width of the queries of a token, and of its keys.
    pub fn key_width(self) -> usize {
        self.n_key_heads * self.key_dim
    }

    /// Width of the values of a token.
    pub fn value_width(self) -> usize {
        self.n_value_heads * self.value_dim
    }

    /// Width of a whole row, C.
    pub fn width(self) -> usize {
        2 * self.key_width() + self.value_width()
    }

    /// Value heads per key head.
    pub fn group(self) -> usize {
        self.n_value_heads / self.n_key_heads
    }

    /// The numbers of the states of all heads, `[n_value_heads, value_dim, key_dim]`.
    pub fn state_len(self) -> usize {
        self.n_value_heads * self.value_dim * self.key_dim
    }
}

/// What [`DeltaBackend::delta_rule`] is computed from; also the gradients of that.
#[derive(Debug, Clone)]
pub struct DeltaInputs<B: Backend> {
    /// Queries, keys and values, `[N, C]`.
    pub qkv: FloatTensor<B>,
    /// What decides over writing and forgetting, `[N, 2 * n_value_heads]`: `b` of each head, then `a` of each.
    pub gates: FloatTensor<B>,
    /// Logarithm of how fast each head forgets, `[n_value_heads]`.
    pub a_log: FloatTensor<B>,
    /// Added to `a`, `[n_value_heads]`.
    pub dt_bias: FloatTensor<B>,
}

/// Added to the square of a query's or key's length where it is normalised.
pub(super) const LENGTH_EPS: f64 = 1e-6;

/// The operations of a delta layer. `N` tokens of all sequences, `C` the width of a row of queries, keys and values.
pub trait DeltaBackend: Backend {
    /// `silu(sum_j weight[:, j] * x[t - (K - 1) + j])`, column by column and within each sequence of `packing`, before which
    /// there are zeros. `x`: `[N, C]`, `weight`: `[C, K]`.
    fn causal_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        packing: &Packing,
    ) -> FloatTensor<Self> {
        composed::causal_conv::<Self>(x, weight, packing)
    }

    /// Gradients of [`causal_conv`](Self::causal_conv): of `x` and of `weight`.
    fn causal_conv_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        packing: &Packing,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::causal_conv_backward::<Self>(x, weight, packing, grad)
    }

    /// The gated delta rule within each sequence of `packing`. Returns `[N, n_value_heads * value_dim]`.
    ///
    /// For each value head, whose state `S` (`[value_dim, key_dim]`) is zero before a sequence, with `q` and `k` divided by
    /// their lengths:
    ///
    /// ```text
    /// S := exp(-exp(a_log) * softplus(a + dt_bias)) * S
    /// S := S + sigmoid(b) * (v - S k) k'
    /// o  = S q / sqrt(key_dim)
    /// ```
    fn delta_rule(
        inputs: DeltaInputs<Self>,
        heads: DeltaHeads,
        packing: &Packing,
    ) -> FloatTensor<Self> {
        composed::delta_rule::<Self>(inputs, heads, packing)
    }

    /// Gradients of [`delta_rule`](Self::delta_rule). The states are computed again, those of some tokens at a time.
    fn delta_rule_backward(
        inputs: DeltaInputs<Self>,
        heads: DeltaHeads,
        packing: &Packing,
        grad: FloatTensor<Self>,
    ) -> DeltaInputs<Self> {
        composed::delta_rule_backward::<Self>(inputs, heads, packing, grad)
    }
}

/// A [`DeltaBackend`] that also goes on from states.
///
/// Sequence `s` of a packing, none of which is empty, belongs to slot `slots[s]`, and no slot has two. Where it begins at position 0 it begins with
/// nothing, else with what the slot holds; the slot then holds what is after its last token.
pub trait DeltaDecode: DeltaBackend {
    /// [`causal_conv`](DeltaBackend::causal_conv) after the `K - 1` inputs of each slot, `inputs`:
    /// `[n_slots, 1, K - 1, C]`.
    fn cached_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inputs: &mut FloatTensor<Self>,
        packing: &Packing,
        slots: &[usize],
    ) -> FloatTensor<Self> {
        composed::cached_conv::<Self>(x, weight, inputs, packing, slots)
    }

    /// [`delta_rule`](DeltaBackend::delta_rule) after the states of each slot, `states`:
    /// `[n_slots, n_value_heads, value_dim, key_dim]`.
    fn cached_delta_rule(
        inputs: DeltaInputs<Self>,
        heads: DeltaHeads,
        states: &mut FloatTensor<Self>,
        packing: &Packing,
        slots: &[usize],
    ) -> FloatTensor<Self> {
        composed::cached_delta_rule::<Self>(inputs, heads, states, packing, slots)
    }
}
