//! What the tokens of a response decide together: the weight that they share, and whether it is off policy.

use crate::formula::Unit;
use crate::objectives::gmpo;
use crate::objectives::spec::WeightOf;
use crate::terms::Coefficients;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

/// Which of these a config asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseRules {
    /// Whose weight a token has.
    pub(crate) weight_of: WeightOf,
    /// The largest mean of `lp_old - lp` at which negative advantages count.
    pub(crate) sequence_mask: Option<f64>,
}

/// What they are for one response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shared {
    /// The logarithm of the weight that all its tokens have.
    pub(crate) log_weight: Option<f64>,
    /// Whether its negative advantages do not count.
    pub(crate) is_off_policy: bool,
}

impl Shared {
    /// Tokens with weights of their own, and advantages that count.
    pub(crate) const NOTHING: Self = Self {
        log_weight: None,
        is_off_policy: false,
    };

    /// Whether the response loses this advantage.
    #[inline(always)]
    pub(crate) fn masks(&self, advantage: f64) -> bool {
        self.is_off_policy && advantage < 0.0
    }
}

impl ResponseRules {
    /// What the tokens of a response share.
    pub(crate) fn shared(
        &self,
        coefficients: &Coefficients,
        tokens: impl Iterator<Item = Unit> + Clone,
    ) -> Shared {
        if self.weight_of == WeightOf::Unit && self.sequence_mask.is_none() {
            return Shared::NOTHING;
        }
        let mean = |value: &dyn Fn(Unit) -> f64| {
            let (n, sum) =
                (tokens.clone()).fold((0.0, 0.0), |(n, sum), token| (n + 1.0, sum + value(token)));
            sum / f64::max(n, 1.0)
        };
        let log_ratio = |token: Unit| token.lp - token.lp_old;
        let mut shared = Shared {
            is_off_policy: (self.sequence_mask).is_some_and(|max| -mean(&log_ratio) > max),
            ..Shared::NOTHING
        };
        shared.log_weight = match self.weight_of {
            WeightOf::Unit => None,
            WeightOf::Response => Some(mean(&log_ratio)),
            WeightOf::ClippedResponse => Some(mean(&|token: Unit| {
                let counts = !shared.masks(token.advantage);
                let advantage = if counts { token.advantage } else { 0.0 };
                gmpo::clipped_log_weight(log_ratio(token), advantage, coefficients)
            })),
        };
        shared
    }

    /// Which units lose their advantage, `[B, U]`: those of negative advantage in responses off policy.
    ///
    /// `log_ratios` is `lp - lp_old`, `[B, T]` and 0 where masked; `lengths` are `[B, 1]`.
    pub(crate) fn masked<B: Backend>(
        &self,
        log_ratios: Tensor<B, 2>,
        lengths: Tensor<B, 2>,
        advantages: &Tensor<B, 2>,
    ) -> Option<Tensor<B, 2, Bool>> {
        let max = self.sequence_mask?;
        // A mask is a constant.
        let mean = log_ratios.detach().sum_dim(1) / lengths.clamp_min(1.0);
        let is_off_policy = mean.lower_elem(-max).expand(advantages.dims());
        Some(is_off_policy.bool_and(advantages.clone().lower_elem(0.0)))
    }

    /// The logarithm of the weight that the tokens of each response share, `[B, 1]`, if they do.
    pub(crate) fn log_weights<B: Backend>(
        &self,
        log_ratios: Tensor<B, 2>,
        lengths: Tensor<B, 2>,
        advantages: &Tensor<B, 2>,
        coefficients: &Coefficients,
    ) -> Option<Tensor<B, 2>> {
        let parts = match self.weight_of {
            WeightOf::Unit => return None,
            WeightOf::Response => log_ratios,
            WeightOf::ClippedResponse => {
                gmpo::clipped_log_weights(log_ratios, advantages.clone(), coefficients)
            }
        };
        Some(parts.sum_dim(1) / lengths.clamp_min(1.0))
    }
}
