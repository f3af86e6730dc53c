//! One random case: three measures over all responses, advantages, and a configuration.

use super::options::VerifyOptions;
use super::oracle;
use super::policy::{Measure, Tree, bool_matrix, matrix};
use super::random::Random;
use super::weigh::{self, Weighed};
use crate::aggregate::StepTotals;
use crate::choices::{Aggregation, Estimator, Level};
use crate::config::ObjectiveConfig;
use crate::formula::Unit;
use crate::inputs::LossInputs;
use crate::loss::unaggregated_loss;
use crate::objectives::spec::{Parts, WeightOf};
use crate::reference::{self, Batch};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor, TensorData};

/// Units closer than this to a case distinction are drawn again, as no slope is defined there.
pub(super) const MIN_MARGIN: f64 = 5e-3;

pub(super) struct Case {
    pub(super) config: ObjectiveConfig,
    pub(super) tree: Tree,
    pub(super) policy: Measure,
    pub(super) old: Measure,
    pub(super) reference: Measure,
    /// The sampling distribution over responses.
    pub(super) q: Vec<f64>,
    /// `[N][T]`.
    pub(super) advantages: Vec<Vec<f64>>,
}

impl Case {
    /// Draws coefficients, measures and advantages for the kind, divergence, ... of `config`.
    ///
    /// `distance` scales how far the policy has moved from the sampling policy.
    pub(super) fn random(config: &ObjectiveConfig, random: &mut Random, distance: f64) -> Self {
        loop {
            let case = Self::draw(config, random, distance);
            if case.margin() > MIN_MARGIN {
                return case;
            }
        }
    }

