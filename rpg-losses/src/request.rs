//! One loss in JSON: the request and response of `rpg loss`.
//!
//! ```json
//! {"objective": {"kind": "rpg", "kl": "urkl", "beta": 1e-4},
//!  "logp": [[-0.5, -1.0]], "logp_old": [[-0.6, -0.9]], "logp_ref": [[-0.7, -0.8]],
//!  "mask": [[1, 1]], "advantages": [0.5]}
//! ```
//!
//! `logp_ref` may be left out: the reference is then the sampling policy. `mask` is 1 where a token
//! counts and 0 elsewhere. `advantages` holds a number per response or a row per response; `rewards`
//! with `groups` may take its place. The answer has `loss`, `grad` (`d loss / d logp`),
//! `advantages` as they were used, and `metrics`. Everything is computed in f64.

use crate::advantage::{Advantages, TokenLogProbs, step_advantages};
use crate::aggregate::StepTotals;
use crate::choices::Level;
use crate::config::{ObjectiveConfig, ObjectiveError, RawObjective};
use crate::reference::{Batch, evaluate};
use crate::rollout::{RolloutWeights, rollout_weights};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use thiserror::Error;

/// A step's responses and the objective to apply to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossRequest {
    #[serde(deserialize_with = "object")]
    objective: RawObjective,
    logp: Vec<Vec<f64>>,
    logp_old: Vec<Vec<f64>>,
    logp_ref: Option<Vec<Vec<f64>>>,
    logp_rollout: Option<Vec<Vec<f64>>>,
    mask: Vec<Vec<f64>>,
    advantages: Option<Advantages>,
    rewards: Option<Vec<f64>>,
    groups: Option<Vec<i64>>,
}

/// The loss and its gradient.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LossResponse {
    /// The loss of the step.
    pub loss: f64,
    /// `d loss / d logp`, `[B][T]`, 0 where masked.
    pub grad: Vec<Vec<f64>>,
    /// The advantages that were used: per response where all its tokens share one.
    pub advantages: Advantages,
    /// The metrics of [`crate::Diagnostics`].
    pub metrics: BTreeMap<String, f64>,
    /// Warnings for the user, meant for standard error: keys that nothing reads.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// A request that cannot be answered.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LossInputError {
    /// The text is not JSON, or not JSON of this form.
    #[error("not a loss request: {0}")]
    Syntax(String),
    /// The objective is out of range or contradicts itself.
    #[error("`objective`: {0}")]
    Objective(#[from] ObjectiveError),
    /// Rows or columns do not fit together.
    #[error("`{key}` has {found}, but `logp` has {expected}")]
    Shape {
        /// The key in the request.
        key: &'static str,
        /// Its size.
        found: String,
        /// The size that would be right.
        expected: String,
    },
    /// Rows of one matrix differ in length.
    #[error(
        "row {row} of `{key}` has {}, but row 0 has {expected}: \
         pad rows to equal length and mask the padding",
        count(*found, "column", "columns")
    )]
    Ragged {
        /// The key in the request.
        key: &'static str,
        /// Index of the row.
        row: usize,
        /// Its length.
        found: usize,
        /// The length of the first row.
        expected: usize,
    },
    /// NaN or an infinity.
    #[error("`{key}`{position} is not a finite number")]
    NotFinite {
        /// The key in the request.
        key: &'static str,
        /// Its indices, `[row][column]` or `[index]`.
        position: String,
    },
    /// A mask value other than 0 or 1.
    #[error("`mask`{position} is {found}, but must be 0 or 1")]
    Mask {
        /// Its indices, `[row][column]`.
        position: String,
        /// The value.
        found: String,
    },
    /// Numbers so large that the result is not finite.
    #[error(
        "the loss is not a finite number: log-probabilities, advantages, rewards or numbers of the \
         objective are too large"
    )]
    Overflow,
    /// Keys that are missing, or that exclude each other.
    #[error("{0}")]
    Keys(String),
    /// Several advantages where a response has only one.
    #[error(
        "row {row} of `advantages` holds different values, but at level \"{level}\" a response has \
         one advantage: give one number per response"
    )]
    AdvantagesVary {
        /// Index of the row.
        row: usize,
        /// The level.
        level: Level,
    },
}

/// Answers a request in JSON.
pub fn compute_json(request: &str) -> Result<LossResponse, LossInputError> {
    compute(&parse(request)?)
}

