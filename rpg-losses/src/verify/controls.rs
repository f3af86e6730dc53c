//! Losses that are known to be wrong, and must be rejected.

use super::case::{Case, relative_error};
use super::options::VerifyOptions;
use super::random::Random;
use super::report::{Control, Oracle};
use super::steps::{Step, flatten, join};
use crate::aggregate::StepTotals;
use crate::choices::{Clip, Divergence, Estimator, Level};
use crate::clip::dual_clip;
use crate::config::ObjectiveConfig;
use crate::divergence::{k3, kl_component_over_weight, kl_surrogate};
use crate::formula::Unit;
use crate::inputs::LossInputs;
use crate::loss::policy_loss;
use crate::ratios::Ratios;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// A wrong loss and the divergence whose gradient it claims to have.
struct WrongLoss<B: AutodiffBackend> {
    name: &'static str,
    divergence: Divergence,
    /// How far off policy it is measured.
    distance: f64,
    /// Whether the mistake makes a difference at this unit.
    shows: fn(&Unit) -> bool,
    loss: fn(&ObjectiveConfig, &Ratios<B>, Tensor<B, 2>) -> Tensor<B, 2>,
}

pub(super) fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Vec<Control> {
    let mut controls: Vec<Control> = (wrong_losses::<B>().iter().enumerate())
        .map(|(idx, wrong)| {
            let error = |random: &mut Random| loss_error(options, wrong, random);
            control(options, wrong.name, idx as u64, error)
        })
        .collect();
    controls.push(control(
        options,
        "token mean taken per micro-batch",
        controls.len() as u64,
        |random| micro_batch_error(options, random),
    ));
    controls
}

/// The error of a control in the case where it is smallest: every single case must reveal it.
fn control<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    name: &str,
    idx: u64,
    error: impl Fn(&mut Random) -> f64,
) -> Control {
    let smallest = (0..options.n_cases.max(1))
        .map(|case_idx| {
            error(&mut Random::derived(
                options.seed,
                &[1 << 32, idx, case_idx as u64],
            ))
        })
        .fold(f64::INFINITY, f64::min);
    Control {
        name: name.into(),
        error: smallest,
        rejected: smallest > 10.0 * Oracle::Expectation.tolerance(options.precision),
    }
}

/// The mean over micro-batches of their token means, against the token mean of the step.
fn micro_batch_error<B: AutodiffBackend>(options: &VerifyOptions<B>, random: &mut Random) -> f64 {
    let config = ObjectiveConfig::default();
    let n_tokens = |step: &Step| step.mask.iter().flatten().filter(|m| **m).count();
    let (step, first, second) = loop {
        let step = Step::random(random, 0.1);
        let (first, second) = step.split(step.mask.len() / 2);
        // Micro-batches of equal size would agree with the step.
        if n_tokens(&first) != n_tokens(&second) && n_tokens(&first) * n_tokens(&second) > 0 {
            break (step, first, second);
        }
    };
    let own_mean = |part: &Step| {
        let totals = StepTotals::from_mask(&part.mask);
        let mut values = part.autodiff(options, policy_loss::<B>, &config, &totals);
        values.iter_mut().for_each(|value| *value /= 2.0);
        values
    };
    let actual = join(&own_mean(&first), &own_mean(&second));
    relative_error(&actual, &flatten(step.closed_form(&config)))
}

