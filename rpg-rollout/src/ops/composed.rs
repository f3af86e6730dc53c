//! Every operation written with plain tensor operations: what any backend runs that has no better, and
//! what the fused ones are tested against.

use super::{AdamWUpdate, CacheRows, HeadLayout, ModelBackend, Packing, RopeTable};
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, TensorPrimitive};

/// Scores behind the causal mask. Finite, so that `0 * score` stays 0 in the backward pass.
const MASKED_SCORE: f32 = -1e30;

pub(super) fn wrap<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

pub(super) fn unwrap<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn rms_scale<B: Backend, const D: usize>(x: Tensor<B, D>, eps: f64) -> Tensor<B, D> {
    x.square().mean_dim(D - 1).add_scalar(eps).sqrt().recip()
}

pub(super) fn rms_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f64,
) -> FloatTensor<B> {
    let (x, weight) = (wrap::<B, 2>(x), wrap::<B, 1>(weight));
    let scale = rms_scale(x.clone(), eps);
    unwrap(x * scale * weight.unsqueeze())
}

pub(super) fn rms_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f64,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let weight = wrap::<B, 1>(weight);
    let (dx, dweight) =
        normalized_backward(wrap::<B, 2>(x), weight.unsqueeze(), eps, wrap::<B, 2>(grad));
    (
        unwrap(dx),
        unwrap::<B, 1>(dweight.sum_dim(0).squeeze_dim(0)),
    )
}

// With s = 1/rms(x) and g = grad * weight: dx = s * (g - x * s^2 * mean(g * x)); the second result is
// grad * x * s, whose sum over rows is the gradient of the weight.
fn normalized_backward<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, D>,
    eps: f64,
    grad: Tensor<B, D>,
) -> (Tensor<B, D>, Tensor<B, D>) {
    let scale = rms_scale(x.clone(), eps);
    let weighted = grad.clone() * weight;
    let projection = (weighted.clone() * x.clone()).mean_dim(D - 1);
    let dx = (weighted - x.clone() * scale.clone().square() * projection) * scale.clone();
    (dx, grad * x * scale)
}

/// Splits `[N, W]` into queries, keys (`[N, heads, head_dim]`) and values (`[N, kv_width]`).
fn split_qkv<B: Backend>(
    qkv: Tensor<B, 2>,
    heads: HeadLayout,
) -> (Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 2>) {
    let n = qkv.dims()[0];
    let (q, kv) = (heads.q_width(), heads.kv_width());
    let queries = qkv
        .clone()
        .narrow(1, 0, q)
        .reshape([n, heads.n_heads, heads.head_dim]);
    let keys = qkv
        .clone()
        .narrow(1, q, kv)
        .reshape([n, heads.n_kv_heads, heads.head_dim]);
    (queries, keys, qkv.narrow(1, q + kv, kv))
}

fn join_qkv<B: Backend>(
    queries: Tensor<B, 3>,
    keys: Tensor<B, 3>,
    values: Tensor<B, 2>,
) -> FloatTensor<B> {
    let n = values.dims()[0] as i32;
    unwrap(Tensor::cat(
        vec![queries.reshape([n, -1]), keys.reshape([n, -1]), values],
        1,
    ))
}

pub(super) fn rotary<B: Backend>(
    qkv: FloatTensor<B>,
    heads: HeadLayout,
    rope: &RopeTable,
    packing: &Packing,
    direction: f32,
) -> FloatTensor<B> {
    let qkv = wrap::<B, 2>(qkv);
    let (device, dtype) = (qkv.device(), qkv.dtype());
    let (half, positions) = (rope.half(), packing.positions());
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for &position in positions {
        let (c, s) = rope.at(position);
        cos.extend(c);
        sin.extend(s.iter().map(|x| x * direction));
    }
    let table = |values: Vec<f32>| {
        let data = TensorData::new(values, [positions.len(), 1, half]);
        Tensor::<B, 3>::from_data(data.convert_dtype(dtype), (&device, dtype))
    };
    let (cos, sin) = (table(cos), table(sin));
    let rotate = |x: Tensor<B, 3>| {
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        Tensor::cat(
            vec![
                a.clone() * cos.clone() - b.clone() * sin.clone(),
                b * cos.clone() + a * sin.clone(),
            ],
            2,
        )
    };
    let (queries, keys, values) = split_qkv(qkv, heads);
    join_qkv(rotate(queries), rotate(keys), values)
}

