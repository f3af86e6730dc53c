//! The named choices an objective is made of; the kinds themselves are in [`crate::objectives`].

use serde::{Deserialize, Serialize};

/// Declares a field-less enum whose serde names are snake case, with the list of its values.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name this value has in a config file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use named_enum;

named_enum! {
    /// The divergence `D` of the objective `J = E_pi[R] - beta*D`.
    Divergence {
        /// No regularization.
        None = "none",
        /// Forward KL, `KL(ref, pi)`.
        Fkl = "fkl",
        /// Reverse KL, `KL(pi, ref)`.
        Rkl = "rkl",
        /// Unnormalized forward KL, `UKL(ref, pi)`.
        Ufkl = "ufkl",
        /// Unnormalized reverse KL, `UKL(pi, ref)`.
        Urkl = "urkl",
        /// Symmetrised KL, `(KL(ref, pi) + KL(pi, ref)) / 2`.
        Skl = "skl",
        /// Symmetrised unnormalized KL, `(UKL(ref, pi) + UKL(pi, ref)) / 2`.
        Uskl = "uskl",
    }
}

named_enum! {
    /// How the gradient is obtained from the sampled responses.
    Estimator {
        /// A loss whose own derivative is the policy gradient: gradient flows through `w`.
        Differentiable = "differentiable",
        /// `-SG(coefficient)*lp`: the coefficient is a constant, gradient flows through `lp` alone.
        Reinforce = "reinforce",
    }
}

named_enum! {
    /// What happens to tokens whose importance weight has left the trust region.
    Clip {
        /// Nothing.
        None = "none",
        /// Dual clip (Algorithm 1); for [`Estimator::Differentiable`].
        Dual = "dual",
        /// RPG-Style Clip (Algorithm 2); for [`Estimator::Reinforce`].
        Rpg = "rpg",
        /// Truncated importance weights; for [`Estimator::Reinforce`].
        Hard = "hard",
        /// The coefficient of dual clip, with the gradient always kept (Equation 4.1); for
        /// [`Estimator::Reinforce`].
        Truncated = "truncated",
    }
}

named_enum! {
    /// What the formulas are applied to.
    Level {
        /// Each token by itself.
        Token = "token",
        /// The whole response: log-probabilities are summed over its tokens first.
        Sequence = "sequence",
        /// The whole response, its sums divided by its length.
        SequenceNorm = "sequence_norm",
    }
}

named_enum! {
    /// How the losses of tokens or responses become the loss of one optimizer step.
    Aggregation {
        /// Sum over tokens / number of tokens.
        TokenMean = "token_mean",
        /// Mean over responses of the sum over their tokens.
        SeqMeanTokenSum = "seq_mean_token_sum",
        /// Mean over responses of the mean over their tokens.
        SeqMeanTokenMean = "seq_mean_token_mean",
        /// Sum over tokens / (number of responses * maximal length).
        Constant = "constant",
        /// Mean over responses; for the two sequence levels, and the only choice there.
        SeqMean = "seq_mean",
    }
}

named_enum! {
    /// What is subtracted from a reward, and what it is divided by.
    AdvantageKind {
        /// `R - mean(group)`.
        GroupMean = "group_mean",
        /// `(R - mean(group)) / (std(group) + 1e-6)`.
        GroupNorm = "group_norm",
        /// `R - mean(the other members of the group)`.
        LeaveOneOut = "leave_one_out",
        /// `R - b` with `b` the mean of the group weighted by lengths (the optimal baseline of OPO).
        Opo = "opo",
        /// `(R - mean(group)) / mean(group)`, for rewards that are not negative (MaxRL).
        MaxRl = "maxrl",
        /// `R - mean(batch)`.
        BatchMean = "batch_mean",
        /// `(R - mean(batch)) / (std(batch) + 1e-8)`.
        BatchNorm = "batch_norm",
    }
}

named_enum! {
    /// Where PPO's family puts its KL term.
    KlPlacement {
        /// Into the loss.
        Loss = "loss",
        /// Into the rewards of tokens, as a constant.
        Reward = "reward",
        /// Nowhere.
        None = "none",
    }
}

named_enum! {
    /// What PPO's family makes of `y = exp(-u)`, the ratio of reference to policy.
    KlEstimator {
        /// `-log y`.
        K1 = "k1",
        /// `(log y)^2 / 2`.
        K2 = "k2",
        /// `y - 1 - log y`.
        K3 = "k3",
    }
}

named_enum! {
    /// The factor in front of the KL term of PPO's family; at each level the `w` of that level.
    KlWeight {
        /// 1.
        None = "none",
        /// `SG(w)`.
        Detached = "detached",
        /// `w`.
        Full = "full",
    }
}

impl Divergence {
    /// Whether the divergence compares measures that need not sum to one, so that `z` enters.
    pub fn is_unnormalized(self) -> bool {
        match self {
            Self::Ufkl | Self::Urkl | Self::Uskl => true,
            Self::None | Self::Fkl | Self::Rkl | Self::Skl => false,
        }
    }

    /// Whether the reference weight `r` enters its gradient.
    pub fn uses_reference_weight(self) -> bool {
        match self {
            Self::Fkl | Self::Ufkl | Self::Skl | Self::Uskl => true,
            Self::None | Self::Rkl | Self::Urkl => false,
        }
    }
}

impl Level {
    /// Whether a response is one unit.
    pub fn is_sequence(self) -> bool {
        match self {
            Self::Token => false,
            Self::Sequence | Self::SequenceNorm => true,
        }
    }
}

impl Aggregation {
    /// Whether it adds up losses of whole responses, not of tokens.
    pub fn is_of_sequences(self) -> bool {
        match self {
            Self::SeqMean => true,
            Self::TokenMean | Self::SeqMeanTokenSum | Self::SeqMeanTokenMean | Self::Constant => {
                false
            }
        }
    }
}

impl AdvantageKind {
    /// Whether rewards are compared within their group, so that group ids are needed.
    pub fn needs_groups(self) -> bool {
        match self {
            Self::GroupMean | Self::GroupNorm | Self::LeaveOneOut | Self::Opo | Self::MaxRl => true,
            Self::BatchMean | Self::BatchNorm => false,
        }
    }
}
