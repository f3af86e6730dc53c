//! Exact bias and variance of every estimator's gradient as the policy moves away.
//!
//! On the enumerated policy both are sums, not samples: what is reported has no noise.

use super::policy::{Measure, Tree};
use super::random::Random;
use crate::aggregate::StepTotals;
use crate::choices::{Aggregation, Clip, Divergence, Estimator, Level};
use crate::config::ObjectiveConfig;
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use crate::reference::{Batch, evaluate};
use std::fmt;
use std::fmt::Write;

/// What is studied.
#[derive(Debug, Clone)]
pub struct StudyOptions {
    /// Seed of the reference policy and of the rewards.
    pub seed: u64,
    /// KL coefficient of every objective.
    pub beta: f64,
    /// Size of one update of the policy along the exact gradient.
    pub learning_rate: f64,
    /// Updates from the reference policy to the sampling policy.
    pub updates_before: usize,
    /// Numbers of updates after which the estimators are measured.
    pub updates: Vec<usize>,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            beta: 0.1,
            learning_rate: 0.5,
            updates_before: 8,
            updates: vec![0, 1, 2, 4, 8, 16, 32, 64],
        }
    }
}

/// The outcome of a study.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Study {
    /// What was studied.
    pub options: StudyOptions,
    /// Number of responses in the enumerated policy.
    pub n_responses: usize,
    /// The path of the policy, common to all estimators.
    pub path: Vec<PathPoint>,
    /// One curve per estimator.
    pub curves: Vec<StudyCurve>,
}

/// The policy after some updates.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PathPoint {
    /// Updates since the responses were sampled.
    pub updates: usize,
    /// Expected reward.
    pub reward: f64,
    /// `KL(pi, pi_old)` over whole responses.
    pub kl_to_old: f64,
    /// `KL(pi, ref)` over whole responses.
    pub kl_to_ref: f64,
    /// The largest importance weight of a response.
    pub max_weight: f64,
    /// The norm of the exact gradient of `E[R] - beta*KL(pi, ref)`.
    pub gradient_norm: f64,
}

/// One estimator.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StudyCurve {
    /// The estimator.
    pub estimator: StudyEstimator,
    /// The divergence of the objective whose gradient it claims to estimate.
    pub claims: Divergence,
    /// A point for each number of updates.
    pub points: Vec<StudyPoint>,
}

/// Identifies an estimator of a study; displayed, its name in tables and plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudyEstimator {
    /// RPG with this divergence, level and clip.
    Rpg(Divergence, Level, Clip),
    /// A baseline.
    Baseline(Kind),
}

impl fmt::Display for StudyEstimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpg(kl, level, Clip::None) => write!(f, "rpg {kl}, {level}, no clip"),
            Self::Rpg(kl, level, clip) => write!(f, "rpg {kl}, {level}, {clip} clip"),
            Self::Baseline(kind) => write!(f, "{kind}"),
        }
    }
}

/// An estimator's gradient after some updates.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StudyPoint {
    /// Updates since the responses were sampled.
    pub updates: usize,
    /// Norm of (expected gradient - exact gradient).
    pub bias: f64,
    /// The same over the norm of the exact gradient.
    pub relative_bias: f64,
    /// Cosine between the expected and the exact gradient.
    pub cosine: f64,
    /// Trace of the covariance of the gradient from one response.
    pub variance: f64,
}

/// Measures every estimator along the path of one policy.
///
/// The policy ascends the exact gradient of `E[R] - beta*KL(pi, ref)`. It starts at the reference,
/// samples its responses after `updates_before` steps, and moves on. Every estimator sees the same
/// responses with the same advantages, `R` minus its mean under the sampling policy, so that only
/// the losses differ; token losses are summed over a response.
pub fn study(options: &StudyOptions) -> Study {
    let tree = Tree::new(4, 4);
    let mut random = Random::derived(options.seed, &[4 << 32]);
    let reference = tree.random_measure(&mut random, 0.7, 0.0, 0.0);
    let rewards: Vec<f64> = (0..tree.responses().len())
        .map(|_| f64::from(u8::from(random.uniform(0.0, 1.0) < 0.1)))
        .collect();
    let world = World {
        options,
        tree,
        reference,
        rewards,
    };
    let mut policy = world.reference.clone();
    for _ in 0..options.updates_before {
        world.update(&mut policy);
    }
    let old = policy.clone();
    let estimators = estimators(options.beta);
    let mut study = Study {
        options: options.clone(),
        n_responses: world.rewards.len(),
        path: Vec::new(),
        curves: (estimators.iter())
            .map(|(estimator, claims, _)| StudyCurve {
                estimator: *estimator,
                claims: *claims,
                points: Vec::new(),
            })
            .collect(),
    };
    let last = options.updates.iter().copied().max().unwrap_or(0);
    for updates in 0..=last {
        if options.updates.contains(&updates) {
            study.path.push(world.path_point(updates, &policy, &old));
            for (curve, (_, claims, config)) in study.curves.iter_mut().zip(&estimators) {
                let point = world.measure(updates, *claims, config, &policy, &old);
                curve.points.push(point);
            }
        }
        world.update(&mut policy);
    }
    study
}

