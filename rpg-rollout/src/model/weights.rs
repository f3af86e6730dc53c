//! Weights from and to Hugging Face safetensors.

use super::{CausalLm, ConfigError, ModelConfig};
use crate::ops::ModelBackend;
use burn::tensor::Tensor;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// `config.json` does not describe a model this crate runs.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// A safetensors file is damaged.
    #[error("{}: not a usable safetensors file: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SafeTensorError,
    },
    /// The index of a sharded checkpoint is damaged.
    #[error("{}: {message}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// There are no weights.
    #[error("{}: neither model.safetensors nor model.safetensors.index.json", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// A tensor is not there.
    #[error("{}: tensor `{name}` is missing", dir.display())]
    MissingTensor {
        /// The folder.
        dir: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor belongs to no part of the model.
    #[error("{}: unknown tensor `{name}` ({n_more} more)", dir.display())]
    UnknownTensor {
        /// The folder.
        dir: PathBuf,
        /// The first such tensor.
        name: String,
        /// How many others there are.
        n_more: usize,
    },
    /// A tensor has the wrong shape.
    #[error("{}: tensor `{name}` has shape {found:?}; config.json asks for {expected:?}", dir.display())]
    Shape {
        /// The folder.
        dir: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the config implies.
        expected: Vec<usize>,
    },
    /// A tensor has a type that cannot be read.
    #[error("{}: tensor `{name}` has type {found:?}; supported are F32, F16 and BF16", dir.display())]
    Dtype {
        /// The folder.
        dir: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
    /// A tensor holds NaN or an infinity.
    #[error("{}: tensor `{name}` holds a value that is not finite", dir.display())]
    NotFinite {
        /// The folder.
        dir: PathBuf,
        /// The tensor.
        name: String,
    },
}

/// The type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// 32 bits: what training computes in, so that a run can go on from it exactly.
    #[default]
    F32,
    /// bfloat16: half the size, as most checkpoints are published.
    Bf16,
}

impl SaveDtype {
    fn torch_name(self) -> &'static str {
        match self {
            SaveDtype::F32 => "float32",
            SaveDtype::Bf16 => "bfloat16",
        }
    }
}

impl<B: ModelBackend> CausalLm<B> {
    /// Loads a Hugging Face folder: `config.json` and safetensors in one file or in shards.
    pub fn load_hf(dir: &Path, device: &B::Device) -> Result<Self, LoadError> {
        let config = read_config(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        let views = checkpoint.views()?;
        let mut unused: BTreeSet<&str> = views.keys().map(String::as_str).collect();
        let model = Self::build(&config, device, |name, shape| {
            // Room is made for what is there: a config may promise anything.
            let mut values = Vec::new();
            for source in sources(&config, name) {
                unused.remove(source.name.as_str());
                let view = views
                    .get(&source.name)
                    .ok_or_else(|| LoadError::MissingTensor {
                        dir: dir.into(),
                        name: source.name.clone(),
                    })?;
                read_tensor(dir, &source, view, &mut values)?;
            }
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
            Ok(values)
        })?;
        // Tied checkpoints may store the head as well, and old ones their rotary frequencies.
        unused.retain(|name| {
            let is_tied_head = config.tie_word_embeddings && *name == "lm_head.weight";
            !is_tied_head && !name.ends_with("rotary_emb.inv_freq")
        });
        match unused.first() {
            None => Ok(model),
            Some(name) => Err(LoadError::UnknownTensor {
                dir: dir.into(),
                name: (*name).to_owned(),
                n_more: unused.len() - 1,
            }),
        }
    }

    /// Writes `config.json`, `generation_config.json` and `model.safetensors` into `dir`.
    ///
    /// The files appear one after the other; a caller who needs all or nothing writes to a folder
    /// beside and renames it.
    pub fn save_hf(&self, dir: &Path, dtype: SaveDtype) -> Result<(), LoadError> {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| LoadError::Io { path, source })
        };
        write("config.json", self.config().to_hf_json(dtype.torch_name()))?;
        write("generation_config.json", generation_config(self.config()))?;
        let mut tensors = BTreeMap::new();
        for (name, values) in self.named_values() {
            let mut rest = values.as_slice();
            for source in sources(self.config(), &name) {
                let (part, behind) = rest.split_at(source.shape.iter().product());
                rest = behind;
                tensors.insert(source.name, Stored::new(part, source.shape, dtype));
            }
        }
        let path = dir.join("model.safetensors");
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(metadata), &path)
            .map_err(|source| LoadError::Safetensors { path, source })
    }

    /// Every parameter's name and values, in a fixed order.
    fn named_values(&self) -> Vec<(String, Vec<f32>)> {
        fn of<B: ModelBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
            let data = tensor.into_data().convert::<f32>();
            data.into_vec().expect("f32 data is a vector of f32")
        }
        let mut all = vec![("embedding".to_owned(), of(self.embedding.val()))];
        for (i, block) in self.blocks.iter().enumerate() {
            let mut add = |part: &str, values| all.push((format!("blocks.{i}.{part}"), values));
            add("qkv", of(block.qkv.val()));
            add("output", of(block.output.val()));
            add("gate_up", of(block.gate_up.val()));
            add("down", of(block.down.val()));
            add("input_norm", of(block.input_norm.val()));
            add("post_norm", of(block.post_norm.val()));
            for (part, vector) in [
                ("qkv_bias", &block.qkv_bias),
                ("output_bias", &block.output_bias),
                ("q_norm", &block.q_norm),
                ("k_norm", &block.k_norm),
            ] {
                if let Some(vector) = vector {
                    add(part, of(vector.val()));
                }
            }
        }
        all.push(("norm".to_owned(), of(self.norm.val())));
        if let Some(head) = &self.lm_head {
            all.push(("lm_head".to_owned(), of(head.val())));
        }
        all
    }
}

