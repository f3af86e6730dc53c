//! The families of models, and what transformers takes for granted in each.

use super::keys::Keys;
use super::mixer::hybrid_layers;
use super::{Attends, ConfigError, Mixer, NormPlacement, QkNorm, Rotary};
use serde::{Deserialize, Serialize};

/// The families of models that this crate implements, by the `model_type` of their `config.json`. A family is how that
/// file is read and written, and what its tensors are called; everything else is a property of the
/// [`ModelConfig`](super::ModelConfig).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Family {
    /// Llama 3, SmolLM2.
    Llama,
    /// Mistral.
    Mistral,
    /// Qwen2, Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
    /// Qwen3 with experts.
    #[serde(rename = "qwen3_moe")]
    Qwen3Moe,
    /// SmolLM3.
    SmolLm3,
    /// OLMo 2.
    Olmo2,
    /// Granite without experts.
    Granite,
    /// Phi-3, Phi-4-mini.
    Phi3,
    /// The text model of Gemma 3.
    #[serde(rename = "gemma3_text")]
    Gemma3,
    /// The text model of Qwen3.5 without experts.
    #[serde(rename = "qwen3_5_text")]
    Qwen35,
}

/// What transformers takes the keys to be that are absent.
pub(super) struct Defaults {
    pub(super) context: usize,
    /// None: one per query head.
    pub(super) kv_heads: Option<usize>,
    /// None: the quotient of the width and the heads.
    pub(super) head_dim: Option<usize>,
    pub(super) window: Option<usize>,
    pub(super) rope_theta: f64,
    pub(super) rms_norm_eps: f64,
    pub(super) is_tied: bool,
    pub(super) eos: Option<u32>,
    pub(super) bos: Option<u32>,
    pub(super) pad: Option<u32>,
}

