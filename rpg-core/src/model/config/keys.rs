//! The keys of a `config.json`, and what transformers takes them to be where they are absent.

use super::{ConfigError, Family, RopeScaling, SlidingWindow};
use serde_json::{Map, Value};

/// The keys of a `config.json`.
pub(super) struct Keys(pub(super) Map<String, Value>);

impl Keys {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is not there at all; null is a value of its own.
    pub(super) fn is_absent(&self, key: &str) -> bool {
        !self.0.contains_key(key)
    }

    // What transformers takes the number to be where it is absent; null asks for one per head.
    pub(super) fn default_kv_heads(&self, family: Family, n_heads: usize) -> usize {
        match family {
            _ if !self.is_absent("num_key_value_heads") => n_heads,
            Family::Llama => n_heads,
            Family::Mistral => 8,
            Family::Qwen2 | Family::Qwen3 => 32,
        }
    }

    /// The window that layers attend over, if one of them has it.
    pub(super) fn sliding_window(
        &self,
        family: Family,
        n_layers: usize,
    ) -> Result<Option<SlidingWindow>, ConfigError> {
        // transformers' default, for Mistral and, where the switch is on, for Qwen.
        const DEFAULT: usize = 4096;
        let size = match self.optional_count("sliding_window")? {
            None if self.is_absent("sliding_window") => Some(DEFAULT),
            size => size,
        };
        let is_on = self.flag("use_sliding_window")?;
        let Some(size) = size else { return Ok(None) };
        let (max_window_layers, layer_types) = match family {
            Family::Llama => return Ok(None),
            Family::Mistral => (None, None),
            Family::Qwen2 | Family::Qwen3 => {
                if !is_on.unwrap_or(false) {
                    return Ok(None);
                }
                let expected = "an integer from 0 on";
                let first = match self.get("max_window_layers") {
                    None => 28,
                    Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                        Some(n) => n,
                        None => return Err(self.error("max_window_layers", value, expected)),
                    },
                };
                let types = match self.get("layer_types") {
                    None => None,
                    Some(value) => match serde_json::from_value::<Vec<String>>(value.clone()) {
                        Ok(types) if types.len() == n_layers => Some(types),
                        _ => {
                            let expected = "the kind of attention of each layer";
                            return Err(self.error("layer_types", value, expected));
                        }
                    },
                };
                let is_used = match &types {
                    Some(types) => types.iter().any(|kind| kind == "sliding_attention"),
                    None => first < n_layers,
                };
                if !is_used {
                    return Ok(None);
                }
                (Some(first), types)
            }
        };
        Ok(Some(SlidingWindow {
            size,
            max_window_layers,
            layer_types,
        }))
    }

    pub(super) fn error(
        &self,
        key: &'static str,
        found: &Value,
        expected: &'static str,
    ) -> ConfigError {
        ConfigError::Key {
            key,
            found: format!("found {found}"),
            expected,
        }
    }

    pub(super) fn missing(key: &'static str, expected: &'static str) -> ConfigError {
        ConfigError::Key {
            key,
            found: "missing".into(),
            expected,
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Result<String, ConfigError> {
        let expected = "a string";
        let value = self.get(key).ok_or_else(|| Self::missing(key, expected))?;
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.error(key, value, expected))
    }

    pub(super) fn optional_count(&self, key: &'static str) -> Result<Option<usize>, ConfigError> {
        // A larger size is a mistake; products of two sizes stay far from overflow.
        const LARGEST: u64 = 1 << 28;
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(n) if (1..=LARGEST).contains(&n) => Ok(Some(n as usize)),
            _ => Err(self.error(key, value, "an integer above 0")),
        }
    }

    pub(super) fn count(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.optional_count(key)?
            .ok_or_else(|| Self::missing(key, "an integer above 0"))
    }

    pub(super) fn number(&self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(x) if x > 0.0 => Ok(Some(x)),
            _ => Err(self.error(key, value, "a number above 0")),
        }
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.error(key, value, "true or false"))
    }

    // transformers 5 moves `rope_theta` into `rope_parameters`; before that, a scaling was in `rope_scaling`.
    pub(super) fn rope(&self, context: usize) -> Result<(f64, Option<RopeScaling>), ConfigError> {
        let mut theta = self.number("rope_theta")?.unwrap_or(10_000.0);
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(key) else { continue };
            if let Some(inside) = value.get("rope_theta").filter(|v| !v.is_null()) {
                theta = match inside.as_f64() {
                    Some(x) if x > 0.0 => x,
                    _ => return Err(self.error(key, value, "a `rope_theta` above 0")),
                };
            }
            let kind = value.get("rope_type").or(value.get("type"));
            let Some(kind) = kind.and_then(Value::as_str).filter(|k| *k != "default") else {
                continue;
            };
            let given = value;
            let mut value = given.clone();
            value["rope_type"] = kind.into();
            let original = "original_max_position_embeddings";
            // As transformers has it.
            if let Some(own) = self.get(original) {
                value[original] = own.clone();
            } else if value.get(original).is_none() {
                value[original] = context.into();
            }
            return match serde_json::from_value::<RopeScaling>(value) {
                Ok(scaling) if scaling.is_usable() => Ok((theta, Some(scaling))),
                _ => Err(self.error(
                    key,
                    given,
                    "the type `default`, `linear`, `llama3` or `yarn`, with all its factors",
                )),
            };
        }
        Ok((theta, None))
    }

    /// The tokens that end a completion.
    pub(super) fn ends(&self, family: Family) -> Result<Vec<u32>, ConfigError> {
        let key = "eos_token_id";
        if self.is_absent(key) {
            let id = family.default_ends();
            let vocab_size = self.count("vocab_size")?;
            return Ok(id
                .into_iter()
                .filter(|&id| (id as usize) < vocab_size)
                .collect());
        }
        let value = self.get(key).unwrap_or(&Value::Null);
        token_ids(value).ok_or_else(|| self.error(key, value, IDS))
    }

    /// A token that is only noted; -1 and the like say that there is none.
    pub(super) fn optional_id(&self, key: &'static str) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        if value.as_i64().is_some_and(|id| id < 0) {
            return Ok(None);
        }
        let ids = token_ids(value).ok_or_else(|| self.error(key, value, IDS))?;
        Ok(ids.first().copied())
    }
}

/// What a list of tokens is in `config.json` and `generation_config.json`.
pub(crate) const IDS: &str = "a token id or a list of them";

/// A token id, a list of them, or null for none.
pub(crate) fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(many) => many.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    }
}
