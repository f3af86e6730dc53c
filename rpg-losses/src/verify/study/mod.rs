//! Exact bias and variance of every estimator's gradient as the policy moves away, and of every correction as the
//! sampler does.
//!
//! On the enumerated policy both are sums, not samples: what is reported has no noise.

mod estimators;
mod tables;
mod third_policy;
mod world;

use crate::choices::Divergence;
use estimators::estimators;
use world::{Scene, World};

pub use estimators::StudyEstimator;
pub use third_policy::{CorrectionCurve, CorrectionStudy, SamplerPoint, StudyCorrection};

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
    /// Numbers of updates after which the estimators are measured; and by which a stale sampler is behind.
    pub updates: Vec<usize>,
    /// Standard deviations of what is added to the logits of an inexact sampler.
    pub noise: Vec<f64>,
    /// Over how many policies, rewards and noises the corrections are averaged.
    pub n_draws: u64,
}

impl Default for StudyOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            beta: 0.1,
            learning_rate: 0.5,
            updates_before: 8,
            updates: vec![0, 1, 2, 4, 8, 16, 32, 64],
            noise: vec![0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6],
            n_draws: 16,
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
    /// The corrections for a sampler that is `pi_old` with noise in its logits.
    pub inexact: CorrectionStudy,
    /// The corrections for a sampler that is some updates behind `pi_old`, the policy after all updates.
    pub stale: CorrectionStudy,
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

/// The expected gradient of an estimator, and its variance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StudyPoint {
    /// Where it was measured: at this number of updates or amount of noise.
    pub at: f64,
    /// Norm of (expected gradient - exact gradient).
    pub bias: f64,
    /// The same over the norm of the exact gradient.
    pub relative_bias: f64,
    /// Cosine between the expected and the exact gradient; 0 where nothing is left of the expected one.
    pub cosine: f64,
    /// Trace of the covariance of the gradient from one response.
    pub variance: f64,
}

/// Measures every estimator along the path of one policy, and every correction along that of its sampler.
///
/// The policy ascends the exact gradient of `E[R] - beta*KL(pi, ref)`. It starts at the reference,
/// samples its responses after `updates_before` steps, and moves on. Every estimator sees the same
/// responses with the same advantages, `R` minus its mean under the sampling policy, so that only
/// the losses differ; token losses are summed over a response.
pub fn study(options: &StudyOptions) -> Study {
    let world = World::new(options, 0);
    let policies = world.policies();
    let old = &policies[0];
    let estimators = estimators(options.beta);
    let mut path = Vec::new();
    let mut curves: Vec<StudyCurve> = (estimators.iter())
        .map(|(estimator, claims, _)| StudyCurve {
            estimator: *estimator,
            claims: *claims,
            points: Vec::new(),
        })
        .collect();
    for (updates, policy) in policies.iter().enumerate() {
        if !options.updates.contains(&updates) {
            continue;
        }
        path.push(world.path_point(updates, policy, old));
        let scene = Scene {
            policy,
            old,
            sampler: old,
        };
        for (curve, (_, claims, config)) in curves.iter_mut().zip(&estimators) {
            let point = world.measure(updates as f64, *claims, config, scene);
            curve.points.push(point);
        }
    }
    Study {
        options: options.clone(),
        n_responses: world.rewards.len(),
        path,
        curves,
        inexact: third_policy::inexact(options),
        stale: third_policy::stale(options),
    }
}