pub(super) fn head_norm<B: Backend>(
    qkv: FloatTensor<B>,
    q_weight: FloatTensor<B>,
    k_weight: FloatTensor<B>,
    heads: HeadLayout,
    eps: f64,
) -> FloatTensor<B> {
    let (queries, keys, values) = split_qkv(wrap::<B, 2>(qkv), heads);
    let norm = |x: Tensor<B, 3>, weight: FloatTensor<B>| {
        let scale = rms_scale(x.clone(), eps);
        x * scale * wrap::<B, 1>(weight).unsqueeze()
    };
    join_qkv(norm(queries, q_weight), norm(keys, k_weight), values)
}

pub(super) fn head_norm_backward<B: Backend>(
    qkv: FloatTensor<B>,
    q_weight: FloatTensor<B>,
    k_weight: FloatTensor<B>,
    heads: HeadLayout,
    eps: f64,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (queries, keys, _) = split_qkv(wrap::<B, 2>(qkv), heads);
    let (grad_q, grad_k, grad_v) = split_qkv(wrap::<B, 2>(grad), heads);
    let back = |x: Tensor<B, 3>, weight: FloatTensor<B>, grad: Tensor<B, 3>| {
        let (dx, dweight) = normalized_backward(x, wrap::<B, 1>(weight).unsqueeze(), eps, grad);
        let dweight = dweight.sum_dim(0).sum_dim(1).reshape([heads.head_dim]);
        (dx, unwrap::<B, 1>(dweight))
    };
    let (dq, dq_weight) = back(queries, q_weight, grad_q);
    let (dk, dk_weight) = back(keys, k_weight, grad_k);
    (join_qkv(dq, dk, grad_v), dq_weight, dk_weight)
}

/// Moves between packed rows and padded `[S, L]` blocks.
struct Padding<B: Backend> {
    n_sequences: usize,
    max_len: usize,
    to_padded: Tensor<B, 1, Int>,
    to_packed: Tensor<B, 1, Int>,
    future: Tensor<B, 2, Bool>,
}

impl<B: Backend> Padding<B> {
    fn new(packing: &Packing, device: &Device<B>) -> Self {
        let (n_sequences, max_len) = (packing.n_sequences(), packing.max_len());
        let mut to_padded = vec![0i32; n_sequences * max_len];
        let mut to_packed = Vec::with_capacity(packing.n_tokens());
        for (s, range) in packing.ranges().enumerate() {
            for (i, token) in range.enumerate() {
                to_padded[s * max_len + i] = token as i32;
                to_packed.push((s * max_len + i) as i32);
            }
        }
        // Padding stands behind every sequence, so the causal mask hides it from real queries.
        let future = Tensor::<B, 2, Int>::ones([max_len, max_len], device)
            .triu(1)
            .bool();
        Self {
            n_sequences,
            max_len,
            to_padded: Tensor::from_data(TensorData::from(to_padded.as_slice()), device),
            to_packed: Tensor::from_data(TensorData::from(to_packed.as_slice()), device),
            future,
        }
    }

    // [N, h * d] -> [S, h, L, d]
    fn pad(&self, x: Tensor<B, 2>, head_dim: usize) -> Tensor<B, 4> {
        let n_heads = x.dims()[1] / head_dim;
        x.select(0, self.to_padded.clone())
            .reshape([self.n_sequences, self.max_len, n_heads, head_dim])
            .swap_dims(1, 2)
    }

