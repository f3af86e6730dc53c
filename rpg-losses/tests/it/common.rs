//! Batches in plain vectors, and the tensor code run on them.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Bool, DType, Tensor, TensorData};
use rpg_losses::reference::{Batch, Evaluation, evaluate};
use rpg_losses::{
    Clip, Divergence, Estimator, Kind, KlEstimator, KlPlacement, KlWeight, Level, LossInputs,
    LossOutput, ObjectiveConfig, StepTotals, policy_loss, policy_loss_from_operations,
};
use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) type B = Autodiff<Flex>;

/// The responses of one step, `[B][T]` each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub(crate) logp: Vec<Vec<f64>>,
    pub(crate) logp_old: Vec<Vec<f64>>,
    pub(crate) logp_ref: Option<Vec<Vec<f64>>>,
    pub(crate) advantages: Vec<Vec<f64>>,
    pub(crate) mask: Vec<Vec<bool>>,
}

/// What the tensor code makes of a step.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) grad: Vec<Vec<f64>>,
    pub(crate) metrics: BTreeMap<String, f64>,
}

impl Step {
    pub(crate) fn totals(&self) -> StepTotals {
        StepTotals::from_mask(&self.mask)
    }

    fn rows(&self, rows: Range<usize>) -> Self {
        Self {
            logp: self.logp[rows.clone()].to_vec(),
            logp_old: self.logp_old[rows.clone()].to_vec(),
            logp_ref: self.logp_ref.as_ref().map(|x| x[rows.clone()].to_vec()),
            advantages: self.advantages[rows.clone()].to_vec(),
            mask: self.mask[rows].to_vec(),
        }
    }

    /// The closed form.
    pub(crate) fn reference(&self, config: &ObjectiveConfig) -> Evaluation {
        let batch = Batch {
            logp: &self.logp,
            logp_old: &self.logp_old,
            logp_ref: self.logp_ref.as_ref().unwrap_or(&self.logp_old),
            advantages: &self.advantages,
            weights: None,
            mask: &self.mask,
        };
        evaluate(config, batch, &self.totals())
    }

    /// The tensor code on the whole step at once.
    pub(crate) fn tensors(&self, config: &ObjectiveConfig, dtype: DType) -> Outcome {
        self.micro_batches(config, dtype, self.mask.len().max(1))
    }

    /// The tensor code on micro-batches of so many rows, added up.
    pub(crate) fn micro_batches(
        &self,
        config: &ObjectiveConfig,
        dtype: DType,
        size: usize,
    ) -> Outcome {
        self.run(config, dtype, size, policy_loss)
    }

    /// The same, composed of tensor operations.
    pub(crate) fn operations(
        &self,
        config: &ObjectiveConfig,
        dtype: DType,
        size: usize,
    ) -> Outcome {
        self.run(config, dtype, size, policy_loss_from_operations)
    }

    fn run(
        &self,
        config: &ObjectiveConfig,
        dtype: DType,
        size: usize,
        policy_loss: fn(&ObjectiveConfig, LossInputs<B>, &StepTotals) -> LossOutput<B>,
    ) -> Outcome {
        let totals = self.totals();
        let mut outcome = Outcome {
            loss: 0.0,
            grad: Vec::new(),
            metrics: BTreeMap::new(),
        };
        let mut diagnostics = None;
        let mut start = 0;
        while start < self.mask.len().max(1) {
            let end = (start + size).min(self.mask.len());
            let part = self.rows(start..end);
            let logp = matrix(&part.logp, dtype).require_grad();
            let inputs = LossInputs {
                logp: logp.clone(),
                logp_old: matrix(&part.logp_old, dtype),
                logp_ref: part.logp_ref.as_ref().map(|rows| matrix(rows, dtype)),
                advantages: matrix(&part.advantages, dtype),
                weights: None,
                mask: bool_matrix(&part.mask),
            };
            let output = policy_loss(config, inputs, &totals);
            outcome.loss += scalar(&output.loss);
            let grads = output.loss.backward();
            outcome.grad.extend(match logp.grad(&grads) {
                Some(grad) => to_rows(grad, &part.mask),
                None => part.mask.iter().map(|row| vec![0.0; row.len()]).collect(),
            });
            diagnostics = Some(match diagnostics {
                None => output.diagnostics,
                Some(sum) => output.diagnostics.merge(sum),
            });
            start += size;
        }
        outcome.metrics = diagnostics.expect("one micro-batch at least").read();
        outcome
    }
}

pub(crate) fn matrix(rows: &[Vec<f64>], dtype: DType) -> Tensor<B, 2> {
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    let data = TensorData::new(rows.concat(), shape).convert_dtype(dtype);
    Tensor::from_data(data, (&Default::default(), dtype))
}

pub(crate) fn bool_matrix(rows: &[Vec<bool>]) -> Tensor<B, 2, Bool> {
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    Tensor::from_data(TensorData::new(rows.concat(), shape), &Default::default())
}

fn scalar(tensor: &Tensor<B, 1>) -> f64 {
    tensor
        .clone()
        .into_data()
        .iter::<f64>()
        .next()
        .expect("one element")
}

