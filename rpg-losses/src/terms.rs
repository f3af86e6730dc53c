//! What a formula is given and what it returns, over tensors and for one unit in f64.

use crate::choices::Divergence;
use crate::objectives::kl_term::KlTerm;
use crate::ratios::Ratios;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

/// The bounds of a trust region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipBounds {
    /// `1 - eps_low`, the lower bound of the weight.
    pub low: f64,
    /// `1 + eps_high`, the upper bound of the weight.
    pub high: f64,
    /// `c`, the bound on the weight of units with negative advantage; infinite where there is none.
    pub dual: f64,
}

impl ClipBounds {
    /// Bounds `[1 - eps_low, 1 + eps_high]` with dual bound `c`.
    pub fn new(eps_low: f64, eps_high: f64, c: f64) -> Self {
        Self {
            low: 1.0 - eps_low,
            high: 1.0 + eps_high,
            dual: c,
        }
    }

    /// The same bounds without `dual`.
    pub fn without_dual(self) -> Self {
        Self {
            dual: f64::INFINITY,
            ..self
        }
    }
}

/// The numbers of an objective that its formula reads: [`crate::ObjectiveConfig::coefficients`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Coefficients {
    /// The divergence of the KL term.
    pub kl: Divergence,
    /// The KL coefficient.
    pub beta: f64,
    /// The KL term of PPO's family, if the loss has one.
    pub kl_term: Option<KlTerm>,
    /// The mass of the measure whose logarithm `lp_old` is; 1 for the normalized divergences.
    pub z: f64,
    /// The trust region.
    pub bounds: ClipBounds,
    /// `eps_low` itself, for trust regions that are not intervals of the weight.
    pub eps_low: f64,
    /// `eps_high` itself.
    pub eps_high: f64,
    /// The temperature of the gate where the advantage is positive.
    pub tau_pos: f64,
    /// The temperature of the gate where it is not.
    pub tau_neg: f64,
}

/// What a formula is applied to, one value per unit (token or response): tensors `[B, U]`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Terms<B: Backend> {
    /// The log-ratios and weights.
    pub ratios: Ratios<B>,
    /// The advantages, constants.
    pub advantages: Tensor<B, 2>,
    /// The numbers of the objective.
    pub coefficients: Coefficients,
}

impl<B: Backend> Terms<B> {
    /// Terms of units of one shape.
    pub fn new(ratios: Ratios<B>, advantages: Tensor<B, 2>, coefficients: Coefficients) -> Self {
        Self {
            ratios,
            advantages,
            coefficients,
        }
    }
}

/// What a formula makes of all units: the losses, and where the trust region acted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UnitLosses<B: Backend> {
    /// The loss of each unit before aggregation, `[B, U]`.
    pub losses: Tensor<B, 2>,
    /// Which units were clipped.
    pub clipped: ClipFlags<B>,
}

impl<B: Backend> UnitLosses<B> {
    /// The same units with other losses.
    pub(crate) fn map(self, change: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>) -> Self {
        Self {
            losses: change(self.losses),
            ..self
        }
    }
}

/// Which units a trust region has acted on, as booleans `[B, U]`; no unit is clipped in two ways.
#[derive(Debug, Clone)]
pub struct ClipFlags<B: Backend> {
    /// Clipped at `1 - eps_low`.
    pub low: Tensor<B, 2, Bool>,
    /// Clipped at `1 + eps_high`.
    pub high: Tensor<B, 2, Bool>,
    /// Clipped at `c`.
    pub dual: Tensor<B, 2, Bool>,
    /// Units whose advantage `sequence_mask` has set to 0, clipped or not.
    pub masked: Tensor<B, 2, Bool>,
}

impl<B: Backend> ClipFlags<B> {
    /// No unit of a tensor of this shape.
    pub fn none(like: &Tensor<B, 2>) -> Self {
        let never = like.clone().lower_elem(f64::NEG_INFINITY);
        Self {
            low: never.clone(),
            high: never.clone(),
            dual: never.clone(),
            masked: never,
        }
    }
}

/// Where the trust region has acted on one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipEvent {
    /// Nowhere: the unit is inside, or outside on the side that is not clipped.
    Unclipped,
    /// At `1 - eps_low`.
    Low,
    /// At `1 + eps_high`.
    High,
    /// At `c`.
    Dual,
}

/// [`Terms`] of one unit in f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitTerms<'a> {
    pub(crate) lp: f64,
    pub(crate) lp_old: f64,
    /// The importance weight: `exp(lp - lp_old)`, unless the tokens of a response share one.
    pub(crate) w: f64,
    /// `lp - lp_ref`.
    pub(crate) u: f64,
    /// `lp_ref - lp_old`.
    pub(crate) log_r: f64,
    /// `exp(log_r)`.
    pub(crate) r: f64,
    /// `exp(-u)`.
    pub(crate) y: f64,
    /// The advantage `A`.
    pub(crate) a: f64,
    pub(crate) coefficients: &'a Coefficients,
}

/// What a formula makes of one unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClosedForm {
    pub(crate) loss: f64,
    /// The derivative of the loss in `lp`, stop-gradients observed.
    pub(crate) grad: f64,
    pub(crate) clip: ClipEvent,
}