    // [S, h, L, d] -> [N, h * d]
    fn pack(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
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
fn scores<B: Backend>(qkv: Tensor<B, 2>, heads: HeadLayout, padding: &Padding<B>) -> Scores<B> {
    let (q, kv, d) = (heads.q_width(), heads.kv_width(), heads.head_dim);
    let queries = padding.pad(qkv.clone().narrow(1, 0, q), d);
    let keys = repeat_heads(padding.pad(qkv.clone().narrow(1, q, kv), d), heads.group());
    let values = repeat_heads(padding.pad(qkv.narrow(1, q + kv, kv), d), heads.group());
    let scores = queries
        .clone()
        .matmul(keys.clone().swap_dims(2, 3))
        .mul_scalar(heads.scale())
        .mask_fill(padding.future.clone().unsqueeze(), MASKED_SCORE);
    Scores {
        queries,
        keys,
        values,
        scores,
    }
}

// [S, kv, L, d] -> [S, kv * group, L, d]
fn repeat_heads<B: Backend>(x: Tensor<B, 4>, group: usize) -> Tensor<B, 4> {
    let [s, kv, l, d] = x.dims();
    x.unsqueeze_dim::<5>(2)
        .repeat_dim(2, group)
        .reshape([s, kv * group, l, d])
}

// The gradient of `repeat_heads`.
fn sum_heads<B: Backend>(x: Tensor<B, 4>, group: usize) -> Tensor<B, 4> {
    let [s, h, l, d] = x.dims();
    x.reshape([s, h / group, group, l, d])
        .sum_dim(2)
        .reshape([s, h / group, l, d])
}

pub(super) fn attention<B: Backend>(
    qkv: FloatTensor<B>,
    heads: HeadLayout,
    packing: &Packing,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let qkv = wrap::<B, 2>(qkv);
    let padding = Padding::new(packing, &qkv.device());
    let Scores { values, scores, .. } = scores(qkv, heads, &padding);
    let max = scores.clone().max_dim(3);
    let weights = (scores - max.clone()).exp();
    let total = weights.clone().sum_dim(3);
    let output = weights.matmul(values) / total.clone();
    let lse = max + total.log();
    (unwrap(padding.pack(output)), unwrap(padding.pack(lse)))
}

// With P the attention weights: dV = P'dO, dP = dO V', dS = P * (dP - rowsum(dO * O)) (FlashAttention,
// Dao et al. 2022, appendix B).
pub(super) fn attention_backward<B: Backend>(
    qkv: FloatTensor<B>,
    output: FloatTensor<B>,
    lse: FloatTensor<B>,
    heads: HeadLayout,
    packing: &Packing,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let qkv = wrap::<B, 2>(qkv);
    let padding = Padding::new(packing, &qkv.device());
    let Scores {
        queries,
        keys,
        values,
        scores,
    } = scores(qkv, heads, &padding);
    let output = padding.pad(wrap::<B, 2>(output), heads.head_dim);
    let lse = padding.pad(wrap::<B, 2>(lse), 1);
    // A padded row repeats token 0; it must not contribute, so its gradient is set to zero.
    let grad = padding.pad(wrap::<B, 2>(grad), heads.head_dim);
    let grad = grad.clone() * padding.real_rows(packing, grad.dtype());
    let weights = (scores - lse).exp();
    let delta = (grad.clone() * output).sum_dim(3);
    let d_values = weights.clone().swap_dims(2, 3).matmul(grad.clone());
    let d_weights = grad.matmul(values.swap_dims(2, 3));
    let d_scores = (weights * (d_weights - delta)).mul_scalar(heads.scale());
    let d_queries = d_scores.clone().matmul(keys);
    let d_keys = d_scores.swap_dims(2, 3).matmul(queries);
    let group = heads.group();
    unwrap(Tensor::cat(
        vec![
            padding.pack(d_queries),
            padding.pack(sum_heads(d_keys, group)),
            padding.pack(sum_heads(d_values, group)),
        ],
        1,
    ))
}

impl<B: Backend> Padding<B> {
    // 1 where a row of a padded block is a token, 0 where it is padding: [S, 1, L, 1].
    fn real_rows(&self, packing: &Packing, dtype: DType) -> Tensor<B, 4> {
        let mut real = vec![0f32; self.n_sequences * self.max_len];
        for (s, range) in packing.ranges().enumerate() {
            real[s * self.max_len..][..range.len()].fill(1.0);
        }
        let data = TensorData::new(real, [self.n_sequences, 1, self.max_len, 1]);
        Tensor::from_data(data.convert_dtype(dtype), (&self.to_packed.device(), dtype))
    }
}

pub(super) fn swiglu<B: Backend>(gate_up: FloatTensor<B>) -> FloatTensor<B> {
    let gate_up = wrap::<B, 2>(gate_up);
    let width = gate_up.dims()[1] / 2;
    let (gate, up) = (
        gate_up.clone().narrow(1, 0, width),
        gate_up.narrow(1, width, width),
    );
    unwrap(burn::tensor::activation::silu(gate) * up)
}

// silu'(g) = s * (1 + g * (1 - s)) with s = sigmoid(g).
pub(super) fn swiglu_backward<B: Backend>(
    gate_up: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (gate_up, grad) = (wrap::<B, 2>(gate_up), wrap::<B, 2>(grad));
    let width = gate_up.dims()[1] / 2;
    let (gate, up) = (
        gate_up.clone().narrow(1, 0, width),
        gate_up.narrow(1, width, width),
    );
    let sigmoid = burn::tensor::activation::sigmoid(gate.clone());
    let silu = gate.clone() * sigmoid.clone();
    let slope = sigmoid.clone() * (gate * (sigmoid.neg() + 1.0) + 1.0);
    unwrap(Tensor::cat(vec![grad.clone() * up * slope, grad * silu], 1))
}

pub(super) fn token_logprobs<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    temperature: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let logits = wrap::<B, 2>(logits);
    let m = logits.dims()[0];
    let targets = Tensor::<B, 1, Int>::from_primitive(targets).reshape([m, 1]);
    let logprobs = log_softmax(logits.div_scalar(temperature), 1);
    let picked = logprobs.clone().gather(1, targets).reshape([m]);
    let entropy = (logprobs.clone().exp() * logprobs)
        .sum_dim(1)
        .neg()
        .reshape([m]);
    (unwrap::<B, 1>(picked), unwrap::<B, 1>(entropy))
}

// d lp / d logits = (onehot(target) - softmax(logits / t)) / t.
pub(super) fn token_logprobs_backward<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    temperature: f64,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (logits, grad) = (wrap::<B, 2>(logits), wrap::<B, 1>(grad));
    let m = logits.dims()[0];
    let grad = grad.div_scalar(temperature).reshape([m, 1]);
    let targets = Tensor::<B, 1, Int>::from_primitive(targets).reshape([m, 1]);
    let probs = log_softmax(logits.div_scalar(temperature), 1).exp();
    let dense = probs.neg() * grad.clone();
    unwrap(dense.scatter(1, targets, grad, burn::tensor::IndexingUpdateOp::Add))
}