/// Reads the `config.json` of a model folder; the EOS list of `generation_config.json`, if it has one,
/// takes its place there, as it does in transformers.
pub(crate) fn read_config(dir: &Path) -> Result<ModelConfig, LoadError> {
    let path = dir.join("config.json");
    let text = fs::read_to_string(&path).map_err(|source| LoadError::Io {
        path: path.clone(),
        source,
    })?;
    let mut config = ModelConfig::from_hf_json(&text).map_err(|source| LoadError::Config {
        path: path.clone(),
        source,
    })?;
    let path = dir.join("generation_config.json");
    if let Ok(text) = fs::read_to_string(&path) {
        let error = |message: String| LoadError::Index {
            path: path.clone(),
            message,
        };
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| error(e.to_string()))?;
        let ids: Vec<u32> = match &json["eos_token_id"] {
            serde_json::Value::Null => Vec::new(),
            serde_json::Value::Array(ids) => ids
                .iter()
                .filter_map(|id| id.as_u64())
                .map(|id| id as u32)
                .collect(),
            id => id.as_u64().map(|id| vec![id as u32]).ok_or_else(|| {
                error(format!(
                    "`eos_token_id`: found {id}; expected a token id or a list of them"
                ))
            })?,
        };
        if !ids.is_empty() {
            config.eos_token_ids = ids;
        }
    }
    Ok(config)
}

fn generation_config(config: &ModelConfig) -> String {
    let json = serde_json::json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
        "pad_token_id": config.pad_token_id,
    });
    format!("{json:#}\n")
}

/// A tensor as Hugging Face names it.
struct Source {
    name: String,
    shape: Vec<usize>,
}

/// The tensors whose rows, one after the other, make up the parameter `name`.
fn sources(config: &ModelConfig, name: &str) -> Vec<Source> {
    let (d, f, heads) = (config.hidden_size, config.intermediate_size, config.heads());
    let (q, kv) = (heads.q_width(), heads.kv_width());
    let one = |name: String, shape: &[usize]| {
        vec![Source {
            name,
            shape: shape.to_vec(),
        }]
    };
    let mut parts = name.split('.');
    if parts.next() != Some("blocks") {
        return match name {
            "embedding" => one("model.embed_tokens.weight".into(), &[config.vocab_size, d]),
            "lm_head" => one("lm_head.weight".into(), &[config.vocab_size, d]),
            "norm" => one("model.norm.weight".into(), &[d]),
            _ => unreachable!("no parameter is called {name}"),
        };
    }
    let layer = parts.next().unwrap_or_default();
    let at = |rest: &str| format!("model.layers.{layer}.{rest}");
    let stacked = |names: &[(&str, usize)], kind: &str, columns: &[usize]| {
        names
            .iter()
            .map(|(part, rows)| Source {
                name: at(&format!("{part}_proj.{kind}")),
                shape: std::iter::once(*rows)
                    .chain(columns.iter().copied())
                    .collect(),
            })
            .collect()
    };
    let qkv = [("self_attn.q", q), ("self_attn.k", kv), ("self_attn.v", kv)];
    match parts.next().unwrap_or_default() {
        "qkv" => stacked(&qkv, "weight", &[d]),
        "qkv_bias" => stacked(&qkv, "bias", &[]),
        "gate_up" => stacked(&[("mlp.gate", f), ("mlp.up", f)], "weight", &[d]),
        "output" => one(at("self_attn.o_proj.weight"), &[d, q]),
        "output_bias" => one(at("self_attn.o_proj.bias"), &[d]),
        "down" => one(at("mlp.down_proj.weight"), &[d, f]),
        "input_norm" => one(at("input_layernorm.weight"), &[d]),
        "post_norm" => one(at("post_attention_layernorm.weight"), &[d]),
        "q_norm" => one(at("self_attn.q_norm.weight"), &[config.head_dim]),
        "k_norm" => one(at("self_attn.k_norm.weight"), &[config.head_dim]),
        _ => unreachable!("no parameter is called {name}"),
    }
}

