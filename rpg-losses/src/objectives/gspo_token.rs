//! GSPO-token: the weight of GSPO, and an advantage for every token.

use crate::choices::{Aggregation, Level};
use crate::objectives::gspo;
use crate::objectives::spec::{Defaults, Spec, WeightOf};

pub(crate) use crate::objectives::ppo::{closed_form, losses};

// arXiv 2507.18071, Equations 13 and 14.
pub(crate) const SPEC: Spec = Spec {
    loss: "`ppo` with `w = SG(s)*exp(lp - SG(lp))`, `s` the geometric mean of `exp(lp - lp_old)` over the response",
    weight_of: WeightOf::Response,
    defaults: Defaults {
        level: Level::Token,
        token_aggregation: Aggregation::SeqMeanTokenMean,
        ..gspo::SPEC.defaults
    },
    ..Spec::BASELINE
};