/// The wrong loss's expected gradient against the slope of the objective.
fn loss_error<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    wrong: &WrongLoss<B>,
    random: &mut Random,
) -> f64 {
    let config = ObjectiveConfig {
        kl: wrong.divergence,
        estimator: Estimator::Differentiable,
        clip: Clip::None,
        level: Level::Sequence,
        ..Default::default()
    };
    let case = loop {
        let case = Case::random(&config, random, wrong.distance);
        if case
            .units()
            .iter()
            .flatten()
            .any(|unit| (wrong.shows)(unit))
        {
            break case;
        }
    };
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
            shows: |_| true,
            loss: |config, ratios, a| (k3(ratios) * config.beta - ratios.w.clone() * a) * config.z,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, rkl: gradient through A'",
            divergence: Divergence::Rkl,
            distance: 0.5,
            shows: |_| true,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, urkl: gradient through A'",
            divergence: Divergence::Urkl,
            distance: 0.5,
            shows: |_| true,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "flipped sign of the KL term",
            divergence: Divergence::Rkl,
            distance: 0.5,
            shows: |_| true,
            loss: |config, ratios, a| {
                -(ratios.w.clone() * a) - kl_surrogate(config.kl, ratios) * config.beta
            },
        },
        WrongLoss {
            name: "KL term clamped to +-10, rkl",
            divergence: Divergence::Rkl,
            distance: 1.5,
            // The clamp acts where the KL term is larger, from w = 5.7 on where r = 1.
            shows: |unit| (unit.lp - unit.lp_old).exp() * (unit.lp - unit.lp_ref) > 11.0,
            loss: |config, ratios, a| {
                let kl = kl_surrogate(config.kl, ratios).clamp(-10.0, 10.0);
                kl * config.beta - ratios.w.clone() * a
            },
        },
        WrongLoss {
            name: "flipped mass correction, urkl",
            divergence: Divergence::Urkl,
            distance: 0.5,
            shows: |_| true,
            loss: |config, ratios, a| {
                let kl = ratios.w.clone() * (ratios.u.clone() + 1.0);
                (kl * config.beta - ratios.w.clone() * a) * config.z
            },
        },
        WrongLoss {
            name: "flipped mass correction, ufkl",
            divergence: Divergence::Ufkl,
            distance: 0.5,
            shows: |_| true,
            loss: |config, ratios, a| {
                let kl = -ratios.w.clone() - ratios.r.clone() * ratios.u.clone();
                (kl * config.beta - ratios.w.clone() * a) * config.z
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
    dual_clip(ratios.w.clone(), advantages + kl, bounds).losses * config.mass()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{DType, TensorData};

    type B = Autodiff<Flex>;

    /// A control with another mistake than its name says would be rejected as well.
    #[test]
    fn each_control_makes_the_mistake_it_is_named_for() {
        let (a, beta, z) = (0.7, 0.3, 1.5);
        let slopes = |wrong: &WrongLoss<B>, log_w: f64| {
            let config = ObjectiveConfig {
                kl: wrong.divergence,
                beta,
                z,
                ..Default::default()
            };
            let tensor = |value: f64| {
                let data = TensorData::from([[value]]).convert_dtype(DType::F64);
                Tensor::<B, 2>::from_data(data, (&Default::default(), DType::F64))
            };
            let lp = tensor(-1.0).require_grad();
            let old = tensor(-1.0 - log_w);
            let ratios = Ratios::new(lp.clone(), old.clone(), old);
            let grads = (wrong.loss)(&config, &ratios, tensor(a)).sum().backward();
            let grad = lp.grad(&grads).unwrap();
            grad.into_data().iter::<f64>().next().unwrap()
        };
        // With r = 1: u = log w. The clamp at 10 acts at the second weight alone.
        for u in [0.2_f64, 2.5] {
            let w = u.exp();
            let clamped = if w * u > 10.0 {
                0.0
            } else {
                beta * w * (u + 1.0)
            };
            let expected = [
                z * (-w * a + beta * (1.0 - (-u).exp())),
                -w * a + beta * w * (u + 2.0),
                z * (-w * a + beta * w * (u + 1.0)),
                -w * a - beta * w * (u + 1.0),
                -w * a + clamped,
                z * (-w * a + beta * w * (u + 2.0)),
                z * (-w * a - beta * (w + 1.0)),
            ];
            let wrong_losses = wrong_losses::<B>();
            assert_eq!(wrong_losses.len(), expected.len());
            for (wrong, expected) in wrong_losses.iter().zip(expected) {
                let actual = slopes(wrong, u);
                let error = (actual - expected).abs();
                assert!(
                    error < 1e-12 * expected.abs(),
                    "{}: {actual}, not {expected}",
                    wrong.name
                );
            }
        }
    }
}
