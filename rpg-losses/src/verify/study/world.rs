//! The policy, its rewards, and the gradients of all its responses.

use super::{PathPoint, StudyOptions, StudyPoint};
use crate::aggregate::StepTotals;
use crate::choices::Divergence;
use crate::config::ObjectiveConfig;
use crate::reference::{Batch, evaluate};
use crate::rollout::rollout_weights;
use crate::verify::policy::{Measure, Tree};
use crate::verify::random::Random;

/// What stays the same along the path.
pub(super) struct World<'a> {
    pub(super) options: &'a StudyOptions,
    pub(super) tree: Tree,
    pub(super) reference: Measure,
    pub(super) rewards: Vec<f64>,
    /// What an inexact sampler has in its logits, of unit size.
    pub(super) noise: Measure,
}

/// The policies of one measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The one that is trained.
    pub(super) policy: &'a Measure,
    /// The one that is taken for the sampler.
    pub(super) old: &'a Measure,
    /// The one that samples.
    pub(super) sampler: &'a Measure,
}

impl<'a> World<'a> {
    /// One of many draws of the reference policy, the rewards and the noise.
    pub(super) fn new(options: &'a StudyOptions, draw: u64) -> Self {
        let tree = Tree::new(4, 4);
        let mut random = Random::derived(options.seed, &[(4 << 32) + draw]);
        let reference = tree.random_measure(&mut random, 0.7, 0.0, 0.0);
        let rewards = (0..tree.responses().len())
            .map(|_| f64::from(u8::from(random.uniform(0.0, 1.0) < 0.1)))
            .collect();
        Self {
            options,
            reference,
            rewards,
            noise: tree.random_measure(&mut random, 1.0, 0.0, 0.0),
            tree,
        }
    }

    /// `pi_old`, and the policy after each further update up to the last one that is studied.
    pub(super) fn policies(&self) -> Vec<Measure> {
        let mut policy = self.reference.clone();
        (0..self.options.updates_before).for_each(|_| self.update(&mut policy));
        let mut policies = vec![policy.clone()];
        for _ in 0..self.options.updates.iter().copied().max().unwrap_or(0) {
            self.update(&mut policy);
            policies.push(policy.clone());
        }
        policies
    }

    /// One step up the exact gradient of `E[R] - beta*KL(pi, ref)`.
    fn update(&self, policy: &mut Measure) {
        let gradient = self.exact_gradient(Divergence::Rkl, policy);
        for (parameter, slope) in policy.parameters.iter_mut().zip(gradient) {
            *parameter += self.options.learning_rate * slope;
        }
    }

    pub(super) fn probabilities(&self, policy: &Measure) -> Vec<f64> {
        let log_probs = self.tree.response_log_probs(policy);
        log_probs.iter().map(|lp| lp.exp()).collect()
    }

    fn expected_reward(&self, policy: &Measure) -> f64 {
        let probabilities = self.probabilities(policy);
        (probabilities.iter().zip(&self.rewards))
            .map(|(p, r)| p * r)
            .sum()
    }

    /// `sum_x (p*R + beta*k) * grad lp` with `k` the divergence's share of response x.
    ///
    /// Only logits: the policy is a distribution, so its log-masses stay 0.
    fn exact_gradient(&self, kl: Divergence, policy: &Measure) -> Vec<f64> {
        let log_p = self.tree.response_log_probs(policy);
        let log_ref = self.tree.response_log_probs(&self.reference);
        let rows: Vec<Vec<f64>> = (0..log_p.len())
            .map(|idx| {
                let (p, f) = (log_p[idx].exp(), log_ref[idx].exp());
                let u = log_p[idx] - log_ref[idx];
                let k = match kl {
                    Divergence::None => 0.0,
                    Divergence::Fkl => f,
                    Divergence::Rkl => -p * (u + 1.0),
                    Divergence::Ufkl => f - p,
                    Divergence::Urkl => -p * u,
                    Divergence::Skl | Divergence::Uskl => (f - p * (u + 1.0)) / 2.0,
                };
                let weight = p * self.rewards[idx] + self.options.beta * k;
                vec![weight; self.tree.max_length()]
            })
            .collect();
        self.logit_gradient(policy, &rows)
    }

