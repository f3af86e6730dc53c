//! Every operation written with plain tensor operations: for backends that have nothing better, and for testing
//! the fused ones.

mod adamw;
mod attention;
mod cache;
mod delta;

pub(super) use adamw::{adamw, adamw_8bit, adamw_schedule_free, square_sum};
pub(super) use attention::{attention, attention_backward};
pub(super) use cache::{cache_copy, cache_write, cached_attention};
pub(super) use delta::{
    cached_conv, cached_delta_rule, causal_conv, causal_conv_backward, delta_rule,
    delta_rule_backward,
};

use super::layout::{GELU_CUBE, GELU_SCALE};
use super::{
    Activation, HeadLayout, HeadScores, Int8Matrix, ModelBackend, Packing, RopeTable, Weight,
};
use burn::tensor::activation::{log_softmax, sigmoid};
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};

/// Scores that the causal mask hides. Finite, so that `0 * score` stays 0 in the backward pass.
const MASKED_SCORE: f32 = -1e30;

pub(in crate::ops) fn wrap<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

pub(in crate::ops) fn unwrap<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Weights in the type in which arithmetic is done; the tensor itself if it has that type already.
fn widened<B: Backend>(weight: Weight<B>, dtype: DType, device: &B::Device) -> Tensor<B, 2> {
    let weight = match weight {
        Weight::Float(weight) => wrap::<B, 2>(weight),
        Weight::Packed(matrix) => {
            let data = TensorData::new(matrix.to_f32(), matrix.shape());
            Tensor::from_data(data, (device, DType::F32))
        }
    };
    if weight.dtype() == dtype {
        weight
    } else {
        weight.cast(dtype)
    }
}

pub(in crate::ops) fn project<B: Backend>(x: FloatTensor<B>, weight: Weight<B>) -> FloatTensor<B> {
    let x = wrap::<B, 2>(x);
    let weight = widened(weight, x.dtype(), &x.device());
    unwrap(x.matmul(weight.transpose()))
}

pub(in crate::ops) fn project_backward<B: Backend>(
    weight: Weight<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let grad = wrap::<B, 2>(grad);
    let weight = widened(weight, grad.dtype(), &grad.device());
    unwrap(grad.matmul(weight))
}

pub(in crate::ops) fn project_backward_weight<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (x, grad) = (wrap::<B, 2>(x), wrap::<B, 2>(grad));
    unwrap(grad.transpose().matmul(x))
}

pub(in crate::ops) fn project_int8<B: Backend>(
    x: FloatTensor<B>,
    weight: &Int8Matrix,
) -> FloatTensor<B> {
    let x = wrap::<B, 2>(x);
    let data = TensorData::new(weight.to_f32(), weight.shape());
    let weight = Tensor::<B, 2>::from_data(data, &x.device()).cast(x.dtype());
    unwrap(x.matmul(weight.transpose()))
}

pub(in crate::ops) fn embed<B: Backend>(weight: Weight<B>, ids: IntTensor<B>) -> FloatTensor<B> {
    match weight {
        Weight::Float(weight) => B::float_select(weight, 0, ids),
        Weight::Packed(matrix) => {
            let ids = Tensor::<B, 1, Int>::from_primitive(ids);
            let device = ids.device();
            let [_, d] = matrix.shape();
            let mut rows = Vec::new();
            for id in ids.into_data().iter::<i64>() {
                let id = id as usize;
                rows.resize(rows.len() + d, 0.0);
                let start = rows.len() - d;
                matrix.widen(id..id + 1, &mut rows[start..]);
            }
            let n = rows.len() / d;
            let data = TensorData::new(rows, [n, d]);
            unwrap(Tensor::<B, 2>::from_data(data, (&device, DType::F32)))
        }
    }
}

pub(in crate::ops) fn embed_backward<B: Backend>(
    d_weight: FloatTensor<B>,
    ids: IntTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_select_add(d_weight, 0, ids, grad)
}

fn rms_scale<B: Backend, const D: usize>(x: Tensor<B, D>, eps: f64) -> Tensor<B, D> {
    x.square().mean_dim(D - 1).add_scalar(eps).sqrt().recip()
}

pub(in crate::ops) fn rms_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f64,
) -> FloatTensor<B> {
    let (x, weight) = (wrap::<B, 2>(x), wrap::<B, 1>(weight));
    let scale = rms_scale(x.clone(), eps);
    unwrap(x * scale * weight.unsqueeze())
}

