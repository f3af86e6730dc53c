//! A model's shape, read from a Hugging Face `config.json`.

mod keys;
mod rope;

pub use rope::{RopeScaling, Yarn};

pub(crate) use keys::{IDS, token_ids};

use crate::files::python_json;
use crate::ops::HeadLayout;
use keys::Keys;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The architecture is not one that this crate implements.
    #[error("`model_type` is \"{found}\"; supported are {}", Family::names())]
    UnsupportedModelType {
        /// What the file says.
        found: String,
    },
    /// A key is missing or has the wrong type.
    #[error("`{key}`: {found}; expected {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// What the file has there.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The file is not JSON.
    #[error("not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
}

/// The families of models that this crate implements, by the `model_type` of their `config.json`.
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
}

impl Family {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|family| family.name() == name)
    }

    fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|family| family.name()).collect();
        names.join(", ")
    }

    /// What transformers takes `max_position_embeddings` to be where it is absent.
    fn default_context(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Mistral => 131_072,
            Self::Qwen2 | Self::Qwen3 => 32_768,
        }
    }

    /// What transformers takes `eos_token_id` to be where it is absent; `bos_token_id` is 1 in the same families.
    fn default_ends(self) -> Option<u32> {
        match self {
            Self::Llama | Self::Mistral => Some(2),
            Self::Qwen2 | Self::Qwen3 => None,
        }
    }

    /// The class of transformers that loads it.
    fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The rotary table has a row for each position.
const MAX_POSITIONS: usize = 1 << 21;

/// The shape of a decoder-only transformer: RMSNorm, rotary embedding, grouped-query attention, SwiGLU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Decides how the checkpoint's `config.json` is read and written.
    pub model_type: Family,
    /// Number of tokens of the vocabulary, V.
    pub vocab_size: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the feed-forward layer, F.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The longest sequence that the checkpoint was made for; see [`ModelConfig::context`].
    pub max_position_embeddings: usize,
    /// The window that attention slides over, if some layer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<SlidingWindow>,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for longer contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output layer shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Whether query, key and value projections have a bias (Qwen2).
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias too.
    pub output_bias: bool,
    /// Whether queries and keys are normalised per head (Qwen3).
    pub qk_norm: bool,
    /// Tokens that end a completion.
    pub eos_token_ids: Vec<u32>,
    /// The padding token that the checkpoint names; not used here.
    pub pad_token_id: Option<u32>,
    /// The token that begins a text, as the checkpoint names it; not used here.
    pub bos_token_id: Option<u32>,
}

/// A sliding window of attention, as `config.json` gives it. It is written again; sequences end within it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlidingWindow {
    /// How many tokens a token attends to.
    pub size: usize,
    /// The first layer that has the window (Qwen).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_window_layers: Option<usize>,
    /// The kind of attention of each layer, where the checkpoint lists them (Qwen).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
}

