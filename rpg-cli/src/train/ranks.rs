//! Several processes that train one policy.

use crate::failure::Failure;
use burn::backend::Autodiff;
use burn::optim::GradientsParams;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;

/// One of several processes, each of which has a copy of the policy and a share of the work.
///
/// Whatever is exchanged is combined in the order of the ranks, so that every rank gets the same bits. The loop
/// exchanges gradients, totals and metrics; every rank still samples all prompts of a step.
pub trait Ranks<B: DecodeBackend> {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn world(&self) -> usize;

    /// The values of every rank, in the order of the ranks. Ranks may have different numbers of them.
    fn gather(&self, values: &[f64]) -> Result<Vec<Vec<f64>>, Failure>;

    /// The sum of the ranks' gradients, for every parameter of `policy`.
    fn sum_gradients(
        &self,
        policy: &CausalLm<Autodiff<B>>,
        grads: GradientsParams,
    ) -> Result<GradientsParams, Failure>;

    /// The sums of the ranks' values, element by element.
    fn sum(&self, values: &[f64]) -> Result<Vec<f64>, Failure> {
        let all = self.gather(values)?;
        let sum = |i: usize| all.iter().map(|values| values[i]).sum();
        Ok((0..values.len()).map(sum).collect())
    }
}

/// A single process: nothing is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OneRank;

impl<B: DecodeBackend> Ranks<B> for OneRank {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<Vec<f64>>, Failure> {
        Ok(vec![values.to_vec()])
    }

    fn sum_gradients(
        &self,
        _policy: &CausalLm<Autodiff<B>>,
        grads: GradientsParams,
    ) -> Result<GradientsParams, Failure> {
        Ok(grads)
    }
}