/// Row ranges of `[m, v]` logits of which each has at most `max_logits`, or one row.
fn logit_chunks(m: usize, v: usize, max_logits: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = (max_logits / v.max(1)).max(1);
    (0..m)
        .step_by(rows)
        .map(move |start| (start, rows.min(m - start)))
}

pub(super) fn head_logprobs<B: ModelBackend>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    temperature: f64,
    max_logits: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (hidden, head) = (wrap::<B, 2>(hidden), wrap::<B, 2>(head));
    let targets = Tensor::<B, 1, Int>::from_primitive(targets);
    let ([m, _], [v, _]) = (hidden.dims(), head.dims());
    let (logprobs, entropy) = logit_chunks(m, v, max_logits)
        .map(|(start, n)| {
            let logits = hidden
                .clone()
                .narrow(0, start, n)
                .matmul(head.clone().transpose());
            let targets = targets.clone().narrow(0, start, n).into_primitive();
            let (logprobs, entropy) = B::token_logprobs(unwrap(logits), targets, temperature);
            (wrap::<B, 1>(logprobs), wrap::<B, 1>(entropy))
        })
        .unzip();
    (
        unwrap(Tensor::cat(logprobs, 0)),
        unwrap(Tensor::cat(entropy, 0)),
    )
}

pub(super) fn head_logprobs_backward<B: ModelBackend>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    temperature: f64,
    max_logits: usize,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (hidden, head, grad) = (wrap::<B, 2>(hidden), wrap::<B, 2>(head), wrap::<B, 1>(grad));
    let targets = Tensor::<B, 1, Int>::from_primitive(targets);
    let ([m, _], [v, _]) = (hidden.dims(), head.dims());
    let mut d_hidden = Vec::new();
    let mut d_head: Option<Tensor<B, 2>> = None;
    for (start, n) in logit_chunks(m, v, max_logits) {
        let part = hidden.clone().narrow(0, start, n);
        let logits = part.clone().matmul(head.clone().transpose());
        let d_logits = wrap::<B, 2>(B::token_logprobs_backward(
            unwrap(logits),
            targets.clone().narrow(0, start, n).into_primitive(),
            temperature,
            unwrap(grad.clone().narrow(0, start, n)),
        ));
        d_hidden.push(d_logits.clone().matmul(head.clone()));
        let d_part = d_logits.transpose().matmul(part);
        d_head = Some(match d_head {
            Some(sum) => sum + d_part,
            None => d_part,
        });
    }
    let d_head = d_head.unwrap_or_else(|| head.zeros_like());
    (unwrap(Tensor::cat(d_hidden, 0)), unwrap(d_head))
}

