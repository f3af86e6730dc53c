//! How the tokens of a layer learn of each other.

use super::keys::Keys;
use super::{ConfigError, ModelConfig};
use crate::ops::DeltaHeads;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How the tokens of a layer learn of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mixer {
    /// By attention.
    Attention(Attends),
    /// Through a state of fixed size (Qwen3.5).
    GatedDelta(GatedDelta),
}

/// What the tokens of a layer attend to, and how they know where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attends {
    /// To how many tokens, the last of which is the token itself; without it, to all up to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// How queries and keys are rotated.
    pub rotary: Rotary,
}

/// How a layer rotates its queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Rotary {
    /// By the frequencies of `rope_theta` and `rope_scaling`.
    #[default]
    Global,
    /// By those of `local_rope_theta`, which are not stretched (the layers with a window of Gemma 3).
    Local,
    /// Not at all (every fourth layer of SmolLM3).
    None,
}

/// The shape of a gated delta network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatedDelta {
    /// Its heads.
    pub heads: DeltaHeads,
    /// How many tokens the convolution before it reaches over, the last of which is the token itself.
    pub kernel: usize,
}

impl Mixer {
    /// What its tokens attend to, if they do.
    pub fn attends(&self) -> Option<&Attends> {
        match self {
            Self::Attention(attends) => Some(attends),
            Self::GatedDelta(_) => None,
        }
    }

    /// Its shape, if it is a gated delta network.
    pub fn gated_delta(&self) -> Option<&GatedDelta> {
        match self {
            Self::Attention(_) => None,
            Self::GatedDelta(delta) => Some(delta),
        }
    }
}

/// Keys of a gated delta network, and their values where they are absent.
const SIZES: [(&str, usize); 5] = [
    ("linear_num_key_heads", 16),
    ("linear_num_value_heads", 32),
    ("linear_key_head_dim", 128),
    ("linear_value_head_dim", 128),
    ("linear_conv_kernel_dim", 4),
];

/// The largest of these sizes: products of several stay far from overflow.
const LARGEST: usize = 1 << 16;

impl GatedDelta {
    fn read(keys: &Keys) -> Result<Self, ConfigError> {
        let mut sizes = [0; 5];
        for (size, (key, absent)) in sizes.iter_mut().zip(SIZES) {
            *size = keys.optional_count(key)?.unwrap_or(absent);
            if *size > LARGEST {
                return Err(keys.error(key, &(*size).into(), "at most 65536"));
            }
        }
        let [n_key_heads, n_value_heads, key_dim, value_dim, kernel] = sizes;
        if !n_value_heads.is_multiple_of(n_key_heads) {
            let expected = "a multiple of linear_num_key_heads";
            return Err(keys.error("linear_num_value_heads", &n_value_heads.into(), expected));
        }
        if kernel < 2 {
            let expected = "at least 2";
            return Err(keys.error("linear_conv_kernel_dim", &kernel.into(), expected));
        }
        let heads = DeltaHeads {
            n_key_heads,
            n_value_heads,
            key_dim,
            value_dim,
        };
        Ok(Self { heads, kernel })
    }

    fn write(self, json: &mut Value) {
        let heads = self.heads;
        let sizes = [
            heads.n_key_heads,
            heads.n_value_heads,
            heads.key_dim,
            heads.value_dim,
            self.kernel,
        ];
        for ((key, _), size) in SIZES.into_iter().zip(sizes) {
            json[key] = size.into();
        }
    }

    /// The numbers of its parameters, given the width of the residual stream.
    fn n_parameters(self, d: usize) -> usize {
        let (heads, h) = (self.heads, self.heads.n_value_heads);
        let projections = heads.width() + 2 * heads.value_width() + 2 * h;
        d * projections + heads.width() * self.kernel + 2 * h + heads.value_dim
    }

    /// The numbers of its state and of the inputs that its convolution reaches back to.
    fn n_kept(self) -> usize {
        self.heads.state_len() + (self.kernel - 1) * self.heads.width()
    }
}

