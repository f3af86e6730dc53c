//! Rotary frequencies, and how they are stretched for longer contexts.

use super::ModelConfig;
use crate::ops::RopeTable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How rotary frequencies are stretched, as `rope_scaling` gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched by
    /// `factor`, those below `original_max_position_embeddings / high_freq_factor` are kept, and between
    /// the two the share of each changes linearly.
    Llama3 {
        /// The stretch.
        factor: f64,
        /// See above.
        low_freq_factor: f64,
        /// See above.
        high_freq_factor: f64,
        /// Length of the context before it was stretched.
        original_max_position_embeddings: u32,
    },
    /// YaRN (Peng et al., 2023).
    Yarn(Yarn),
    /// LongRoPE (Ding et al., 2024, arXiv 2402.13753).
    LongRope(LongRope),
    /// Dynamic NTK: a base that grows with a sequence as soon as it is longer than `max_position_embeddings`, beyond which no
    /// model is run here. The frequencies are kept.
    Dynamic {
        /// By how much the base would grow; only noted.
        factor: f64,
    },
}

/// LongRoPE: every frequency is divided by a factor of its own, from one list for sequences within the original context and
/// from another for longer ones. Queries and keys grow by the attention factor. As in transformers, except that there each
/// batch takes the list of its longest sequence, so that what comes later changes what a token's probability was: here a
/// model has one list, the short one unless [`ModelConfig::long_context`] is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongRope {
    /// Divisors within the original context.
    pub short_factor: Vec<f64>,
    /// Divisors beyond it.
    pub long_factor: Vec<f64>,
    /// By how much the context was stretched; without it, as its lengths say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// By how much queries and keys grow; without it, that of the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Length of the context before it was stretched.
    pub original_max_position_embeddings: u32,
}

impl LongRope {
    /// Whether there are so many factors in either list.
    pub(super) fn has_factors(&self, n: usize) -> bool {
        self.short_factor.len() == n && self.long_factor.len() == n
    }

    /// As Phi-3's `config.json` has it, with the original context beside it.
    pub(super) fn with_three_keys(&self) -> Value {
        let mut json = json!({
            "type": "longrope",
            "short_factor": self.short_factor,
            "long_factor": self.long_factor,
        });
        for (key, number) in [
            ("factor", self.factor),
            ("attention_factor", self.attention_factor),
        ] {
            if let Some(number) = number {
                json[key] = number.into();
            }
        }
        json
    }

    /// By how much queries and keys grow in a model of this context.
    fn growth(&self, context: usize) -> f64 {
        let original = f64::from(self.original_max_position_embeddings);
        let factor = self.factor.unwrap_or(context as f64 / original);
        match self.attention_factor {
            Some(growth) => growth,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        }
    }

    fn is_usable(&self) -> bool {
        let lists = self.short_factor.iter().chain(&self.long_factor).copied();
        let numbers = [self.factor, self.attention_factor].into_iter().flatten();
        self.original_max_position_embeddings > 1
            && lists.chain(numbers).all(|x| x > 0.0 && x.is_finite())
    }
}

/// YaRN: dimensions that turn more than `beta_fast` times in the original context are kept, those that turn less than
/// `beta_slow` times are stretched by `factor`, and between the two the share of each changes linearly. Queries and keys
/// grow by the attention factor. As in transformers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Yarn {
    /// The stretch.
    pub factor: f64,
    /// Length of the context before it was stretched.
    pub original_max_position_embeddings: u32,
    /// By how much queries and keys grow; without it, that of the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Scales the paper's attention factor, together with `mscale_all_dim` (DeepSeek).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// See `mscale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// See above; 32 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_fast: Option<f64>,
    /// See above; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_slow: Option<f64>,
    /// Whether the bounds of the linear part are whole dimensions; true without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
}

impl Yarn {
    /// The frequencies, of which the stretched ones are divided.
    fn apply(&self, frequencies: &mut [f64], theta: f64) {
        let half = frequencies.len() as f64;
        // The pair of dimensions that turns so many times in the original context.
        let pair = |turns: f64| {
            let context = f64::from(self.original_max_position_embeddings);
            half * (context / (turns * std::f64::consts::TAU)).ln() / theta.ln()
        };
        let (mut low, mut high) = (
            pair(self.beta_fast.unwrap_or(32.0)),
            pair(self.beta_slow.unwrap_or(1.0)),
        );
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(2.0 * half - 1.0));
        if low == high {
            // As transformers avoids the division by zero.
            high += 0.001;
        }
        for (i, frequency) in frequencies.iter_mut().enumerate() {
            let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            *frequency *= 1.0 - stretched + stretched / self.factor;
        }
    }

    /// By how much queries and keys grow.
    fn growth(&self) -> f64 {
        let of = |mscale: f64| match self.factor {
            factor if factor > 1.0 => 0.1 * mscale * factor.ln() + 1.0,
            _ => 1.0,
        };
        let nonzero = |x: Option<f64>| x.filter(|&x| x != 0.0);
        match (nonzero(self.mscale), nonzero(self.mscale_all_dim)) {
            _ if self.attention_factor.is_some() => self.attention_factor.unwrap_or(1.0),
            (Some(mscale), Some(all)) => of(mscale) / of(all),
            _ => of(1.0),
        }
    }

    fn is_usable(&self) -> bool {
        let positive = [
            Some(self.original_max_position_embeddings.into()),
            self.attention_factor,
            self.beta_fast,
            self.beta_slow,
        ];
        let positive = positive.into_iter().flatten();
        positive
            .chain([self.growth()])
            .all(|x| x > 0.0 && x.is_finite())
            && self.factor >= 1.0
            && self.factor.is_finite()
    }
}

