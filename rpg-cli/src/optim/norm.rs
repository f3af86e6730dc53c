//! The norm of all gradients together.

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorPrimitive};
use rpg_core::ops::DecodeBackend;

/// `sqrt(sum g^2)` over all parameters of `model`, in one read-back.
///
/// Clipping uses this norm because a limit per tensor would change the direction of the update.
pub fn global_norm<B: DecodeBackend, M: AutodiffModule<Autodiff<B>>>(
    model: &M,
    grads: &GradientsParams,
) -> f64 {
    square_sum::<B, M>(model, grads).sqrt()
}

/// The square of [`global_norm`].
pub(crate) fn square_sum<B: DecodeBackend, M: AutodiffModule<Autodiff<B>>>(
    model: &M,
    grads: &GradientsParams,
) -> f64 {
    let mut sum = SquareSum::<B> {
        grads,
        sums: Vec::new(),
    };
    model.visit(&mut sum);
    if sum.sums.is_empty() {
        return 0.0;
    }
    // The squares of each tensor are summed in its own type, the tensors' sums in f64.
    let sums = Tensor::cat(sum.sums, 0).into_data();
    sums.iter::<f64>().sum()
}

struct SquareSum<'a, B: DecodeBackend> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<B, 1>>,
}

impl<B: DecodeBackend> ModuleVisitor<Autodiff<B>> for SquareSum<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<B>, D>>) {
        if let Some(grad) = self.grads.get::<B, D>(param.id) {
            let sum = B::square_sum(grad.into_primitive().tensor());
            self.sums
                .push(Tensor::from_primitive(TensorPrimitive::Float(sum)));
        }
    }
}
