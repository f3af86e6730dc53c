//! Losses that are known to be wrong and must be rejected, and mistakes that are harmless in the mean.

use super::case::{Case, relative_error};
use super::mistakes::{self, left_out_error, mistakes};
use super::options::VerifyOptions;
use super::random::Random;
use super::report::{Control, HarmlessInTheMean, Oracle, larger};
use super::rollout::uncorrected_error;
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
    /// On what it is wrong.
    fault: Fault,
    /// Whether the mistake makes a difference in this case.
    shows: fn(&Case) -> bool,
    loss: fn(&ObjectiveConfig, &Ratios<B>, Tensor<B, 2>) -> Tensor<B, 2>,
}

/// Where a mistake changes the expected gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// For distributions, and so for every measure.
    Always,
    /// Only where the mass of the measures is free.
    FreeMass,
    /// Only where the mass of the policy is free: for a distribution the mistake has mean zero.
    HarmlessInTheMean,
}

/// Losses that must be rejected, and those that only a policy of free mass tells from the right ones.
pub(super) fn run<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
) -> (Vec<Control>, Vec<HarmlessInTheMean>) {
    let (mut controls, mut harmless) = (Vec::new(), Vec::new());
    for (idx, wrong) in wrong_losses::<B>().iter().enumerate() {
        let errors = |is_normalized: bool| {
            let error = |random: &mut Random| loss_error(options, wrong, is_normalized, random);
            errors(options, idx as u64, error)
        };
        if wrong.fault != Fault::HarmlessInTheMean {
            let errors = errors(wrong.fault == Fault::Always);
            controls.push(control(options, wrong.name, &errors));
            continue;
        }
        let in_the_mean = errors(true).into_iter().fold(0.0, larger);
        let free_mass = control(options, wrong.name, &errors(false));
        let tolerance = Oracle::Expectation.tolerance(options.precision);
        harmless.push(HarmlessInTheMean {
            name: free_mass.name,
            in_the_mean,
            free_mass: free_mass.error,
            as_claimed: in_the_mean <= tolerance && free_mass.rejected,
        });
    }
    let idx = wrong_losses::<B>().len() as u64;
    let errors = errors(options, idx, |random| micro_batch_error(options, random));
    controls.push(control(
        options,
        "token mean taken per micro-batch",
        &errors,
    ));
    let idx = idx + 1;
    let errors = self::errors(options, idx, |random| uncorrected_error(options, random));
    let name = "responses of another policy than that of lp_old, uncorrected";
    controls.push(control(options, name, &errors));
    let first = idx + 1;
    for (idx, mistake) in mistakes().iter().enumerate() {
        let error = |random: &mut Random| mistakes::error(options, mistake, random);
        let errors = self::errors(options, first + idx as u64, error);
        controls.push(control(options, mistake.name, &errors));
    }
    let idx = first + controls.len() as u64;
    let errors = self::errors(options, idx, left_out_error);
    let name = "sequence_mask: masked tokens leave the denominator";
    controls.push(control(options, name, &errors));
    (controls, harmless)
}

/// The error in every case.
fn errors<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    idx: u64,
    error: impl Fn(&mut Random) -> f64,
) -> Vec<f64> {
    let parts = |case_idx: usize| [1 << 32, idx, case_idx as u64];
    (0..options.n_cases.max(1))
        .map(|case_idx| error(&mut Random::derived(options.seed, &parts(case_idx))))
        .collect()
}