/// Answers a request.
pub fn compute(request: &LossRequest) -> Result<LossResponse, LossInputError> {
    let config = request.objective.resolve()?;
    let mut warnings = request.objective.warnings(&config);
    let logp = &request.logp;
    let shape = rectangle("logp", logp)?;
    let same_shape = |key, rows: &[Vec<f64>]| match rectangle(key, rows)? {
        found if found == shape => Ok(()),
        found => Err(LossInputError::Shape {
            key,
            found: describe(found),
            expected: describe(shape),
        }),
    };
    same_shape("logp_old", &request.logp_old)?;
    if let Some(logp_ref) = &request.logp_ref {
        same_shape("logp_ref", logp_ref)?;
    }
    if let Some(logp_rollout) = &request.logp_rollout {
        same_shape("logp_rollout", logp_rollout)?;
        all_finite("logp_rollout", logp_rollout)?;
    }
    same_shape("mask", &request.mask)?;
    let mask = read_mask(&request.mask)?;
    let logp_ref = request.logp_ref.as_ref().unwrap_or(&request.logp_old);
    for (key, rows) in [
        ("logp", logp),
        ("logp_old", &request.logp_old),
        ("logp_ref", logp_ref),
    ] {
        all_finite(key, rows)?;
    }

    let has_penalty = config.penalizes_rewards() && config.beta != 0.0;
    let advantages = match (&request.advantages, &request.rewards) {
        (Some(advantages), None) => {
            if request.groups.is_some() {
                warnings.push("`groups` has no effect: `advantages` are given".into());
            }
            if request.objective.advantage.is_some() {
                warnings.push("`advantage` has no effect: `advantages` are given".into());
            }
            if has_penalty {
                warnings.push(format!(
                    "`beta` has no effect: \"{}\" puts its KL penalty into the rewards, and \
                     `advantages` are given",
                    config.kind
                ));
            }
            check_advantages(advantages, &mask, shape, config.level)?;
            advantages.clone()
        }
        (None, Some(rewards)) => {
            let groups = read_groups(request.groups.as_deref(), rewards, &config, shape)?;
            let log_probs = TokenLogProbs {
                logp_old: &request.logp_old,
                logp_ref,
            };
            if has_penalty && request.logp_ref.is_none() {
                warnings.push(format!(
                    "`beta` has no effect: \"{}\" takes its KL penalty from `logp_old` and \
                     `logp_ref`, which is left out",
                    config.kind
                ));
            }
            step_advantages(&config, rewards, &groups, &mask, Some(log_probs))
        }
        (Some(_), Some(_)) => {
            return Err(LossInputError::Keys(
                "both `advantages` and `rewards` are given: leave one of them out".into(),
            ));
        }
        (None, None) => {
            return Err(LossInputError::Keys(
                "neither `advantages` nor `rewards` is given: give one of them, a number per response".into(),
            ));
        }
    };

    let rollout = rollout(request, &config, &mask)?;
    let weights = rollout.as_ref().map(|rollout| rollout.weights.as_slice());
    let batch = Batch {
        logp,
        logp_old: &request.logp_old,
        logp_ref,
        advantages: &advantages.clone().into_tokens(&mask),
        weights: weights.filter(|_| config.rollout_correction.is_some()),
        mask: &mask,
    };
    let totals = StepTotals::from_mask(&mask);
    let mut evaluation = evaluate(&config, batch, &totals);
    let of_rollout = rollout.iter().flat_map(|rollout| rollout.metrics.clone());
    evaluation.metrics.extend(of_rollout);
    for value in evaluation.metrics.values_mut() {
        // JSON has no infinity: whatever is larger is written as the largest number.
        *value = value.clamp(f64::MIN, f64::MAX);
    }
    let is_finite = evaluation.loss.is_finite()
        && evaluation
            .grad
            .iter()
            .flatten()
            .all(|grad| grad.is_finite())
        && evaluation.metrics.values().all(|value| value.is_finite());
    if !is_finite {
        return Err(LossInputError::Overflow);
    }
    Ok(LossResponse {
        loss: evaluation.loss,
        grad: evaluation.grad,
        advantages,
        metrics: evaluation.metrics,
        warnings,
    })
}

/// The weights that correct for the sampler, and its metrics; those too where nothing is corrected.
fn rollout(
    request: &LossRequest,
    config: &ObjectiveConfig,
    mask: &[Vec<bool>],
) -> Result<Option<RolloutWeights>, LossInputError> {
    let correction = config.rollout_correction;
    match &request.logp_rollout {
        Some(logp_rollout) => Ok(Some(rollout_weights(
            &correction.unwrap_or_default(),
            &request.logp_old,
            logp_rollout,
            mask,
        ))),
        None if correction.is_some() => Err(LossInputError::Keys(
            "`logp_rollout` is missing: `rollout_correction` compares `logp_old` with it".into(),
        )),
        None => Ok(None),
    }
}

fn parse(request: &str) -> Result<LossRequest, LossInputError> {
    // A byte order mark is not part of the text.
    let request = request.strip_prefix('\u{feff}').unwrap_or(request);
    let mut json = serde_json::Deserializer::from_str(request);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let parsed = object(tracked).and_then(|parsed| json.end().map(|()| parsed));
    parsed.map_err(|error| syntax_error(request, &track.path(), &error))
}

/// Reads a structure from an object only; serde would accept a list of its fields as well.
fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Fields<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Fields(PhantomData))
}

