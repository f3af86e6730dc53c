//! Trains a softmax bandit with each divergence and compares it with the known optimum.
//!
//! `cargo run --release -p rpg-losses --example softmax_bandit`
//!
//! A bandit is a response of one token: the exact objective `J = E_pi[R] - beta*D` can be written
//! down, and so can the policy that maximises it.
//!
//! - reverse KL: `pi* ~ ref * exp(R/beta)`;
//! - forward KL: `pi* = beta*ref / (lambda - R)`, with `lambda > max R` such that it sums to one;
//! - symmetrised KL: the root of `R + beta/2*(ref/pi - log(pi/ref) - 1) = lambda` for every arm.
//!
//! A distribution has the same optimum under the normalized and the unnormalized form.
//! The policy is trained as a language model would be: every round it samples (here: every arm, in
//! proportion to its probability), takes a few updates off policy, and samples again.

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, DType, Tensor, TensorData};
use rpg_losses::{
    Clip, Divergence, Estimator, Kind, LossInputs, ObjectiveConfig, StepTotals, policy_loss,
};

type B = Autodiff<Flex>;

const REWARDS: [f64; 5] = [1.0, 0.8, 0.2, 0.0, 0.5];
const REFERENCE: [f64; 5] = [0.05, 0.15, 0.4, 0.3, 0.1];
const BETA: f64 = 0.5;
const N_ARMS: usize = REWARDS.len();
const N_ROUNDS: usize = 400;
const UPDATES_PER_ROUND: usize = 4;
const LEARNING_RATE: f64 = 0.5;
const TOLERANCE: f64 = 1e-3;

fn main() {
    println!("| divergence | estimator | policy after training | largest error |");
    println!("| --- | --- | --- | ---: |");
    let mut worst = 0.0_f64;
    for divergence in Divergence::ALL.iter().filter(|d| **d != Divergence::None) {
        let optimum = optimum(*divergence);
        for estimator in Estimator::ALL {
            let policy = train(*divergence, *estimator);
            let differences = policy.iter().zip(&optimum).map(|(p, q)| (p - q).abs());
            let error = differences.fold(0.0, f64::max);
            worst = worst.max(error);
            let policy: Vec<String> = policy.iter().map(|p| format!("{p:.4}")).collect();
            println!(
                "| {divergence} | {estimator} | {} | {error:.1e} |",
                policy.join(" ")
            );
        }
        let optimum: Vec<String> = optimum.iter().map(|p| format!("{p:.4}")).collect();
        println!("| {divergence} | optimum | {} | |", optimum.join(" "));
    }
    assert!(worst <= TOLERANCE, "an optimum was missed by {worst:.1e}");
    println!("\nEvery optimum was reached to {worst:.1e}.");
}

/// The policy after training, as probabilities.
fn train(divergence: Divergence, estimator: Estimator) -> Vec<f64> {
    let mut config = ObjectiveConfig::for_kind(Kind::Rpg);
    config.kl = divergence;
    config.estimator = estimator;
    config.clip = match estimator {
        Estimator::Differentiable => Clip::Dual,
        Estimator::Reinforce => Clip::Rpg,
        other => panic!("no clip is chosen for {other}"),
    };
    config.beta = BETA;
    let mut logits: Vec<f64> = REFERENCE.iter().map(|p| p.ln()).collect();
    for _ in 0..N_ROUNDS {
        let sampled = log_probs(&logits);
        for _ in 0..UPDATES_PER_ROUND {
            let gradient = gradient(&config, &logits, &sampled);
            for (logit, slope) in logits.iter_mut().zip(gradient) {
                *logit -= LEARNING_RATE * slope;
            }
        }
    }
    log_probs(&logits).iter().map(|lp| lp.exp()).collect()
}

/// The gradient in the logits of the expected loss under the sampling policy.
fn gradient(config: &ObjectiveConfig, logits: &[f64], sampled: &[f64]) -> Vec<f64> {
    let baseline: f64 = (sampled.iter().zip(REWARDS))
        .map(|(lp, r)| lp.exp() * r)
        .sum();
    let totals = StepTotals {
        n_tokens: 1,
        n_responses: 1,
        max_length: 1,
    };
    let logits = row(logits).require_grad();
    let logp = log_softmax(logits.clone(), 1).reshape([N_ARMS, 1]);
    let column = |values: &[f64]| row(values).reshape([N_ARMS, 1]);
    let reference: Vec<f64> = REFERENCE.iter().map(|p| p.ln()).collect();
    let advantages: Vec<f64> = REWARDS.iter().map(|r| r - baseline).collect();
    let mut loss = Tensor::<B, 1>::zeros([1], (&Default::default(), DType::F64));
    for arm in 0..N_ARMS {
        // One response per arm, weighted by how often it is sampled.
        let pick = |tensor: Tensor<B, 2>| tensor.slice([arm..arm + 1, 0..1]);
        let mask: Tensor<B, 2, Bool> =
            Tensor::from_data(TensorData::new(vec![true], [1, 1]), &Default::default());
        let inputs = LossInputs {
            logp: pick(logp.clone()),
            logp_old: pick(column(sampled)),
            logp_ref: Some(pick(column(&reference))),
            advantages: pick(column(&advantages)),
            weights: None,
            mask,
        };
        loss = loss + policy_loss(config, inputs, &totals).loss * sampled[arm].exp();
    }
    let grads = loss.backward();
    let gradient = logits.grad(&grads).expect("the logits are a leaf");
    gradient.into_data().iter::<f64>().collect()
}

fn row(values: &[f64]) -> Tensor<B, 2> {
    let data = TensorData::new(values.to_vec(), [1, values.len()]);
    Tensor::from_data(data, (&Default::default(), DType::F64))
}

fn log_probs(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|x| x.exp()).sum();
    logits.iter().map(|x| x - total.ln()).collect()
}

/// The policy that maximises `E_pi[R] - beta*D`, found without gradients.
fn optimum(divergence: Divergence) -> Vec<f64> {
    let arms = || REWARDS.iter().zip(REFERENCE);
    match divergence {
        Divergence::Rkl | Divergence::Urkl => {
            let weights: Vec<f64> = arms().map(|(r, f)| f * (r / BETA).exp()).collect();
            let total: f64 = weights.iter().sum();
            weights.iter().map(|w| w / total).collect()
        }
        Divergence::Fkl | Divergence::Ufkl => {
            let policy = |lambda: f64| -> Vec<f64> {
                arms().map(|(r, f)| BETA * f / (lambda - r)).collect()
            };
            // The sum falls in lambda, from infinity just above the largest reward.
            policy(root(1.0 + 1e-12, 10.0, |lambda| {
                policy(lambda).iter().sum::<f64>() - 1.0
            }))
        }
        Divergence::Skl | Divergence::Uskl => {
            let arm = |r: f64, f: f64, lambda: f64| {
                root(1e-12, 10.0, |p| {
                    r + 0.5 * BETA * (f / p - (p / f).ln() - 1.0) - lambda
                })
            };
            let policy =
                |lambda: f64| -> Vec<f64> { arms().map(|(r, f)| arm(*r, f, lambda)).collect() };
            policy(root(-5.0, 5.0, |lambda| {
                policy(lambda).iter().sum::<f64>() - 1.0
            }))
        }
        other => panic!("the optimum under `{other}` is not known here"),
    }
}

/// Where a falling function is zero.
fn root(mut low: f64, mut high: f64, falling: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if falling(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}