impl Family {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Qwen3Moe,
        Self::SmolLm3,
        Self::Olmo2,
        Self::Granite,
        Self::Phi3,
        Self::Gemma3,
        Self::Qwen35,
    ];

    /// The `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Moe => "qwen3_moe",
            Self::SmolLm3 => "smollm3",
            Self::Olmo2 => "olmo2",
            Self::Granite => "granite",
            Self::Phi3 => "phi3",
            Self::Gemma3 => "gemma3_text",
            Self::Qwen35 => "qwen3_5_text",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|family| family.name() == name)
    }

    pub(super) fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|family| family.name()).collect();
        names.join(", ")
    }

    /// The class of transformers that loads it.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen3Moe => "Qwen3MoeForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
            Self::Olmo2 => "Olmo2ForCausalLM",
            Self::Granite => "GraniteForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
            Self::Qwen35 => "Qwen3_5ForCausalLM",
        }
    }

    pub(super) fn defaults(self) -> Defaults {
        let llama = Defaults {
            context: 2048,
            kv_heads: None,
            head_dim: None,
            window: None,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            is_tied: false,
            eos: Some(2),
            bos: Some(1),
            pad: None,
        };
        match self {
            Self::Llama | Self::Granite => llama,
            Self::Mistral => Defaults {
                context: 131_072,
                kv_heads: Some(8),
                window: Some(4096),
                ..llama
            },
            Self::Qwen2 | Self::Qwen3 => Defaults {
                context: 32_768,
                kv_heads: Some(32),
                head_dim: (self == Self::Qwen3).then_some(128),
                window: Some(4096),
                eos: None,
                bos: None,
                ..llama
            },
            Self::Qwen3Moe => Defaults {
                context: 32_768,
                kv_heads: Some(4),
                window: Some(4096),
                eos: None,
                bos: None,
                ..llama
            },
            Self::SmolLm3 => Defaults {
                context: 32_768,
                kv_heads: Some(4),
                rope_theta: 2_000_000.0,
                is_tied: true,
                eos: Some(128_001),
                bos: Some(128_000),
                pad: Some(128_004),
                ..llama
            },
            Self::Olmo2 => Defaults {
                rms_norm_eps: 1e-5,
                eos: Some(50_279),
                bos: None,
                pad: Some(1),
                ..llama
            },
            Self::Phi3 => Defaults {
                context: 4096,
                rms_norm_eps: 1e-5,
                eos: Some(32_000),
                pad: Some(32_000),
                ..llama
            },
            Self::Gemma3 => Defaults {
                context: 131_072,
                kv_heads: Some(4),
                head_dim: Some(256),
                window: Some(4096),
                rope_theta: 1_000_000.0,
                is_tied: true,
                eos: Some(1),
                bos: Some(2),
                pad: Some(0),
                ..llama
            },
            Self::Qwen35 => Defaults {
                context: 32_768,
                kv_heads: Some(4),
                head_dim: Some(256),
                eos: None,
                bos: None,
                ..llama
            },
        }
    }

    /// The share of a head that is rotated, where the family has one, as it is where the key is absent.
    pub(super) fn partial_rotary(self) -> Option<f64> {
        match self {
            Self::Phi3 => Some(1.0),
            Self::Qwen35 => Some(0.25),
            _ => None,
        }
    }

    /// Whether norms multiply by 1 plus their weight.
    pub(super) fn norms_add_one(self) -> bool {
        matches!(self, Self::Gemma3 | Self::Qwen35)
    }

    /// Whether query, key and value projections have a bias, and that of the output.
    pub(super) fn attention_biases(self, keys: &Keys) -> Result<(bool, bool), ConfigError> {
        let given = keys.flag("attention_bias")?.unwrap_or(false);
        Ok(match self {
            Self::Qwen2 => (true, false),
            Self::Mistral | Self::Phi3 => (false, false),
            _ => (given, given),
        })
    }

    /// Whether feed-forward layers have experts.
    pub(super) fn has_experts(self) -> bool {
        self == Self::Qwen3Moe
    }

    /// How the names of tensors begin that its checkpoints have beside those of the text model.
    pub(in crate::model) fn other_parts(self) -> &'static [&'static str] {
        match self {
            Self::Qwen35 => &["model.visual.", "mtp."],
            _ => &[],
        }
    }

    /// Whether `mlp_bias` has a meaning.
    pub(super) fn has_mlp_bias(self) -> bool {
        matches!(self, Self::Llama | Self::SmolLm3 | Self::Granite)
    }

    /// The key of the activation.
    pub(super) fn activation_key(self) -> &'static str {
        match self {
            Self::Gemma3 => "hidden_activation",
            _ => "hidden_act",
        }
    }

    pub(super) fn norms(self) -> NormPlacement {
        match self {
            Self::Olmo2 => NormPlacement::After,
            Self::Gemma3 => NormPlacement::Both,
            _ => NormPlacement::Before,
        }
    }

    pub(super) fn qk_norm(self) -> Option<QkNorm> {
        match self {
            Self::Qwen3 | Self::Qwen3Moe | Self::Qwen35 | Self::Gemma3 => Some(QkNorm::Heads),
            Self::Olmo2 => Some(QkNorm::Whole),
            _ => None,
        }
    }

    /// How each of the layers mixes tokens.
    pub(super) fn layers(self, keys: &Keys, n_layers: usize) -> Result<Vec<Mixer>, ConfigError> {
        if self == Self::Qwen35 {
            return hybrid_layers(keys, n_layers);
        }
        let attends = self.attends(keys, n_layers)?.into_iter();
        Ok(attends.map(Mixer::Attention).collect())
    }

    /// What each of the layers attends to.
    fn attends(self, keys: &Keys, n_layers: usize) -> Result<Vec<Attends>, ConfigError> {
        let window = match keys.optional_count("sliding_window")? {
            None if keys.is_absent("sliding_window") => self.defaults().window,
            size => size,
        };
        let is_used = keys.flag("use_sliding_window")?.unwrap_or(false);
        let in_window = |window: Option<usize>| Attends {
            window,
            ..Attends::default()
        };
        Ok(match self {
            Self::Llama | Self::Olmo2 | Self::Granite | Self::Qwen35 => {
                vec![Attends::default(); n_layers]
            }
            Self::Mistral | Self::Phi3 => vec![in_window(window); n_layers],
            Self::Qwen3Moe => vec![in_window(window.filter(|_| is_used)); n_layers],
            Self::Qwen2 | Self::Qwen3 => {
                let first = keys.count_from_0("max_window_layers")?.unwrap_or(28);
                let window = window.filter(|_| is_used);
                let is_sliding = match window {
                    None => vec![false; n_layers],
                    Some(_) => keys.sliding_layers(n_layers, |layer| layer >= first)?,
                };
                let of = |is_sliding| in_window(window.filter(|_| is_sliding));
                is_sliding.into_iter().map(of).collect()
            }
            Self::SmolLm3 => {
                let has_rope = keys.rotated_layers(n_layers)?;
                let window = window.filter(|_| is_used);
                let is_sliding = match window {
                    None => vec![false; n_layers],
                    Some(_) => keys.sliding_layers(n_layers, |layer| !has_rope[layer])?,
                };
                let of = |(is_sliding, &has_rope): (bool, &bool)| Attends {
                    window: window.filter(|_| is_sliding),
                    rotary: if has_rope {
                        Rotary::Global
                    } else {
                        Rotary::None
                    },
                };
                is_sliding.into_iter().zip(&has_rope).map(of).collect()
            }
            Self::Gemma3 => {
                let pattern = keys.optional_count("sliding_window_pattern")?.unwrap_or(6);
                let by_pattern = |layer: usize| !(layer + 1).is_multiple_of(pattern);
                let is_sliding = keys.sliding_layers(n_layers, by_pattern)?;
                let of = |is_sliding| {
                    if is_sliding {
                        Attends {
                            window,
                            rotary: Rotary::Local,
                        }
                    } else {
                        Attends::default()
                    }
                };
                is_sliding.into_iter().map(of).collect()
            }
        })
    }
}
