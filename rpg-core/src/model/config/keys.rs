//! The keys of a `config.json`, and what transformers takes them to be where they are absent.

use super::{ConfigError, Family, RopeScaling};
use crate::ops::Activation;
use serde_json::{Map, Value};

/// The `model_type` of models that also see images, and the families of their text models.
const MULTIMODAL: [(&str, Family); 1] = [("qwen3_5", Family::Qwen35)];

/// The keys of a `config.json`.
pub(super) struct Keys(pub(super) Map<String, Value>);

impl Keys {
    /// The keys of the text model: in the configs of models that also see images they are inside `text_config`.
    pub(super) fn of_text(mut all: Map<String, Value>) -> Result<Self, ConfigError> {
        let Some((_, text_family)) = MULTIMODAL
            .into_iter()
            .find(|(name, _)| all.get("model_type").is_some_and(|found| found == name))
        else {
            return Ok(Self(all));
        };
        let key = "text_config";
        let mut text = match all.remove(key) {
            Some(Value::Object(text)) => Self(text),
            None => return Err(Self::missing(key, "the keys of the text model")),
            Some(found) => return Err(Self(all).error(key, &found, "the keys of the text model")),
        };
        text.0
            .entry("model_type")
            .or_insert(text_family.name().into());
        // The whole model says it of its own output layer, which is the text model's.
        if let Some(is_tied) = all.remove("tie_word_embeddings").filter(|v| !v.is_null()) {
            text.0.insert("tie_word_embeddings".into(), is_tied);
        }
        Ok(text)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is not there at all; null is a value of its own.
    pub(super) fn is_absent(&self, key: &str) -> bool {
        !self.0.contains_key(key)
    }

    /// For each layer whether it slides: as `layer_types` says, else by `rule`.
    pub(super) fn sliding_layers(
        &self,
        n_layers: usize,
        rule: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>, ConfigError> {
        let Some(value) = self.get("layer_types") else {
            return Ok((0..n_layers).map(rule).collect());
        };
        let kinds = ["full_attention", "sliding_attention"];
        match serde_json::from_value::<Vec<String>>(value.clone()) {
            Ok(types) if types.len() == n_layers && types.iter().all(|t| kinds.contains(&&**t)) => {
                Ok(types.iter().map(|t| t == kinds[1]).collect())
            }
            _ => {
                let expected = "`full_attention` or `sliding_attention` for each layer";
                Err(self.error("layer_types", value, expected))
            }
        }
    }

    /// For each layer whether it rotates queries and keys (SmolLM3).
    pub(super) fn rotated_layers(&self, n_layers: usize) -> Result<Vec<bool>, ConfigError> {
        let Some(value) = self.get("no_rope_layers") else {
            let interval = self.optional_count("no_rope_layer_interval")?.unwrap_or(4);
            let is_rotated = |layer: usize| !(layer + 1).is_multiple_of(interval);
            return Ok((0..n_layers).map(is_rotated).collect());
        };
        // Lists may be longer than the model.
        match serde_json::from_value::<Vec<u8>>(value.clone()) {
            Ok(flags) if flags.len() >= n_layers && flags.iter().all(|&flag| flag <= 1) => {
                Ok(flags[..n_layers].iter().map(|&flag| flag == 1).collect())
            }
            _ => Err(self.error("no_rope_layers", value, "0 or 1 for each layer")),
        }
    }

    pub(super) fn activation(&self, family: Family) -> Result<Activation, ConfigError> {
        let key = family.activation_key();
        let absent = match family {
            Family::Gemma3 => Activation::GeluTanh,
            _ => Activation::Silu,
        };
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        match value.as_str() {
            Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            _ => Err(self.error(key, value, "\"silu\" or \"gelu_pytorch_tanh\"")),
        }
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

    pub(super) fn count_from_0(&self, key: &'static str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        count
            .map(Some)
            .ok_or_else(|| self.error(key, value, "an integer from 0 on"))
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

    pub(super) fn number_from_0(&self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(x) if x >= 0.0 => Ok(Some(x)),
            _ => Err(self.error(key, value, "a number from 0 on")),
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

    /// The keys of rotary embeddings. transformers 5 moves `rope_theta` and others into `rope_parameters`, where models
    /// with two kinds of layers have a table for each; before that, a scaling was in `rope_scaling`.
    pub(super) fn rope(
        &self,
        family: Family,
        context: usize,
        head_dim: usize,
    ) -> Result<Rope, ConfigError> {
        let default = family.defaults().rope_theta;
        let mut rope = Rope {
            theta: self.number("rope_theta")?.unwrap_or(default),
            scaling: None,
            local_theta: match family {
                Family::Gemma3 => Some(self.number("rope_local_base_freq")?.unwrap_or(10_000.0)),
                _ => None,
            },
            rotary_dim: head_dim,
        };
        let mut partial = self.number("partial_rotary_factor")?;
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(given) = self.get(key) else { continue };
            if let (Some(local), Some(theta)) =
                (given.get("sliding_attention"), &mut rope.local_theta)
            {
                if scaling_kind(local).is_some() {
                    return Err(self.error(key, given, "`default` for `sliding_attention`"));
                }
                *theta = self.inside(key, local, "rope_theta")?.unwrap_or(*theta);
            }
            let value = given.get("full_attention").unwrap_or(given);
            rope.theta = self.inside(key, value, "rope_theta")?.unwrap_or(rope.theta);
            partial = self
                .inside(key, value, "partial_rotary_factor")?
                .or(partial);
            if rope.scaling.is_none() {
                rope.scaling = self.scaling(key, value, family, context)?;
            }
        }
        let usual = family.partial_rotary();
        let partial = partial.or(usual).unwrap_or(1.0);
        if partial > 1.0 || (partial < 1.0 && usual.is_none()) {
            let expected = match usual {
                Some(_) => "at most 1",
                None => "1, as transformers takes it to be in this family",
            };
            return Err(self.error("partial_rotary_factor", &partial.into(), expected));
        }
        // Rounded down, as in transformers.
        rope.rotary_dim = (head_dim as f64 * partial) as usize;
        let has_factors = match &rope.scaling {
            Some(RopeScaling::LongRope(long)) => long.has_factors(rope.rotary_dim / 2),
            _ => true,
        };
        if has_factors {
            return Ok(rope);
        }
        Err(ConfigError::Key {
            key: "rope_scaling",
            found: "lists of another length".into(),
            expected: "a short and a long factor for each pair of dimensions that is rotated",
        })
    }

    /// A number above 0 inside the value of `key`.
    fn inside(
        &self,
        key: &'static str,
        value: &Value,
        name: &str,
    ) -> Result<Option<f64>, ConfigError> {
        match value.get(name).filter(|v| !v.is_null()) {
            None => Ok(None),
            Some(number) => match number.as_f64() {
                Some(x) if x > 0.0 => Ok(Some(x)),
                _ => Err(self.error(
                    key,
                    value,
                    "a `rope_theta` and a `partial_rotary_factor` above 0",
                )),
            },
        }
    }

    fn scaling(
        &self,
        key: &'static str,
        given: &Value,
        family: Family,
        context: usize,
    ) -> Result<Option<RopeScaling>, ConfigError> {
        let Some(kind) = scaling_kind(given) else {
            return Ok(None);
        };
        let kind = match (family, kind) {
            // Earlier names of the same.
            (_, "su") | (Family::Phi3, "yarn") => "longrope",
            _ => kind,
        };
        let mut value = given.clone();
        value["rope_type"] = kind.into();
        let original = "original_max_position_embeddings";
        // As transformers has it.
        if let Some(own) = self.get(original) {
            value[original] = own.clone();
        } else if family == Family::Phi3 {
            value[original] = 4096.into();
        } else if value.get(original).is_none() {
            value[original] = context.into();
        }
        match serde_json::from_value::<RopeScaling>(value) {
            Ok(scaling) if scaling.is_usable() => Ok(Some(scaling)),
            _ => Err(self.error(
                key,
                given,
                "the type `default`, `linear`, `dynamic`, `llama3`, `yarn` or `longrope`, with all its factors",
            )),
        }
    }

    /// The tokens that end a completion.
    pub(super) fn ends(&self, absent: Option<u32>) -> Result<Vec<u32>, ConfigError> {
        let key = "eos_token_id";
        if self.is_absent(key) {
            return Ok(absent.into_iter().collect());
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

/// What `config.json` says of rotary embeddings.
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) scaling: Option<RopeScaling>,
    pub(super) local_theta: Option<f64>,
    pub(super) rotary_dim: usize,
}

/// The type of a scaling, unless it is none.
fn scaling_kind(value: &Value) -> Option<&str> {
    let kind = value.get("rope_type").or(value.get("type"));
    kind.and_then(Value::as_str).filter(|k| *k != "default")
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