// Row of position `p` of head `h` of slot `s` in a cache seen as [slots * heads * capacity, head_dim].
fn cache_indices<B: Backend>(
    rows: &CacheRows,
    n_heads: usize,
    capacity: usize,
    device: &Device<B>,
) -> Tensor<B, 1, Int> {
    let indices: Vec<i32> = (0..rows.slots.len())
        .flat_map(|i| {
            let (slot, position) = rows.of(i);
            (0..n_heads).map(move |h| ((slot * n_heads + h) * capacity + position) as i32)
        })
        .collect();
    Tensor::from_data(TensorData::from(indices.as_slice()), device)
}

pub(super) fn cache_write<B: Backend>(
    keys: &mut FloatTensor<B>,
    values: &mut FloatTensor<B>,
    qkv: FloatTensor<B>,
    heads: HeadLayout,
    rows: &CacheRows,
) {
    let qkv = wrap::<B, 2>(qkv);
    let n = qkv.dims()[0];
    let (q, kv) = (heads.q_width(), heads.kv_width());
    for (cache, start) in [(keys, q), (values, q + kv)] {
        let old = wrap::<B, 4>(cache.clone());
        let shape = old.dims();
        let indices = cache_indices::<B>(rows, heads.n_kv_heads, shape[2], &qkv.device());
        let flat = old.reshape([shape[0] * shape[1] * shape[2], shape[3]]);
        let new = qkv
            .clone()
            .narrow(1, start, kv)
            .reshape([n * heads.n_kv_heads, heads.head_dim]);
        // Burn's indexed assignment adds; adding the difference overwrites.
        let change = new - flat.clone().select(0, indices.clone());
        let flat = flat.select_assign(0, indices, change, burn::tensor::IndexingUpdateOp::Add);
        *cache = unwrap(flat.reshape(shape));
    }
}

pub(super) fn cache_copy<B: Backend>(
    cache: &mut FloatTensor<B>,
    from: usize,
    to: &[usize],
    len: usize,
) {
    let mut tensor = wrap::<B, 4>(cache.clone());
    let [_, h, _, d] = tensor.dims();
    let prefix = tensor.clone().slice([from..from + 1, 0..h, 0..len, 0..d]);
    for &slot in to {
        tensor = tensor.slice_assign([slot..slot + 1, 0..h, 0..len, 0..d], prefix.clone());
    }
    *cache = unwrap(tensor);
}