fn to_rows(grad: Tensor<Flex, 2>, mask: &[Vec<bool>]) -> Vec<Vec<f64>> {
    let mut values = grad
        .into_data()
        .iter::<f64>()
        .collect::<Vec<_>>()
        .into_iter();
    mask.iter()
        .map(|row| row.iter().filter_map(|_| values.next()).collect())
        .collect()
}

/// `|a - b|` relative to the larger of `|b|` and `scale`; NaN counts as infinitely far.
pub(crate) fn distance(a: f64, b: f64, scale: f64) -> f64 {
    let difference = (a - b).abs() / b.abs().max(scale);
    if difference.is_nan() {
        f64::INFINITY
    } else {
        difference
    }
}

/// Asserts that tensors and closed form agree in loss, gradient and metrics.
pub(crate) fn assert_agree(name: &str, actual: &Outcome, expected: &Evaluation, tolerance: f64) {
    let scale = (expected.grad.iter().flatten()).fold(1e-3, |max: f64, g| max.max(g.abs()));
    assert!(
        distance(actual.loss, expected.loss, scale) <= tolerance,
        "{name}: loss {} against {}",
        actual.loss,
        expected.loss
    );
    for (row, (a, b)) in actual.grad.iter().zip(&expected.grad).enumerate() {
        assert_eq!(a.len(), b.len(), "{name}: row {row}");
        for (idx, (a, b)) in a.iter().zip(b).enumerate() {
            assert!(
                distance(*a, *b, scale) <= tolerance,
                "{name}: gradient [{row}][{idx}] is {a}, not {b}"
            );
        }
    }
    assert_eq!(actual.grad.len(), expected.grad.len(), "{name}");
    assert_eq!(
        actual.metrics.keys().collect::<Vec<_>>(),
        expected.metrics.keys().collect::<Vec<_>>(),
        "{name}"
    );
    for (key, expected) in &expected.metrics {
        let actual = actual.metrics[key];
        assert!(
            distance(actual, *expected, 1.0) <= tolerance,
            "{name}: {key} is {actual}, not {expected}"
        );
    }
}

/// A config with some of its fields changed.
pub(crate) fn changed(
    config: &ObjectiveConfig,
    change: impl FnOnce(&mut ObjectiveConfig),
) -> ObjectiveConfig {
    let mut config = config.clone();
    change(&mut config);
    config
}

/// Every kind x divergence x estimator x clip x level.
pub(crate) fn configurations() -> Vec<ObjectiveConfig> {
    let mut configs = Vec::new();
    for kind in Kind::ALL {
        for level in Level::ALL {
            if *level != Level::Token && OF_TOKENS.contains(kind) {
                continue;
            }
            let raw = format!(r#"{{"kind": "{kind}", "level": "{level}"}}"#);
            let mut config: ObjectiveConfig = serde_json::from_str(&raw).expect(&raw);
            config.beta = 0.4;
            if *kind == Kind::Rpg {
                config.c = Some(2.0);
                config.z = 1.3;
                configs.extend(compositions(&config));
            } else {
                config.eps_high = 0.3;
                if *kind == Kind::Ppo {
                    configs.extend(kl_terms(&config));
                }
                configs.push(config.clone());
            }
            if MASKED.contains(kind) {
                configs.push(changed(&config, |config| config.sequence_mask = Some(0.1)));
            }
        }
    }
    let n_objectives = 7 * 7 + 9 + Kind::ALL.len() - 1 + MASKED.len();
    assert_eq!(configs.len(), n_objectives * 3 - 2 * (OF_TOKENS.len() + 1));
    configs
}

/// Kinds that have the token level alone.
pub(crate) const OF_TOKENS: [Kind; 2] = [Kind::GspoToken, Kind::Gmpo];

/// Kinds that are tested with a sequence mask as well.
const MASKED: [Kind; 4] = [Kind::Rpg, Kind::Grpo, Kind::Sapo, Kind::Gmpo];

/// Every KL term in the loss.
fn kl_terms(base: &ObjectiveConfig) -> Vec<ObjectiveConfig> {
    let mut configs = Vec::new();
    for estimator in KlEstimator::ALL {
        for weight in KlWeight::ALL {
            configs.push(changed(base, |config| {
                config.kl_placement = KlPlacement::Loss;
                config.kl_estimator = *estimator;
                config.kl_weight = *weight;
            }));
        }
    }
    configs
}

/// Every divergence x estimator x clip; under the dual clip with the KL term inside and outside.
fn compositions(base: &ObjectiveConfig) -> Vec<ObjectiveConfig> {
    let mut configs = Vec::new();
    for kl in Divergence::ALL {
        for estimator in Estimator::ALL {
            for clip in Clip::ALL {
                for kl_in_clip in [true, false] {
                    let config = changed(base, |config| {
                        config.kl = *kl;
                        config.estimator = *estimator;
                        config.clip = *clip;
                        config.kl_in_clip = kl_in_clip;
                    });
                    if config.validate().is_ok() && (kl_in_clip || *clip == Clip::Dual) {
                        configs.push(config);
                    }
                }
            }
        }
    }
    configs
}

/// A name for failure messages.
pub(crate) fn name(config: &ObjectiveConfig) -> String {
    serde_json::to_string(config).expect("a config is JSON")
}
