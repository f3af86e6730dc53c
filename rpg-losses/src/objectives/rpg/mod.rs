//! RPG: the losses of the paper, one form for each estimator and clip.

pub mod differentiable;
pub mod dual_clip;
pub mod dual_clip_reward;
pub mod hard_clip;
pub mod reinforce;
pub mod rpg_clip;
pub mod truncated;

use crate::choices::{AdvantageKind, Aggregation, Clip, Divergence, Estimator, Level};
use crate::objectives::spec::{Defaults, FormSpec, Parts, Spec};
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;

pub(crate) const SPEC: Spec = Spec {
    loss: "by `estimator` and `clip`, see the table of RPG's losses",
    parts: Parts::Composed,
    // RPG-REINFORCE with unnormalized reverse KL and RPG-Style Clip, as the paper trains it.
    defaults: Defaults {
        kl: Divergence::Urkl,
        estimator: Estimator::Reinforce,
        clip: Clip::Rpg,
        beta: 1e-4,
        eps_low: 0.2,
        eps_high: 0.28,
        c: Some(10.0),
        level: Level::Token,
        token_aggregation: Aggregation::TokenMean,
        advantage: AdvantageKind::GroupMean,
        ..Defaults::BASELINE
    },
    ..Spec::BASELINE
};

/// Declares [`Form`] and sends each form to its file.
macro_rules! forms {
    ($($form:ident in $file:ident,)+) => {
        /// Which of RPG's losses `estimator`, `clip` and `kl_in_clip` choose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Form { $($form,)+ }

        impl Form {
            pub(crate) fn spec(self) -> &'static FormSpec {
                match self { $(Self::$form => &$file::FORM),+ }
            }
        }

        pub(crate) fn losses<B: Backend>(form: Form, terms: &Terms<B>) -> UnitLosses<B> {
            match form { $(Form::$form => $file::losses(terms)),+ }
        }

        #[inline(always)]
        pub(crate) fn closed_form(form: Form, terms: &UnitTerms) -> ClosedForm {
            match form { $(Form::$form => $file::closed_form(terms)),+ }
        }
    };
}

// A new clip is a row in `Clip`, a file in this folder, a row here, and what the compiler then asks for in
// `Form::new` and the verification's oracle.
forms! {
    Differentiable in differentiable,
    DualClip in dual_clip,
    DualClipReward in dual_clip_reward,
    Reinforce in reinforce,
    RpgClip in rpg_clip,
    HardClip in hard_clip,
    Truncated in truncated,
}

impl Form {
    /// The form that these keys choose; a clip that does not go with the estimator is read as none.
    pub(crate) fn new(estimator: Estimator, clip: Clip, kl_in_clip: bool) -> Self {
        match (estimator, clip) {
            (Estimator::Differentiable, Clip::Dual) if kl_in_clip => Self::DualClip,
            (Estimator::Differentiable, Clip::Dual) => Self::DualClipReward,
            (Estimator::Differentiable, Clip::None | Clip::Rpg | Clip::Hard | Clip::Truncated) => {
                Self::Differentiable
            }
            (Estimator::Reinforce, Clip::Rpg) => Self::RpgClip,
            (Estimator::Reinforce, Clip::Hard) => Self::HardClip,
            (Estimator::Reinforce, Clip::Truncated) => Self::Truncated,
            (Estimator::Reinforce, Clip::None | Clip::Dual) => Self::Reinforce,
        }
    }

    /// The clips that go with an estimator.
    pub(crate) fn clips(estimator: Estimator) -> impl Iterator<Item = Clip> {
        let goes = move |clip: Clip| Self::new(estimator, clip, true).spec().clip == clip;
        Clip::ALL.iter().copied().filter(move |clip| goes(*clip))
    }
}
