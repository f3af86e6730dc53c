//! The operations a transformer is made of, fused where that pays.
//!
//! [`ModelBackend`] adds them to a Burn backend. Its provided methods compose tensor operations and so
//! work anywhere; `Flex`, the CPU backend (feature `cpu`), overrides them with single passes
//! over memory, because there a training step is bound by memory traffic, not by arithmetic.
//! [`Autodiff`](burn::backend::Autodiff) wraps any such backend and records each pair of forward and
//! backward as one node of the graph.
//!
//! All sequences of a batch lie one after the other in one `[N, ...]` tensor, without padding;
//! [`Packing`] says where each begins.

mod adamw;
mod autodiff;
mod composed;
mod delta;
#[cfg(feature = "cpu")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;
mod int8;
mod layout;
mod moments8;
mod packed;
mod row;
#[cfg_attr(
    not(feature = "cpu"),
    expect(dead_code, reason = "a row of logits needs a few of them")
)]
mod simd;

pub(crate) use autodiff::seeded;
pub use delta::{DeltaBackend, DeltaDecode, DeltaHeads, DeltaInputs};
pub use int8::Int8Matrix;
pub use layout::{Activation, Attention, CacheRows, HeadLayout, Packing, RopeTable};
pub use moments8::{Codes8, Moments8};
pub use packed::{PackedFormat, PackedMatrix};
pub use row::RowWeights;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Tensor, TensorMetadata};
use std::sync::Arc;

/// Hyperparameters of one AdamW update (Loshchilov and Hutter, 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWUpdate {
    /// Step size.
    pub lr: f32,
    /// Decay rate of the first moment.
    pub beta_1: f32,
    /// Decay rate of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay: the parameter shrinks by `lr * weight_decay`.
    pub weight_decay: f32,
    /// Number of this update, counted from 1, for the bias correction.
    pub time: u32,
    /// The gradient is multiplied by this first (global-norm clipping).
    pub grad_scale: f32,
}

/// Hyperparameters of one update of schedule-free AdamW ("The Road Less Scheduled", Defazio et al., 2024,
/// arXiv 2405.15682, Algorithm 1 with AdamW as its base).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleFreeUpdate {
    /// Step size.
    pub lr: f64,
    /// Where gradients are taken: at `y = beta_1 * x + (1 - beta_1) * z`. Above 0.
    pub beta_1: f64,
    /// Decay rate of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, at `y`.
    pub weight_decay: f64,
    /// Number of this update, counted from 1, for the bias correction.
    pub time: u32,
    /// The share of the new `z` in the new average `x`, `c`.
    pub share: f64,
    /// The gradient is multiplied by this first (global-norm clipping).
    pub grad_scale: f64,
}

impl ScheduleFreeUpdate {
    /// `1 - beta_2^time`.
    fn bias_correction(&self) -> f64 {
        1.0 - self.beta_2.powi(self.time as i32)
    }

    /// How far `y` moves along the step of `z`, whose length is `-lr`: `z` has the share
    /// `beta_1 * c + 1 - beta_1` in `y`.
    fn rate_of_y(&self) -> f64 {
        self.lr * (self.beta_1 * (1.0 - self.share) - 1.0)
    }
}

/// A weight matrix `[outputs, inputs]` as operations take it.
#[derive(Debug, Clone)]
pub enum Weight<B: Backend> {
    /// Numbers of the type of the arithmetic, or bf16.
    Float(FloatTensor<B>),
    /// A packed matrix, which has no gradient.
    Packed(Arc<PackedMatrix>),
}

impl<B: Backend> Weight<B> {
    /// Outputs and inputs.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Float(weight) => weight.shape().dims(),
            Self::Packed(matrix) => matrix.shape(),
        }
    }

    /// The numbers, unless they are packed.
    pub fn tensor(self) -> Option<Tensor<B, 2>> {
        match self {
            Self::Float(weight) => Some(composed::wrap(weight)),
            Self::Packed(_) => None,
        }
    }
}

