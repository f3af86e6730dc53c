//! A model's shape, read from a Hugging Face `config.json`.

mod experts;
mod family;
mod json;
mod keys;
mod mixer;
mod rope;
mod sizes;

pub use experts::Experts;
pub use family::Family;
pub use mixer::{Attends, GatedDelta, Mixer, Rotary};
pub use rope::{LongRope, RopeScaling, Yarn};

pub(crate) use keys::{IDS, token_ids};

use crate::ops::{Activation, Attention, HeadLayout};
use serde::{Deserialize, Serialize};

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

/// The rotary table has a row for each position.
const MAX_POSITIONS: usize = 1 << 21;

/// The config has an entry for each layer.
const MAX_LAYERS: usize = 1 << 16;

/// The shape of a decoder-only transformer: RMSNorm, rotary embedding, grouped-query attention, a gated feed-forward layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Decides how the checkpoint's `config.json` is read and written, and what its tensors are called.
    pub model_type: Family,
    /// Number of tokens of the vocabulary, V.
    pub vocab_size: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of a feed-forward layer without experts, F.
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
    /// How each layer mixes tokens. All windows have the same size, and all gated delta networks the same shape.
    pub layers: Vec<Mixer>,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched for longer contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Base of the rotary frequencies of layers with [`Rotary::Local`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rope_theta: Option<f64>,
    /// How many dimensions of a head are rotated, the first ones; the others know no position.
    pub rotary_dim: usize,
    /// With LongRoPE: whether the model is run on sequences longer than the original context, and so all of them, the
    /// short ones too, are rotated with the long factors. No key of `config.json`: see
    /// [`CausalLm::with_long_context`](crate::model::CausalLm::with_long_context).
    pub long_context: bool,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Where a block's norms are.
    pub norms: NormPlacement,
    /// Whether norms multiply by 1 plus their weight (Gemma, Qwen3.5).
    pub norms_add_one: bool,
    /// Whether, and over what, queries and keys are normalised.
    pub qk_norm: Option<QkNorm>,
    /// The function of the feed-forward layer's gate.
    pub activation: Activation,
    /// Whether what attention gives is multiplied by the sigmoid of a gate for each number, which the projection of the
    /// queries gives as well (Qwen3.5).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attention_gate: bool,
    /// The factor of the attention scores, where it is not `1 / sqrt(head_dim)`.
    pub attention_scale: Option<f64>,
    /// Embedded tokens are multiplied by this. Gemma's `sqrt(hidden_size)` is rounded to the type of the arithmetic, f32.
    pub embedding_multiplier: f64,
    /// What attention and feed-forward add to the residual stream is multiplied by this.
    pub residual_multiplier: f64,
    /// Logits are divided by this.
    pub logits_divisor: f64,
    /// Whether the output layer shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Whether query, key and value projections have a bias (Qwen2).
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias too.
    pub output_bias: bool,
    /// Whether the projections of the feed-forward layer have a bias.
    pub mlp_bias: bool,
    /// The feed-forward layers that have experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// The weight that the checkpoint gives a loss by which experts are chosen evenly; written again, not used here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_aux_loss_coef: Option<f64>,
    /// Tokens that end a completion.
    pub eos_token_ids: Vec<u32>,
    /// The padding token that the checkpoint names; not used here.
    pub pad_token_id: Option<u32>,
    /// The token that begins a text, as the checkpoint names it; not used here.
    pub bos_token_id: Option<u32>,
}

/// Where the norms of attention and feed-forward are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NormPlacement {
    /// What goes into them is normalised.
    #[default]
    Before,
    /// What they give is, before it is added to the residual stream (OLMo 2).
    After,
    /// Both are (Gemma 3).
    Both,
}

impl NormPlacement {
    /// Whether what goes into attention and feed-forward is normalised.
    pub fn is_before(self) -> bool {
        self != Self::After
    }

    /// Whether what they give is.
    pub fn is_after(self) -> bool {
        self != Self::Before
    }
}

/// Over what queries and keys are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum QkNorm {
    /// Each head by itself, all with the same weights (Qwen3, Qwen3.5, Gemma 3).
    Heads,
    /// All heads of a token together (OLMo 2).
    Whole,
}