pub(super) fn cached_attention<B: Backend>(
    qkv: FloatTensor<B>,
    keys: &FloatTensor<B>,
    values: &FloatTensor<B>,
    heads: HeadLayout,
    rows: &CacheRows,
) -> FloatTensor<B> {
    let qkv = wrap::<B, 2>(qkv);
    let device = qkv.device();
    let n = qkv.dims()[0];
    let (keys, values) = (wrap::<B, 4>(keys.clone()), wrap::<B, 4>(values.clone()));
    let [_, kv_heads, capacity, d] = keys.dims();
    let longest = rows.positions.iter().max().map_or(0, |&p| p as usize + 1);
    // Lengths in steps of 64 keep the number of distinct kernel shapes small on GPUs.
    let visible = longest.next_multiple_of(64).min(capacity);
    let slots: Vec<i32> = rows.slots.iter().map(|&slot| slot as i32).collect();
    let slots = Tensor::<B, 1, Int>::from_data(TensorData::from(slots.as_slice()), &device);
    let filled = |cache: Tensor<B, 4>| {
        cache.narrow(2, 0, visible).select(0, slots.clone()) // [N, kv, visible, d]
    };
    let positions: Vec<i32> = rows.positions.iter().map(|&p| p as i32).collect();
    let positions = Tensor::<B, 1, Int>::from_data(TensorData::from(positions.as_slice()), &device)
        .reshape([n, 1, 1, 1]);
    let hidden = Tensor::<B, 1, Int>::arange(0..visible as i64, &device)
        .reshape([1, 1, 1, visible])
        .greater(positions);
    let queries = qkv
        .narrow(1, 0, heads.q_width())
        .reshape([n, kv_heads, heads.group(), d]);
    let scores = queries
        .matmul(filled(keys).swap_dims(2, 3))
        .mul_scalar(heads.scale())
        .mask_fill(hidden, MASKED_SCORE);
    let weights = burn::tensor::activation::softmax(scores, 3);
    unwrap(weights.matmul(filled(values)).reshape([n, heads.q_width()]))
}

pub(super) fn adamw<B: Backend>(
    param: FloatTensor<B>,
    grad: FloatTensor<B>,
    moment_1: &mut FloatTensor<B>,
    moment_2: &mut FloatTensor<B>,
    update: AdamWUpdate,
) -> FloatTensor<B> {
    // The rank does not matter to an element-wise update.
    let shape = burn::tensor::TensorMetadata::shape(&param);
    let flat = |primitive: FloatTensor<B>| {
        wrap::<B, 1>(B::float_reshape(primitive, [shape.num_elements()].into()))
    };
    let back = |tensor: Tensor<B, 1>| B::float_reshape(unwrap(tensor), shape.clone());
    let (param, grad) = (flat(param), flat(grad).mul_scalar(update.grad_scale));
    let m = flat(moment_1.clone()).mul_scalar(update.beta_1)
        + grad.clone().mul_scalar(1.0 - update.beta_1);
    let v = flat(moment_2.clone()).mul_scalar(update.beta_2)
        + grad.square().mul_scalar(1.0 - update.beta_2);
    let (m_correction, v_correction) = update.bias_corrections();
    let denominator = v
        .clone()
        .div_scalar(v_correction)
        .sqrt()
        .add_scalar(update.eps);
    let step = m.clone().div_scalar(m_correction) / denominator;
    let param =
        param.mul_scalar(1.0 - update.lr * update.weight_decay) - step.mul_scalar(update.lr);
    *moment_1 = back(m);
    *moment_2 = back(v);
    back(param)
}

impl AdamWUpdate {
    /// `1 - beta^time` of both moments.
    pub(super) fn bias_corrections(&self) -> (f32, f32) {
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(self.time as i32)) as f32;
        (correction(self.beta_1), correction(self.beta_2))
    }
}
