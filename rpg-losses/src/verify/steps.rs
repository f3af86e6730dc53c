//! Whole optimizer steps: masks, aggregation, micro-batches, and units exactly on a clip bound.

use super::case::{gradient, relative_error};
use super::options::{Precision, VerifyOptions};
use super::oracle;
use super::policy::{bool_matrix, matrix};
use super::random::Random;
use super::report::{Oracle, Path, Row, Subject, larger};
use super::rows::configurations;
use crate::aggregate::StepTotals;
use crate::choices::{Aggregation, Clip};
use crate::config::ObjectiveConfig;
use crate::formula::{Unit, unit_loss};
use crate::inputs::{LossInputs, LossOutput};
use crate::loss::{policy_loss, policy_loss_from_operations};
use crate::objectives::spec::Parts;
use crate::reference::{Batch, Evaluation, evaluate};
use burn::tensor::backend::AutodiffBackend;
use std::ops::Range;

/// The responses of one step, `[B][T]` each; NaN where masked.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) logp: Vec<Vec<f64>>,
    logp_old: Vec<Vec<f64>>,
    logp_ref: Vec<Vec<f64>>,
    advantages: Vec<Vec<f64>>,
    /// Constants in front of the losses of tokens.
    weights: Vec<Vec<f64>>,
    pub(super) mask: Vec<Vec<bool>>,
}

type Loss<B> = fn(&ObjectiveConfig, LossInputs<B>, &StepTotals) -> LossOutput<B>;

/// Two rows per aggregation and code path, and a row per trust region at its bounds.
pub(super) fn run<B: AutodiffBackend>(options: &VerifyOptions<B>) -> Vec<Row> {
    let mut rows = Vec::new();
    let paths: [(Path, Loss<B>); 2] = [
        (Path::PolicyLoss, policy_loss::<B>),
        (Path::Operations, policy_loss_from_operations::<B>),
    ];
    for (path, loss) in paths {
        for aggregation in Aggregation::ALL {
            rows.extend(aggregation_rows(options, path, loss, *aggregation));
        }
        for config in boundary_configurations() {
            let worst = (0..options.n_cases)
                .map(|case_idx| boundary_error(options, loss, &config, case_idx as u64))
                .fold(0.0, larger);
            rows.push(Row::new(
                Subject::Bounds(config, path),
                Oracle::ClosedForm,
                options.n_cases,
                worst,
                options.precision,
            ));
        }
    }
    rows
}

fn aggregation_rows<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    path: Path,
    loss: Loss<B>,
    aggregation: Aggregation,
) -> [Row; 2] {
    let configs: Vec<ObjectiveConfig> = (configurations().into_iter())
        .filter(|config| config.level.is_sequence() == aggregation.is_of_sequences())
        .collect();
    let (mut worst_closed, mut worst_split) = (0.0, 0.0);
    for case_idx in 0..options.n_cases {
        let parts = [2 << 32, path as u64, aggregation as u64, case_idx as u64];
        let mut random = Random::derived(options.seed, &parts);
        let config = ObjectiveConfig {
            aggregation,
            beta: random.uniform(0.1, 1.0),
            z: random.uniform(0.5, 2.0),
            c: Some(random.uniform(1.5, 3.0)),
            max_length: (random.below(2) == 1).then(|| 1 + random.below(9)),
            ..configs[random.below(configs.len())].clone()
        };
        let step = Step::random(&mut random, 0.5);
        let totals = StepTotals::from_mask(&step.mask);
        let whole = step.autodiff(options, loss, &config, &totals);
        let closed_form = flatten(step.closed_form(&config));
        worst_closed = larger(worst_closed, relative_error(&whole, &closed_form));

        let cut = 1 + random.below(step.mask.len() - 1);
        let (first, second) = step.split(cut);
        let first = first.autodiff(options, loss, &config, &totals);
        let second = second.autodiff(options, loss, &config, &totals);
        worst_split = larger(worst_split, relative_error(&join(&first, &second), &whole));
    }
    [
        (Oracle::ClosedForm, worst_closed),
        (Oracle::MicroBatches, worst_split),
    ]
    .map(|(oracle, worst)| {
        let subject = Subject::Steps(aggregation, path);
        Row::new(subject, oracle, options.n_cases, worst, options.precision)
    })
}

/// Configurations whose region is the single point `w = 1`.
fn boundary_configurations() -> Vec<ObjectiveConfig> {
    let has_bounds = |config: &ObjectiveConfig| {
        config.kind.spec().parts != Parts::Composed || config.clip != Clip::None
    };
    (configurations().into_iter())
        .filter(|config| !config.level.is_sequence() && has_bounds(config))
        .map(|config| ObjectiveConfig {
            aggregation: Aggregation::SeqMeanTokenSum,
            eps_low: 0.0,
            eps_high: 0.0,
            beta: 0.3,
            ..config
        })
        .collect()
}

/// With `logp = logp_old` every weight is 1 and lies on both bounds at once.
fn boundary_error<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    loss: Loss<B>,
    config: &ObjectiveConfig,
    case_idx: u64,
) -> f64 {
    let mut random = Random::derived(options.seed, &[3 << 32, case_idx]);
    let mut step = Step::random(&mut random, 0.0);
    if options.precision == Precision::F32 {
        // The same bits on both sides of the subtraction.
        step.round_to_f32();
    }
    let totals = StepTotals {
        n_tokens: 1,
        n_responses: 1,
        max_length: 1,
    };
    let actual = step.autodiff(options, loss, config, &totals);
    let mut expected = vec![0.0; step.mask.iter().map(Vec::len).sum()];
    for (idx, slot) in expected.iter_mut().enumerate() {
        let (row, column) = (idx / step.mask[0].len(), idx % step.mask[0].len());
        if step.mask[row][column] {
            *slot = boundary_gradient(config, step.unit(row, column));
        }
    }
    let batch = step.batch();
    let closed_form = evaluate(config, batch, &totals).grad.concat();
    let size = actual.len() - 1; // The loss comes last.
    larger(
        relative_error(&actual[..size], &expected),
        relative_error(&closed_form, &expected),
    )
}

