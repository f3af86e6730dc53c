//! From a row of logits to a token.

use rpg_core::ops::RowWeights;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// How tokens are drawn. Deserialising checks the ranges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
// `remote`: serde derives inherent functions, which the implementations below call.
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct SamplingParams {
    /// Logits are divided by this; 0: always the most probable token.
    pub temperature: f64,
    /// Only the most probable tokens that together reach this probability are kept (1: all).
    pub top_p: f64,
    /// Only this many of the most probable tokens are kept (0: all).
    pub top_k: usize,
    /// Only tokens at least this fraction as probable as the best are kept (0: all).
    pub min_p: f64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
        }
    }
}

impl SamplingParams {
    /// Always the most probable token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
    };

    /// Refuses the first value that is out of range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let refuse = |key, found, expected| {
            Err(OutOfRange {
                key,
                found,
                expected,
            })
        };
        if !(0.0..=100.0).contains(&self.temperature) {
            let expected = "a number from 0 to 100";
            return refuse(SamplingKey::Temperature, self.temperature, expected);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse(SamplingKey::TopP, self.top_p, "a number above 0, at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse(SamplingKey::MinP, self.min_p, "a number from 0 to 1");
        }
        Ok(())
    }

    /// Whether some tokens are never drawn, so that the sampled distribution is not the scored one.
    pub fn truncates(&self) -> bool {
        self.temperature > 0.0 && (self.top_p < 1.0 || self.top_k > 0 || self.min_p > 0.0)
    }

    /// The temperature of the log-probabilities: 1 for greedy sampling.
    pub fn scoring_temperature(&self) -> f64 {
        if self.temperature > 0.0 {
            self.temperature
        } else {
            1.0
        }
    }
}

impl<'de> Deserialize<'de> for SamplingParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let params = Self::deserialize(deserializer)?;
        params.check().map_err(D::Error::custom)?;
        Ok(params)
    }
}

impl Serialize for SamplingParams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// A sampling parameter that has a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingKey {
    /// [`SamplingParams::temperature`].
    Temperature,
    /// [`SamplingParams::top_p`].
    TopP,
    /// [`SamplingParams::min_p`].
    MinP,
}

impl fmt::Display for SamplingKey {
    /// The name of the field.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Temperature => "temperature",
            Self::TopP => "top_p",
            Self::MinP => "min_p",
        })
    }
}

/// A sampling parameter that is out of range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{key}: found {found}; expected {expected}")]
pub struct OutOfRange {
    /// Which parameter.
    pub key: SamplingKey,
    /// Its value.
    pub found: f64,
    /// What is allowed.
    pub expected: &'static str,
}

/// A drawn token and its log-probability under the full softmax at the sampling temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logprob: f32,
}

/// Draws a token from a row of logits; `uniform` in `[0, 1)` is the only randomness.
pub fn sample(logits: &[f32], params: &SamplingParams, uniform: f64) -> Draw {
    let weights = weights(logits, params);
    let token = draw(logits, &weights, params, uniform);
    Draw {
        token,
        logprob: weights.logprob(token as usize),
    }
}

/// Like [`sample`], but draws none of `excluded`; the log-probability is still that of the full softmax.
pub fn sample_except(
    logits: &[f32],
    excluded: &[u32],
    params: &SamplingParams,
    uniform: f64,
) -> Draw {
    let mut allowed = logits.to_vec();
    for &token in excluded {
        if let Some(logit) = allowed.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    let token = draw(&allowed, &weights(&allowed, params), params, uniform);
    Draw {
        token,
        logprob: weights(logits, params).logprob(token as usize),
    }
}

fn weights<'a>(logits: &'a [f32], params: &SamplingParams) -> RowWeights<'a> {
    RowWeights::new(logits, (1.0 / params.scoring_temperature()) as f32)
}

fn draw(logits: &[f32], weights: &RowWeights, params: &SamplingParams, uniform: f64) -> u32 {
    if params.temperature == 0.0 {
        most_probable(logits)
    } else if params.truncates() {
        from_truncated(weights, params, uniform)
    } else {
        // The cumulative distribution in the order of token ids, inverted.
        weights.quantile(uniform) as u32
    }
}

fn most_probable(logits: &[f32]) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .fold(0, |best, (i, &x)| if x > logits[best] { i } else { best });
    best as u32
}

/// The index at which the running sum passes `threshold`; the last positive one if rounding hides it.
fn pick(weights: impl Iterator<Item = f64>, threshold: f64) -> usize {
    let mut running = 0.0;
    let mut last = 0;
    for (i, weight) in weights.enumerate() {
        running += weight;
        if weight > 0.0 {
            last = i;
            if running > threshold {
                return i;
            }
        }
    }
    last
}

