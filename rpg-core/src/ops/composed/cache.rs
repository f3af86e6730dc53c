//! The KV cache: writing, copying, and attention of one token per slot.

use super::{MASKED_SCORE, unwrap, wrap};
use crate::ops::{Attention, CacheRows, HeadLayout};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Device, Int, Tensor, TensorData};

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

pub(in crate::ops) fn cache_write<B: Backend>(
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
        // Burn's indexed assignment adds: adding the difference overwrites.
        let change = new - flat.clone().select(0, indices.clone());
        let flat = flat.select_assign(0, indices, change, burn::tensor::IndexingUpdateOp::Add);
        *cache = unwrap(flat.reshape(shape));
    }
}

pub(in crate::ops) fn cache_copy<B: Backend>(
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

pub(in crate::ops) fn cached_attention<B: Backend>(
    qkv: FloatTensor<B>,
    keys: &FloatTensor<B>,
    values: &FloatTensor<B>,
    attention: Attention,
    rows: &CacheRows,
) -> FloatTensor<B> {
    let (qkv, heads) = (wrap::<B, 2>(qkv), attention.heads);
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
    let of_rows = |bound: &dyn Fn(usize) -> usize| {
        let bounds = rows.positions.iter().map(|&p| bound(p as usize) as i32);
        let data = TensorData::new(bounds.collect(), [n, 1, 1, 1]);
        Tensor::<B, 4, Int>::from_data(data, &device)
    };
    let all = Tensor::<B, 1, Int>::arange(0..visible as i64, &device).reshape([1, 1, 1, visible]);
    let future = all.clone().greater(of_rows(&|position| position));
    let hidden = match attention.window {
        Some(window) if window < longest => {
            let past = all.lower(of_rows(&|position| attention.first(position)));
            future.bool_or(past)
        }
        _ => future,
    };
    let queries = qkv
        .narrow(1, 0, heads.q_width())
        .reshape([n, kv_heads, heads.group(), d]);
    let scores = queries
        .matmul(filled(keys).swap_dims(2, 3))
        .mul_scalar(attention.scale)
        .mask_fill(hidden, MASKED_SCORE);
    let weights = burn::tensor::activation::softmax(scores, 3);
    unwrap(weights.matmul(filled(values)).reshape([n, heads.q_width()]))
}
