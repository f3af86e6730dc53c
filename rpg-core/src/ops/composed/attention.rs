//! Causal attention over packed sequences, through padded blocks.

use super::{MASKED_SCORE, unwrap, wrap};
use crate::ops::{Attention, Packing};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Bool, DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Moves between packed rows and padded `[S, L]` blocks. A row of a block has the tokens that the sequence goes on from, and
/// then its own.
pub(super) struct Padding<B: Backend> {
    n_sequences: usize,
    max_len: usize,
    to_padded: Tensor<B, 1, Int>,
    to_packed: Tensor<B, 1, Int>,
    hidden: Tensor<B, 2, Bool>,
}

impl<B: Backend> Padding<B> {
    pub(super) fn new(packing: &Packing, window: Option<usize>, device: &Device<B>) -> Self {
        let (n_sequences, max_len) = (packing.n_sequences(), packing.max_len());
        let mut to_padded = vec![0i32; n_sequences * max_len];
        let mut to_packed = Vec::with_capacity(packing.n_tokens());
        for (s, range) in packing.ranges().enumerate() {
            let prefix = packing.prefix(s);
            to_packed.extend((0..range.len()).map(|i| (s * max_len + prefix.len() + i) as i32));
            for (i, token) in prefix.chain(range).enumerate() {
                to_padded[s * max_len + i] = token as i32;
            }
        }
        // Padding comes after every sequence, so the causal mask hides it from real queries.
        let ones = Tensor::<B, 2, Int>::ones([max_len, max_len], device);
        let future = ones.clone().triu(1);
        let hidden = match window {
            Some(window) if window < max_len => future + ones.tril(-(window as i64)),
            _ => future,
        };
        Self {
            n_sequences,
            max_len,
            to_padded: Tensor::from_data(TensorData::from(to_padded.as_slice()), device),
            to_packed: Tensor::from_data(TensorData::from(to_packed.as_slice()), device),
            hidden: hidden.bool(),
        }
    }

    // [N, h * d] -> [S, h, L, d]
    pub(super) fn pad(&self, x: Tensor<B, 2>, head_dim: usize) -> Tensor<B, 4> {
        let n_heads = x.dims()[1] / head_dim;
        x.select(0, self.to_padded.clone())
            .reshape([self.n_sequences, self.max_len, n_heads, head_dim])
            .swap_dims(1, 2)
    }

    /// The gradient of [`pad`](Self::pad), where rows of padding have none: what each row of the blocks got is added to the
    /// token that it came from.
    fn unpad(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let [s, h, l, d] = x.dims();
        let rows = x.swap_dims(1, 2).reshape([s * l, h * d]);
        let [n_tokens] = self.to_packed.dims();
        let zeros = Tensor::zeros([n_tokens, h * d], (&rows.device(), rows.dtype()));
        zeros.select_assign(0, self.to_padded.clone(), rows, IndexingUpdateOp::Add)
    }

    // [S, h, L, d] -> [N, h * d]
    pub(super) fn pack(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let [s, h, l, d] = x.dims();
        x.swap_dims(1, 2)
            .reshape([s * l, h * d])
            .select(0, self.to_packed.clone())
    }
}

struct Scores<B: Backend> {
    queries: Tensor<B, 4>,
    keys: Tensor<B, 4>,
    values: Tensor<B, 4>,
    scores: Tensor<B, 4>,
}

// Key and value heads are repeated to the query heads they serve.
fn scores<B: Backend>(qkv: Tensor<B, 2>, attention: Attention, padding: &Padding<B>) -> Scores<B> {
    let heads = attention.heads;
    let (q, kv, d) = (heads.q_width(), heads.kv_width(), heads.head_dim);
    let queries = padding.pad(qkv.clone().narrow(1, 0, q), d);
    let keys = repeat_heads(padding.pad(qkv.clone().narrow(1, q, kv), d), heads.group());
    let values = repeat_heads(padding.pad(qkv.narrow(1, q + kv, kv), d), heads.group());
    let scores = queries
        .clone()
        .matmul(keys.clone().swap_dims(2, 3))
        .mul_scalar(attention.scale)
        .mask_fill(padding.hidden.clone().unsqueeze(), MASKED_SCORE);
    Scores {
        queries,
        keys,
        values,
        scores,
    }
}

