//! Adapters as PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

use super::{AdapterError, LoraConfig};
use crate::files::{POINTER, is_pointer};
use crate::model::CausalLm;
use crate::model::weights::{block_modules, floats, set_permissions_like};
use crate::ops::ModelBackend;
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file that says what an adapter is.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the name of a module.
const PREFIX: &str = "base_model.model.";

/// Keys whose features are not implemented, and the values that mean that an adapter does without.
const WITHOUT: [(&str, &[&str]); 12] = [
    ("alpha_pattern", &["null", "{}"]),
    ("alora_invocation_tokens", &["null"]),
    ("bias", &["null", "\"none\""]),
    ("fan_in_fan_out", &["null", "false"]),
    ("layer_replication", &["null", "[]"]),
    ("lora_bias", &["null", "false"]),
    ("modules_to_save", &["null", "[]"]),
    ("rank_pattern", &["null", "{}"]),
    ("target_parameters", &["null", "[]"]),
    ("trainable_token_indices", &["null", "[]", "{}"]),
    ("use_dora", &["null", "false"]),
    ("use_qalora", &["null", "false"]),
];

/// An adapter's folder: what `adapter_config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFolder {
    dir: PathBuf,
    rank: usize,
    alpha: f64,
    use_rslora: bool,
    /// The folder or name of the model that it was trained on, if the file says it.
    pub base: Option<String>,
}

impl AdapterFolder {
    /// Whether a folder is that of an adapter.
    pub fn is_one(dir: &Path) -> bool {
        dir.join(ADAPTER_CONFIG).is_file()
    }

    /// Reads `adapter_config.json`.
    pub fn open(dir: &Path) -> Result<Self, AdapterError> {
        let path = dir.join(ADAPTER_CONFIG);
        let text = fs::read_to_string(&path).map_err(|source| AdapterError::Io {
            path: path.clone(),
            source,
        })?;
        if is_pointer(text.as_bytes()) {
            let message = POINTER.to_owned();
            return Err(AdapterError::File { path, message });
        }
        let json: Value = serde_json::from_str(&text).map_err(|e| AdapterError::File {
            path: path.clone(),
            message: e.to_string(),
        })?;
        Self::of_json(dir, &json).map_err(|source| AdapterError::Config {
            path,
            source: Box::new(source),
        })
    }

    fn of_json(dir: &Path, json: &Value) -> Result<Self, AdapterError> {
        let error = |key, expected: &str| AdapterError::Key {
            key,
            found: json[key].to_string(),
            expected: expected.to_owned(),
        };
        if json["peft_type"] != "LORA" {
            return Err(error("peft_type", "\"LORA\""));
        }
        for (key, without) in WITHOUT {
            if !without.contains(&json[key].to_string().as_str()) {
                return Err(error(key, without[without.len() - 1]));
            }
        }
        let rank = json["r"].as_u64().filter(|&rank| rank > 0);
        let alpha = json["lora_alpha"].as_f64().filter(|alpha| *alpha > 0.0);
        Ok(Self {
            dir: dir.into(),
            rank: rank.ok_or_else(|| error("r", "a whole number above 0"))? as usize,
            alpha: alpha.ok_or_else(|| error("lora_alpha", "a number above 0"))?,
            use_rslora: match &json["use_rslora"] {
                Value::Null => false,
                Value::Bool(value) => *value,
                _ => return Err(error("use_rslora", "true or false")),
            },
            base: json["base_model_name_or_path"].as_str().map(str::to_owned),
        })
    }
}

impl AdapterFolder {
    /// How many numbers its file of weights holds.
    pub fn n_parameters(&self) -> Result<usize, AdapterError> {
        let path = self.dir.join(WEIGHTS);
        let bytes = fs::read(&path).map_err(|source| AdapterError::Io {
            path: path.clone(),
            source,
        })?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|source| AdapterError::Safetensors { path, source })?;
        let n = |(_, view): &(String, TensorView<'_>)| view.shape().iter().product::<usize>();
        Ok(file.tensors().iter().map(n).sum())
    }
}

