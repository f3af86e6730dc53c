//! Statements of the paper about divergences and steps, as exact sums over the enumerated policy.

use super::policy::{Measure, Tree};
use super::random::Random;
use crate::aggregate::StepTotals;
use crate::choices::{Aggregation, Clip, Divergence, Estimator, Level};
use crate::config::ObjectiveConfig;
use crate::divergence::k3;
use crate::ratios::Ratios;
use crate::reference::{Batch, Evaluation, evaluate};
use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};

/// The four divergences of the paper.
const DIVERGENCES: [Divergence; 4] = [
    Divergence::Fkl,
    Divergence::Rkl,
    Divergence::Ufkl,
    Divergence::Urkl,
];

/// Unclipped RPG over whole responses, one at a time.
fn config(kl: Divergence, beta: f64) -> ObjectiveConfig {
    ObjectiveConfig {
        kl,
        beta,
        estimator: Estimator::Reinforce,
        clip: Clip::None,
        level: Level::Sequence,
        aggregation: Aggregation::SeqMean,
        ..Default::default()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// `a` and `b` differ by less than `tolerance` times the sum of the terms that make them up.
fn assert_close(a: f64, b: f64, terms: f64, tolerance: f64, what: &str) {
    assert!((a - b).abs() <= tolerance * terms, "{what}: {a} and {b}");
}

/// `k3(ref/pi)` of each response by the tensor code.
fn tensor_k3(pi: &[f64], reference: &[f64]) -> Vec<f64> {
    let row = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), [1, values.len()]);
        Tensor::<Flex, 2>::from_data(data, (&Default::default(), DType::F64))
    };
    let (pi, reference) = (row(pi), row(reference));
    let ratios = Ratios::new(pi.clone(), pi, reference);
    k3(&ratios).into_data().iter::<f64>().collect()
}

/// `UKL(a, b) = sum_x a*log(a/b) - a + b` of measures given by their logarithms.
fn ukl(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| a.exp() * (a - b) - a.exp() + b.exp())
        .sum()
}

/// The closed form of each response alone.
fn one_by_one(tree: &Tree, config: &ObjectiveConfig, measures: [&Measure; 3]) -> Vec<Evaluation> {
    let [pi, old, reference] = measures.map(|measure| tree.token_log_probs(measure));
    let mask = tree.mask();
    let totals = StepTotals {
        n_tokens: 1,
        n_responses: 1,
        max_length: 1,
    };
    let evaluate_row = |row: usize| {
        let alone = |rows: &[Vec<f64>]| vec![rows[row].clone()];
        let batch = Batch {
            logp: &alone(&pi),
            logp_old: &alone(&old),
            logp_ref: &alone(&reference),
            advantages: &[vec![0.0; tree.max_length()]],
            weights: None,
            mask: &[mask[row].clone()],
        };
        evaluate(config, batch, &totals)
    };
    (0..mask.len()).map(evaluate_row).collect()
}

/// Appendix D: the expectation of `k3` is the unnormalized divergence, in both directions, and for measures of any
/// mass: `sum_x pi*k3(ref/pi) = UKL(pi, ref)` and `sum_x ref*k3(pi/ref) = UKL(ref, pi)`. Under samples of a third
/// measure the weight `w` makes up for it, as in `actor/kl_loss`; `actor/ppo_kl_k3` is the second form.
#[test]
fn k3_is_the_unnormalized_divergence_both_ways() {
    let tree = Tree::new(4, 3);
    for case in 0..32 {
        let mut random = Random::derived(case, &[6 << 32]);
        let measures: [Measure; 3] =
            std::array::from_fn(|_| tree.random_measure(&mut random, 0.7, 0.2, 0.3));
        let [pi, old, reference] = measures.each_ref().map(|m| tree.response_log_probs(m));
        let total = |log: &[f64]| log.iter().map(|x| x.exp()).sum::<f64>();
        let mass = total(&pi) + total(&reference);
        assert!((total(&pi) - 1.0).abs() > 1e-3 && (total(&pi) - total(&reference)).abs() > 1e-3);

        let expected = |measure: &[f64], values: &[f64]| -> f64 {
            let probabilities: Vec<f64> = measure.iter().map(|x| x.exp()).collect();
            dot(&probabilities, values)
        };
        let tolerance = 1e-14;
        let reverse = ukl(&pi, &reference);
        let k3 = tensor_k3(&pi, &reference);
        assert_close(expected(&pi, &k3), reverse, mass, tolerance, "UKL(pi, ref)");
        let exchanged = tensor_k3(&reference, &pi);
        let forward = ukl(&reference, &pi);
        assert_close(
            expected(&reference, &exchanged),
            forward,
            mass,
            tolerance,
            "UKL(ref, pi)",
        );
        // Not the mean of the log-ratio, which leaves out the masses.
        let k1: Vec<f64> = pi.iter().zip(&reference).map(|(p, q)| p - q).collect();
        let missing = total(&reference) - total(&pi);
        assert!((expected(&pi, &k1) - reverse).abs() > 0.9 * missing.abs());

        // What a loss reports of samples from `pi_old`.
        let config = config(Divergence::None, 0.0);
        let rows = one_by_one(&tree, &config, measures.each_ref());
        let metric =
            |name: &str| -> Vec<f64> { rows.iter().map(|row| row.metrics[name]).collect() };
        let terms = mass + total(&old);
        assert_close(
            expected(&old, &metric("actor/kl_loss")),
            reverse,
            terms,
            tolerance,
            "actor/kl_loss",
        );
    }
    // A response of one token: the estimates over tokens are those of responses.
    let tree = Tree::new(6, 1);
    let mut random = Random::derived(0, &[7 << 32]);
    let [pi, old]: [Measure; 2] =
        std::array::from_fn(|_| tree.random_measure(&mut random, 0.7, 0.2, 0.3));
    let rows = one_by_one(&tree, &config(Divergence::None, 0.0), [&pi, &old, &old]);
    let [pi, old] = [pi, old].map(|measure| tree.response_log_probs(&measure));
    let mean = |name: &str| -> f64 {
        let pairs = old.iter().zip(&rows);
        pairs.map(|(old, row)| old.exp() * row.metrics[name]).sum()
    };
    assert_close(
        mean("actor/ppo_kl_k3"),
        ukl(&old, &pi),
        2.0,
        1e-14,
        "ppo_kl_k3",
    );
}