/// The layers of Qwen3.5: `linear_attention` is a gated delta network.
pub(super) fn hybrid_layers(keys: &Keys, n_layers: usize) -> Result<Vec<Mixer>, ConfigError> {
    let delta = Mixer::GatedDelta(GatedDelta::read(keys)?);
    let full = Mixer::Attention(Attends::default());
    let kinds = [("full_attention", full), ("linear_attention", delta)];
    let Some(value) = keys.get("layer_types") else {
        let interval = keys.optional_count("full_attention_interval")?.unwrap_or(4);
        let is_full = |layer: usize| (layer + 1).is_multiple_of(interval);
        let of = |layer| if is_full(layer) { full } else { delta };
        return Ok((0..n_layers).map(of).collect());
    };
    let types = serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
    let kind = |name: &String| kinds.into_iter().find(|(kind, _)| kind == name);
    let layers: Option<Vec<Mixer>> = types.iter().map(|name| Some(kind(name)?.1)).collect();
    layers.filter(|all| all.len() == n_layers).ok_or_else(|| {
        let expected = "`linear_attention` or `full_attention` for each layer";
        keys.error("layer_types", value, expected)
    })
}

impl ModelConfig {
    /// Writes what [`hybrid_layers`] reads.
    pub(super) fn write_hybrid_layers(&self, json: &mut Value) {
        let name = |layer: &Mixer| match layer {
            Mixer::Attention(_) => "full_attention",
            Mixer::GatedDelta(_) => "linear_attention",
        };
        json["layer_types"] = self.layers.iter().map(name).collect();
        json["attn_output_gate"] = json!(self.attention_gate);
        if let Some(delta) = self.layers.iter().find_map(Mixer::gated_delta) {
            delta.write(json);
        }
    }

    /// The outputs of the projection to queries, keys and values, and to the gates if there are any.
    pub fn qkv_width(&self) -> usize {
        let heads = self.heads();
        heads.width() + usize::from(self.attention_gate) * heads.q_width()
    }

    /// The number of parameters of a layer that mixes tokens.
    pub(super) fn mixer_parameters(&self, mixer: &Mixer) -> usize {
        let (d, heads) = (self.hidden_size, self.heads());
        match mixer {
            Mixer::GatedDelta(delta) => delta.n_parameters(d),
            Mixer::Attention(_) => {
                let qkv_bias = usize::from(self.qkv_bias) * self.qkv_width();
                let output_bias = usize::from(self.output_bias) * d;
                let norms: usize = self.qk_norm_widths().into_iter().flatten().sum();
                d * (self.qkv_width() + heads.q_width()) + qkv_bias + output_bias + norms
            }
        }
    }

    /// The numbers that it keeps of each token for the backward pass.
    pub(super) fn mixer_activations(&self, mixer: &Mixer) -> usize {
        match mixer {
            // Rows of queries, keys and values before and after the convolution; `b` and `a`; what is read, before and after
            // the norm, its gate, that as it is and as it multiplies, and the product.
            Mixer::GatedDelta(GatedDelta { heads, .. }) => {
                2 * heads.width() + 2 * heads.n_value_heads + 6 * heads.value_width()
            }
            // Rows of queries, keys and values, what attention gives and its log-sum-exp; its gate, as it is and as it
            // multiplies, and the product.
            Mixer::Attention(_) => {
                let heads = self.heads();
                let rows = heads.width() * (1 + usize::from(self.qk_norm.is_some()));
                let gates = usize::from(self.attention_gate) * 3 * heads.q_width();
                rows + heads.q_width() + heads.n_heads + gates
            }
        }
    }

    /// The bytes that a [`KvCache`](crate::cache::KvCache) takes for each slot of so many tokens.
    pub fn cache_bytes(&self, capacity: usize) -> usize {
        let numbers = |layer: &Mixer| match layer {
            Mixer::Attention(_) => 2 * capacity * self.heads().kv_width(),
            Mixer::GatedDelta(delta) => delta.n_kept(),
        };
        4 * self.layers.iter().map(numbers).sum::<usize>()
    }