/// What the output layer gave, and the gradients of that: each `[M]`.
#[derive(Debug, Clone)]
pub struct HeadScores<B: Backend> {
    /// The log-probabilities.
    pub logprobs: FloatTensor<B>,
    /// Their gradient.
    pub grad: FloatTensor<B>,
    /// The entropies and their gradient, where they have one.
    pub entropy: Option<(FloatTensor<B>, FloatTensor<B>)>,
}

/// A Burn backend with the operations of a decoder-only transformer.
///
/// Those of gated delta networks are in [`DeltaBackend`].
///
/// Shapes: `N` tokens of all sequences, `D` hidden size, `F` feed-forward size, `V` vocabulary, `W`
/// the width of a row of queries, keys and values, `(n_heads + 2 * n_kv_heads) * head_dim`.
/// The `_backward` methods take the gradient of the output last and return the gradients of the
/// inputs in order.
pub trait ModelBackend: Backend + DeltaBackend {
    /// A linear layer without bias: `x * weight'`. `x`: `[N, inputs]`, `weight`: `[outputs, inputs]`. Arithmetic is done
    /// in the type of `x`.
    fn project(x: FloatTensor<Self>, weight: Weight<Self>) -> FloatTensor<Self> {
        composed::project::<Self>(x, weight)
    }

    /// The gradient of [`project`](Self::project) with respect to `x`: `grad * weight`.
    fn project_backward(weight: Weight<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::project_backward::<Self>(weight, grad)
    }

    /// The gradient of [`project`](Self::project) with respect to `weight`: `grad' * x`.
    fn project_backward_weight(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::project_backward_weight::<Self>(x, grad)
    }

    /// [`project`](Self::project) with a matrix of 8-bit integers, rounding each row of `x` to 8-bit integers as well. The provided
    /// method rounds only the weights, and makes f32 of them every time: it is right, not fast.
    fn project_int8(x: FloatTensor<Self>, weight: &Int8Matrix) -> FloatTensor<Self> {
        composed::project_int8::<Self>(x, weight)
    }

    /// The rows `ids` (`[N]`) of `weight` (`[V, D]`), of its type; those of a packed matrix as f32.
    fn embed(weight: Weight<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        composed::embed::<Self>(weight, ids)
    }

    /// Adds the gradient of [`embed`](Self::embed) to that of `weight`: each row of `grad` (`[N, D]`) to the
    /// row of `d_weight` that it came from. Where input and output layer share their weights, `d_weight` is
    /// what the output layer left, and no second tensor of that size is made.
    fn embed_backward(
        d_weight: FloatTensor<Self>,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        composed::embed_backward::<Self>(d_weight, ids, grad)
    }