impl RopeScaling {
    /// Stretches the frequencies of a base, for sequences within the original context or for longer ones too.
    fn apply(&self, frequencies: &mut [f64], theta: f64, is_long: bool) {
        match self {
            Self::Dynamic { .. } => {}
            Self::Yarn(yarn) => yarn.apply(frequencies, theta),
            Self::LongRope(rope) => {
                let factors = if is_long {
                    &rope.long_factor
                } else {
                    &rope.short_factor
                };
                for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                    *frequency /= factor;
                }
            }
            &Self::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= factor),
            &Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: context,
            } => {
                for frequency in frequencies {
                    let turns = f64::from(context) * *frequency / std::f64::consts::TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= kept + (1.0 - kept) / factor;
                }
            }
        }
    }

    /// By how much queries and keys grow in a model of this context.
    fn growth(&self, context: usize) -> f64 {
        match self {
            Self::Yarn(yarn) => yarn.growth(),
            Self::LongRope(rope) => rope.growth(context),
            Self::Linear { .. } | Self::Llama3 { .. } | Self::Dynamic { .. } => 1.0,
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        match self {
            Self::Yarn(yarn) => yarn.is_usable(),
            Self::LongRope(rope) => rope.is_usable(),
            &Self::Linear { factor } | &Self::Dynamic { factor } => {
                factor >= 1.0 && factor.is_finite()
            }
            &Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: context,
            } => {
                let all = [factor, low, high, context.into()];
                all.iter().all(|x| *x > 0.0 && x.is_finite()) && factor >= 1.0 && high > low
            }
        }
    }
}

impl ModelConfig {
    /// The rotary table of `max_positions` positions, for layers with [`Rotary::Global`](super::Rotary::Global).
    pub fn rope(&self, max_positions: usize) -> RopeTable {
        let half = self.rotary_dim / 2;
        // transformers computes the exponent in f32; in f64 the angles differ by less than f32 resolves.
        let mut frequencies: Vec<f64> = frequencies(self.rope_theta, half).collect();
        let mut growth = 1.0;
        if let Some(scaling) = &self.rope_scaling {
            scaling.apply(&mut frequencies, self.rope_theta, self.long_context);
            growth = scaling.growth(self.max_position_embeddings);
        }
        RopeTable::scaled(&frequencies, max_positions, growth)
    }

    /// The same for layers with [`Rotary::Local`](super::Rotary::Local).
    pub fn local_rope(&self, max_positions: usize) -> RopeTable {
        let theta = self.local_rope_theta.unwrap_or(self.rope_theta);
        let frequencies: Vec<f64> = frequencies(theta, self.rotary_dim / 2).collect();
        RopeTable::new(&frequencies, max_positions)
    }

    /// By how much `scaling`, as `config.json` gives it, divides each of `half` rotary frequencies.
    #[cfg(feature = "gguf")]
    pub(crate) fn rope_divisors(scaling: &Value, theta: f64, half: usize) -> Option<Vec<f64>> {
        let scaling: RopeScaling = serde_json::from_value(scaling.clone()).ok()?;
        let plain: Vec<f64> = frequencies(theta, half).collect();
        let mut stretched = plain.clone();
        scaling.apply(&mut stretched, theta, false);
        let divisors = plain.iter().zip(stretched).map(|(f, s)| f / s);
        scaling.is_usable().then(|| divisors.collect())
    }
}

fn frequencies(theta: f64, half: usize) -> impl Iterator<Item = f64> {
    (0..half).map(move |i| theta.powf(-(i as f64) / half as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yarn_is_that_of_transformers() {
        // Frequencies and attention factors as transformers 5.24 computes them.
        for (theta, scaling, expected, growth) in [
            (
                1e4,
                json!({"factor": 4.0, "original_max_position_embeddings": 128}),
                [
                    1.0,
                    0.237_170_82,
                    0.05,
                    0.007_905_694_7,
                    0.0025,
                    7.905_694_7e-4,
                    2.5e-4,
                    7.905_694_7e-5,
                ],
                1.138_629_436_111_989,
            ),
            (
                1e6,
                json!({"factor": 8.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0, "beta_slow": 2.0,
                    "mscale": 0.7, "mscale_all_dim": 1.0, "truncate": false}),
                [
                    1.0,
                    0.177_827_94,
                    0.031_622_778,
                    0.002_136_700_6,
                    1.25e-4,
                    2.222_849_3e-5,
                    3.952_846_8e-6,
                    7.029_266_8e-7,
                ],
                0.948_355_852_350_339_9,
            ),
            (
                1e4,
                json!({"factor": 2.0, "attention_factor": 1.5}),
                [
                    1.0,
                    0.276_699_27,
                    0.075,
                    0.019_764_237,
                    0.005,
                    0.001_581_138_9,
                    5e-4,
                    1.581_138_9e-4,
                ],
                1.5,
            ),
        ] {
            let mut rope = scaling.clone();
            rope["rope_type"] = "yarn".into();
            rope["rope_theta"] = theta.into();
            let config = json!({
                "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
                "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 16, "max_position_embeddings": 512,
                "rope_parameters": rope,
            });
            let config = ModelConfig::from_hf_json(&config.to_string()).unwrap();
            let table = config.rope(2);
            let (cos, sin) = table.at(1);
            for (i, frequency) in expected.into_iter().enumerate() {
                let found = f64::from(sin[i]).atan2(cos[i].into());
                assert!(
                    (found / frequency - 1.0).abs() < 1e-5,
                    "{scaling} {i}: {found}"
                );
                let length = f64::from(sin[i]).hypot(cos[i].into());
                assert!((length - growth).abs() < 1e-6, "{scaling} {i}: {length}");
            }
            let again = ModelConfig::from_hf_json(&config.to_hf_json("float32")).unwrap();
            assert_eq!(again, config);
        }
    }
}
