//! Losses that are known to be wrong, and must be seen to be.

use burn::tensor::{Tensor, backend::AutodiffBackend};

use super::{
    VerifyOptions,
    case::{Case, relative_error},
    random::Random,
    report::{Control, Oracle},
};
use crate::{
    LossInputs, ObjectiveConfig,
    clip::dual_clip,
    divergence::{k3, kl_component_over_weight, kl_surrogate},
    kinds::{Divergence, Estimator, Level},
    ratios::Ratios,
};

/// A wrong loss, the divergence whose gradient it claims to have, and how far off policy it fails.
struct WrongLoss<B: AutodiffBackend> {
    name: &'static str,
    divergence: Divergence,
    distance: f64,
    loss: fn(&ObjectiveConfig, &Ratios<B>, Tensor<B, 2>) -> Tensor<B, 2>,
}

pub(super) fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Vec<Control> {
    wrong_losses::<B>()
        .iter()
        .enumerate()
        .map(|(idx, wrong)| {
            let config = ObjectiveConfig {
                kl: wrong.divergence,
                estimator: Estimator::Differentiable,
                clip: crate::Clip::None,
                level: Level::Sequence,
                ..Default::default()
            };
            // Every single case must see the error.
            let error = (0..options.n_cases.max(1))
                .map(|case_idx| {
                    let parts = [1 << 32, idx as u64, case_idx as u64];
                    let mut random = Random::derived(options.seed, &parts);
                    let case = Case::random(&config, &mut random, wrong.distance);
                    control_error(&case, options, wrong)
                })
                .fold(f64::INFINITY, f64::min);
            Control {
                name: wrong.name.into(),
                error,
                rejected: error > 10.0 * Oracle::Expectation.tolerance(options.precision),
            }
        })
        .collect()
}

/// The relative error of the wrong loss's expected gradient against the slope of the objective.
fn control_error<B: AutodiffBackend>(
    case: &Case,
    options: &VerifyOptions<B>,
    wrong: &WrongLoss<B>,
) -> f64 {
    let actual = case.autodiff_of(options, |inputs| {
        let (ratios, advantages) = response_units(inputs);
        (wrong.loss)(&case.config, &ratios, advantages)
    });
    relative_error(&actual, &case.objective_gradient())
}

/// Sums over each response, `[N, 1]`.
fn response_units<B: AutodiffBackend>(inputs: LossInputs<B>) -> (Ratios<B>, Tensor<B, 2>) {
    let is_masked = inputs.mask.bool_not();
    let sum = |x: Tensor<B, 2>| x.mask_fill(is_masked.clone(), 0.0).sum_dim(1);
    let logp_old = sum(inputs.logp_old);
    let logp_ref = inputs.logp_ref.map_or_else(|| logp_old.clone(), sum);
    let advantages = inputs.advantages.slice_dim(1, 0..1);
    (
        Ratios::new(sum(inputs.logp), logp_old, logp_ref),
        advantages,
    )
}

fn wrong_losses<B: AutodiffBackend>() -> Vec<WrongLoss<B>> {
    vec![
        WrongLoss {
            name: "grpo: k3 without importance weight",
            divergence: Divergence::Urkl,
            distance: 0.5,
            loss: |config, ratios, a| (k3(ratios) * config.beta - ratios.w.clone() * a) * config.z,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, rkl: gradient through A'",
            divergence: Divergence::Rkl,
            distance: 0.5,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, urkl: gradient through A'",
            divergence: Divergence::Urkl,
            distance: 0.5,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "flipped sign of the KL term",
            divergence: Divergence::Rkl,
            distance: 0.5,
            loss: |config, ratios, a| {
                -(ratios.w.clone() * a) - kl_surrogate(config.kl, ratios) * config.beta
            },
        },
    ]
}

/// Dual clip of `A + beta*K/w` without the stop-gradient, inside the region.
fn algorithm_1_as_printed<B: AutodiffBackend>(
    config: &ObjectiveConfig,
    ratios: &Ratios<B>,
    advantages: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let kl = kl_component_over_weight(config.kl, ratios) * config.beta;
    let bounds = ObjectiveConfig {
        eps_low: 1.0,
        eps_high: 1e9,
        c: 2e9,
        ..config.clone()
    }
    .clip_bounds();
    dual_clip(ratios.w.clone(), advantages + kl, bounds) * config.mass()
}