/// The error of a control in the case where it is smallest: every single case must reveal it.
fn control<B: AutodiffBackend>(options: &VerifyOptions<B>, name: &str, errors: &[f64]) -> Control {
    let smallest = errors.iter().copied().fold(f64::INFINITY, f64::min);
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

/// The wrong loss's expected gradient against the slope of the objective; for distributions in the logits alone.
fn loss_error<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    wrong: &WrongLoss<B>,
    is_normalized: bool,
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
        let case = if is_normalized {
            case.normalized()
        } else {
            case
        };
        if (wrong.shows)(&case) {
            break case;
        }
    };
    let mut actual = case.autodiff_of(options, |inputs| {
        let (ratios, advantages) = response_units(inputs);
        (wrong.loss)(&case.config, &ratios, advantages)
    });
    let mut expected = case.objective_gradient();
    if is_normalized {
        actual.truncate(case.tree.n_logits());
        expected.truncate(case.tree.n_logits());
    }
    relative_error(&actual, &expected)
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
            fault: Fault::Always,
            shows: |_| true,
            loss: |config, ratios, a| (k3(ratios) * config.beta - ratios.w.clone() * a) * config.z,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, rkl: gradient through A'",
            divergence: Divergence::Rkl,
            distance: 0.5,
            fault: Fault::HarmlessInTheMean,
            shows: |_| true,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, urkl: gradient through A'",
            divergence: Divergence::Urkl,
            distance: 0.5,
            fault: Fault::HarmlessInTheMean,
            shows: |_| true,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, fkl: the regularizer is lost",
            divergence: Divergence::Fkl,
            distance: 0.5,
            fault: Fault::Always,
            shows: |_| true,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "Algorithm 1 as printed, ufkl: the regularizer is lost",
            divergence: Divergence::Ufkl,
            distance: 0.5,
            fault: Fault::Always,
            shows: |_| true,
            loss: algorithm_1_as_printed,
        },
        WrongLoss {
            name: "flipped sign of the KL term",
            divergence: Divergence::Rkl,
            distance: 0.5,
            fault: Fault::Always,
            shows: |_| true,
            loss: |config, ratios, a| {
                -(ratios.w.clone() * a) - kl_surrogate(config.kl, ratios) * config.beta
            },
        },
        WrongLoss {
            name: "KL term clamped to +-10, rkl",
            divergence: Divergence::Rkl,
            distance: 1.5,
            fault: Fault::Always,
            // The clamp acts where the KL term is larger, from w = 5.7 on where r = 1.
            shows: |case| {
                let clamped =
                    |unit: &Unit| (unit.lp - unit.lp_old).exp() * (unit.lp - unit.lp_ref) > 11.0;
                case.units().iter().flatten().any(clamped)
            },
            loss: |config, ratios, a| {
                let kl = kl_surrogate(config.kl, ratios).clamp(-10.0, 10.0);
                kl * config.beta - ratios.w.clone() * a
            },
        },
        WrongLoss {
            name: "flipped mass correction, urkl",
            divergence: Divergence::Urkl,
            distance: 0.5,
            fault: Fault::HarmlessInTheMean,
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
            fault: Fault::HarmlessInTheMean,
            shows: |_| true,
            loss: |config, ratios, a| {
                let kl = -ratios.w.clone() - ratios.r.clone() * ratios.u.clone();
                (kl * config.beta - ratios.w.clone() * a) * config.z
            },
        },
        WrongLoss {
            name: "urkl with the sampler's bare log q for lp_old",
            divergence: Divergence::Urkl,
            distance: 0.5,
            fault: Fault::FreeMass,
            shows: |case| case.config.z.ln().abs() > 0.1,
            loss: |config, ratios, a| {
                let ratios = of_bare_log_q(config, ratios);
                let kl = kl_surrogate(config.kl, &ratios) * config.beta;
                (kl - ratios.w * a) * config.z
            },
        },
        WrongLoss {
            name: "ufkl with the sampler's bare log q for lp_old",
            divergence: Divergence::Ufkl,
            distance: 0.5,
            fault: Fault::FreeMass,
            shows: |case| case.config.z.ln().abs() > 0.1,
            loss: |config, ratios, a| {
                let ratios = of_bare_log_q(config, ratios);
                let kl = kl_surrogate(config.kl, &ratios) * config.beta;
                (kl - ratios.w * a) * config.z
            },
        },
    ]
}

/// The ratios to a measure whose mass has been forgotten: `lp_old - log z`.
fn of_bare_log_q<B: AutodiffBackend>(config: &ObjectiveConfig, ratios: &Ratios<B>) -> Ratios<B> {
    let lp_old = ratios.lp.clone() - ratios.log_w.clone() - config.z.ln();
    let lp_ref = ratios.lp.clone() - ratios.u.clone();
    Ratios::new(ratios.lp.clone(), lp_old, lp_ref)
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
        c: Some(2e9),
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
                -w * a,
                z * (-w * a + beta * w),
                -w * a - beta * w * (u + 1.0),
                -w * a + clamped,
                z * (-w * a + beta * w * (u + 2.0)),
                z * (-w * a - beta * (w + 1.0)),
                z * (-z * w * a + beta * z * w * u),
                z * (-z * w * a + beta * (z * w - z)),
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