pub(in crate::ops) fn rms_norm_backward<B: Backend>(
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

pub(in crate::ops) fn rotary<B: Backend>(
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
        let (a, b) = (
            x.clone().narrow(2, 0, half),
            x.clone().narrow(2, half, half),
        );
        let mut parts = vec![
            a.clone() * cos.clone() - b.clone() * sin.clone(),
            b * cos.clone() + a * sin.clone(),
        ];
        let rest = heads.head_dim - 2 * half;
        if rest > 0 {
            parts.push(x.narrow(2, 2 * half, rest));
        }
        Tensor::cat(parts, 2)
    };
    let (queries, keys, values) = split_qkv(qkv, heads);
    join_qkv(rotate(queries), rotate(keys), values)
}

/// `[N, heads, head_dim]` as `[N, groups, width]`.
fn grouped<B: Backend>(x: Tensor<B, 3>, width: usize) -> Tensor<B, 3> {
    let [n, heads, head_dim] = x.dims();
    x.reshape([n, heads * head_dim / width, width])
}

pub(in crate::ops) fn head_norm<B: Backend>(
    qkv: FloatTensor<B>,
    q_weight: FloatTensor<B>,
    k_weight: FloatTensor<B>,
    heads: HeadLayout,
    eps: f64,
) -> FloatTensor<B> {
    let (queries, keys, values) = split_qkv(wrap::<B, 2>(qkv), heads);
    let norm = |x: Tensor<B, 3>, weight: FloatTensor<B>| {
        let weight = wrap::<B, 1>(weight);
        let x = grouped(x, weight.dims()[0]);
        let scale = rms_scale(x.clone(), eps);
        x * scale * weight.unsqueeze()
    };
    join_qkv(norm(queries, q_weight), norm(keys, k_weight), values)
}

pub(in crate::ops) fn head_norm_backward<B: Backend>(
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
        let weight = wrap::<B, 1>(weight);
        let [width] = weight.dims();
        let (x, grad) = (grouped(x, width), grouped(grad, width));
        let (dx, dweight) = normalized_backward(x, weight.unsqueeze(), eps, grad);
        let dweight = dweight.sum_dim(0).sum_dim(1).reshape([width]);
        (dx, unwrap::<B, 1>(dweight))
    };
    let (dq, dq_weight) = back(queries, q_weight, grad_q);
    let (dk, dk_weight) = back(keys, k_weight, grad_k);
    (join_qkv(dq, dk, grad_v), dq_weight, dk_weight)
}

/// `inner(x)` of an activation `x * sigmoid(inner(x))`, and its slope.
fn inner<B: Backend>(x: Tensor<B, 2>, activation: Activation) -> (Tensor<B, 2>, Tensor<B, 2>) {
    match activation {
        Activation::Silu => (x.clone(), x.ones_like()),
        Activation::GeluTanh => {
            let square = x.clone().square().mul_scalar(GELU_CUBE);
            let slope = square.clone().mul_scalar(3.0) + 1.0;
            (
                (x.clone() * (square + 1.0)).mul_scalar(GELU_SCALE),
                slope.mul_scalar(GELU_SCALE),
            )
        }
    }
}

fn split_gate_up<B: Backend>(gate_up: FloatTensor<B>) -> [Tensor<B, 2>; 2] {
    let gate_up = wrap::<B, 2>(gate_up);
    let width = gate_up.dims()[1] / 2;
    [0, width].map(|start| gate_up.clone().narrow(1, start, width))
}

pub(in crate::ops) fn glu<B: Backend>(
    gate_up: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let [gate, up] = split_gate_up::<B>(gate_up);
    let (inner, _) = inner(gate.clone(), activation);
    unwrap(gate * sigmoid(inner) * up)
}

// With s = sigmoid(inner(g)): the slope of g * s is s * (1 + g * (1 - s) * inner'(g)).
pub(in crate::ops) fn glu_backward<B: Backend>(
    gate_up: FloatTensor<B>,
    activation: Activation,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let ([gate, up], grad) = (split_gate_up::<B>(gate_up), wrap::<B, 2>(grad));
    let (inner, inner_slope) = inner(gate.clone(), activation);
    let s = sigmoid(inner);
    let activated = gate.clone() * s.clone();
    let slope = s.clone() * (gate * (s.neg() + 1.0) * inner_slope + 1.0);
    unwrap(Tensor::cat(
        vec![grad.clone() * up * slope, grad * activated],
        1,
    ))
}

