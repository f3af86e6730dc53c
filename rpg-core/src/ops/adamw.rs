//! The AdamW update of one value, which every form of the optimizer shares.

use super::AdamWUpdate;

/// An update with everything that is the same for all values.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdamWStep {
    update: AdamWUpdate,
    m_correction: f32,
    v_correction: f32,
    decay: f32,
}

impl AdamWStep {
    pub(super) fn new(update: AdamWUpdate) -> Self {
        let (m_correction, v_correction) = update.bias_corrections();
        Self {
            update,
            m_correction,
            v_correction,
            decay: 1.0 - update.lr * update.weight_decay,
        }
    }

    #[inline(always)]
    pub(super) fn apply(&self, param: &mut f32, grad: f32, m: &mut f32, v: &mut f32) {
        let update = &self.update;
        let grad = grad * update.grad_scale;
        *m = update.beta_1 * *m + (1.0 - update.beta_1) * grad;
        *v = update.beta_2 * *v + (1.0 - update.beta_2) * grad * grad;
        let denominator = (*v / self.v_correction).sqrt() + update.eps;
        *param = *param * self.decay - update.lr * (*m / self.m_correction) / denominator;
    }
}
