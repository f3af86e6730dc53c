//! Reading Hugging Face folders.

use super::{LoadError, Source, Tensors, check_finite, check_shape};
use crate::model::{CausalLm, ModelConfig};
use crate::ops::ModelBackend;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

impl<B: ModelBackend> CausalLm<B> {
    /// Loads a Hugging Face folder: `config.json` and safetensors in one file or in shards.
    pub fn load_hf(dir: &Path, device: &B::Device) -> Result<Self, LoadError> {
        let config = read_config(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        let views = checkpoint.views()?;
        Self::from_tensors(&config, &Views { dir, views }, device)
    }
}

/// Reads the `config.json` of a model folder. The end-of-sequence tokens of `generation_config.json`, if it has any,
/// replace those of `config.json`, as they do in transformers.
fn read_config(dir: &Path) -> Result<ModelConfig, LoadError> {
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
            // SAFETY: the mapping is read while the model loads. If another process shrinks the file in that time,
            // this one is killed, as with every reader of mapped checkpoints.
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

/// The tensors of a folder.
struct Views<'a> {
    dir: &'a Path,
    views: HashMap<String, TensorView<'a>>,
}

impl Tensors for Views<'_> {
    fn origin(&self) -> &Path {
        self.dir
    }

    fn names(&self) -> BTreeSet<String> {
        self.views.keys().cloned().collect()
    }

    fn append(&self, source: &Source, values: &mut Vec<f32>) -> Result<(), LoadError> {
        let view = self
            .views
            .get(&source.name)
            .ok_or_else(|| LoadError::MissingTensor {
                path: self.dir.into(),
                name: source.name.clone(),
            })?;
        check_shape(self.dir, &source.name, view.shape(), &source.shape)?;
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
                    path: self.dir.into(),
                    name: source.name.clone(),
                    found,
                });
            }
        }
        check_finite(self.dir, &source.name, &values[start..])
    }
}
