//! The corrections for a sampler that is not `pi_old`.
//!
//! The policy that is trained is `pi_old` itself and the loss has no KL term: per token and unclipped, it would have
//! the exact gradient of `E[R]` if `pi_old` sampled. What bias there is, is the correction's. How much of it a
//! correction removes depends on the policy and on the noise: all is averaged over draws of both.

use super::estimators::rpg;
use super::world::{Scene, World};
use super::{StudyOptions, StudyPoint};
use crate::choices::{Clip, Divergence, Level};
use crate::config::ObjectiveConfig;
use crate::diagnostics::spread;
use crate::rollout::{RolloutCorrection, RolloutLevel, RolloutMode};
use crate::verify::policy::Measure;
use std::fmt;

/// Bounds of the corrections: `max`, and `min` is one over it.
const BOUNDS: [f64; 3] = [1.25, 2.0, 5.0];

/// Every correction as its sampler moves away from `pi_old`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CorrectionStudy {
    /// The samplers.
    pub samplers: Vec<SamplerPoint>,
    /// One curve per correction.
    pub curves: Vec<CorrectionCurve>,
}

/// A sampler, `pi_roll`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SamplerPoint {
    /// The amount of noise in its logits, or how many updates it is behind.
    pub at: f64,
    /// `KL(pi_roll, pi_old)` over whole responses.
    pub kl: f64,
    /// The largest `v = pi_old/pi_roll` of a response.
    pub max_ratio: f64,
    /// `E[v]^2 / E[v^2]` over whole responses.
    pub eff_sample_size: f64,
}

/// One correction.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CorrectionCurve {
    /// The correction.
    pub correction: StudyCorrection,
    /// A point for each sampler.
    pub points: Vec<StudyPoint>,
}

/// A correction of the study; displayed, its name in tables and plots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StudyCorrection {
    /// The sampler is taken for `pi_old`.
    None,
    /// `v` of this level, whatever it is.
    Unbounded(RolloutLevel),
    /// `v` of this level, truncated at the bound or masked beyond it and below one over it.
    Bounded(RolloutLevel, RolloutMode, f64),
}

impl fmt::Display for StudyCorrection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "uncorrected"),
            Self::Unbounded(level) => write!(f, "{level}, unbounded"),
            Self::Bounded(level, RolloutMode::Truncate, max) => {
                write!(f, "{level}, truncate {max}")
            }
            Self::Bounded(level, RolloutMode::Mask, max) => {
                write!(f, "{level}, mask {}..{max}", 1.0 / max)
            }
        }
    }
}

impl StudyCorrection {
    /// The one without bias: that of whole responses.
    pub const EXACT: Self = Self::Unbounded(RolloutLevel::Sequence);

    /// All that are studied.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::None];
        all.extend(
            RolloutLevel::ALL
                .iter()
                .map(|level| Self::Unbounded(*level)),
        );
        for level in RolloutLevel::ALL {
            for mode in RolloutMode::ALL {
                all.extend(BOUNDS.map(|bound| Self::Bounded(*level, *mode, bound)));
            }
        }
        all
    }

    fn config(self) -> Option<RolloutCorrection> {
        let (level, mode, min, max) = match self {
            Self::None => return None,
            Self::Unbounded(level) => (level, RolloutMode::Truncate, 0.0, f64::INFINITY),
            Self::Bounded(level, mode, max) => (level, mode, 1.0 / max, max),
        };
        Some(RolloutCorrection {
            level,
            mode,
            min,
            max,
            reject: None,
        })
    }
}

impl CorrectionStudy {
    /// The curve of a correction, if it was studied.
    pub fn curve(&self, correction: StudyCorrection) -> Option<&CorrectionCurve> {
        let mut curves = self.curves.iter();
        curves.find(|curve| curve.correction == correction)
    }

    /// From how many responses in a batch [`StudyCorrection::EXACT`] has a smaller mean squared error than `curve`, for
    /// each sampler; infinite where it never has.
    pub fn break_even(&self, curve: &CorrectionCurve) -> Vec<f64> {
        let exact = self.curve(StudyCorrection::EXACT);
        let exact = exact.into_iter().flat_map(|exact| &exact.points);
        let pairs = curve.points.iter().zip(exact);
        // The error of a batch of n is bias^2 + variance/n. What is below the tolerance is rounding.
        let break_even = |(point, exact): (&StudyPoint, &StudyPoint)| {
            let gain = exact.variance - point.variance;
            let is_better = gain > 1e-12;
            let n = if is_better {
                gain / point.bias.powi(2)
            } else {
                1.0
            };
            n.max(1.0)
        };
        pairs.map(break_even).collect()
    }
}