/// Every estimator with the divergence it claims and its configuration.
fn estimators(beta: f64) -> Vec<(StudyEstimator, Divergence, ObjectiveConfig)> {
    use Divergence::{Fkl, Rkl, Ufkl, Urkl};
    let rpg = |kl: Divergence, level: Level, clip: Clip| {
        let is_reinforce = Form::clips(Estimator::Reinforce).any(|other| other == clip);
        let config = ObjectiveConfig {
            kl,
            estimator: if is_reinforce {
                Estimator::Reinforce
            } else {
                Estimator::Differentiable
            },
            clip,
            beta,
            eps_low: 0.2,
            eps_high: 0.28,
            level,
            aggregation: if level.is_sequence() {
                Aggregation::SeqMean
            } else {
                Aggregation::SeqMeanTokenSum
            },
            ..Default::default()
        };
        (StudyEstimator::Rpg(kl, level, clip), kl, config)
    };
    let baseline = |kind: Kind, claims: Divergence, eps_high: f64| {
        let config = ObjectiveConfig {
            beta,
            eps_high,
            aggregation: Aggregation::SeqMeanTokenSum,
            ..ObjectiveConfig::for_kind(kind)
        };
        (StudyEstimator::Baseline(kind), claims, config)
    };
    let divergences = [Fkl, Rkl, Ufkl, Urkl];
    let mut list = Vec::new();
    list.extend(divergences.map(|kl| rpg(kl, Level::Sequence, Clip::None)));
    list.extend(divergences.map(|kl| rpg(kl, Level::Token, Clip::None)));
    list.extend(divergences.map(|kl| rpg(kl, Level::Token, Clip::Rpg)));
    // Log-probabilities are negative here, so that both clips act on the same units: one divergence will do.
    list.push(rpg(Urkl, Level::Token, Clip::Dual));
    list.push(rpg(Urkl, Level::Token, Clip::Hard));
    list.push(baseline(Kind::Grpo, Rkl, 0.2));
    list.push(baseline(Kind::GrpoCorrected, Rkl, 0.2));
    list.push(baseline(Kind::Dapo, Divergence::None, 0.28));
    list.push(baseline(Kind::ReinforcePp, Rkl, 0.2));
    list.push(baseline(Kind::ReinforcePpBaseline, Rkl, 0.2));
    list
}

/// What stays the same along the path.
struct World<'a> {
    options: &'a StudyOptions,
    tree: Tree,
    reference: Measure,
    rewards: Vec<f64>,
}