fn from_truncated(weights: &RowWeights, params: &SamplingParams, uniform: f64) -> u32 {
    let weights: Vec<f64> = weights.all().into_iter().map(f64::from).collect();
    // All tokens below (1 - top_p) / V together weigh less than 1 - top_p: none is in the nucleus, and
    // sorting can leave them out. Not with top-k, which changes the total.
    let all: f64 = weights.iter().sum();
    let floor = if params.top_k > 0 {
        0.0
    } else {
        (1.0 - params.top_p) * all / weights.len() as f64
    };
    let mut kept: Vec<(u32, f64)> = (0..)
        .zip(weights)
        .filter(|&(_, weight)| weight >= floor)
        .collect();
    kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let sum = |kept: &[(u32, f64)]| kept.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut total = all;
    if params.top_k > 0 {
        kept.truncate(params.top_k);
        total = sum(&kept);
    }
    if params.top_p < 1.0 {
        let mut running = 0.0;
        let nucleus = kept.iter().position(|(_, weight)| {
            running += weight;
            running >= params.top_p * total
        });
        kept.truncate(nucleus.map_or(kept.len(), |last| last + 1));
    }
    // The best token weighs 1.
    kept.retain(|&(_, weight)| weight >= params.min_p);
    kept[pick(kept.iter().map(|(_, weight)| *weight), uniform * sum(&kept))].0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -1.0, 2.0];

    fn frequencies(params: SamplingParams) -> [f64; 5] {
        let mut counts = [0f64; 5];
        let n = 20_000;
        for i in 0..n {
            let draw = sample(&LOGITS, &params, (i as f64 + 0.5) / n as f64);
            counts[draw.token as usize] += 1.0 / n as f64;
        }
        counts
    }

    fn softmax(temperature: f64, kept: &[usize]) -> [f64; 5] {
        let mut p = [0f64; 5];
        for &i in kept {
            p[i] = (f64::from(LOGITS[i]) / temperature).exp();
        }
        let total: f64 = p.iter().sum();
        p.map(|x| x / total)
    }

    #[test]
    fn frequencies_are_the_probabilities_of_the_kept_tokens() {
        let default = SamplingParams::default();
        let rows = [
            (default, 1.0, vec![0, 1, 2, 3, 4]),
            (
                SamplingParams {
                    temperature: 0.5,
                    ..default
                },
                0.5,
                vec![0, 1, 2, 3, 4],
            ),
            (
                SamplingParams {
                    top_k: 3,
                    ..default
                },
                1.0,
                vec![1, 2, 4],
            ),
            (
                SamplingParams {
                    top_p: 0.75,
                    ..default
                },
                1.0,
                vec![1, 4],
            ),
            (
                SamplingParams {
                    top_p: 0.75,
                    top_k: 3,
                    ..default
                },
                1.0,
                vec![1, 4],
            ),
            (
                SamplingParams {
                    top_p: 0.9,
                    top_k: 3,
                    ..default
                },
                1.0,
                vec![1, 2, 4],
            ),
            (
                SamplingParams {
                    top_p: 0.85,
                    ..default
                },
                1.0,
                vec![1, 2, 4],
            ),
            (
                SamplingParams {
                    min_p: 0.2,
                    ..default
                },
                1.0,
                vec![1, 2, 4],
            ),
            (
                SamplingParams {
                    top_k: 1,
                    ..default
                },
                1.0,
                vec![1],
            ),
            (SamplingParams::GREEDY, 1.0, vec![1]),
        ];
        for (params, temperature, kept) in rows {
            let (found, expected) = (frequencies(params), softmax(temperature, &kept));
            for i in 0..5 {
                assert!(
                    (found[i] - expected[i]).abs() < 2e-4,
                    "{params:?}: {found:?} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn logprob_is_that_of_the_full_softmax() {
        for (params, temperature) in [
            (
                SamplingParams {
                    temperature: 0.7,
                    top_k: 2,
                    ..Default::default()
                },
                0.7,
            ),
            (SamplingParams::GREEDY, 1.0),
        ] {
            let draw = sample(&LOGITS, &params, 0.99);
            let expected = softmax(temperature, &[0, 1, 2, 3, 4])[draw.token as usize].ln();
            assert!((f64::from(draw.logprob) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (params, key) in [
            (
                SamplingParams {
                    temperature: -1.0,
                    ..Default::default()
                },
                "temperature: found -1",
            ),
            (
                SamplingParams {
                    temperature: f64::NAN,
                    ..Default::default()
                },
                "temperature: found NaN",
            ),
            (
                SamplingParams {
                    top_p: 0.0,
                    ..Default::default()
                },
                "top_p: found 0",
            ),
            (
                SamplingParams {
                    min_p: 2.0,
                    ..Default::default()
                },
                "min_p: found 2",
            ),
        ] {
            let message = params.check().unwrap_err().to_string();
            assert!(message.starts_with(key), "{message}");
        }
    }

    #[test]
    fn what_is_deserialised_is_checked() {
        let read =
            |json: &str| serde_json::from_str::<SamplingParams>(json).map_err(|e| e.to_string());
        let mut expected = SamplingParams::default();
        assert_eq!(read("{}"), Ok(expected));
        expected.top_p = 0.5;
        assert_eq!(read(r#"{"top_p": 0.5}"#), Ok(expected));
        assert_eq!(
            read(&serde_json::to_string(&expected).unwrap()),
            Ok(expected)
        );
        for (json, message) in [
            (
                r#"{"top_p": 1.5}"#,
                "top_p: found 1.5; expected a number above 0, at most 1",
            ),
            (r#"{"topp": 1}"#, "unknown field `topp`"),
        ] {
            let found = read(json).unwrap_err();
            assert!(found.starts_with(message), "{found}");
        }
    }
}