/// What the tables say for `w = 1` on both bounds.
fn boundary_gradient(config: &ObjectiveConfig, unit: Unit) -> f64 {
    if !oracle::keeps_bounds(config) {
        return 0.0;
    }
    let unclipped = ObjectiveConfig {
        eps_low: 1.0,
        eps_high: 1.0,
        ..oracle::unclipped(config)
    };
    unit_loss(&unclipped, unit).grad
}

impl Step {
    /// Three to six responses of up to five tokens; `logp` and `logp_old` differ by about `distance`.
    pub(super) fn random(random: &mut Random, distance: f64) -> Self {
        let n_rows = 3 + random.below(4);
        let n_columns = 2 + random.below(4);
        let mut step = Self {
            logp: vec![vec![f64::NAN; n_columns]; n_rows],
            logp_old: vec![vec![f64::NAN; n_columns]; n_rows],
            logp_ref: vec![vec![f64::NAN; n_columns]; n_rows],
            advantages: vec![vec![f64::NAN; n_columns]; n_rows],
            weights: vec![vec![f64::NAN; n_columns]; n_rows],
            mask: vec![vec![false; n_columns]; n_rows],
        };
        for row in 0..n_rows {
            let n_tokens = random.below(n_columns + 1);
            for column in 0..n_tokens {
                let old = random.uniform(-3.0, -0.1);
                step.logp_old[row][column] = old;
                step.logp[row][column] = old + distance * random.normal();
                step.logp_ref[row][column] = old + 0.5 * random.normal();
                step.advantages[row][column] = random.normal();
                // At the bounds it is the gradient of a unit alone that is compared.
                step.weights[row][column] = if distance > 0.0 {
                    random.below(3) as f64 * 0.75
                } else {
                    1.0
                };
                step.mask[row][column] = true;
            }
        }
        step
    }

    fn round_to_f32(&mut self) {
        for rows in [
            &mut self.logp,
            &mut self.logp_old,
            &mut self.logp_ref,
            &mut self.advantages,
            &mut self.weights,
        ] {
            for value in rows.iter_mut().flatten() {
                *value = f64::from(*value as f32);
            }
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            logp: &self.logp,
            logp_old: &self.logp_old,
            logp_ref: &self.logp_ref,
            advantages: &self.advantages,
            weights: Some(&self.weights),
            mask: &self.mask,
        }
    }

    /// The tokens of each response, which come first in its row.
    pub(super) fn responses(&self) -> Vec<Vec<Unit>> {
        let tokens = |row: usize| {
            let columns = 0..self.mask[row].len();
            let counted = columns.filter(|column| self.mask[row][*column]);
            counted.map(|column| self.unit(row, column)).collect()
        };
        (0..self.mask.len()).map(tokens).collect()
    }

    fn unit(&self, row: usize, column: usize) -> Unit {
        Unit {
            lp: self.logp[row][column],
            lp_old: self.logp_old[row][column],
            lp_ref: self.logp_ref[row][column],
            advantage: self.advantages[row][column],
        }
    }

    pub(super) fn closed_form(&self, config: &ObjectiveConfig) -> Evaluation {
        evaluate(config, self.batch(), &StepTotals::from_mask(&self.mask))
    }

    /// The gradient in `logp`, row by row, and then the loss.
    pub(super) fn autodiff<B: AutodiffBackend>(
        &self,
        options: &VerifyOptions<B>,
        loss: Loss<B>,
        config: &ObjectiveConfig,
        totals: &StepTotals,
    ) -> Vec<f64> {
        let (device, dtype) = (&options.device, options.precision.dtype());
        let tensor = |rows: &[Vec<f64>]| matrix::<B>(rows, device, dtype);
        let logp = tensor(&self.logp).require_grad();
        let inputs = LossInputs {
            logp: logp.clone(),
            logp_old: tensor(&self.logp_old),
            logp_ref: Some(tensor(&self.logp_ref)),
            advantages: tensor(&self.advantages),
            weights: Some(tensor(&self.weights)),
            mask: bool_matrix(&self.mask, device),
        };
        let output = loss(config, inputs, totals);
        let mut result = gradient(&logp, &output.loss);
        result.extend(output.loss.into_data().iter::<f64>());
        result
    }

    pub(super) fn split(&self, cut: usize) -> (Self, Self) {
        let part = |range: Range<usize>| Self {
            logp: self.logp[range.clone()].to_vec(),
            logp_old: self.logp_old[range.clone()].to_vec(),
            logp_ref: self.logp_ref[range.clone()].to_vec(),
            advantages: self.advantages[range.clone()].to_vec(),
            weights: self.weights[range.clone()].to_vec(),
            mask: self.mask[range].to_vec(),
        };
        (part(0..cut), part(cut..self.mask.len()))
    }
}

/// The gradient, row by row, and then the loss.
pub(super) fn flatten(evaluation: Evaluation) -> Vec<f64> {
    let mut result = evaluation.grad.concat();
    result.push(evaluation.loss);
    result
}

/// Two micro-batches as one: gradients side by side, losses added.
pub(super) fn join(first: &[f64], second: &[f64]) -> Vec<f64> {
    let (first_loss, first) = first.split_last().expect("the loss comes last");
    let (second_loss, second) = second.split_last().expect("the loss comes last");
    let mut result = [first, second].concat();
    result.push(first_loss + second_loss);
    result
}