pub(in crate::ops) fn token_logprobs<B: Backend>(
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
pub(in crate::ops) fn token_logprobs_backward<B: Backend>(
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

// With p = softmax(logits / t) and H = -sum p log p: d H / d logits = -p * (log p + H) / t.
fn entropy_backward<B: Backend>(
    logits: Tensor<B, 2>,
    temperature: f64,
    grad: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let logprobs = log_softmax(logits.div_scalar(temperature), 1);
    let probs = logprobs.clone().exp();
    let entropy = (probs.clone() * logprobs.clone()).sum_dim(1).neg();
    let grad = grad.div_scalar(temperature).unsqueeze_dim(1);
    probs.neg() * (logprobs + entropy) * grad
}

/// Two tensors `[M]` as one, `[2, M]`.
pub(in crate::ops) fn stack<B: Backend>(
    first: FloatTensor<B>,
    second: FloatTensor<B>,
) -> FloatTensor<B> {
    let rows = vec![wrap::<B, 1>(first), wrap::<B, 1>(second)];
    unwrap(Tensor::stack::<2>(rows, 0))
}

/// The inverse of [`stack`].
pub(in crate::ops) fn unstack<B: Backend>(both: FloatTensor<B>) -> [FloatTensor<B>; 2] {
    let both = wrap::<B, 2>(both);
    [0, 1].map(|row| unwrap(both.clone().narrow(0, row, 1).squeeze_dim::<1>(0)))
}

/// Row ranges of `[m, v]` logits of which each has at most `max_logits`, or one row.
fn logit_chunks(m: usize, v: usize, max_logits: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = (max_logits / v.max(1)).max(1);
    (0..m)
        .step_by(rows)
        .map(move |start| (start, rows.min(m - start)))
}

pub(in crate::ops) fn head_logprobs<B: ModelBackend>(
    hidden: FloatTensor<B>,
    head: Weight<B>,
    targets: IntTensor<B>,
    temperature: f64,
    max_logits: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let hidden = wrap::<B, 2>(hidden);
    let head = widened(head, hidden.dtype(), &hidden.device());
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

pub(in crate::ops) fn head_logprobs_backward<B: ModelBackend>(
    hidden: FloatTensor<B>,
    head: Weight<B>,
    targets: IntTensor<B>,
    temperature: f64,
    max_logits: usize,
    scores: HeadScores<B>,
    is_trained: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let hidden = wrap::<B, 2>(hidden);
    let head = widened(head, hidden.dtype(), &hidden.device());
    let grad = wrap::<B, 1>(scores.grad);
    let entropy_grad = scores.entropy.map(|(_, grad)| wrap::<B, 1>(grad));
    let targets = Tensor::<B, 1, Int>::from_primitive(targets);
    let ([m, _], [v, _]) = (hidden.dims(), head.dims());
    let mut d_hidden = Vec::new();
    let mut d_head: Option<Tensor<B, 2>> = None;
    for (start, n) in logit_chunks(m, v, max_logits) {
        let part = hidden.clone().narrow(0, start, n);
        let logits = part.clone().matmul(head.clone().transpose());
        let of_entropy = entropy_grad.as_ref().map(|grad| {
            let grad = grad.clone().narrow(0, start, n);
            entropy_backward(logits.clone(), temperature, grad)
        });
        let d_logits = wrap::<B, 2>(B::token_logprobs_backward(
            unwrap(logits),
            targets.clone().narrow(0, start, n).into_primitive(),
            temperature,
            unwrap(grad.clone().narrow(0, start, n)),
        ));
        let d_logits = match of_entropy {
            Some(of_entropy) => d_logits + of_entropy,
            None => d_logits,
        };
        d_hidden.push(d_logits.clone().matmul(head.clone()));
        if is_trained {
            let d_part = d_logits.transpose().matmul(part);
            d_head = Some(match d_head {
                Some(sum) => sum + d_part,
                None => d_part,
            });
        }
    }
    (unwrap(Tensor::cat(d_hidden, 0)), d_head.map(unwrap))
}