fn syntax_error(
    request: &str,
    path: &serde_path_to_error::Path,
    error: &serde_json::Error,
) -> LossInputError {
    let message = error.to_string();
    // The message on an unknown key names the key.
    let place = match path.iter().count() {
        0 => String::new(),
        1 if message.starts_with("unknown field") => String::new(),
        _ => format!("`{path}`: "),
    };
    // serde names Rust's types.
    let message = [
        ("expected f64", "expected a number"),
        ("expected i64", "expected a whole number of 64 bits"),
        ("expected usize", "expected a whole number, at least 1"),
        ("expected a sequence", "expected a list"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("number out of range", "a number must be finite"),
    ]
    .iter()
    .fold(message, |message, (type_name, words)| {
        message.replace(type_name, words)
    });
    // Some writers of JSON emit these words for non-finite numbers, although JSON has none.
    let has_non_finite = ["NaN", "Infinity"]
        .iter()
        .any(|word| request.contains(word));
    let hint = if has_non_finite {
        "; every number must be finite: JSON has no NaN and no Infinity"
    } else {
        ""
    };
    LossInputError::Syntax(format!("{place}{message}{hint}"))
}

/// The size of a matrix, rows of one length each.
fn rectangle(key: &'static str, rows: &[Vec<f64>]) -> Result<[usize; 2], LossInputError> {
    let expected = rows.first().map_or(0, Vec::len);
    for (row, values) in rows.iter().enumerate() {
        if values.len() != expected {
            return Err(LossInputError::Ragged {
                key,
                row,
                found: values.len(),
                expected,
            });
        }
    }
    Ok([rows.len(), expected])
}

fn describe([n_rows, n_columns]: [usize; 2]) -> String {
    format!("{} of {n_columns}", count(n_rows, "row", "rows"))
}

fn count(n: usize, one: &str, several: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { several })
}

fn all_finite(key: &'static str, rows: &[Vec<f64>]) -> Result<(), LossInputError> {
    for (row, values) in rows.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            if !value.is_finite() {
                let position = format!("[{row}][{column}]");
                return Err(LossInputError::NotFinite { key, position });
            }
        }
    }
    Ok(())
}

fn read_mask(mask: &[Vec<f64>]) -> Result<Vec<Vec<bool>>, LossInputError> {
    let read = |row: usize, column: usize, value: f64| match value {
        1.0 => Ok(true),
        0.0 => Ok(false),
        found => Err(LossInputError::Mask {
            position: format!("[{row}][{column}]"),
            found: match found.to_string() {
                digits if digits.len() > 20 => format!("{found:e}"),
                digits => digits,
            },
        }),
    };
    (mask.iter().enumerate())
        .map(|(row, values)| {
            (values.iter().enumerate())
                .map(|(column, value)| read(row, column, *value))
                .collect()
        })
        .collect()
}

fn per_response_length(
    key: &'static str,
    found: usize,
    shape: [usize; 2],
) -> Result<(), LossInputError> {
    if found == shape[0] {
        return Ok(());
    }
    Err(LossInputError::Shape {
        key,
        found: count(found, "entry", "entries"),
        expected: format!(
            "{}, and one entry belongs to each",
            count(shape[0], "row", "rows")
        ),
    })
}

fn finite_list(key: &'static str, values: &[f64]) -> Result<(), LossInputError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(idx) => Err(LossInputError::NotFinite {
            key,
            position: format!("[{idx}]"),
        }),
    }
}

/// Refuses advantages that do not fit the responses or the level.
fn check_advantages(
    advantages: &Advantages,
    mask: &[Vec<bool>],
    shape: [usize; 2],
    level: Level,
) -> Result<(), LossInputError> {
    let rows = match advantages {
        Advantages::PerResponse(values) => {
            per_response_length("advantages", values.len(), shape)?;
            return finite_list("advantages", values);
        }
        Advantages::PerToken(rows) => rows,
    };
    let found = rectangle("advantages", rows)?;
    if found != shape {
        return Err(LossInputError::Shape {
            key: "advantages",
            found: describe(found),
            expected: describe(shape),
        });
    }
    all_finite("advantages", rows)?;
    for (row, (values, mask)) in rows.iter().zip(mask).enumerate() {
        let mut counted = (values.iter().zip(mask)).filter_map(|(a, m)| m.then_some(*a));
        let first = counted.next();
        if level.is_sequence() && counted.any(|value| Some(value) != first) {
            return Err(LossInputError::AdvantagesVary { row, level });
        }
    }
    Ok(())
}

fn read_groups(
    groups: Option<&[i64]>,
    rewards: &[f64],
    config: &ObjectiveConfig,
    shape: [usize; 2],
) -> Result<Vec<usize>, LossInputError> {
    per_response_length("rewards", rewards.len(), shape)?;
    finite_list("rewards", rewards)?;
    match groups {
        Some(groups) => {
            per_response_length("groups", groups.len(), shape)?;
            // Ids only say which responses belong together: any distinct numbers will do.
            let mut ids: BTreeMap<i64, usize> = BTreeMap::new();
            Ok(groups
                .iter()
                .map(|group| {
                    let next = ids.len();
                    *ids.entry(*group).or_insert(next)
                })
                .collect())
        }
        None if config.advantage.needs_groups() => Err(LossInputError::Keys(format!(
            "`groups` is missing: advantage \"{}\" compares a reward with those of its group, so \
             each response needs a group id",
            config.advantage
        ))),
        None => Ok(vec![0; rewards.len()]),
    }
}