    /// `x / rms(x) * weight`, row by row. `x`: `[N, D]`, `weight`: `[D]`.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        composed::rms_norm::<Self>(x, weight, eps)
    }

    /// Gradients of [`rms_norm`](Self::rms_norm): of `x` and of `weight`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::rms_norm_backward::<Self>(x, weight, eps, grad)
    }

    /// Rotates the queries and keys of `qkv` (`[N, W]`) by their positions, in the half-split form of
    /// Hugging Face; values, and what of a head is beyond the table's dimensions, pass through.
    fn rotary(
        qkv: FloatTensor<Self>,
        heads: HeadLayout,
        rope: &RopeTable,
        packing: &Packing,
    ) -> FloatTensor<Self> {
        composed::rotary::<Self>(qkv, heads, rope, packing, 1.0)
    }

    /// Gradient of [`rotary`](Self::rotary): the inverse rotation.
    fn rotary_backward(
        heads: HeadLayout,
        rope: &RopeTable,
        packing: &Packing,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        composed::rotary::<Self>(grad, heads, rope, packing, -1.0)
    }

    /// RMSNorm of queries and keys, over as many numbers at a time as the weight has: `head_dim` of them are a norm per
    /// head (Qwen3), the width of all queries, or keys, is one norm per token (OLMo 2).
    fn head_norm(
        qkv: FloatTensor<Self>,
        q_weight: FloatTensor<Self>,
        k_weight: FloatTensor<Self>,
        heads: HeadLayout,
        eps: f64,
    ) -> FloatTensor<Self> {
        composed::head_norm::<Self>(qkv, q_weight, k_weight, heads, eps)
    }

    /// Gradients of [`head_norm`](Self::head_norm): of `qkv`, `q_weight` and `k_weight`.
    fn head_norm_backward(
        qkv: FloatTensor<Self>,
        q_weight: FloatTensor<Self>,
        k_weight: FloatTensor<Self>,
        heads: HeadLayout,
        eps: f64,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::head_norm_backward::<Self>(qkv, q_weight, k_weight, heads, eps, grad)
    }

    /// Causal grouped-query attention within each sequence of `packing`, as far back as the window reaches.
    ///
    /// `qkv`: `[N, W]`, rotated. Returns the heads' outputs `[N, n_heads * head_dim]` and, for the
    /// backward pass, the log-sum-exp of every row of scores `[N, n_heads]`.
    fn causal_attention(
        qkv: FloatTensor<Self>,
        attention: Attention,
        packing: &Packing,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::attention::<Self>(qkv, attention, packing)
    }

    /// Gradient of [`causal_attention`](Self::causal_attention) with respect to `qkv`.
    fn causal_attention_backward(
        qkv: FloatTensor<Self>,
        output: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        attention: Attention,
        packing: &Packing,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        composed::attention_backward::<Self>(qkv, output, lse, attention, packing, grad)
    }

    /// `activation(gate) * up` of `gate_up = [gate | up]`: `[N, 2F]` to `[N, F]`.
    fn glu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        composed::glu::<Self>(gate_up, activation)
    }

    /// Gradient of [`glu`](Self::glu) with respect to `gate_up`.
    fn glu_backward(
        gate_up: FloatTensor<Self>,
        activation: Activation,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        composed::glu_backward::<Self>(gate_up, activation, grad)
    }

    /// For each row of `logits` (`[M, V]`): the log-probability of its target and the entropy, under
    /// `softmax(logits / temperature)`. This is *the* definition of a token's log-probability.
    fn token_logprobs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::token_logprobs::<Self>(logits, targets, temperature)
    }

    /// Gradient of the log-probabilities of [`token_logprobs`](Self::token_logprobs) with respect to
    /// `logits`. `grad`: `[M]`.
    fn token_logprobs_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        composed::token_logprobs_backward::<Self>(logits, targets, temperature, grad)
    }

    /// Log-probabilities and entropies, as [`token_logprobs`](Self::token_logprobs) defines them, of the
    /// logits `hidden * head^T`, of which at most `max_logits` exist at a time. `hidden`: `[M, D]`,
    /// `head`: `[V, D]`, `targets`: `[M]`. The backward pass computes the logits again. The entropies have no gradient.
    fn head_logprobs(
        hidden: FloatTensor<Self>,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::head_logprobs::<Self>(hidden, head, targets, temperature, max_logits)
    }

    /// The same as one tensor `[2, M]`, log-probabilities first; here the entropies have a gradient too.
    fn head_scores(
        hidden: FloatTensor<Self>,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> FloatTensor<Self> {
        let (logprobs, entropy) =
            Self::head_logprobs(hidden, head, targets, temperature, max_logits);
        composed::stack::<Self>(logprobs, entropy)
    }

    /// Gradients of [`head_logprobs`](Self::head_logprobs) and [`head_scores`](Self::head_scores): of `hidden`, and if it
    /// is trained of `head`.
    fn head_logprobs_backward(
        hidden: FloatTensor<Self>,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
        scores: HeadScores<Self>,
        is_trained: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        composed::head_logprobs_backward::<Self>(
            hidden,
            head,
            targets,
            temperature,
            max_logits,
            scores,
            is_trained,
        )
    }
}

