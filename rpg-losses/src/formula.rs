//! A configured objective, resolved once and then applied to all units.

use crate::choices::{Divergence, KlEstimator};
use crate::config::ObjectiveConfig;
use crate::divergence::k3_unit;
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use crate::objectives::spec::Parts;
use crate::ratios::{MAX_LOG_RATIO, Ratios};
use crate::terms::{ClipEvent, Coefficients, Terms, UnitLosses, UnitTerms};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

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
    /// `w*k3(exp(-u))`, the estimate of `KL(pi, ref)`.
    pub kl: f64,
    /// Whether a log-ratio was clamped to [`MAX_LOG_RATIO`] before `exp`.
    pub is_clamped: bool,
}

/// The loss of one unit before aggregation, with its closed-form derivative.
pub fn unit_loss(config: &ObjectiveConfig, unit: Unit) -> UnitLoss {
    Formula::new(config).evaluate(unit)
}

/// Which loss it is, and all that it reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Formula {
    kind: Kind,
    form: Form,
    coefficients: Coefficients,
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
            exponentiated: Exponentiated {
                log_r: divergence.uses_reference_weight(),
                u: kl_term.is_some_and(|term| term.estimator == KlEstimator::K3),
            },
        }
    }

    /// The losses of all units, and where the trust region acted.
    pub(crate) fn losses<B: Backend>(
        &self,
        ratios: Ratios<B>,
        advantages: Tensor<B, 2>,
    ) -> UnitLosses<B> {
        let terms = Terms::new(ratios, advantages, self.coefficients);
        self.kind.losses(self.form, &terms)
    }

    /// The closed form of one unit.
    #[inline(always)]
    pub(crate) fn evaluate(&self, unit: Unit) -> UnitLoss {
        self.evaluate_at(unit, &UnitRatios::new(unit))
    }

    /// The closed form of one unit whose ratios are known.
    #[inline(always)]
    pub(crate) fn evaluate_at(&self, unit: Unit, ratios: &UnitRatios) -> UnitLoss {
        let UnitRatios {
            log_w,
            w,
            u,
            log_r,
            r,
            y,
        } = *ratios;
        let terms = UnitTerms {
            lp: unit.lp,
            w,
            u,
            log_r,
            r,
            y,
            a: unit.advantage,
            coefficients: &self.coefficients,
        };
        let result = self.kind.closed_form(self.form, &terms);
        UnitLoss {
            loss: result.loss,
            grad: result.grad,
            clip: result.clip,
            weight: w,
            kl: w * k3_unit(&terms),
            is_clamped: log_w.abs() > MAX_LOG_RATIO
                || (self.exponentiated.log_r && log_r.abs() > MAX_LOG_RATIO)
                || (self.exponentiated.u && u.abs() > MAX_LOG_RATIO),
        }
    }
}

/// [`Ratios`] of one unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitRatios {
    pub(crate) log_w: f64,
    pub(crate) w: f64,
    pub(crate) u: f64,
    pub(crate) log_r: f64,
    pub(crate) r: f64,
    /// `exp(-u)`.
    pub(crate) y: f64,
}

impl UnitRatios {
    #[inline(always)]
    pub(crate) fn new(unit: Unit) -> Self {
        let log_w = unit.lp - unit.lp_old;
        let log_r = unit.lp_ref - unit.lp_old;
        let u = unit.lp - unit.lp_ref;
        let w = exp_clamped(log_w);
        // On the paper's iterative scheme the reference is the sampling policy: r = 1, u = log w.
        let (r, y) = if log_r == 0.0 {
            (1.0, 1.0 / w)
        } else {
            (exp_clamped(log_r), exp_clamped(-u))
        };
        Self {
            log_w,
            w,
            u,
            log_r,
            r,
            y,
        }
    }
}

#[inline]
pub(crate) fn exp_clamped(x: f64) -> f64 {
    x.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
}