/// The safetensors files of a folder, mapped into memory.
struct Checkpoint {
    dir: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
}

impl Checkpoint {
    fn open(dir: &Path) -> Result<Self, LoadError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let paths = if single.exists() {
            vec![single]
        } else if index.exists() {
            shards(dir, &index)?
        } else {
            return Err(LoadError::NoWeights { dir: dir.into() });
        };
        let map = |path: PathBuf| {
            // SAFETY: the mapping is read while the model loads. A file that another process shrinks in
            // that time ends this one, as it does with every reader of mapped checkpoints.
            let mapped = fs::File::open(&path).and_then(|file| unsafe { Mmap::map(&file) });
            match mapped {
                Ok(mmap) => Ok((path, mmap)),
                Err(source) => Err(LoadError::Io { path, source }),
            }
        };
        let files = paths.into_iter().map(map).collect::<Result<_, _>>()?;
        Ok(Self {
            dir: dir.into(),
            files,
        })
    }

    fn views(&self) -> Result<HashMap<String, safetensors::tensor::TensorView<'_>>, LoadError> {
        let mut views = HashMap::new();
        for (path, mmap) in &self.files {
            let tensors =
                SafeTensors::deserialize(mmap).map_err(|source| LoadError::Safetensors {
                    path: path.clone(),
                    source,
                })?;
            for (name, view) in tensors.tensors() {
                if views.insert(name.clone(), view).is_some() {
                    return Err(LoadError::Index {
                        path: self.dir.clone(),
                        message: format!("tensor `{name}` is stored twice"),
                    });
                }
            }
        }
        Ok(views)
    }
}

fn shards(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let text = fs::read_to_string(index).map_err(|source| LoadError::Io {
        path: index.into(),
        source,
    })?;
    let error = |message: String| LoadError::Index {
        path: index.into(),
        message,
    };
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| error(e.to_string()))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| error("`weight_map` is missing; expected tensor names and files".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let file = file
            .as_str()
            .filter(|file| !file.contains(['/', '\\']) && *file != "..");
        let file = file.ok_or_else(|| {
            error(format!(
                "`weight_map.{tensor}`: expected the name of a file in this folder"
            ))
        })?;
        names.insert(file);
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Appends a tensor's values, as f32.
fn read_tensor(
    dir: &Path,
    source: &Source,
    view: &safetensors::tensor::TensorView,
    values: &mut Vec<f32>,
) -> Result<(), LoadError> {
    let name = || source.name.clone();
    if view.shape() != source.shape {
        return Err(LoadError::Shape {
            dir: dir.into(),
            name: name(),
            found: view.shape().to_vec(),
            expected: source.shape.clone(),
        });
    }
    let start = values.len();
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => values.par_extend(
            bytes
                .par_chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        ),
        Dtype::BF16 => values.par_extend(
            bytes
                .par_chunks_exact(2)
                .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        ),
        Dtype::F16 => values.par_extend(
            bytes
                .par_chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
        ),
        found => {
            return Err(LoadError::Dtype {
                dir: dir.into(),
                name: name(),
                found,
            });
        }
    }
    match values[start..].par_iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(LoadError::NotFinite {
            dir: dir.into(),
            name: name(),
        }),
    }
}

/// A tensor ready to be written.
struct Stored {
    bytes: Vec<u8>,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl Stored {
    fn new(values: &[f32], shape: Vec<usize>, dtype: SaveDtype) -> Self {
        match dtype {
            SaveDtype::F32 => {
                let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                Self {
                    bytes,
                    shape,
                    dtype: Dtype::F32,
                }
            }
            SaveDtype::Bf16 => {
                let bytes = values
                    .iter()
                    .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                    .collect();
                Self {
                    bytes,
                    shape,
                    dtype: Dtype::BF16,
                }
            }
        }
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