/// A [`ModelBackend`] that also samples and updates parameters.
///
/// None of this has a gradient, so [`Autodiff`](burn::backend::Autodiff) does not implement it: one samples from a
/// model, and updates its parameters, on the backend inside `Autodiff`.
///
/// ```
/// # use rpg_core::cache::KvCache;
/// # use rpg_core::model::CausalLm;
/// # use rpg_core::ops::DecodeBackend;
/// fn cache_of<B: DecodeBackend>(model: CausalLm<B>) -> KvCache<B> {
///     model.new_cache(1, 16)
/// }
/// ```
///
/// A model that is being differentiated cannot sample:
///
/// ```compile_fail
/// # use burn::backend::Autodiff;
/// # use rpg_core::cache::KvCache;
/// # use rpg_core::model::CausalLm;
/// # use rpg_core::ops::DecodeBackend;
/// fn cache_of<B: DecodeBackend>(model: CausalLm<B>) -> KvCache<Autodiff<B>> {
///     model.into_trainable().new_cache(1, 16)
/// }
/// ```
pub trait DecodeBackend: ModelBackend + DeltaDecode {
    /// Whether [`project`](ModelBackend::project) reads bf16 weights as they are, instead of widening them all first.
    const READS_BF16: bool = false;

    /// Whether [`project_int8`](ModelBackend::project_int8) multiplies integers, which is what makes it fast.
    const MULTIPLIES_INT8: bool = false;

    /// Does `work`, a pass over the model, in the thread from which this backend's operations start fastest.
    fn on_workers<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// Writes the keys and values of `qkv` (`[N, W]`) into a layer's cache, token `i` at `rows.of(i)`.
    ///
    /// `keys`, `values`: `[n_slots, n_kv_heads, capacity, head_dim]`. What was there is overwritten.
    fn cache_write(
        keys: &mut FloatTensor<Self>,
        values: &mut FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        heads: HeadLayout,
        rows: &CacheRows,
    ) {
        composed::cache_write::<Self>(keys, values, qkv, heads, rows)
    }

    /// Copies the first `len` positions of slot `from` of `cache` (`[n_slots, heads, capacity, width]`) to the slots `to`.
    fn cache_copy(cache: &mut FloatTensor<Self>, from: usize, to: &[usize], len: usize) {
        composed::cache_copy::<Self>(cache, from, to, len)
    }

    /// Attention of one new token per row over the filled part of its slot's cache, itself included
    /// (its key and value have been written), as far back as the window reaches. `qkv`: `[N, W]`; returns `[N, n_heads * head_dim]`.
    fn cached_attention(
        qkv: FloatTensor<Self>,
        keys: &FloatTensor<Self>,
        values: &FloatTensor<Self>,
        attention: Attention,
        rows: &CacheRows,
    ) -> FloatTensor<Self> {
        composed::cached_attention::<Self>(qkv, keys, values, attention, rows)
    }

    /// The sum of all squares, `[1]`, of a gradient as large as a parameter: it does not depend on the number of threads.
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::square_sum::<Self>(x)
    }

    /// One AdamW update. Returns the parameter; the moments are updated in place.
    fn adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moment_1: &mut FloatTensor<Self>,
        moment_2: &mut FloatTensor<Self>,
        update: AdamWUpdate,
    ) -> FloatTensor<Self> {
        composed::adamw::<Self>(param, grad, moment_1, moment_2, update)
    }

    /// The same with moments that are kept as 8-bit codes; arithmetic is done in f32. The provided method works in host
    /// memory: it is right, not fast.
    ///
    /// # Panics
    /// If the moments are those of another number of values.
    fn adamw_8bit(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: &mut Moments8,
        update: AdamWUpdate,
    ) -> FloatTensor<Self> {
        composed::adamw_8bit::<Self>(param, grad, moments, update)
    }

    /// One update of schedule-free AdamW. Returns `y`, at which the gradient was taken; `z` and the second moment are
    /// updated in place.
    ///
    /// The average `x` is never stored, as `x = y + (1 - 1 / beta_1) * (z - y)`:
    ///
    /// ```text
    /// v := beta_2 * v + (1 - beta_2) * g^2
    /// d  = g / (sqrt(v / (1 - beta_2^t)) + eps) + weight_decay * y
    /// y := y + c * (z - y) - lr * (1 - beta_1 * (1 - c)) * d
    /// z := z - lr * d                                 // x := (1 - c) * x + c * z
    /// ```
    fn adamw_schedule_free(
        y: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        z: &mut FloatTensor<Self>,
        moment_2: &mut FloatTensor<Self>,
        update: ScheduleFreeUpdate,
    ) -> FloatTensor<Self> {
        composed::adamw_schedule_free::<Self>(y, grad, z, moment_2, update)
    }
}
