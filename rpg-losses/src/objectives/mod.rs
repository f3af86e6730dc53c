//! The kinds of objectives, one file each.

pub mod cispo;
mod dapo;
pub mod dppo;
pub mod dppo_kl;
pub mod dppo_tv;
mod dr_grpo;
pub mod gmpo;
mod grpo;
mod grpo_corrected;
mod gspo;
mod gspo_token;
pub mod kl_term;
pub mod ppo;
mod reinforce_pp;
mod reinforce_pp_baseline;
mod rloo;
pub mod rpg;
pub mod sapo;
pub(crate) mod spec;

use crate::choices::named_enum;
use crate::objectives::rpg::Form;
use crate::objectives::spec::Spec;
use crate::terms::{ClosedForm, Terms, UnitLosses, UnitTerms};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Declares [`Kind`] and sends each kind to its file; a file with several forms is told which.
macro_rules! kinds {
    ($argument:ident: Form; $($(#[doc = $doc:literal])+ $kind:ident = $name:literal in $file:ident $(($form:ident))?,)+) => {
        named_enum! {
            /// The family of losses: RPG itself, or one of the baselines it is compared with.
            Kind {
                $($(#[doc = $doc])+ $kind = $name,)+
            }
        }

        impl Kind {
            /// What it is, in a sentence.
            pub fn about(self) -> &'static str {
                match self { $(Self::$kind => concat!($($doc),+).trim_ascii()),+ }
            }

            pub(crate) fn spec(self) -> &'static Spec {
                match self { $(Self::$kind => &$file::SPEC),+ }
            }

            pub(crate) fn losses<B: Backend>(
                self,
                $argument: Form,
                terms: &Terms<B>,
            ) -> UnitLosses<B> {
                match self { $(Self::$kind => $file::losses($($form,)? terms)),+ }
            }

            #[inline(always)]
            pub(crate) fn closed_form(self, $argument: Form, terms: &UnitTerms) -> ClosedForm {
                match self { $(Self::$kind => $file::closed_form($($form,)? terms)),+ }
            }
        }
    };
}

// A kind's file has the loss over tensors (`losses`), its closed form in f64 (`closed_form`), and what the
// rest of the crate has to know of it (`SPEC`). A new kind is such a file, a row here, and a row in
// `verify/oracle.rs`, which has every formula a second time.
kinds! {
    form: Form;
    /// Regularized policy gradient: the losses of the paper.
    Rpg = "rpg" in rpg(form),
    /// The clipped surrogate of PPO.
    Ppo = "ppo" in ppo,
    /// GRPO, with the KL term of the original, which has no importance weight.
    Grpo = "grpo" in grpo,
    /// GRPO with the importance weight on its KL term.
    GrpoCorrected = "grpo_corrected" in grpo_corrected,
    /// Dr. GRPO: the loss of `grpo`, without normalization by deviation or by length.
    DrGrpo = "dr_grpo" in dr_grpo,
    /// DAPO: `ppo` under dual clip with separate bounds, no KL term.
    Dapo = "dapo" in dapo,
    /// REINFORCE++: `ppo` on batch-normalized returns whose token rewards carry the KL penalty.
    ReinforcePp = "reinforce_pp" in reinforce_pp,
    /// REINFORCE++-baseline: group mean, then whitened over tokens.
    ReinforcePpBaseline = "reinforce_pp_baseline" in reinforce_pp_baseline,
    /// RLOO: `ppo` on leave-one-out advantages.
    Rloo = "rloo" in rloo,
    /// GSPO: `ppo` on the length-normalized ratio of the whole response.
    Gspo = "gspo" in gspo,
    /// GSPO-token: the weight of `gspo`, with an advantage for every token.
    GspoToken = "gspo_token" in gspo_token,
    /// CISPO: importance weights bounded above.
    Cispo = "cispo" in cispo,
    /// SAPO: a sigmoid gate in place of the clip.
    Sapo = "sapo" in sapo,
    /// DPPO: a mask by the total variation of the sampled token in place of the clip.
    DppoTv = "dppo_tv" in dppo_tv,
    /// DPPO: a mask by the KL divergence of the sampled token in place of the clip.
    DppoKl = "dppo_kl" in dppo_kl,
    /// GMPO: the geometric mean of the response's clipped weights.
    Gmpo = "gmpo" in gmpo,
}