    fn logit_gradient(&self, policy: &Measure, token_grads: &[Vec<f64>]) -> Vec<f64> {
        let mut gradient = self.tree.pull_back(policy, token_grads);
        gradient.truncate(self.tree.n_prefixes() * self.tree.n_vocab());
        gradient
    }

    pub(super) fn path_point(&self, updates: usize, policy: &Measure, old: &Measure) -> PathPoint {
        let log_p = self.tree.response_log_probs(policy);
        let kl_to = |other: &Measure| {
            let log_q = self.tree.response_log_probs(other);
            (log_p.iter().zip(log_q))
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>()
        };
        let log_old = self.tree.response_log_probs(old);
        PathPoint {
            updates,
            reward: self.expected_reward(policy),
            kl_to_old: kl_to(old),
            kl_to_ref: kl_to(&self.reference),
            max_weight: (log_p.iter().zip(log_old))
                .map(|(p, q)| (p - q).exp())
                .fold(0.0, f64::max),
            gradient_norm: norm(&self.exact_gradient(Divergence::Rkl, policy)),
        }
    }

    /// Expectation and covariance over all responses, weighted by the policy that samples.
    pub(super) fn measure(
        &self,
        at: f64,
        claims: Divergence,
        config: &ObjectiveConfig,
        scene: Scene<'_>,
    ) -> StudyPoint {
        let Scene {
            policy, sampler, ..
        } = scene;
        let token_grads = self.token_gradients(config, scene);
        let exact = self.exact_gradient(claims, policy);
        let mut expected = vec![0.0; exact.len()];
        let mut second_moment = 0.0;
        // One response at a time: the rows of the others are 0.
        let mut alone = vec![vec![0.0; self.tree.max_length()]; token_grads.len()];
        for (row, q) in self.probabilities(sampler).iter().enumerate() {
            alone[row].copy_from_slice(&token_grads[row]);
            let gradient = self.logit_gradient(policy, &alone);
            alone[row].fill(0.0);
            // Losses are minimised: the estimate of the gradient of J is the negative one.
            for (sum, slope) in expected.iter_mut().zip(&gradient) {
                *sum -= q * slope;
            }
            second_moment += q * dot(&gradient, &gradient);
        }
        let difference: Vec<f64> = (expected.iter().zip(&exact)).map(|(a, b)| a - b).collect();
        let bias = norm(&difference);
        StudyPoint {
            at,
            bias,
            relative_bias: bias / norm(&exact),
            cosine: match norm(&expected) * norm(&exact) {
                0.0 => 0.0,
                norms => dot(&expected, &exact) / norms,
            },
            variance: second_moment - dot(&expected, &expected),
        }
    }

    /// The gradient of each response's loss in the log-probabilities of its tokens.
    fn token_gradients(&self, config: &ObjectiveConfig, scene: Scene<'_>) -> Vec<Vec<f64>> {
        let Scene {
            policy,
            old,
            sampler,
        } = scene;
        let baseline = self.expected_reward(sampler);
        let mask = self.tree.mask();
        let logp_old = self.tree.token_log_probs(old);
        let logp_ref = self.tree.token_log_probs(&self.reference);
        let mut advantages: Vec<Vec<f64>> = (self.rewards.iter())
            .map(|reward| vec![reward - baseline; self.tree.max_length()])
            .collect();
        if config.penalizes_rewards() {
            // Its KL penalty is part of the token rewards: reward-to-go of -beta*(lp_old - lp_ref).
            for (row, response) in self.tree.responses().iter().enumerate() {
                let mut penalty = 0.0;
                for idx in (0..response.len()).rev() {
                    penalty -= config.beta * (logp_old[row][idx] - logp_ref[row][idx]);
                    advantages[row][idx] += penalty;
                }
            }
        }
        let weights = config.rollout_correction.map(|correction| {
            let logp_rollout = self.tree.token_log_probs(sampler);
            rollout_weights(&correction, &logp_old, &logp_rollout, &mask).weights
        });
        let batch = Batch {
            logp: &self.tree.token_log_probs(policy),
            logp_old: &logp_old,
            logp_ref: &logp_ref,
            advantages: &advantages,
            weights: weights.as_deref(),
            mask: &mask,
        };
        let one = StepTotals {
            n_tokens: 1,
            n_responses: 1,
            max_length: 1,
        };
        evaluate(config, batch, &one).grad
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}