/// Samplers with noise in the logits of `pi_old`.
pub(super) fn inexact(options: &StudyOptions) -> CorrectionStudy {
    averaged(options, |world| {
        let old = world.policies().swap_remove(0);
        let sampler = |scale: &f64| {
            let parameters = old.parameters.iter().zip(&world.noise.parameters);
            let parameters = parameters.map(|(logit, noise)| logit + scale * noise);
            let sampler = Measure {
                parameters: parameters.collect(),
            };
            (*scale, sampler)
        };
        let samplers = options.noise.iter().map(sampler).collect();
        correction_study(world, &old, samplers)
    })
}

/// Samplers that are the last of the policies some updates ago.
pub(super) fn stale(options: &StudyOptions) -> CorrectionStudy {
    averaged(options, |world| {
        let policies = world.policies();
        let last = policies.len() - 1;
        let behind = |updates: &usize| (*updates as f64, policies[last - updates].clone());
        let samplers = options.updates.iter().map(behind).collect();
        correction_study(world, &policies[last], samplers)
    })
}

/// The mean over all draws: of biases the root of that of the squares, of the largest ratio the largest.
fn averaged(
    options: &StudyOptions,
    one: impl Fn(&World<'_>) -> CorrectionStudy,
) -> CorrectionStudy {
    let draws: Vec<CorrectionStudy> = (0..options.n_draws.max(1))
        .map(|draw| one(&World::new(options, draw)))
        .collect();
    let n = draws.len() as f64;
    let mut result = draws[0].clone();
    for (idx, sampler) in result.samplers.iter_mut().enumerate() {
        let samplers = || draws.iter().map(|draw| &draw.samplers[idx]);
        sampler.kl = samplers().map(|x| x.kl).sum::<f64>() / n;
        sampler.max_ratio = samplers().map(|x| x.max_ratio).fold(0.0, f64::max);
        sampler.eff_sample_size = samplers().map(|x| x.eff_sample_size).sum::<f64>() / n;
    }
    for (row, curve) in result.curves.iter_mut().enumerate() {
        for (idx, point) in curve.points.iter_mut().enumerate() {
            let points = || draws.iter().map(|draw| &draw.curves[row].points[idx]);
            let mean = |value: fn(&StudyPoint) -> f64| points().map(value).sum::<f64>() / n;
            point.bias = mean(|point| point.bias.powi(2)).sqrt();
            point.relative_bias = mean(|point| point.relative_bias.powi(2)).sqrt();
            point.cosine = mean(|point| point.cosine);
            point.variance = mean(|point| point.variance);
        }
    }
    result
}

fn correction_study(
    world: &World<'_>,
    old: &Measure,
    samplers: Vec<(f64, Measure)>,
) -> CorrectionStudy {
    let curve = |correction: StudyCorrection| {
        let config = ObjectiveConfig {
            rollout_correction: correction.config(),
            ..rpg(Divergence::None, Level::Token, Clip::None, 0.0)
        };
        let measure = |(at, sampler): &(f64, Measure)| {
            let scene = Scene {
                policy: old,
                old,
                sampler,
            };
            world.measure(*at, Divergence::None, &config, scene)
        };
        CorrectionCurve {
            correction,
            points: samplers.iter().map(measure).collect(),
        }
    };
    CorrectionStudy {
        curves: StudyCorrection::all().into_iter().map(curve).collect(),
        samplers: (samplers.iter())
            .map(|(at, sampler)| sampler_point(world, *at, old, sampler))
            .collect(),
    }
}

fn sampler_point(world: &World<'_>, at: f64, old: &Measure, sampler: &Measure) -> SamplerPoint {
    let (p, q) = (world.probabilities(old), world.probabilities(sampler));
    let pairs = || p.iter().zip(&q);
    let [eff_sample_size, _] = spread(1.0, p.iter().sum(), pairs().map(|(p, q)| p * p / q).sum());
    SamplerPoint {
        at,
        kl: pairs().map(|(p, q)| q * (q / p).ln()).sum(),
        max_ratio: pairs().map(|(p, q)| p / q).fold(0.0, f64::max),
        eff_sample_size,
    }
}
