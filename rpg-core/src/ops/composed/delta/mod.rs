//! The operations of a delta layer: a convolution along each column, and a state that each token changes.

mod backward;
mod conv;
mod rule;

pub(in crate::ops) use backward::delta_rule_backward;
pub(in crate::ops) use conv::{cached_conv, causal_conv, causal_conv_backward};
pub(in crate::ops) use rule::{cached_delta_rule, delta_rule};

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// The given rows of a tensor, the first dimension.
fn rows<B: Backend, const D: usize>(x: Tensor<B, D>, ids: Vec<i32>) -> Tensor<B, D> {
    let n = ids.len();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [n]), &x.device());
    x.select(0, ids)
}

/// `cache` with new rows in the place of those of the given slots.
fn replaced<B: Backend, const D: usize>(
    cache: Tensor<B, D>,
    new: Tensor<B, D>,
    slots: &[usize],
) -> Tensor<B, D> {
    let n = cache.dims()[0];
    let mut ids: Vec<i32> = (0..n as i32).collect();
    for (i, &slot) in slots.iter().enumerate() {
        ids[slot] = (n + i) as i32;
    }
    rows(Tensor::cat(vec![cache, new], 0), ids)
}