    /// The part of [`cache_bytes`](Self::cache_bytes) that does not depend on the number of tokens.
    pub fn state_bytes(&self) -> usize {
        self.cache_bytes(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::smol;
    use super::*;

    fn hybrid(change: impl FnOnce(&mut Value)) -> Result<ModelConfig, ConfigError> {
        smol(|j| {
            j["model_type"] = "qwen3_5_text".into();
            j["num_hidden_layers"] = 4.into();
            j["head_dim"] = 64.into();
            change(j);
        })
    }

    #[test]
    fn bad_values_of_hybrids_are_named() {
        for (key, value, message) in [
            (
                "linear_num_value_heads",
                24.into(),
                "`linear_num_value_heads`: found 24; expected a multiple of linear_num_key_heads",
            ),
            (
                "linear_conv_kernel_dim",
                1.into(),
                "`linear_conv_kernel_dim`: found 1; expected at least 2",
            ),
            (
                "linear_key_head_dim",
                0.into(),
                "`linear_key_head_dim`: found 0; expected an integer above 0",
            ),
            (
                "linear_value_head_dim",
                65_537.into(),
                "`linear_value_head_dim`: found 65537; expected at most 65536",
            ),
            (
                "layer_types",
                serde_json::json!(["full_attention"]),
                "`layer_types`: found [\"full_attention\"]; expected `linear_attention` or `full_attention` for each layer",
            ),
            (
                "layer_types",
                serde_json::json!([
                    "linear_attention",
                    "linear_attention",
                    "mamba",
                    "full_attention"
                ]),
                "expected `linear_attention` or `full_attention` for each layer",
            ),
            (
                "full_attention_interval",
                0.into(),
                "`full_attention_interval`: found 0; expected an integer above 0",
            ),
            (
                "attn_output_gate",
                false.into(),
                "`attn_output_gate`: found false; expected true",
            ),
            (
                "hidden_act",
                "gelu_pytorch_tanh".into(),
                "`hidden_act`: found \"gelu_pytorch_tanh\"; expected \"silu\"",
            ),
            (
                "partial_rotary_factor",
                0.01.into(),
                "`partial_rotary_factor`: found 0; expected an even number of dimensions",
            ),
        ] {
            let error = hybrid(|j| j[key] = value).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn layers_of_hybrids_are_as_listed_or_by_their_interval() {
        let states = |config: &ModelConfig| -> Vec<bool> {
            let of = |layer: &Mixer| layer.gated_delta().is_some();
            config.layers.iter().map(of).collect()
        };
        let plain = hybrid(|_| ()).unwrap();
        assert_eq!(states(&plain), [true, true, true, false]);
        assert_eq!((plain.rotary_dim, plain.attention_gate), (16, true));
        let delta = plain.layers[0].gated_delta().unwrap();
        let heads = delta.heads;
        let sizes = [
            heads.n_key_heads,
            heads.n_value_heads,
            heads.key_dim,
            heads.value_dim,
        ];
        assert_eq!((sizes, delta.kernel), ([16, 32, 128, 128], 4));
        let every_second = hybrid(|j| j["full_attention_interval"] = 2.into()).unwrap();
        assert_eq!(states(&every_second), [true, false, true, false]);
        let kinds = [
            "full_attention",
            "linear_attention",
            "full_attention",
            "full_attention",
        ];
        let listed = hybrid(|j| j["layer_types"] = kinds.into_iter().collect()).unwrap();
        assert_eq!(states(&listed), [false, true, false, false]);
        for config in [plain, every_second, listed] {
            let again = ModelConfig::from_hf_json(&config.to_hf_json("float32")).unwrap();
            assert_eq!(again, config);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), config);
        }
    }

    #[test]
    fn the_size_of_a_state_does_not_depend_on_the_length() {
        let config = hybrid(|_| ()).unwrap();
        let states = 3 * (32 * 128 * 128 + 3 * (2 * 16 * 128 + 32 * 128));
        assert_eq!(config.state_bytes(), 4 * states);
        let of_token = 4 * 2 * 3 * 64;
        for capacity in [1, 1000] {
            let bytes = config.cache_bytes(capacity);
            assert_eq!(bytes, config.state_bytes() + capacity * of_token);
        }
        let plain = smol(|_| ()).unwrap();
        assert_eq!(plain.state_bytes(), 0);
        assert_eq!(plain.cache_bytes(7), 4 * 30 * 2 * 7 * 192);
    }
}