impl ModelConfig {
    /// Reads a Hugging Face `config.json`.
    pub fn from_hf_json(text: &str) -> Result<Self, ConfigError> {
        let keys = Keys(serde_json::from_str(&python_json(text))?);
        let found = keys.text("model_type")?;
        let Some(model_type) = Family::named(&found) else {
            return Err(ConfigError::UnsupportedModelType { found });
        };
        if let Some(activation) = keys.get("hidden_act").filter(|v| *v != "silu") {
            return Err(keys.error("hidden_act", activation, "\"silu\""));
        }
        if keys.flag("mlp_bias")?.unwrap_or(false) {
            return Err(keys.error("mlp_bias", &Value::Bool(true), "false"));
        }
        let max_position_embeddings = keys
            .optional_count("max_position_embeddings")?
            .unwrap_or(model_type.default_context());
        let (rope_theta, rope_scaling) = keys.rope(max_position_embeddings)?;
        let num_hidden_layers = keys.count("num_hidden_layers")?;
        let sliding_window = keys.sliding_window(model_type, num_hidden_layers)?;
        let attention_bias = keys.flag("attention_bias")?.unwrap_or(false);
        let hidden_size = keys.count("hidden_size")?;
        let num_attention_heads = keys.count("num_attention_heads")?;
        let config = Self {
            vocab_size: keys.count("vocab_size")?,
            hidden_size,
            intermediate_size: keys.count("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: keys
                .optional_count("num_key_value_heads")?
                .unwrap_or(keys.default_kv_heads(model_type, num_attention_heads)),
            head_dim: match keys.optional_count("head_dim")? {
                Some(n) => n,
                // Where it is absent; null asks for the quotient.
                None if model_type == Family::Qwen3 && keys.is_absent("head_dim") => 128,
                None => hidden_size / num_attention_heads,
            },
            max_position_embeddings,
            sliding_window,
            rope_theta,
            rope_scaling,
            rms_norm_eps: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
            tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: match model_type {
                Family::Qwen2 => true,
                Family::Mistral => false,
                Family::Llama | Family::Qwen3 => attention_bias,
            },
            output_bias: match model_type {
                Family::Qwen2 | Family::Mistral => false,
                Family::Llama | Family::Qwen3 => attention_bias,
            },
            qk_norm: model_type == Family::Qwen3,
            eos_token_ids: keys.ends(model_type)?,
            pad_token_id: keys.optional_id("pad_token_id")?,
            bos_token_id: match keys.optional_id("bos_token_id")? {
                None if keys.is_absent("bos_token_id") => model_type.default_ends().map(|_| 1),
                id => id,
            },
            model_type,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses shapes that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, found: usize, expected| {
            Err(ConfigError::Key {
                key,
                found: format!("found {found}"),
                expected,
            })
        };
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            let expected = "a divisor of num_attention_heads";
            return refuse("num_key_value_heads", self.num_key_value_heads, expected);
        }
        if self.max_position_embeddings > MAX_POSITIONS {
            let (found, expected) = (self.max_position_embeddings, "at most 2097152");
            return refuse("max_position_embeddings", found, expected);
        }
        let is_unknown = |id: &&u32| **id as usize >= self.vocab_size;
        if let Some(&id) = self.eos_token_ids.iter().find(is_unknown) {
            let expected = "ids below `vocab_size`";
            return refuse("eos_token_id", id as usize, expected);
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return refuse("head_dim", self.head_dim, "an even number above 0");
        }
        Ok(())
    }

    /// The `config.json` that Hugging Face transformers loads, with weights stored as `dtype`.
    pub fn to_hf_json(&self, dtype: &str) -> String {
        let eos = match self.eos_token_ids.as_slice() {
            [one] => Value::from(*one),
            many => Value::from(many.to_vec()),
        };
        let mut json = serde_json::json!({
            "architectures": [self.model_type.architecture()],
            "model_type": self.model_type.name(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "torch_dtype": dtype,
        });
        if let Some(scaling) = &self.rope_scaling {
            json["rope_scaling"] = serde_json::json!(scaling);
        }
        match self.model_type {
            Family::Llama => {
                json["attention_bias"] = self.qkv_bias.into();
                json["mlp_bias"] = false.into();
            }
            Family::Mistral => json["sliding_window"] = Value::Null,
            Family::Qwen2 => {}
            Family::Qwen3 => json["attention_bias"] = self.qkv_bias.into(),
        }
        if let Some(window) = &self.sliding_window {
            json["sliding_window"] = window.size.into();
            if self.model_type != Family::Mistral {
                json["use_sliding_window"] = true.into();
            }
            if let Some(n) = window.max_window_layers {
                json["max_window_layers"] = n.into();
            }
            if let Some(types) = &window.layer_types {
                json["layer_types"] = types.clone().into();
            }
        }
        format!("{json:#}\n")
    }

    /// The longest sequence that this crate runs: `max_position_embeddings`, or the sliding window where that is
    /// shorter, within which attention is the same.
    pub fn context(&self) -> usize {
        let window = self.sliding_window.as_ref().map(|window| window.size);
        self.max_position_embeddings
            .min(window.unwrap_or(usize::MAX))
    }

    /// How a row of queries, keys and values is divided.
    pub fn heads(&self) -> HeadLayout {
        HeadLayout {
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
        }
    }

    /// The bytes of f32 that a forward pass over so many tokens keeps for the backward pass, if nothing is computed twice
    /// ([`Activations::Keep`](super::Activations::Keep)).
    pub fn activation_bytes(&self, n_tokens: usize) -> usize {
        let (d, heads) = (self.hidden_size, self.heads());
        // Inputs of both norms and what they give, rows of queries, keys and values, what attention gives and its
        // log-sum-exp, gate, up and their product.
        let rows = heads.width() * if self.qk_norm { 2 } else { 1 };
        let attended = heads.q_width() + heads.n_heads;
        let block = 4 * d + rows + attended + 3 * self.intermediate_size;
        4 * n_tokens * self.num_hidden_layers * block
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        let (d, f, heads) = (self.hidden_size, self.intermediate_size, self.heads());
        let bias =
            if self.qkv_bias { heads.width() } else { 0 } + if self.output_bias { d } else { 0 };
        let norms = 2 * d + if self.qk_norm { 2 * self.head_dim } else { 0 };
        let block = d * heads.width() + heads.q_width() * d + 3 * d * f + bias + norms;
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * block + embeddings * self.vocab_size * d + d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smol(change: impl FnOnce(&mut Value)) -> Result<ModelConfig, ConfigError> {
        let mut json = serde_json::json!({
            "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "max_position_embeddings": 8192, "rope_theta": 100000.0, "rms_norm_eps": 1e-5,
            "vocab_size": 49152, "tie_word_embeddings": true, "eos_token_id": 2,
        });
        change(&mut json);
        ModelConfig::from_hf_json(&json.to_string())
    }

    #[test]
    fn reads_and_writes_the_same_model() {
        let config = smol(|_| ()).unwrap();
        assert_eq!(config.head_dim, 64);
        assert_eq!(config.n_parameters(), 134_515_008);
        assert_eq!(
            ModelConfig::from_hf_json(&config.to_hf_json("float32")).unwrap(),
            config
        );
    }

    #[test]
    fn bad_values_are_named() {
        let check = |change: fn(&mut Value), message: &str| {
            let error = smol(change).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        check(
            |j| j["model_type"] = "mamba".into(),
            "`model_type` is \"mamba\"; supported are llama",
        );
        check(
            |j| j["hidden_size"] = (-3).into(),
            "`hidden_size`: found -3; expected an integer",
        );
        check(|j| j["vocab_size"] = Value::Null, "`vocab_size`: missing");
        check(
            |j| j["num_key_value_heads"] = 2.into(),
            "a divisor of num_attention_heads",
        );
        check(
            |j| j["head_dim"] = 63.into(),
            "`head_dim`: found 63; expected an even number",
        );
        check(
            |j| j["hidden_act"] = "gelu".into(),
            "`hidden_act`: found \"gelu\"",
        );
        check(
            |j| j["eos_token_id"] = "x".into(),
            "`eos_token_id`: found \"x\"",
        );
        check(
            |j| j["rope_scaling"] = serde_json::json!({"rope_type": "llama3"}),
            "`rope_scaling`",
        );
        check(
            |j| j["rope_scaling"] = serde_json::json!({"type": "dynamic", "factor": 4.0}),
            "found {\"type\":\"dynamic\",\"factor\":4.0}; expected the type `default`, `linear`, `llama3` or `yarn`",
        );
    }

    #[test]
    fn a_sliding_window_limits_the_context() {
        let mistral = |change: fn(&mut Value)| {
            smol(|j| {
                j["model_type"] = "mistral".into();
                change(j);
            })
            .unwrap()
            .context()
        };
        assert_eq!(mistral(|j| j["sliding_window"] = Value::Null), 8192);
        assert_eq!(mistral(|_| ()), 4096);
        assert_eq!(mistral(|j| j["sliding_window"] = 2048.into()), 2048);
        let qwen = |is_used: bool| {
            smol(|j| {
                j["model_type"] = "qwen2".into();
                j["sliding_window"] = 4096.into();
                j["use_sliding_window"] = is_used.into();
            })
            .unwrap()
            .context()
        };
        assert_eq!((qwen(true), qwen(false)), (4096, 8192));
    }
}