impl World<'_> {
    /// One step up the exact gradient of `E[R] - beta*KL(pi, ref)`.
    fn update(&self, policy: &mut Measure) {
        let gradient = self.exact_gradient(Divergence::Rkl, policy, 0.0);
        for (parameter, slope) in policy.parameters.iter_mut().zip(gradient) {
            *parameter += self.options.learning_rate * slope;
        }
    }

    fn probabilities(&self, policy: &Measure) -> Vec<f64> {
        let log_probs = self.tree.response_log_probs(policy);
        log_probs.iter().map(|lp| lp.exp()).collect()
    }

    fn expected_reward(&self, policy: &Measure) -> f64 {
        let probabilities = self.probabilities(policy);
        (probabilities.iter().zip(&self.rewards))
            .map(|(p, r)| p * r)
            .sum()
    }

    /// `sum_x (p*(R - baseline) + beta*k) * grad lp` with `k` the divergence's share of response x.
    ///
    /// Only logits: the policy is a distribution, so its log-masses stay 0.
    fn exact_gradient(&self, kl: Divergence, policy: &Measure, baseline: f64) -> Vec<f64> {
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
                let weight = p * (self.rewards[idx] - baseline) + self.options.beta * k;
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

    fn path_point(&self, updates: usize, policy: &Measure, old: &Measure) -> PathPoint {
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
            gradient_norm: norm(&self.exact_gradient(Divergence::Rkl, policy, 0.0)),
        }
    }

    /// Expectation and covariance over all responses, weighted by the sampling policy.
    fn measure(
        &self,
        updates: usize,
        claims: Divergence,
        config: &ObjectiveConfig,
        policy: &Measure,
        old: &Measure,
    ) -> StudyPoint {
        let q = self.probabilities(old);
        let baseline = self.expected_reward(old);
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
        let batch = Batch {
            logp: &self.tree.token_log_probs(policy),
            logp_old: &logp_old,
            logp_ref: &logp_ref,
            advantages: &advantages,
            weights: None,
            mask: &mask,
        };
        let one = StepTotals {
            n_tokens: 1,
            n_responses: 1,
            max_length: 1,
        };
        let token_grads = evaluate(config, batch, &one).grad;
        let exact = self.exact_gradient(claims, policy, 0.0);
        let mut expected = vec![0.0; exact.len()];
        let mut second_moment = 0.0;
        for (row, q) in q.iter().enumerate() {
            let mut alone = vec![vec![0.0; self.tree.max_length()]; mask.len()];
            alone[row].clone_from(&token_grads[row]);
            // Losses are minimised: the estimate of the gradient of J is the negative one.
            let gradient = self.logit_gradient(policy, &alone);
            for (sum, slope) in expected.iter_mut().zip(&gradient) {
                *sum -= q * slope;
            }
            second_moment += q * dot(&gradient, &gradient);
        }
        let difference: Vec<f64> = (expected.iter().zip(&exact)).map(|(a, b)| a - b).collect();
        let bias = norm(&difference);
        StudyPoint {
            updates,
            bias,
            relative_bias: bias / norm(&exact),
            cosine: dot(&expected, &exact) / (norm(&expected) * norm(&exact)),
            variance: second_moment - dot(&expected, &expected),
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

impl Study {
    /// The curve of an estimator, if it was studied.
    pub fn curve(&self, estimator: StudyEstimator) -> Option<&StudyCurve> {
        self.curves
            .iter()
            .find(|curve| curve.estimator == estimator)
    }

    /// Tables in Markdown: the path of the policy, then relative bias, cosine and variance.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "| updates | E[R] | KL(pi, pi_old) | KL(pi, ref) | largest w | gradient norm |"
        );
        let _ = writeln!(out, "| ---: | ---: | ---: | ---: | ---: | ---: |");
        for point in &self.path {
            let _ = writeln!(
                out,
                "| {} | {:.3} | {:.3} | {:.3} | {:.1} | {:.4} |",
                point.updates,
                point.reward,
                point.kl_to_old,
                point.kl_to_ref,
                point.max_weight,
                point.gradient_norm
            );
        }
        self.write_table(&mut out, "Relative bias", |point| point.relative_bias);
        self.write_table(&mut out, "Cosine to the exact gradient", |point| {
            point.cosine
        });
        self.write_table(&mut out, "Variance of one response's gradient", |point| {
            point.variance
        });
        out
    }

    fn write_table(&self, out: &mut String, title: &str, value: fn(&StudyPoint) -> f64) {
        let _ = writeln!(out, "\n{title}, by number of updates\n");
        let _ = write!(out, "| estimator | claims |");
        let mut rule = String::from("| --- | --- |");
        for updates in &self.options.updates {
            let _ = write!(out, " {updates} |");
            rule.push_str(" ---: |");
        }
        let _ = writeln!(out, "\n{rule}");
        for curve in &self.curves {
            let _ = write!(out, "| {} | {} |", curve.estimator, curve.claims);
            for point in &curve.points {
                let value = value(point);
                // Rounding errors deserve no digits.
                let text = match value.abs() {
                    x if x < 1e-9 => "0".to_string(),
                    x if x < 1e-3 => format!("{value:.1e}"),
                    _ => format!("{value:.3}"),
                };
                let _ = write!(out, " {text} |");
            }
            let _ = writeln!(out);
        }
    }
}
