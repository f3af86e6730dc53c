//! Log-ratios and the weights made of them.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Log-ratios are clamped to `[-MAX_LOG_RATIO, MAX_LOG_RATIO]` before `exp`.
///
/// `exp(20)` is 4.9e8: products of two such weights and a log-ratio stay far inside f32.
pub const MAX_LOG_RATIO: f64 = 20.0;

/// The quantities in which objectives are written, one value per unit (token or response).
///
/// All tensors are `[B, U]`: `U = T` at token level, `U = 1` at the two sequence levels.
/// Gradient flows through `lp`, and from it through `log_w`, `w` and `u`.
#[derive(Debug, Clone)]
pub struct Ratios<B: Backend> {
    /// `lp`: log-probability under the policy being trained.
    pub lp: Tensor<B, 2>,
    /// `lp_old`: that under the policy that sampled; a constant.
    pub lp_old: Tensor<B, 2>,
    /// `log w`: `lp - lp_old`, unless tokens share a weight ([`Ratios::with_shared_weight`]).
    pub log_w: Tensor<B, 2>,
    /// `w = exp(log w)`, the importance weight.
    pub w: Tensor<B, 2>,
    /// `u = lp - lp_ref`, the log-ratio to the reference.
    pub u: Tensor<B, 2>,
    /// `log r = lp_ref - lp_old`; a constant.
    pub log_r: Tensor<B, 2>,
    /// `r = exp(lp_ref - lp_old)`, the reference weight; a constant.
    pub r: Tensor<B, 2>,
}

impl<B: Backend> Ratios<B> {
    /// Forms the ratios from log-probabilities, each `[B, U]`.
    ///
    /// `lp_old` and `lp_ref` are constants of the objective whatever graph they come from.
    pub fn new(lp: Tensor<B, 2>, lp_old: Tensor<B, 2>, lp_ref: Tensor<B, 2>) -> Self {
        // Only `lp` carries gradient: the sampling and the reference policy are not being trained.
        let lp_old = lp_old.detach();
        let lp_ref = lp_ref.detach();
        let log_w = lp.clone() - lp_old.clone();
        let log_r = lp_ref.clone() - lp_old.clone();
        Self {
            w: exp_clamped(log_w.clone()),
            u: lp.clone() - lp_ref,
            r: exp_clamped(log_r.clone()),
            lp,
            lp_old,
            log_w,
            log_r,
        }
    }

    /// The same with the weight `w = SG(s)*exp(lp - SG(lp))`: in value `s`, which the units of a row share, with the
    /// slope of each unit's own `lp`. `log_s` is `[B, 1]`.
    pub fn with_shared_weight(self, log_s: Tensor<B, 2>) -> Self {
        // SG by its definition: no unit gets a gradient through the weight of its row.
        let log_s = log_s.detach();
        let log_w = self.lp.clone() - self.lp.clone().detach() + log_s;
        Self {
            w: exp_clamped(log_w.clone()),
            log_w,
            ..self
        }
    }

    /// The same numbers as constants.
    pub fn detach(self) -> Self {
        // For coefficients under the paper's SG and for diagnostics, which carry no gradient.
        Self {
            lp: self.lp.detach(),
            lp_old: self.lp_old.detach(),
            log_w: self.log_w.detach(),
            w: self.w.detach(),
            u: self.u.detach(),
            log_r: self.log_r.detach(),
            r: self.r.detach(),
        }
    }
}

/// `exp(clamp(x))` whose derivative is its own value.
///
/// A plain clamp would have gradient 0 beyond the bound: a token that has moved too far could not
/// come back, and the two estimators would differ. The bound only keeps numbers finite.
pub(crate) fn exp_clamped<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    // `x - x.detach()` is 0 with derivative 1; the clamped value enters as a constant.
    let value = x.clone().detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
    let zero = x.clone() - x.detach();
    (zero + value).exp()
}
