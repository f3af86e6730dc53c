//! A model's sizes, from the header of a GGUF file.

use super::{GgufError, GgufFile};
use crate::model::ModelConfig;
use serde_json::{Value, json};

/// The architectures that this crate runs, as llama.cpp calls them. `llama` is also SmolLM2 and Mistral.
const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

impl GgufFile {
    /// The model's sizes.
    pub fn config(&self) -> Result<ModelConfig, GgufError> {
        let architecture = self.architecture()?;
        let key = |rest: &str| format!("{architecture}.{rest}");
        let optional = |rest: &str| self.integer(&key(rest));
        let required = |rest: &str| match optional(rest)? {
            Some(n) => Ok(n),
            None => Err(self.missing(&key(rest), "an integer above 0")),
        };
        let hidden_size = required("embedding_length")?;
        let n_heads = required("attention.head_count")?;
        let head_dim = match optional("attention.key_length")? {
            Some(n) => n,
            None => hidden_size.checked_div(n_heads).unwrap_or(0),
        };
        for rest in ["attention.value_length", "rope.dimension_count"] {
            match self.value(&key(rest)) {
                Some(value) if super::integer(value) != Some(head_dim) => {
                    let expected = format!("{head_dim}, the width of a head");
                    return Err(self.wrong(&key(rest), value, &expected));
                }
                _ => {}
            }
        }
        let embedding = "token_embd.weight";
        let vocab_size = self.shape(embedding).and_then(|shape| shape.first());
        let vocab_size = *vocab_size.ok_or_else(|| GgufError::Damaged {
            path: self.path.clone(),
            message: format!("tensor `{embedding}` is missing"),
        })?;
        let window = optional("attention.sliding_window")?;
        let model_type = match (architecture, window) {
            ("llama", Some(_)) => "mistral",
            _ => architecture,
        };
        let token = |name: &str| self.integer(&format!("tokenizer.ggml.{name}_token_id"));
        let mut json = json!({
            "model_type": model_type,
            "vocab_size": vocab_size,
            "hidden_size": hidden_size,
            "intermediate_size": required("feed_forward_length")?,
            "num_hidden_layers": required("block_count")?,
            "num_attention_heads": n_heads,
            "num_key_value_heads": optional("attention.head_count_kv")?.unwrap_or(n_heads),
            "head_dim": head_dim,
            "max_position_embeddings": required("context_length")?,
            "sliding_window": window,
            "rope_theta": self.number(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            "rope_scaling": self.rope_scaling(architecture)?,
            "tie_word_embeddings": self.shape("output.weight").is_none(),
            "attention_bias": self.shape("blk.0.attn_q.bias").is_some(),
            "bos_token_id": token("bos")?,
            "pad_token_id": token("padding")?,
        });
        let epsilon = key("attention.layer_norm_rms_epsilon");
        json["rms_norm_eps"] = match self.number(&epsilon)? {
            Some(x) => x.into(),
            None => return Err(self.missing(&epsilon, "a number above 0")),
        };
        // llama.cpp, too, ends a completion at either.
        let mut ends: Vec<u64> = [token("eos")?, token("eot")?]
            .into_iter()
            .flatten()
            .collect();
        ends.dedup();
        json["eos_token_id"] = ends.into();
        ModelConfig::from_hf_json(&json.to_string()).map_err(|source| GgufError::Config {
            path: self.path.clone(),
            source,
        })
    }

    fn architecture(&self) -> Result<&str, GgufError> {
        let key = "general.architecture";
        let expected = format!(
            "one of {} (other families are read from Hugging Face folders)",
            ARCHITECTURES.join(", ")
        );
        match self.text(key)? {
            None => Err(self.missing(key, &expected)),
            Some(found) if ARCHITECTURES.contains(&found) => Ok(found),
            Some(found) => Err(self.key_error(key, format!("found {found:?}"), &expected)),
        }
    }

    /// `rope_scaling` as `config.json` would have it. Llama 3's is stored as a divisor of every frequency; the
    /// divisors that its published scaling gives are recognised.
    fn rope_scaling(&self, architecture: &str) -> Result<Value, GgufError> {
        let key = format!("{architecture}.rope.scaling.type");
        match self.text(&key)? {
            None | Some("none") => {}
            Some("linear") => {
                let factor = self.number(&format!("{architecture}.rope.scaling.factor"))?;
                return Ok(json!({"rope_type": "linear", "factor": factor}));
            }
            Some(other) => {
                let found = format!("found {other:?}");
                return Err(self.key_error(&key, found, "none or linear"));
            }
        }
        let name = "rope_freqs.weight";
        if self.shape(name).is_none() {
            return Ok(Value::Null);
        }
        let divisors = self.values(name)?;
        let factor = divisors.iter().fold(1f32, |most, &x| most.max(x));
        let scaling = json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let theta = self
            .number(&format!("{architecture}.rope.freq_base"))?
            .unwrap_or(10_000.0);
        let is_llama3 =
            ModelConfig::rope_divisors(&scaling, theta, divisors.len()).is_some_and(|expected| {
                let close = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs() <= 1e-4 * a;
                expected.iter().zip(&divisors).all(close)
            });
        if is_llama3 {
            Ok(scaling)
        } else {
            Err(GgufError::Damaged {
                path: self.path.clone(),
                message: format!("tensor `{name}` is not the scaling of a Llama 3 model"),
            })
        }
    }
}
