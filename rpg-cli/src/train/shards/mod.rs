//! Which rank updates which parameter: gradients are summed where the parameter is updated, and the optimizer's state of it
//! is there alone (ZeRO-1; Rajbhandari et al., 2020, arXiv 1910.02054).

mod pieces;

use super::ranks::Team;
use crate::failure::Failure;
use crate::optim::{Optimizer, OptimizerState, StateTensor};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use pieces::{GiveGradients, GiveWeights, SumGradients, TakeWeights};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// The owner of every parameter that is trained. A parameter is never cut: an optimizer sees whole ones.
#[derive(Debug)]
pub(crate) struct Shards {
    team: Team,
    // Empty if there is one rank.
    owners: HashMap<ParamId, usize>,
}

impl Shards {
    /// One shard, of everything.
    pub(crate) fn one() -> Self {
        Self {
            team: Team::alone(),
            owners: HashMap::new(),
        }
    }

    /// A shard for each rank, all of about one size.
    pub(crate) fn new<B: DecodeBackend>(team: Team, policy: &CausalLm<B>) -> Self {
        if team.is_alone() {
            return Self::one();
        }
        let mut sizes = Sizes(Vec::new());
        policy.visit(&mut sizes);
        if let Some(trained) = policy.trained() {
            sizes.0.retain(|(id, _)| trained.contains(id));
        }
        let owners = assign(sizes.0, team.world());
        Self { team, owners }
    }

    /// The ranks that have the shards.
    pub(crate) fn team(&self) -> &Team {
        &self.team
    }

    /// Makes an optimizer that of this rank's shard.
    pub(crate) fn restrict<B: DecodeBackend>(&self, optimizer: &mut dyn Optimizer<B>) {
        if !self.team.is_alone() {
            optimizer.restrict(self.own());
        }
    }

    /// The sums of all ranks' gradients in the order of the ranks, of the parameters of this rank's shard.
    pub(crate) fn sum<B: DecodeBackend>(
        &self,
        point: &CausalLm<Autodiff<B>>,
        grads: GradientsParams,
    ) -> Result<GradientsParams, Failure> {
        if self.team.is_alone() {
            return Ok(grads);
        }
        let mut give = GiveGradients::<B>::new(&self.owners, grads, self.team.world());
        point.visit(&mut give);
        let received = self.team.all_to_all(give.bytes)?;
        let mut sum = SumGradients::<B>::new(&self.owners, self.team.rank(), &received);
        point.visit(&mut sum);
        Ok(sum.grads)
    }

    /// The model in which every parameter is that of the rank which has updated it.
    pub(crate) fn complete<B: Backend, M: Module<B>>(&self, model: M) -> Result<M, Failure> {
        if self.team.is_alone() {
            return Ok(model);
        }
        let mut give = GiveWeights::new(&self.owners, self.team.rank());
        model.visit(&mut give);
        let received = self.team.gather_bytes(give.bytes)?;
        Ok(model.map(&mut TakeWeights::new(
            &self.owners,
            self.team.rank(),
            &received,
        )))
    }

    /// On rank 0 the state of all shards; on the others that of their own.
    pub(crate) fn gather_state(&self, state: OptimizerState) -> Result<OptimizerState, Failure> {
        if self.team.is_alone() {
            return Ok(state);
        }
        let mut bytes = vec![Vec::new(); self.team.world()];
        if !self.team.is_first() {
            let tensors = state.tensors.iter();
            let sent: Vec<(&String, TensorData)> = tensors
                .map(|(name, tensor)| (name, tensor.data()))
                .collect();
            bytes[0] = rmp_serde::to_vec(&sent).map_err(Failure::internal)?;
        }
        let received = self.team.all_to_all(bytes)?;
        let mut whole = state;
        // One after the other: the bytes of a rank are freed when they have been read.
        for bytes in received.into_iter().filter(|bytes| !bytes.is_empty()) {
            let tensors: Vec<(String, TensorData)> =
                rmp_serde::from_slice(&bytes).map_err(Failure::internal)?;
            let tensors = tensors.into_iter();
            let tensors = tensors.map(|(name, data)| (name, StateTensor::from(data)));
            whole.tensors.extend(tensors);
        }
        Ok(whole)
    }

    fn own(&self) -> HashSet<ParamId> {
        let rank = self.team.rank();
        let own = self.owners.iter().filter(|(_, owner)| **owner == rank);
        own.map(|(&id, _)| id).collect()
    }
}

/// Gives each parameter, the largest first, to the rank that has least.
fn assign(mut sizes: Vec<(ParamId, usize)>, world: usize) -> HashMap<ParamId, usize> {
    // Stable: of one size, in the order of the model.
    sizes.sort_by_key(|&(_, n)| Reverse(n));
    let mut totals = vec![0; world];
    let give = |(id, n): (ParamId, usize)| {
        let least = (0..world).min_by_key(|&rank| totals[rank]).unwrap_or(0);
        totals[least] += n;
        (id, least)
    };
    sizes.into_iter().map(give).collect()
}

/// The parameters of a model and how many values each has, in the model's order.
struct Sizes(Vec<(ParamId, usize)>);

impl<B: Backend> ModuleVisitor<B> for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push((param.id, param.val().shape().num_elements()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_of_about_one_size() {
        // Sizes of parameters; what each rank has in all.
        for (sizes, expected) in [
            (&[8, 1, 1, 1, 1, 1, 1, 1, 1][..], &[8, 8][..]),
            (&[5, 4, 3, 3], &[8, 7]),
            (&[5, 5, 5], &[5, 5, 5, 0]),
            (&[], &[0, 0]),
        ] {
            let ids: Vec<ParamId> = sizes.iter().map(|_| ParamId::new()).collect();
            let given: Vec<_> = ids.iter().copied().zip(sizes.iter().copied()).collect();
            let owners = assign(given.clone(), expected.len());
            assert_eq!(owners, assign(given.clone(), expected.len()));
            let mut totals = vec![0; expected.len()];
            given.iter().for_each(|(id, n)| totals[owners[id]] += n);
            assert_eq!(totals, expected);
        }
    }
}
