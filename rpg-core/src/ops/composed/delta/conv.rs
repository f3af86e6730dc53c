//! The convolution: sums of rows that lie some tokens apart.

use super::{replaced, rows};
use crate::ops::Packing;
use crate::ops::composed::{unwrap, wrap};
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, s};

/// For each token the row `lag` tokens before it, or the row of zeros, which is the last.
fn before(packing: &Packing, lag: usize) -> Vec<i32> {
    let zero = packing.n_tokens() as i32;
    let of = |range: std::ops::Range<usize>| {
        (0..range.len()).map(move |i| match i.checked_sub(lag) {
            Some(i) => (range.start + i) as i32,
            None => zero,
        })
    };
    packing.ranges().flat_map(of).collect()
}

/// The same for the row after it.
fn after(packing: &Packing, lag: usize) -> Vec<i32> {
    let zero = packing.n_tokens() as i32;
    let of = |range: std::ops::Range<usize>| {
        range.clone().map(move |i| match i + lag {
            row if row < range.end => row as i32,
            _ => zero,
        })
    };
    packing.ranges().flat_map(of).collect()
}

fn with_zeros<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let [_, c] = x.dims();
    let zeros = Tensor::zeros([1, c], (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], 0)
}

/// What the kernel has for each lag: `[1, C]`.
fn of_lag<B: Backend>(weight: &Tensor<B, 2>, lag: usize) -> Tensor<B, 2> {
    let [_, k] = weight.dims();
    weight.clone().narrow(1, k - 1 - lag, 1).transpose()
}

/// The sums before the activation, of rows of `x` that `ids` names for each lag.
fn sums<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    ids: impl Fn(usize) -> Vec<i32>,
) -> Tensor<B, 2> {
    let [_, k] = weight.dims();
    let term = |lag| rows(x.clone(), ids(lag)) * of_lag(weight, lag);
    (1..k).fold(term(0), |sum, lag| sum + term(lag))
}

fn silu<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.clone() * sigmoid(x)
}

pub(in crate::ops) fn causal_conv<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    packing: &Packing,
) -> FloatTensor<B> {
    let (x, weight) = (with_zeros(wrap::<B, 2>(x)), wrap::<B, 2>(weight));
    unwrap(silu(sums(&x, &weight, |lag| before(packing, lag))))
}

pub(in crate::ops) fn causal_conv_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    packing: &Packing,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (x, weight) = (with_zeros(wrap::<B, 2>(x)), wrap::<B, 2>(weight));
    let [_, k] = weight.dims();
    let z = sums(&x, &weight, |lag| before(packing, lag));
    // The slope of z * s with s = sigmoid(z).
    let s = sigmoid(z.clone());
    let grad = wrap::<B, 2>(grad) * s.clone() * (z * (s.neg() + 1.0) + 1.0);
    let of_weight = |lag: usize| {
        let product = rows(x.clone(), before(packing, lag)) * grad.clone();
        product.sum_dim(0).transpose()
    };
    let d_weight = Tensor::cat((0..k).rev().map(of_weight).collect(), 1);
    let dx = sums(&with_zeros(grad), &weight, |lag| after(packing, lag));
    (unwrap(dx), unwrap(d_weight))
}

pub(in crate::ops) fn cached_conv<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    inputs: &mut FloatTensor<B>,
    packing: &Packing,
    slots: &[usize],
) -> FloatTensor<B> {
    let (x, weight) = (wrap::<B, 2>(x), wrap::<B, 2>(weight));
    let cache = wrap::<B, 4>(inputs.clone());
    let ([n_slots, _, kept, c], n) = (cache.dims(), packing.n_tokens());
    let held = cache.clone().slice(s![.., 0, .., ..]);
    let x = Tensor::cat(vec![with_zeros(x), held.reshape([n_slots * kept, c])], 0);
    // The row of a token of a sequence, counted from its first here, or that many before it.
    let row = |s: usize, i: isize| {
        let range = packing.range(s);
        let is_new = packing.positions()[range.start] == 0;
        match usize::try_from(i) {
            Ok(i) => range.start + i,
            Err(_) if is_new => n,
            Err(_) => n + 1 + slots[s] * kept + kept - i.unsigned_abs(),
        }
    };
    let all = || 0..packing.n_sequences();
    let y = sums(&x, &weight, |lag| {
        let of = |s| {
            let tokens = 0..packing.range(s).len();
            tokens.map(move |i| row(s, i as isize - lag as isize) as i32)
        };
        all().flat_map(of).collect()
    });
    let last = |s| {
        let len = packing.range(s).len() as isize;
        let first = len - kept as isize;
        (first..len).map(move |i| row(s, i) as i32)
    };
    let ids: Vec<i32> = all().flat_map(last).collect();
    let new = rows(x, ids).reshape([slots.len(), 1, kept, c]);
    *inputs = unwrap(replaced(cache, new, slots));
    unwrap(silu(y))
}
