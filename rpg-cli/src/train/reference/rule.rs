//! When the reference policy of the KL term becomes the current policy.

use serde::{Deserialize, Serialize};

/// When the reference becomes the current policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReferenceRule {
    /// At every rollout, as in the paper's iterative scheme: the reference is the policy that samples, and
    /// no second model exists.
    #[default]
    EveryRollout,
    /// After every so many steps.
    EverySteps(std::num::NonZeroU64),
    /// Never: it remains the policy with which the run began.
    Never,
}

impl ReferenceRule {
    /// Whether the reference is a separate model.
    pub fn needs_model(self) -> bool {
        match self {
            Self::EveryRollout => false,
            Self::EverySteps(_) | Self::Never => true,
        }
    }

    /// Whether a separate reference becomes the current policy after this step, counted from 1.
    pub fn due(self, step: u64) -> bool {
        match self {
            Self::EveryRollout | Self::Never => false,
            Self::EverySteps(k) => step.is_multiple_of(k.get()),
        }
    }
}