/// A policy with rewards, and the exact gradients of RPG's losses around it.
struct Around {
    tree: Tree,
    old: Measure,
    /// Of each response, with mean 0.
    advantages: Vec<f64>,
}

impl Around {
    fn new(tree: Tree) -> Self {
        let mut random = Random::derived(0, &[8 << 32]);
        let old = tree.random_measure(&mut random, 0.5, 0.0, 0.0);
        let p: Vec<f64> = tree
            .response_log_probs(&old)
            .iter()
            .map(|x| x.exp())
            .collect();
        let rewards: Vec<f64> = p.iter().map(|_| random.uniform(0.0, 1.0)).collect();
        let mean = dot(&p, &rewards);
        Self {
            advantages: rewards.iter().map(|reward| reward - mean).collect(),
            tree,
            old,
        }
    }

    /// `pi_old` with its logits moved.
    fn moved(&self, step: &[f64], scale: f64) -> Measure {
        let mut policy = self.old.clone();
        for (logit, step) in policy.parameters.iter_mut().zip(step) {
            *logit += scale * step;
        }
        policy
    }

    /// The gradient of `J` in the logits that the loss gives in expectation under `pi_old`, the reference.
    fn gradient(&self, config: &ObjectiveConfig, policy: &Measure) -> Vec<f64> {
        let tree = &self.tree;
        let logp_old = tree.token_log_probs(&self.old);
        let rows = self.advantages.iter();
        let batch = Batch {
            logp: &tree.token_log_probs(policy),
            logp_old: &logp_old,
            logp_ref: &logp_old,
            advantages: &rows
                .map(|a| vec![*a; tree.max_length()])
                .collect::<Vec<_>>(),
            weights: None,
            mask: &tree.mask(),
        };
        let totals = StepTotals {
            n_tokens: 1,
            n_responses: 1,
            max_length: 1,
        };
        let mut grads = evaluate(config, batch, &totals).grad;
        for (row, log_q) in grads.iter_mut().zip(tree.response_log_probs(&self.old)) {
            // Losses are minimised.
            row.iter_mut().for_each(|grad| *grad *= -log_q.exp());
        }
        self.logits(policy, &grads)
    }

    fn logits(&self, policy: &Measure, token_grads: &[Vec<f64>]) -> Vec<f64> {
        let mut gradient = self.tree.pull_back(policy, token_grads);
        gradient.truncate(self.tree.n_logits());
        gradient
    }

    /// `F*v` with the Fisher matrix `F = sum_x p * grad lp * grad lp^T` at `pi_old`.
    fn fisher(&self, v: &[f64]) -> Vec<f64> {
        let log_p = self.tree.response_log_probs(&self.old);
        let n_responses = log_p.len();
        let mut result = vec![0.0; v.len()];
        for (row, log_p) in log_p.iter().enumerate() {
            let mut alone = vec![vec![0.0; self.tree.max_length()]; n_responses];
            alone[row].fill(1.0);
            let score = self.logits(&self.old, &alone);
            let weight = log_p.exp() * dot(&score, v);
            for (sum, score) in result.iter_mut().zip(score) {
                *sum += weight * score;
            }
        }
        result
    }

