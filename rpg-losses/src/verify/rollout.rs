//! A sampler that is not `pi_old`: corrected, the expected gradient is the slope of the objective all the same.

use super::case::{Case, relative_error};
use super::options::VerifyOptions;
use super::policy::Measure;
use super::random::Random;
use super::report::{Oracle, Row, Subject, larger};
use crate::choices::{Clip, Level};
use crate::config::ObjectiveConfig;
use crate::rollout::{RolloutCorrection, RolloutLevel, rollout_weights};
use burn::tensor::backend::AutodiffBackend;

/// A row per level of the objective and oracle.
pub(super) fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Vec<Row> {
    let mut rows = Vec::new();
    for config in configurations() {
        let (mut closed_form, mut expectation) = (0.0, 0.0);
        for case_idx in 0..options.n_cases {
            let parts = [5 << 32, config.level as u64, case_idx as u64];
            let mut random = Random::derived(options.seed, &parts);
            let sampled = Sampled::random(&config, &mut random);
            let actual = sampled.autodiff(options);
            closed_form = larger(closed_form, relative_error(&actual, &sampled.closed_form()));
            let slope = sampled.case.objective_gradient();
            expectation = larger(expectation, relative_error(&actual, &slope));
        }
        for (oracle, worst) in [
            (Oracle::ClosedForm, closed_form),
            (Oracle::Expectation, expectation),
        ] {
            let subject = Subject::Rollout(config.clone());
            rows.push(Row::new(
                subject,
                oracle,
                options.n_cases,
                worst,
                options.precision,
            ));
        }
    }
    rows
}

/// The error where the sampler is taken for `pi_old`.
pub(super) fn uncorrected_error<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    random: &mut Random,
) -> f64 {
    let mut config = configurations().remove(0);
    config.rollout_correction = None;
    let sampled = Sampled::random(&config, random);
    relative_error(
        &sampled.autodiff(options),
        &sampled.case.objective_gradient(),
    )
}

/// Unclipped RPG, per token and per response, with untruncated ratios of whole responses.
fn configurations() -> Vec<ObjectiveConfig> {
    let at = |level: Level| ObjectiveConfig {
        clip: Clip::None,
        level,
        rollout_correction: Some(RolloutCorrection {
            level: RolloutLevel::Sequence,
            max: 1e9,
            ..Default::default()
        }),
        ..Default::default()
    };
    [Level::Token, Level::Sequence].map(at).into()
}

/// A case whose responses come from another policy.
struct Sampled {
    case: Case,
    weights: Option<Vec<Vec<f64>>>,
    /// The probabilities by which responses are sampled.
    q: Vec<f64>,
}

impl Sampled {
    fn random(config: &ObjectiveConfig, random: &mut Random) -> Self {
        let case = Case::random(config, random, 0.5).normalized();
        let step = case.tree.random_measure(random, 0.3, 0.0, 0.0);
        let rollout = Measure {
            parameters: (case.old.parameters.iter().zip(&step.parameters))
                .map(|(old, step)| old + step)
                .collect(),
        };
        let token_log_probs = |measure: &Measure| case.tree.token_log_probs(measure);
        let weights = config.rollout_correction.map(|correction| {
            let (old, rollout) = (token_log_probs(&case.old), token_log_probs(&rollout));
            rollout_weights(&correction, &old, &rollout, &case.tree.mask()).weights
        });
        let q = case.tree.response_log_probs(&rollout);
        Self {
            q: q.into_iter().map(f64::exp).collect(),
            case,
            weights,
        }
    }

    fn autodiff<B: AutodiffBackend>(&self, options: &VerifyOptions<B>) -> Vec<f64> {
        let weights = self.weights.as_deref();
        self.case
            .autodiff_under(&self.case.config, options, &self.q, weights)
    }

    fn closed_form(&self) -> Vec<f64> {
        let weights = self.weights.as_deref();
        self.case
            .closed_form_under(&self.case.config, &self.q, weights)
    }
}