// [S, kv, L, d] -> [S, kv * group, L, d]
pub(super) fn repeat_heads<B: Backend>(x: Tensor<B, 4>, group: usize) -> Tensor<B, 4> {
    let [s, kv, l, d] = x.dims();
    x.unsqueeze_dim::<5>(2)
        .repeat_dim(2, group)
        .reshape([s, kv * group, l, d])
}

// The gradient of `repeat_heads`.
pub(super) fn sum_heads<B: Backend>(x: Tensor<B, 4>, group: usize) -> Tensor<B, 4> {
    let [s, h, l, d] = x.dims();
    x.reshape([s, h / group, group, l, d])
        .sum_dim(2)
        .reshape([s, h / group, l, d])
}

pub(in crate::ops) fn attention<B: Backend>(
    qkv: FloatTensor<B>,
    attention: Attention,
    packing: &Packing,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let qkv = wrap::<B, 2>(qkv);
    let padding = Padding::new(packing, attention.window, &qkv.device());
    let Scores { values, scores, .. } = scores(qkv, attention, &padding);
    let max = scores.clone().max_dim(3);
    let weights = (scores - max.clone()).exp();
    let total = weights.clone().sum_dim(3);
    let output = weights.matmul(values) / total.clone();
    let lse = max + total.log();
    (unwrap(padding.pack(output)), unwrap(padding.pack(lse)))
}

// With P the attention weights: dV = P'dO, dP = dO V', dS = P * (dP - rowsum(dO * O)) (FlashAttention,
// Dao et al. 2022, appendix B).
pub(in crate::ops) fn attention_backward<B: Backend>(
    qkv: FloatTensor<B>,
    output: FloatTensor<B>,
    lse: FloatTensor<B>,
    attention: Attention,
    packing: &Packing,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (qkv, heads) = (wrap::<B, 2>(qkv), attention.heads);
    let padding = Padding::new(packing, attention.window, &qkv.device());
    let Scores {
        queries,
        keys,
        values,
        scores,
    } = scores(qkv, attention, &padding);
    let output = padding.pad(wrap::<B, 2>(output), heads.head_dim);
    let lse = padding.pad(wrap::<B, 2>(lse), 1);
    // Rows of padding repeat token 0, and those of a prefix are those of another sequence: they have no gradient here.
    let grad = padding.pad(wrap::<B, 2>(grad), heads.head_dim);
    let grad = grad.clone() * padding.real_rows(packing, grad.dtype());
    let weights = (scores - lse).exp();
    let delta = (grad.clone() * output).sum_dim(3);
    let d_values = weights.clone().swap_dims(2, 3).matmul(grad.clone());
    let d_weights = grad.matmul(values.swap_dims(2, 3));
    let d_scores = (weights * (d_weights - delta)).mul_scalar(attention.scale);
    let d_queries = d_scores.clone().matmul(keys);
    let d_keys = d_scores.swap_dims(2, 3).matmul(queries);
    let group = heads.group();
    unwrap(Tensor::cat(
        vec![
            padding.pack(d_queries),
            padding.unpad(sum_heads(d_keys, group)),
            padding.unpad(sum_heads(d_values, group)),
        ],
        1,
    ))
}

impl<B: Backend> Padding<B> {
    // 1 where a row of a padded block is a token of the sequence's own, else 0: [S, 1, L, 1].
    pub(super) fn real_rows(&self, packing: &Packing, dtype: DType) -> Tensor<B, 4> {
        let mut real = vec![0f32; self.n_sequences * self.max_len];
        for (s, range) in packing.ranges().enumerate() {
            real[s * self.max_len + packing.prefix(s).len()..][..range.len()].fill(1.0);
        }
        let data = TensorData::new(real, [self.n_sequences, 1, self.max_len, 1]);
        Tensor::from_data(data.convert_dtype(dtype), (&self.to_packed.device(), dtype))
    }
}