impl ModelConfig {
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
        let (found, most) = (self.rotary_dim, self.head_dim);
        if found == 0 || found > most || !found.is_multiple_of(2) {
            let expected = "an even number of dimensions, not more than head_dim";
            return refuse("partial_rotary_factor", found, expected);
        }
        if self.layers.len() != self.num_hidden_layers {
            return refuse("layers", self.layers.len(), "one entry per layer");
        }
        if let Some(experts) = &self.experts {
            experts.check(self.num_hidden_layers)?;
        }
        Ok(())
    }

    /// Whether texts that begin in the same way may share that part: attention can look there, a state passes it once.
    pub fn shares_prompts(&self) -> bool {
        self.layers.iter().all(|layer| layer.attends().is_some())
    }

    /// Whether LongRoPE gives the model one list of factors for the original context and another for longer texts, so that
    /// [`long_context`](Self::long_context) has a meaning.
    pub fn has_long_context(&self) -> bool {
        matches!(self.rope_scaling, Some(RopeScaling::LongRope(_)))
    }

    /// The longest sequence that this crate runs: `max_position_embeddings`; with LongRoPE, the original context unless
    /// [`long_context`](Self::long_context) is set.
    pub fn context(&self) -> usize {
        let original = match &self.rope_scaling {
            Some(RopeScaling::LongRope(rope)) if !self.long_context => {
                rope.original_max_position_embeddings as usize
            }
            _ => usize::MAX,
        };
        self.max_position_embeddings.min(original)
    }

    /// How a row of queries, keys and values is divided.
    pub fn heads(&self) -> HeadLayout {
        HeadLayout {
            n_heads: self.num_attention_heads,
            n_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
        }
    }

    /// How attention works in a layer.
    pub fn attention(&self, layer: Attends) -> Attention {
        let plain = Attention::new(self.heads());
        Attention {
            scale: self.attention_scale.unwrap_or(plain.scale),
            window: layer.window,
            ..plain
        }
    }

    /// Widths of the weights by which queries and keys are normalised.
    pub(super) fn qk_norm_widths(&self) -> Option<[usize; 2]> {
        let heads = self.heads();
        self.qk_norm.map(|norm| match norm {
            QkNorm::Heads => [heads.head_dim; 2],
            QkNorm::Whole => [heads.q_width(), heads.kv_width()],
        })
    }

    /// The experts of a layer, if its feed-forward layer has some.
    pub fn experts_of(&self, layer: usize) -> Option<&Experts> {
        let experts = self.experts.as_ref();
        experts.filter(|experts| experts.layers[layer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// A config like that of SmolLM2-135M, changed.
    pub(super) fn smol(change: impl FnOnce(&mut Value)) -> Result<ModelConfig, ConfigError> {
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
            |j| {
                j["model_type"] = "phi3".into();
                j["rope_scaling"] =
                    serde_json::json!({"type": "su", "short_factor": [1.0], "long_factor": [2.0]});
            },
            "`rope_scaling`: lists of another length; expected a short and a long factor for each pair",
        );
        check(
            |j| j["partial_rotary_factor"] = 0.5.into(),
            "`partial_rotary_factor`: found 0.5; expected 1, as transformers",
        );
        check(
            |j| j["num_hidden_layers"] = 65_537.into(),
            "`num_hidden_layers`: found 65537; expected at most 65536",
        );
        let gemma = |j: &mut Value| {
            j["model_type"] = "gemma3_text".into();
            j["num_hidden_layers"] = 2.into();
        };
        assert!(smol(gemma).is_ok());
        check(
            |j| {
                j["model_type"] = "gemma3_text".into();
                j["layer_types"] = serde_json::json!(["full_attention", "chunked_attention"]);
            },
            "`layer_types`: found [\"full_attention\",\"chunked_attention\"]; expected `full_attention` or",
        );
        check(
            |j| {
                j["model_type"] = "gemma3_text".into();
                j["final_logit_softcapping"] = 30.0.into();
            },
            "`final_logit_softcapping`: found 30.0; expected null",
        );
        check(
            |j| {
                j["model_type"] = "gemma3_text".into();
                j["hidden_activation"] = "gelu".into();
            },
            "`hidden_activation`: found \"gelu\"; expected \"silu\" or \"gelu_pytorch_tanh\"",
        );
        check(
            |j| {
                j["model_type"] = "smollm3".into();
                j["no_rope_layers"] = serde_json::json!([1, 0]);
            },
            "`no_rope_layers`: found [1,0]; expected 0 or 1 for each layer",
        );
        for (key, value, message) in [
            ("num_experts", "0", "found 0; expected an integer above 0"),
            (
                "num_local_experts",
                "4",
                "found 4; expected the number that `num_experts` gives",
            ),
            (
                "num_experts_per_tok",
                "9",
                "found 9; expected from 1 to num_experts",
            ),
            (
                "moe_intermediate_size",
                "\"x\"",
                "found \"x\"; expected an integer above 0",
            ),
            ("norm_topk_prob", "1", "found 1; expected true or false"),
            (
                "decoder_sparse_step",
                "0",
                "found 0; expected an integer above 0",
            ),
            (
                "mlp_only_layers",
                "[30]",
                "found [30]; expected a list of layers, each below",
            ),
            (
                "mlp_only_layers",
                "[-1]",
                "found [-1]; expected a list of layers, each below",
            ),
            (
                "mlp_only_layers",
                "3",
                "found 3; expected a list of layers, each below",
            ),
            (
                "router_aux_loss_coef",
                "-0.1",
                "found -0.1; expected a number from 0 on",
            ),
        ] {
            let config = smol(|j| {
                j["model_type"] = "qwen3_moe".into();
                j["num_experts"] = 8.into();
                j[key] = serde_json::from_str(value).unwrap();
            });
            let error = config.unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}`: {message}")), "{error}");
        }
        check(
            |j| j["model_type"] = "gemma3".into(),
            "granite, phi3, gemma3_text",
        );
        check(
            |j| j["model_type"] = "qwen3_5".into(),
            "`text_config`: missing; expected the keys of the text model",
        );
        check(
            |j| {
                j["model_type"] = "qwen3_5".into();
                j["text_config"] = 3.into();
            },
            "`text_config`: found 3; expected the keys of the text model",
        );
        check(
            |j| {
                j["model_type"] = "qwen3_5".into();
                j["text_config"] = serde_json::json!({"model_type": "qwen3_5_moe_text"});
            },
            "`model_type` is \"qwen3_5_moe_text\"",
        );
        check(
            |j| j["rope_scaling"] = serde_json::json!({"type": "stretched", "factor": 4.0}),
            "found {\"type\":\"stretched\",\"factor\":4.0}; expected the type `default`, `linear`, `dynamic`, `llama3`, `yarn` or `longrope`",
        );
    }

    /// A hybrid of gated delta networks and attention.
    #[test]
    fn layers_have_the_windows_of_their_family() {
        let read = |family: &str, change: fn(&mut Value)| {
            let config = smol(|j| {
                j["model_type"] = family.into();
                j["num_hidden_layers"] = 4.into();
                change(j);
            });
            let config = config.unwrap();
            assert_eq!(config.context(), 8192, "{family}");
            let again = ModelConfig::from_hf_json(&config.to_hf_json("float32")).unwrap();
            assert_eq!(again, config, "{family}");
            let layers: Vec<Attends> = config
                .layers
                .iter()
                .map(|l| *l.attends().unwrap())
                .collect();
            let window = |layer: &Attends| layer.window.unwrap_or(0);
            let all: Vec<usize> = layers.iter().map(window).collect();
            (all, layers)
        };
        let windows = |family: &str, change| read(family, change).0;
        let none = |j: &mut Value| j["sliding_window"] = Value::Null;
        assert_eq!(windows("mistral", none), [0; 4]);
        assert_eq!(windows("mistral", |_| ()), [4096; 4]);
        assert_eq!(windows("phi3", |_| ()), [0; 4]);
        assert_eq!(windows("phi3", |j| j["sliding_window"] = 9.into()), [9; 4]);
        assert_eq!(windows("qwen2", |j| j["sliding_window"] = 9.into()), [0; 4]);
        let on = |j: &mut Value| {
            j["use_sliding_window"] = true.into();
            j["max_window_layers"] = 3.into();
        };
        assert_eq!(windows("qwen3", on), [0, 0, 0, 4096]);
        let listed = |j: &mut Value| {
            j["use_sliding_window"] = true.into();
            j["sliding_window"] = 7.into();
            j["layer_types"] = serde_json::json!([
                "sliding_attention",
                "full_attention",
                "sliding_attention",
                "full_attention"
            ]);
        };
        assert_eq!(windows("qwen2", listed), [7, 0, 7, 0]);
        // Every fourth layer of SmolLM3 knows no position.
        let (windows, layers) = read("smollm3", |j| {
            j["use_sliding_window"] = true.into();
            j["sliding_window"] = 8.into();
        });
        assert_eq!(windows, [0, 0, 0, 8]);
        let rotary: Vec<Rotary> = layers.iter().map(|layer| layer.rotary).collect();
        let [g, n, l] = [Rotary::Global, Rotary::None, Rotary::Local];
        assert_eq!(rotary, [g, g, g, n]);
        let (windows, layers) = read("gemma3_text", |j| j["sliding_window_pattern"] = 2.into());
        assert_eq!(windows, [4096, 0, 4096, 0]);
        let rotary: Vec<Rotary> = layers.iter().map(|layer| layer.rotary).collect();
        assert_eq!(rotary, [l, g, l, g]);
    }
}