    /// `F^{-1} grad E[R]`, by conjugate gradients: `F` is singular along shifts of a prefix's logits, which change nothing.
    fn natural_gradient(&self) -> Vec<f64> {
        let gradient = self.gradient(&config(Divergence::None, 0.0), &self.old);
        let (mut x, mut residual) = (vec![0.0; gradient.len()], gradient.clone());
        let mut direction = residual.clone();
        while norm(&residual) > 1e-15 * norm(&gradient) {
            let product = self.fisher(&direction);
            let before = dot(&residual, &residual);
            let alpha = before / dot(&direction, &product);
            for i in 0..x.len() {
                x[i] += alpha * direction[i];
                residual[i] -= alpha * product[i];
            }
            let beta = dot(&residual, &residual) / before;
            for (direction, residual) in direction.iter_mut().zip(&residual) {
                *direction = residual + beta * *direction;
            }
        }
        x
    }
}

/// Appendix B, its premises: at `pi_old` every divergence from it has slope 0 and the Fisher matrix as curvature.
#[test]
fn at_the_sampling_policy_every_divergence_is_flat_and_curves_as_the_fisher_matrix() {
    let around = Around::new(Tree::new(3, 3));
    let n_logits = around.tree.n_logits();
    let mut random = Random::derived(0, &[9 << 32]);
    let v: Vec<f64> = (0..n_logits).map(|_| random.normal()).collect();
    let fisher = around.fisher(&v);
    for kl in DIVERGENCES {
        let kl_gradient = |scale: f64| -> Vec<f64> {
            let policy = around.moved(&v, scale);
            let with = around.gradient(&config(kl, 1.0), &policy);
            let without = around.gradient(&config(Divergence::None, 0.0), &policy);
            without.iter().zip(with).map(|(a, b)| a - b).collect()
        };
        assert!(norm(&kl_gradient(0.0)) <= 1e-15, "{kl}");
        // Central differences of two steps, of which the fourth order is left.
        let difference = |h: f64| -> Vec<f64> {
            let (ahead, behind) = (kl_gradient(h), kl_gradient(-h));
            let pairs = ahead.iter().zip(behind);
            pairs.map(|(a, b)| (a - b) / (2.0 * h)).collect()
        };
        let (coarse, fine) = (difference(2e-3), difference(1e-3));
        let pairs = coarse.iter().zip(fine).map(|(a, b)| (4.0 * b - a) / 3.0);
        let error: Vec<f64> = pairs.zip(&fisher).map(|(a, b)| a - b).collect();
        assert!(norm(&error) <= 1e-10 * norm(&fisher), "{kl}: {error:?}");
    }
}

/// Appendix B: the KL-regularized step is the natural-gradient step with rate `1/beta`.
///
/// At `theta_old + F^{-1} grad E[R] / beta` the gradient of every RPG objective is gone but for terms of order
/// `1/beta`: there the linearised reward and the divergence to second order balance.
#[test]
fn the_regularized_step_is_a_natural_gradient_step() {
    let around = Around::new(Tree::new(3, 3));
    let natural = around.natural_gradient();
    let reward = around.gradient(&config(Divergence::None, 0.0), &around.old);
    for kl in DIVERGENCES {
        let left = |beta: f64| {
            let policy = around.moved(&natural, 1.0 / beta);
            norm(&around.gradient(&config(kl, beta), &policy)) / norm(&reward)
        };
        let lefts = [1e2, 1e3, 1e4].map(left);
        assert!(lefts[0] < 0.05, "{kl}: {lefts:?}");
        for pair in lefts.windows(2) {
            assert!(
                (9.0..11.0).contains(&(pair[0] / pair[1])),
                "{kl}: {lefts:?}"
            );
        }
        // Half the step, or a step along the plain gradient, leaves what it should not.
        let half = around.moved(&natural, 0.5e-4);
        let half = norm(&around.gradient(&config(kl, 1e4), &half)) / norm(&reward);
        assert!((half - 0.5).abs() < 1e-3, "{kl}: {half}");
    }
}

/// With one decision the natural-gradient step is not an approximation: it adds `A/beta` to the logits and lands on
/// `pi_old*exp(A/beta)`, normalized, the maximum of `E[R] - beta*KL(pi, pi_old)`.
#[test]
fn with_one_decision_the_step_reaches_the_regularized_optimum() {
    let around = Around::new(Tree::new(6, 1));
    let natural = around.natural_gradient();
    let shift = natural[0] - around.advantages[0];
    for (natural, advantage) in natural.iter().zip(&around.advantages) {
        assert!((natural - advantage - shift).abs() <= 1e-13);
    }
    for beta in [0.1, 0.5, 2.0] {
        let policy = around.moved(&natural, 1.0 / beta);
        for kl in [Divergence::Rkl, Divergence::Urkl] {
            let gradient = around.gradient(&config(kl, beta), &policy);
            assert!(norm(&gradient) <= 1e-13, "{kl}, {beta}: {gradient:?}");
        }
        // The forward divergences have another optimum.
        let gradient = around.gradient(&config(Divergence::Fkl, beta), &policy);
        assert!(norm(&gradient) > 1e-3, "{beta}: {gradient:?}");
    }
}