impl<B: ModelBackend> CausalLm<B> {
    /// The model with the adapter of a folder, which must have been trained on a model of this shape.
    ///
    /// A model that has an adapter already loses that one.
    pub fn with_adapter_of(self, folder: &AdapterFolder) -> Result<Self, AdapterError> {
        let path = folder.dir.join(WEIGHTS);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound if folder.dir.join("adapter_model.bin").exists() => {
                let message = "not there, but adapter_model.bin is; expected safetensors, as PEFT's save_pretrained writes \
                               them";
                AdapterError::File {
                    path: path.clone(),
                    message: message.into(),
                }
            }
            _ => AdapterError::Io {
                path: path.clone(),
                source,
            },
        })?;
        let error = |message: String| AdapterError::File {
            path: path.clone(),
            message,
        };
        if is_pointer(&bytes) {
            return Err(error(POINTER.into()));
        }
        let file =
            SafeTensors::deserialize(&bytes).map_err(|source| AdapterError::Safetensors {
                path: path.clone(),
                source,
            })?;
        let views: HashMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
        let mut unused: BTreeSet<&String> = views.keys().collect();
        let known = block_modules(self.config());
        let lora = LoraConfig {
            rank: folder.rank,
            alpha: folder.alpha,
            target_modules: known
                .into_iter()
                .filter(|module| {
                    let part = format!(".{module}.lora_A.");
                    views.keys().any(|name| name.contains(&part))
                })
                .collect(),
            use_rslora: folder.use_rslora,
        };
        let base = match &folder.base {
            Some(base) => format!("the adapter was trained on {base}"),
            None => "the adapter belongs to another model".into(),
        };
        let device = self.device();
        let model = self.adapted(
            &lora,
            |module, rank, [n_rows, n_inputs]| {
                let names = ["A", "B"].map(|part| tensor_name(module, part));
                let (a, b) = match names.each_ref().map(|name| views.get(name)) {
                    [Some(a), Some(b)] => (a, b),
                    [None, None] => return Ok(None),
                    [a, _] => {
                        let missing = &names[usize::from(a.is_some())];
                        return Err(error(format!(
                            "tensor `{missing}` is missing: both matrices of a module are needed"
                        )));
                    }
                };
                let mut data = Vec::new();
                for ((name, view), shape) in names
                    .iter()
                    .zip([a, b])
                    .zip([[rank, n_inputs], [n_rows, rank]])
                {
                    if view.shape() != shape {
                        return Err(error(format!(
                            "tensor `{name}` has shape {:?}; this model requires {shape:?} ({base})",
                            view.shape()
                        )));
                    }
                    let values = floats(view).ok_or_else(|| {
                        let found = view.dtype();
                        error(format!(
                            "tensor `{name}` has type {found:?}; supported are F32, F16 and BF16"
                        ))
                    })?;
                    if values.iter().any(|x| !x.is_finite()) {
                        return Err(error(format!("tensor `{name}` has values that are not finite")));
                    }
                    unused.remove(name);
                    data.push(TensorData::new(values, shape));
                }
                Ok(<[TensorData; 2]>::try_from(data).ok())
            },
            &device,
        )?;
        match unused.first() {
            None if lora.target_modules.is_empty() => Err(error("no tensors".into())),
            None => Ok(model),
            Some(name) => Err(error(format!(
                "tensor `{name}`{} belongs to no module of this model; expected adapters of {} ({base})",
                match unused.len() {
                    1 => String::new(),
                    n => format!(" (and {} more)", n - 1),
                },
                block_modules(model.config()).join(", ")
            ))),
        }
    }

    /// Writes the adapter as PEFT does: `adapter_config.json` and `adapter_model.safetensors`. `base` is the folder or
    /// name by which others find the model that it belongs to.
    ///
    /// # Panics
    /// If the model has no adapter.
    pub fn save_adapter(&self, dir: &Path, base: &str) -> Result<(), AdapterError> {
        let lora = self.lora().expect("a model with an adapter");
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "lora_dropout": 0.0,
            "target_modules": lora.target_modules,
            "use_rslora": lora.use_rslora,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
        });
        let path = dir.join(ADAPTER_CONFIG);
        fs::write(&path, format!("{config:#}\n")).map_err(|source| AdapterError::Io {
            path: path.clone(),
            source,
        })?;
        let bytes = |tensor: Tensor<B, 2>| -> Vec<u8> {
            let values = super::values(tensor);
            values.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        let mut tensors = BTreeMap::new();
        for (_, linear) in self.blocks.iter().flat_map(|block| block.linears()) {
            for adapter in &linear.adapters {
                for (part, param) in [("A", &adapter.a), ("B", &adapter.b)] {
                    let name = tensor_name(&adapter.place.module, part);
                    let shape = param.val().dims();
                    tensors.insert(name, (bytes(param.val()), shape));
                }
            }
        }
        let weights = dir.join(WEIGHTS);
        let error = |source| AdapterError::Safetensors {
            path: weights.clone(),
            source,
        };
        let views = tensors
            .iter()
            .map(|(name, (bytes, shape))| {
                Ok((name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(error)?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(views, Some(metadata), &weights).map_err(error)?;
        set_permissions_like(&weights, &path).map_err(|source| AdapterError::Io {
            path: weights,
            source,
        })
    }
}

fn tensor_name(module: &str, part: &str) -> String {
    format!("{PREFIX}{module}.lora_{part}.weight")
}