    fn draw(config: &ObjectiveConfig, random: &mut Random, distance: f64) -> Self {
        let tree = Tree::new(3, 3);
        let is_composed = config.kind.spec().parts == Parts::Composed;
        let mut config = ObjectiveConfig {
            beta: random.uniform(0.1, 1.0),
            eps_low: random.uniform(0.05, 0.4),
            eps_high: random.uniform(0.05, 0.4),
            c: (is_composed || random.below(2) == 0).then(|| random.uniform(1.5, 3.0)),
            z: 1.0,
            tau_pos: random.uniform(0.5, 2.0),
            tau_neg: random.uniform(0.5, 2.0),
            sequence_mask: (config.sequence_mask).map(|_| random.uniform(0.0, 0.2)),
            ..config.clone()
        };
        // Only the unnormalized divergences allow a sampling measure of another mass.
        let is_free = is_composed && config.kl.is_unnormalized();
        let (log_mass, mass_noise) = if !is_free {
            (0.0, 0.0)
        } else if config.level.is_sequence() {
            (random.uniform(-0.2, 0.2), 0.1)
        } else {
            // At token level every prefix has the same `z`.
            (random.uniform(-0.5, 0.5), 0.0)
        };
        let old = tree.random_measure(random, 0.7, log_mass, mass_noise);
        let step = tree.random_measure(random, distance, -log_mass, 0.3 * distance);
        let policy = Measure {
            parameters: (old.parameters.iter().zip(&step.parameters))
                .map(|(old, step)| old + step)
                .collect(),
        };
        let reference = tree.random_measure(random, 0.7, 0.1, 0.2);
        let weights: Vec<f64> = (tree.response_log_probs(&old).iter())
            .map(|lp| lp.exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let (q, z): (Vec<f64>, f64) = if config.level.is_sequence() {
            let q = weights.iter().map(|weight| weight / total);
            (q.collect(), total)
        } else {
            let lengths = tree.responses().iter().map(Vec::len);
            let q = (weights.iter().zip(lengths))
                .map(|(weight, length)| weight / (log_mass * length as f64).exp());
            (q.collect(), log_mass.exp())
        };
        if is_free {
            config.z = z;
        }
        let advantages = (0..tree.responses().len())
            .map(|_| {
                let shared = random.normal();
                (0..tree.max_length())
                    .map(|_| {
                        if config.level.is_sequence() {
                            shared
                        } else {
                            random.normal()
                        }
                    })
                    .collect()
            })
            .collect();
        Self {
            config,
            tree,
            policy,
            old,
            reference,
            q,
            advantages,
        }
    }

    /// The case with a trust region that no weight leaves.
    pub(super) fn without_clip(&self) -> ObjectiveConfig {
        ObjectiveConfig {
            // Beyond any weight, logarithm of a weight, and divergence.
            eps_low: 1e9,
            eps_high: 1e9,
            c: Some(2e9),
            // A gate so wide that it is a line.
            tau_pos: 1e-5,
            tau_neg: 1e-5,
            ..self.config.clone()
        }
    }

    /// The case with distributions for measures of free mass.
    pub(super) fn normalized(mut self) -> Self {
        for measure in [&mut self.policy, &mut self.old, &mut self.reference] {
            self.tree.normalize(measure);
        }
        let old = self.tree.response_log_probs(&self.old);
        self.q = old.iter().map(|lp| lp.exp()).collect();
        self.config.z = 1.0;
        self
    }

    fn margin(&self) -> f64 {
        let of_response = |tokens: &Vec<Unit>| {
            let units = weigh::units(&self.config, tokens).0;
            let margins = units.iter().map(|unit| oracle::margin(&self.config, *unit));
            margins.fold(weigh::mask_margin(&self.config, tokens).abs(), f64::min)
        };
        (self.tokens().iter().map(of_response)).fold(f64::INFINITY, f64::min)
    }

    /// The tokens of each response.
    pub(super) fn tokens(&self) -> Vec<Vec<Unit>> {
        self.tokens_under(&self.policy)
    }

    fn tokens_under(&self, policy: &Measure) -> Vec<Vec<Unit>> {
        let [lp, lp_old, lp_ref] =
            [policy, &self.old, &self.reference].map(|measure| self.tree.token_log_probs(measure));
        (self.tree.responses().iter().enumerate())
            .map(|(row, response)| {
                let token = |idx: usize| Unit {
                    lp: lp[row][idx],
                    lp_old: lp_old[row][idx],
                    lp_ref: lp_ref[row][idx],
                    advantage: self.advantages[row][idx],
                };
                (0..response.len()).map(token).collect()
            })
            .collect()
    }

    /// Per response its units: tokens, or one for the whole response.
    pub(super) fn units(&self) -> Vec<Vec<Unit>> {
        let units = |tokens: &Vec<Unit>| {
            let units = weigh::units(&self.config, tokens).0;
            units.into_iter().map(|weighed| weighed.unit).collect()
        };
        self.tokens().iter().map(units).collect()
    }

    /// The advantages that the sequence mask leaves.
    fn counted_advantages(&self) -> Vec<Vec<f64>> {
        let counted = |tokens: &Vec<Unit>| weigh::counted_advantages(&self.config, tokens);
        self.tokens().iter().map(counted).collect()
    }

    /// The expected gradient in the parameters, by autodiff through loss and policy.
    pub(super) fn autodiff<B: AutodiffBackend>(
        &self,
        config: &ObjectiveConfig,
        options: &VerifyOptions<B>,
    ) -> Vec<f64> {
        self.autodiff_of(options, |inputs| unaggregated_loss(config, inputs))
    }

    /// The same for responses sampled by `q`, whose tokens have weights.
    pub(super) fn autodiff_under<B: AutodiffBackend>(
        &self,
        config: &ObjectiveConfig,
        options: &VerifyOptions<B>,
        q: &[f64],
        weights: Option<&[Vec<f64>]>,
    ) -> Vec<f64> {
        let losses = |inputs| unaggregated_loss(config, inputs);
        self.weighted_autodiff(options, q, weights, losses)
    }

    /// The same for any loss per unit, `[N, U]`.
    pub(super) fn autodiff_of<B: AutodiffBackend>(
        &self,
        options: &VerifyOptions<B>,
        unit_losses: impl Fn(LossInputs<B>) -> Tensor<B, 2>,
    ) -> Vec<f64> {
        self.weighted_autodiff(options, &self.q, None, unit_losses)
    }

    fn weighted_autodiff<B: AutodiffBackend>(
        &self,
        options: &VerifyOptions<B>,
        q: &[f64],
        weights: Option<&[Vec<f64>]>,
        unit_losses: impl Fn(LossInputs<B>) -> Tensor<B, 2>,
    ) -> Vec<f64> {
        let (device, dtype) = (&options.device, options.precision.dtype());
        let parameters = parameters(&self.policy, device, dtype);
        let tensor = |rows: &[Vec<f64>]| matrix::<B>(rows, device, dtype);
        let losses = unit_losses(LossInputs {
            logp: self.tree.token_log_probs_tensor(parameters.clone()),
            logp_old: tensor(&self.tree.token_log_probs(&self.old)),
            logp_ref: Some(tensor(&self.tree.token_log_probs(&self.reference))),
            advantages: tensor(&self.advantages),
            weights: weights.map(tensor),
            mask: bool_matrix::<B>(&self.tree.mask(), device),
        });
        let q: Vec<Vec<f64>> = q.iter().map(|q| vec![*q]).collect();
        let expected = (losses * tensor(&q)).sum();
        gradient(&parameters, &expected)
    }

    /// The expected gradient in the parameters from the closed form of [`reference`].
    pub(super) fn closed_form(&self, config: &ObjectiveConfig) -> Vec<f64> {
        self.closed_form_under(config, &self.q, None)
    }

    /// The same for responses sampled by `q`, whose tokens have weights.
    pub(super) fn closed_form_under(
        &self,
        config: &ObjectiveConfig,
        q: &[f64],
        weights: Option<&[Vec<f64>]>,
    ) -> Vec<f64> {
        // With one response in the step, `seq_mean` weights every unit by 1.
        let config = ObjectiveConfig {
            aggregation: Aggregation::SeqMean,
            ..config.clone()
        };
        let totals = StepTotals {
            n_tokens: 1,
            n_responses: 1,
            max_length: 1,
        };
        let mut evaluation = reference::evaluate(
            &config,
            Batch {
                logp: &self.tree.token_log_probs(&self.policy),
                logp_old: &self.tree.token_log_probs(&self.old),
                logp_ref: &self.tree.token_log_probs(&self.reference),
                advantages: &self.advantages,
                weights,
                mask: &self.tree.mask(),
            },
            &totals,
        );
        for (row, q) in evaluation.grad.iter_mut().zip(q) {
            row.iter_mut().for_each(|grad| *grad *= q);
        }
        self.tree.pull_back(&self.policy, &evaluation.grad)
    }

    /// The slope of `-J` in each parameter, for the unclipped objective.
    pub(super) fn objective_gradient(&self) -> Vec<f64> {
        // What is masked is a constant.
        let counted = self.counted_advantages();
        (0..self.tree.n_parameters())
            .map(|idx| {
                let value = |x: f64| {
                    let mut moved = self.policy.clone();
                    moved.parameters[idx] = x;
                    -self.objective(&moved, &counted)
                };
                oracle::derivative(value, self.policy.parameters[idx])
            })
            .collect()
    }

    fn objective(&self, policy: &Measure, advantages: &[Vec<f64>]) -> f64 {
        match (self.config.level, self.config.kind.spec().weight_of) {
            (Level::Token, WeightOf::Unit) => self.token_objective(policy, advantages),
            (Level::Sequence, _) => oracle::objective(
                &self.config,
                &self.tree.response_log_probs(policy),
                &self.tree.response_log_probs(&self.reference),
                &self.q,
                &advantages.iter().map(|row| row[0]).collect::<Vec<_>>(),
            ),
            // No divergence belongs to the geometric mean: the objective is the expected surrogate.
            (Level::SequenceNorm, _) | (Level::Token, _) => self.surrogate(policy),
        }
    }

    /// The expected unclipped loss, turned around, with everything under `SG` as it is for the case's own policy.
    fn surrogate(&self, policy: &Measure) -> f64 {
        let config = ObjectiveConfig {
            estimator: Estimator::Differentiable,
            ..oracle::unclipped(&self.without_clip())
        };
        let moved = self.tokens_under(policy);
        (self.tokens().iter().zip(&moved).zip(&self.q))
            .map(|((tokens, moved), q)| {
                let units = weigh::units(&config, tokens).0;
                let moved = weigh::units(&config, moved).0;
                let potential = |(unit, moved): (&Weighed, &Weighed)| {
                    let log_w = unit.log_w + (moved.unit.lp - unit.unit.lp);
                    let advantage = unit.unit.advantage;
                    let unit = Unit {
                        advantage,
                        ..moved.unit
                    };
                    oracle::potential(&config, Weighed { unit, log_w })
                };
                -q * units.iter().zip(&moved).map(potential).sum::<f64>()
            })
            .sum()
    }

    /// `sum_s d(s) * (sum_a pi(a|s)*A(s,a) - beta*D(s))` with `d` the sampling policy's prefixes.
    fn token_objective(&self, policy: &Measure, advantages: &[Vec<f64>]) -> f64 {
        let (n_prefixes, n_vocab) = (self.tree.n_prefixes(), self.tree.n_vocab());
        let log_p = self.tree.log_table(policy);
        let log_ref = self.tree.log_table(&self.reference);
        // Visits of (prefix, token), and the advantage that they have on average.
        let mut visits = vec![vec![0.0; n_vocab]; n_prefixes];
        let mut advantage_sums = visits.clone();
        for ((response, q), row) in (self.tree.responses().iter()).zip(&self.q).zip(advantages) {
            for ((prefix, token), advantage) in response.iter().zip(row) {
                visits[*prefix][*token] += q;
                advantage_sums[*prefix][*token] += q * advantage;
            }
        }
        (0..n_prefixes)
            .map(|s| {
                let d: f64 = visits[s].iter().sum();
                let q: Vec<f64> = visits[s].iter().map(|visit| visit / d).collect();
                let advantages: Vec<f64> = (advantage_sums[s].iter().zip(&visits[s]))
                    .map(|(sum, visit)| sum / visit)
                    .collect();
                d * oracle::objective(&self.config, &log_p[s], &log_ref[s], &q, &advantages)
            })
            .sum()
    }
}

/// The policy's parameters as a leaf tensor.
pub(super) fn parameters<B: AutodiffBackend>(
    policy: &Measure,
    device: &B::Device,
    dtype: DType,
) -> Tensor<B, 1> {
    let data = TensorData::from(policy.parameters.as_slice()).convert_dtype(dtype);
    Tensor::from_data(data, (device, dtype)).require_grad()
}

/// The gradient of a scalar in a leaf, read back.
pub(super) fn gradient<B: AutodiffBackend, const D: usize>(
    leaf: &Tensor<B, D>,
    loss: &Tensor<B, 1>,
) -> Vec<f64> {
    let grads = loss.backward();
    match leaf.grad(&grads) {
        Some(grad) => grad.into_data().iter::<f64>().collect(),
        None => vec![0.0; leaf.dims().iter().product()],
    }
}

/// The largest difference relative to the largest entry of `expected`. What cannot be compared entry by
/// entry proves nothing: its error is infinite.
pub(super) fn relative_error(actual: &[f64], expected: &[f64]) -> f64 {
    if actual.len() != expected.len() || expected.is_empty() {
        return f64::INFINITY;
    }
    let size = expected.iter().map(|x| x.abs()).fold(1e-3, f64::max);
    let difference = (actual.iter().zip(expected)).map(|(a, b)| (a - b).abs());
    // `max` would skip a NaN.
    difference.fold(
        0.0,
        |worst: f64, d| if d > worst || d.is_nan() { d } else { worst },
    ) / size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compared_has_an_infinite_error() {
        assert_eq!(relative_error(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        assert_eq!(relative_error(&[], &[1.0]), f64::INFINITY);
        assert_eq!(relative_error(&[], &[]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0, 2.0], &[1.0]), f64::INFINITY);
        assert!(relative_error(&[f64::NAN, 1.0], &[1.0, 1.0]).is_nan());
    }
}
