//! A configured objective, resolved once and then applied to all units.

use crate::choices::{Divergence, KlEstimator};
use crate::config::ObjectiveConfig;
use crate::divergence::k3_unit;
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use crate::objectives::spec::Parts;
use crate::ratios::{MAX_LOG_RATIO, Ratios};
use crate::response::{ResponseRules, Shared};
use crate::terms::{ClipEvent, Coefficients, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::iter;

/// One unit: a token, or a response whose log-probabilities have been summed (or averaged).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Log-probability under the policy being trained.
    pub lp: f64,
    /// Under the sampling policy.
    pub lp_old: f64,
    /// Under the reference policy.
    pub lp_ref: f64,
    /// The advantage `A`.
    pub advantage: f64,
}

/// The loss of one unit and its derivative.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct UnitLoss {
    /// The loss, before aggregation.
    pub loss: f64,
    /// Its derivative with respect to `lp`, stop-gradients observed.
    pub grad: f64,
    /// Where it was clipped.
    pub clip: ClipEvent,
    /// The importance weight `w`.
    pub weight: f64,
    /// Whether its advantage does not count, as its response is off policy.
    pub is_masked: bool,
    /// `w*k3(exp(-u))`, the estimate of `KL(pi, ref)`.
    pub kl: f64,
    /// Whether a log-ratio was clamped to [`MAX_LOG_RATIO`] before `exp`.
    pub is_clamped: bool,
}

/// The loss of one unit before aggregation, with its closed-form derivative; the unit is all of its response.
pub fn unit_loss(config: &ObjectiveConfig, unit: Unit) -> UnitLoss {
    let formula = Formula::new(config);
    let shared = formula.shared(iter::once(unit));
    formula.evaluate(unit, &shared)
}

/// Which loss it is, and all that it reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Formula {
    kind: Kind,
    form: Form,
    coefficients: Coefficients,
    /// What the tokens of a response share.
    response: ResponseRules,
    /// Which log-ratios it exponentiates besides `log w`.
    pub(crate) exponentiated: Exponentiated,
}

/// Log-ratios that are exponentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exponentiated {
    /// `log r`, for the forward divergences.
    pub(crate) log_r: bool,
    /// `-u`, for k3.
    pub(crate) u: bool,
}

impl Formula {
    pub(crate) fn new(config: &ObjectiveConfig) -> Self {
        let spec = config.kind.spec();
        let divergence = match spec.parts {
            Parts::Composed => config.kl,
            Parts::Fixed { .. } => Divergence::None,
        };
        let coefficients = config.coefficients();
        let kl_term = coefficients.kl_term;
        Self {
            kind: config.kind,
            form: config.form(),
            coefficients,
            response: ResponseRules {
                weight_of: spec.weight_of,
                sequence_mask: config.sequence_mask,
            },
            exponentiated: Exponentiated {
                log_r: divergence.uses_reference_weight(),
                u: kl_term.is_some_and(|term| term.estimator == KlEstimator::K3),
            },
        }
    }

    /// The losses of all units, and where the trust region acted.
    ///
    /// `log_ratios` is `lp - lp_old` of the tokens, `[B, T]` and 0 where masked; `lengths` are those of the responses,
    /// `[B, 1]`. Returns the ratios with the weight that was used.
    pub(crate) fn losses<B: Backend>(
        &self,
        ratios: Ratios<B>,
        advantages: Tensor<B, 2>,
        log_ratios: Tensor<B, 2>,
        lengths: Tensor<B, 2>,
    ) -> (Ratios<B>, UnitLosses<B>) {
        let rules = self.response;
        let masked = rules.masked(log_ratios.clone(), lengths.clone(), &advantages);
        let advantages = match &masked {
            Some(masked) => advantages.mask_fill(masked.clone(), 0.0),
            None => advantages,
        };
        let ratios = match rules.log_weights(log_ratios, lengths, &advantages, &self.coefficients) {
            Some(log_s) => ratios.with_shared_weight(log_s),
            None => ratios,
        };
        let terms = Terms::new(ratios.clone(), advantages, self.coefficients);
        let mut units = self.kind.losses(self.form, &terms);
        if let Some(masked) = masked {
            units.clipped.masked = masked;
        }
        (ratios, units)
    }

    /// What the tokens of a response share.
    #[inline]
    pub(crate) fn shared(&self, tokens: impl Iterator<Item = Unit> + Clone) -> Shared {
        self.response.shared(&self.coefficients, tokens)
    }

    /// The closed form of one unit of a response.
    #[inline(always)]
    pub(crate) fn evaluate(&self, unit: Unit, shared: &Shared) -> UnitLoss {
        let log_ratio = unit.lp - unit.lp_old;
        let log_w = shared.log_weight.unwrap_or(log_ratio);
        let log_r = unit.lp_ref - unit.lp_old;
        let u = unit.lp - unit.lp_ref;
        let w = exp_clamped(log_w);
        // On the paper's iterative scheme the reference is the sampling policy: r = 1, u = log w.
        let (r, y) = if log_r == 0.0 && shared.log_weight.is_none() {
            (1.0, 1.0 / w)
        } else {
            (exp_clamped(log_r), exp_clamped(-u))
        };
        let is_masked = shared.masks(unit.advantage);
        let terms = UnitTerms {
            lp: unit.lp,
            lp_old: unit.lp_old,
            w,
            u,
            log_r,
            r,
            y,
            a: if is_masked { 0.0 } else { unit.advantage },
            coefficients: &self.coefficients,
        };
        let result = self.kind.closed_form(self.form, &terms);
        UnitLoss {
            loss: result.loss,
            grad: result.grad,
            clip: result.clip,
            weight: w,
            is_masked,
            kl: w * k3_unit(&terms),
            is_clamped: log_w.abs() > MAX_LOG_RATIO
                || (self.exponentiated.log_r && log_r.abs() > MAX_LOG_RATIO)
                || (self.exponentiated.u && u.abs() > MAX_LOG_RATIO),
        }
    }
}

#[inline]
pub(crate) fn exp_clamped(x: f64) -> f64 {
    x.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
}
