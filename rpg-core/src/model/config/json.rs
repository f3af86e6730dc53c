//! From and to `config.json`.

use super::keys::Keys;
use super::rope::{LongRope, RopeScaling};
use super::{Attends, ConfigError, Experts, Family, MAX_LAYERS, Mixer, ModelConfig, Rotary};
use crate::files::python_json;
use crate::ops::Activation;
use serde_json::{Value, json};

impl ModelConfig {
    /// Reads a Hugging Face `config.json`.
    pub fn from_hf_json(text: &str) -> Result<Self, ConfigError> {
        let keys = Keys::of_text(serde_json::from_str(&python_json(text))?)?;
        let found = keys.text("model_type")?;
        let Some(family) = Family::named(&found) else {
            return Err(ConfigError::UnsupportedModelType { found });
        };
        refuse_what_is_not_run(&keys, family)?;
        let defaults = family.defaults();
        let hidden_size = keys.count("hidden_size")?;
        let num_attention_heads = keys.count("num_attention_heads")?;
        // Null asks for one per head, and for the quotient.
        let given_or = |key: &'static str, absent: Option<usize>, null: usize| {
            let given = keys.optional_count(key)?;
            let default = absent.filter(|_| keys.is_absent(key));
            Ok::<_, ConfigError>(given.or(default).unwrap_or(null))
        };
        let num_key_value_heads = given_or(
            "num_key_value_heads",
            defaults.kv_heads,
            num_attention_heads,
        )?;
        let quotient = hidden_size / num_attention_heads;
        let head_dim = given_or("head_dim", defaults.head_dim, quotient)?;
        let max_position_embeddings = keys
            .optional_count("max_position_embeddings")?
            .unwrap_or(defaults.context);
        let num_hidden_layers = keys.count("num_hidden_layers")?;
        if num_hidden_layers > MAX_LAYERS {
            let found = Value::from(num_hidden_layers);
            return Err(keys.error("num_hidden_layers", &found, "at most 65536"));
        }
        let rope = keys.rope(family, max_position_embeddings, head_dim)?;
        let (qkv_bias, output_bias) = family.attention_biases(&keys)?;
        let mlp_bias = keys.flag("mlp_bias")?.unwrap_or(false) && family.has_mlp_bias();
        let (experts, router_aux_loss_coef) = if family.has_experts() {
            let coefficient = keys.number_from_0("router_aux_loss_coef")?;
            (Some(Experts::read(&keys, num_hidden_layers)?), coefficient)
        } else {
            (None, None)
        };
        let multiplier = |key: &'static str| match family {
            Family::Granite => Ok(keys.number(key)?.unwrap_or(1.0)),
            _ => Ok::<_, ConfigError>(1.0),
        };
        let vocab_size = keys.count("vocab_size")?;
        let is_known = |id: &u32| (*id as usize) < vocab_size;
        let token = |key: &'static str, absent: Option<u32>| match keys.optional_id(key)? {
            None if keys.is_absent(key) => Ok::<_, ConfigError>(absent.filter(is_known)),
            id => Ok(id),
        };
        let config = Self {
            model_type: family,
            vocab_size,
            hidden_size,
            intermediate_size: keys.count("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            layers: family.layers(&keys, num_hidden_layers)?,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            local_rope_theta: rope.local_theta,
            rotary_dim: rope.rotary_dim,
            long_context: false,
            rms_norm_eps: keys
                .number("rms_norm_eps")?
                .unwrap_or(defaults.rms_norm_eps),
            norms: family.norms(),
            norms_add_one: family.norms_add_one(),
            qk_norm: family.qk_norm(),
            activation: keys.activation(family)?,
            attention_gate: family == Family::Qwen35,
            attention_scale: match family {
                Family::Granite => Some(multiplier("attention_multiplier")?),
                Family::Gemma3 => {
                    let scalar = keys.number("query_pre_attn_scalar")?;
                    Some(scalar.unwrap_or(256.0).powf(-0.5))
                }
                _ => None,
            },
            embedding_multiplier: match family {
                Family::Gemma3 => (hidden_size as f64).sqrt(),
                _ => multiplier("embedding_multiplier")?,
            },
            residual_multiplier: multiplier("residual_multiplier")?,
            logits_divisor: multiplier("logits_scaling")?,
            tie_word_embeddings: keys
                .flag("tie_word_embeddings")?
                .unwrap_or(defaults.is_tied),
            qkv_bias,
            output_bias,
            mlp_bias,
            experts,
            router_aux_loss_coef,
            eos_token_ids: keys.ends(defaults.eos.filter(is_known))?,
            pad_token_id: token("pad_token_id", defaults.pad)?,
            bos_token_id: token("bos_token_id", defaults.bos)?,
        };
        config.check()?;
        Ok(config)
    }

    /// The `config.json` that Hugging Face transformers loads, with weights stored as `dtype`.
    pub fn to_hf_json(&self, dtype: &str) -> String {
        let eos = match self.eos_token_ids.as_slice() {
            [one] => Value::from(*one),
            many => Value::from(many.to_vec()),
        };
        let family = self.model_type;
        let mut json = json!({
            "architectures": [family.architecture()],
            "model_type": family.name(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "torch_dtype": dtype,
        });
        let activation = match self.activation {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
        };
        json[family.activation_key()] = activation.into();
        self.write_rope(&mut json);
        self.write_layers(&mut json);
        if !matches!(family, Family::Mistral | Family::Qwen2 | Family::Phi3) {
            json["attention_bias"] = self.qkv_bias.into();
        }
        if family.has_mlp_bias() {
            json["mlp_bias"] = self.mlp_bias.into();
        }
        if let Some(experts) = &self.experts {
            experts.write(&mut json);
            json["router_aux_loss_coef"] = self.router_aux_loss_coef.into();
        }
        let scale = self.attention_scale.unwrap_or(1.0);
        match family {
            Family::Granite => {
                json["attention_multiplier"] = scale.into();
                json["embedding_multiplier"] = self.embedding_multiplier.into();
                json["residual_multiplier"] = self.residual_multiplier.into();
                json["logits_scaling"] = self.logits_divisor.into();
            }
            Family::Gemma3 => json["query_pre_attn_scalar"] = whole(1.0 / (scale * scale)),
            _ => {}
        }
        format!("{json:#}\n")
    }

    fn write_rope(&self, json: &mut Value) {
        match &self.rope_scaling {
            None => {}
            // Older versions of transformers refuse more keys than these, and look for the type by this name.
            Some(RopeScaling::LongRope(rope)) if self.model_type == Family::Phi3 => {
                json["rope_scaling"] = rope.with_three_keys();
            }
            Some(scaling) => json["rope_scaling"] = json!(scaling),
        }
        if self.model_type.partial_rotary().is_some() {
            let (rotated, all) = (self.rotary_dim as f64, self.head_dim as f64);
            let factor = rotated / all;
            // The product is rounded down where it is read.
            let is_short = factor * all < rotated;
            let factor = if is_short {
                factor * (1.0 + f64::EPSILON)
            } else {
                factor
            };
            json["partial_rotary_factor"] = factor.into();
        }
        if let (
            Family::Phi3,
            Some(RopeScaling::LongRope(LongRope {
                original_max_position_embeddings: context,
                ..
            })),
        ) = (self.model_type, &self.rope_scaling)
        {
            json["original_max_position_embeddings"] = (*context).into();
        }
        if let Some(theta) = self.local_rope_theta {
            json["rope_local_base_freq"] = theta.into();
        }
    }

    fn write_layers(&self, json: &mut Value) {
        let layers = || self.layers.iter().filter_map(Mixer::attends);
        let window = layers().find_map(|layer| layer.window);
        let types = |is_sliding: fn(&Attends) -> bool| -> Value {
            let name = |layer| {
                if is_sliding(layer) {
                    "sliding_attention"
                } else {
                    "full_attention"
                }
            };
            layers().map(name).collect()
        };
        let has_window: fn(&Attends) -> bool = |layer| layer.window.is_some();
        match self.model_type {
            Family::Llama | Family::Olmo2 | Family::Granite => {}
            Family::Mistral | Family::Phi3 => json["sliding_window"] = window.into(),
            Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe | Family::SmolLm3 => {
                if let Some(window) = window {
                    json["use_sliding_window"] = true.into();
                    json["sliding_window"] = window.into();
                    json["layer_types"] = types(has_window);
                }
            }
            Family::Gemma3 => {
                json["sliding_window"] = window.into();
                json["layer_types"] = types(|layer| layer.rotary == Rotary::Local);
            }
            Family::Qwen35 => self.write_hybrid_layers(json),
        }
        match self.model_type {
            Family::Qwen2 | Family::Qwen3 => {
                // Read by versions of transformers that know no types.
                if let Some(first) = layers().position(has_window) {
                    json["max_window_layers"] = first.into();
                }
            }
            Family::SmolLm3 => {
                let is_rotated = |layer: &Attends| u8::from(layer.rotary != Rotary::None);
                json["no_rope_layers"] = layers().map(is_rotated).collect();
            }
            _ => {}
        }
    }
}

/// A number as an integer, if it is one up to rounding.
fn whole(x: f64) -> Value {
    match x.round() {
        rounded if (x - rounded).abs() < 1e-9 * x => Value::from(rounded as u64),
        _ => Value::from(x),
    }
}

/// Refuses properties that would change what a model computes and that this crate does not have.
fn refuse_what_is_not_run(keys: &Keys, family: Family) -> Result<(), ConfigError> {
    for key in ["final_logit_softcapping", "attn_logit_softcapping"] {
        if let Some(found) = keys.get(key) {
            return Err(keys.error(key, found, "null"));
        }
    }
    for key in ["use_bidirectional_attention", "lm_head_bias"] {
        if keys.flag(key)?.unwrap_or(false) {
            return Err(keys.error(key, &Value::Bool(true), "false"));
        }
    }
    if family == Family::Qwen35 {
        let key = "attn_output_gate";
        if !keys.flag(key)?.unwrap_or(true) {
            return Err(keys.error(key, &Value::Bool(false), "true"));
        }
        // It is also that of the convolutions.
        if let Some(found) = keys.get("hidden_act").filter(|found| *found != "silu") {
            return Err(keys.error("hidden_act", found, "\"silu\""));
        }
    }
    Ok(())
}
