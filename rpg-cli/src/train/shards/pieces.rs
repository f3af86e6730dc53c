//! Gradients and weights as bytes, in the order in which a model's parameters are visited.

use burn::backend::Autodiff;
use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use rpg_core::ops::DecodeBackend;
use std::collections::HashMap;
use std::marker::PhantomData;

/// The owner of every parameter that is trained.
type Owners = HashMap<ParamId, usize>;

/// Writes gradients for the owners of their parameters: of each parameter whether it has one, then the values.
pub(super) struct GiveGradients<'a, B> {
    owners: &'a Owners,
    grads: GradientsParams,
    pub(super) bytes: Vec<Vec<u8>>,
    backend: PhantomData<B>,
}

impl<'a, B> GiveGradients<'a, B> {
    pub(super) fn new(owners: &'a Owners, grads: GradientsParams, world: usize) -> Self {
        Self {
            owners,
            grads,
            bytes: vec![Vec::new(); world],
            backend: PhantomData,
        }
    }
}

impl<B: DecodeBackend> ModuleVisitor<Autodiff<B>> for GiveGradients<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
        let Some(&owner) = self.owners.get(&param.id) else {
            return;
        };
        let bytes = &mut self.bytes[owner];
        let grad = self.grads.remove::<B, D>(param.id);
        bytes.push(u8::from(grad.is_some()));
        if let Some(grad) = grad {
            bytes.extend_from_slice(grad.into_data().convert::<f32>().as_bytes());
        }
    }
}

/// Adds up what the ranks have given for this one, in their order. A parameter without a gradient on any rank has none.
pub(super) struct SumGradients<'a, B> {
    owners: &'a Owners,
    rank: usize,
    received: Vec<&'a [u8]>,
    pub(super) grads: GradientsParams,
    backend: PhantomData<B>,
}

impl<'a, B> SumGradients<'a, B> {
    pub(super) fn new(owners: &'a Owners, rank: usize, received: &'a [Vec<u8>]) -> Self {
        Self {
            owners,
            rank,
            received: received.iter().map(Vec::as_slice).collect(),
            grads: GradientsParams::new(),
            backend: PhantomData,
        }
    }
}

impl<B: DecodeBackend> ModuleVisitor<Autodiff<B>> for SumGradients<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
        if self.owners.get(&param.id) != Some(&self.rank) {
            return;
        }
        let shape = param.val().shape();
        let n = shape.num_elements();
        let mut given = Vec::with_capacity(self.received.len());
        for rest in &mut self.received {
            if take(rest, 1) != [0] {
                given.push(take(rest, 4 * n));
            }
        }
        if !given.is_empty() {
            let data = TensorData::new(sums(&given, n), shape);
            let grad = Tensor::<B, D>::from_data(data, &param.val().device());
            self.grads.register::<B, D>(param.id, grad);
        }
    }
}

/// How many values a thread adds at a time.
const AT_A_TIME: usize = 1 << 16;

/// The sums of lists of so many floats, in the order of the lists.
fn sums(lists: &[&[u8]], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    let parts = sums.par_chunks_mut(AT_A_TIME).enumerate();
    parts.for_each(|(i, sums)| {
        for (j, list) in lists.iter().enumerate() {
            let values = floats(&list[4 * i * AT_A_TIME..][..4 * sums.len()]);
            let sums = sums.iter_mut().zip(values);
            match j {
                0 => sums.for_each(|(sum, value)| *sum = value),
                _ => sums.for_each(|(sum, value)| *sum += value),
            }
        }
    });
    sums
}

/// Writes the weights of one rank's shard.
pub(super) struct GiveWeights<'a> {
    owners: &'a Owners,
    rank: usize,
    pub(super) bytes: Vec<u8>,
}

impl<'a> GiveWeights<'a> {
    pub(super) fn new(owners: &'a Owners, rank: usize) -> Self {
        Self {
            owners,
            rank,
            bytes: Vec::new(),
        }
    }
}

impl<B: Backend> ModuleVisitor<B> for GiveWeights<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.owners.get(&param.id) == Some(&self.rank) {
            let data = param.val().into_data().convert::<f32>();
            self.bytes.extend_from_slice(data.as_bytes());
        }
    }
}

/// Puts the weights of the other ranks' shards into a model.
pub(super) struct TakeWeights<'a> {
    owners: &'a Owners,
    rank: usize,
    received: Vec<&'a [u8]>,
}

impl<'a> TakeWeights<'a> {
    pub(super) fn new(owners: &'a Owners, rank: usize, received: &'a [Vec<u8>]) -> Self {
        Self {
            owners,
            rank,
            received: received.iter().map(Vec::as_slice).collect(),
        }
    }
}

impl<B: Backend> ModuleMapper<B> for TakeWeights<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let others = self
            .owners
            .get(&param.id)
            .filter(|&&owner| owner != self.rank);
        let Some(&owner) = others else {
            return param;
        };
        let (id, before, mapper) = param.consume();
        let shape = before.shape();
        let n = shape.num_elements();
        let values = take(&mut self.received[owner], 4 * n);
        let data = TensorData::new(sums(&[values], n), shape);
        let weights = Tensor::<B, D>::from_data(data, &before.device());
        let weights = weights.set_require_grad(before.is_require_grad());
        Param::from_mapped_value(id, weights, mapper)
    }
}

/// The next `n` bytes.
///
/// # Panics
/// If there are fewer: the ranks have models of different shapes, which they refuse before they train.
fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(n);
    *rest = left;
    taken
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().copied().map(f32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_added_in_the_order_of_the_lists() {
        for n in [0, 1, AT_A_TIME, 2 * AT_A_TIME + 3] {
            // Sums of these depend on their order.
            let lists = [1e8f32, -1e8, 0.25].map(|value| vec![value; n]);
            let bytes = lists.map(|list| list.iter().flat_map(|x| x.to_ne_bytes()).collect());
            let bytes: [Vec<u8>; 3] = bytes;
            let given = bytes.each_ref().map(Vec::as_slice);
            assert_eq!(sums(&given, n), vec![0.25; n]);
            assert_eq!(sums(&[given[2], given[0], given[1]], n), vec![0.0; n]);
            // A sum of one keeps its sign.
            let zero: Vec<u8> = (-0.0f32).to_ne_bytes().repeat(n);
            assert!(sums(&[&zero], n).iter().all(|x| x.is_sign_negative()));
        }
    }
}
