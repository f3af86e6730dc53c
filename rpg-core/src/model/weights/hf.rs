//! Reading Hugging Face folders.

use super::{LoadError, Source, Storage, Tensors, check_finite, check_shape};
use crate::files::{is_pointer, python_json};
use crate::model::config::{IDS, token_ids};
use crate::model::{CausalLm, Family, ModelConfig};
use crate::ops::ModelBackend;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

impl<B: ModelBackend> CausalLm<B> {
    /// Loads a Hugging Face folder: `config.json` and safetensors in one file or in shards.
    pub fn load_hf(dir: &Path, device: &B::Device) -> Result<Self, LoadError> {
        Self::load_hf_as(dir, Storage::F32, device)
    }

    /// The same with matrices in the form that `storage` says.
    pub fn load_hf_as(dir: &Path, storage: Storage, device: &B::Device) -> Result<Self, LoadError> {
        let path = dir.join("config.json");
        let text = match read(&path) {
            Err(LoadError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(what_else(dir).unwrap_or(LoadError::Io { path, source }));
            }
            text => text?,
        };
        let (config, generation) = read_config(dir, &text)?;
        let loaded = Checkpoint::open(dir).and_then(|checkpoint| {
            let views = Views::of_text(dir, checkpoint.views()?, config.model_type);
            Self::from_tensors(&config, &views, storage, device)
        });
        let mut model = loaded.map_err(|error| match quantisation(&text) {
            Some(method) => LoadError::Quantised {
                path,
                method,
                source: Box::new(error),
            },
            None => error,
        })?;
        model.origin.generation = generation;
        Ok(model)
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::Io {
        path: path.into(),
        source,
    })?;
    if is_pointer(text.as_bytes()) {
        return Err(LoadError::Pointer { path: path.into() });
    }
    Ok(text)
}

/// The method of a `quantization_config`.
fn quantisation(config: &str) -> Option<String> {
    let json: Value = serde_json::from_str(&python_json(config)).ok()?;
    let given = json.get("quantization_config").filter(|v| !v.is_null())?;
    Some(
        given["quant_method"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned(),
    )
}

/// What a folder that is not a model's seems to be.
fn what_else(dir: &Path) -> Option<LoadError> {
    let error = |what: String| {
        Some(LoadError::NotAModel {
            dir: dir.into(),
            what,
        })
    };
    if let Ok(text) = fs::read_to_string(dir.join("adapter_config.json")) {
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let base = json["base_model_name_or_path"]
            .as_str()
            .unwrap_or("its base model");
        return error(format!(
            "an adapter (adapter_config.json), not a model; merge it into {base} first, as PEFT's merge_and_unload does"
        ));
    }
    let mut names: Vec<String> = fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    if let Some(name) = names.iter().find(|name| name.ends_with(".gguf")) {
        return error(format!(
            "a folder with GGUF files; name the file itself, such as {}",
            dir.join(name).display()
        ));
    }
    // Pickled weights, Mistral's and Meta's own files, and those of other libraries.
    const ENDS: [&str; 6] = [".pth", ".pt", ".h5", ".msgpack", ".onnx", ".npz"];
    let is_other = |name: &&String| {
        (name.starts_with("pytorch_model") && name.ends_with(".bin"))
            || name.starts_with("consolidated")
            || ENDS.iter().any(|end| name.ends_with(end))
    };
    let other = names.iter().find(is_other)?;
    error(format!(
        "its weights are in {other}; expected safetensors, as transformers' save_pretrained writes them"
    ))
}

/// A model's shape, and the keys of its `generation_config.json`. The end-of-sequence tokens there, if it has any, replace
/// those of `config.json`, as they do in transformers.
fn read_config(dir: &Path, text: &str) -> Result<(ModelConfig, Map<String, Value>), LoadError> {
    let mut config = ModelConfig::from_hf_json(text).map_err(|source| LoadError::Config {
        path: dir.join("config.json"),
        source,
    })?;
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok((config, Map::new()));
    }
    let text = read(&path)?;
    let error = |message: String| LoadError::Index {
        path: path.clone(),
        message,
    };
    let json: Map<String, Value> =
        serde_json::from_str(&python_json(&text)).map_err(|e| error(e.to_string()))?;
    let found = json.get("eos_token_id").unwrap_or(&Value::Null);
    let ids = token_ids(found);
    let ids = ids.ok_or_else(|| error(format!("`eos_token_id`: found {found}; expected {IDS}")))?;
    let vocab_size = config.vocab_size;
    if ids.iter().any(|&id| id as usize >= vocab_size) {
        return Err(error(format!(
            "`eos_token_id`: found {found}; expected ids below `vocab_size`, {vocab_size}"
        )));
    }
    if !ids.is_empty() {
        config.eos_token_ids = ids;
    }
    Ok((config, json))
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
            return Err(what_else(dir).unwrap_or(LoadError::NoWeights { dir: dir.into() }));
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
            if is_pointer(mmap) {
                return Err(LoadError::Pointer { path: path.clone() });
            }
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
    let text = read(index)?;
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
    notes: Vec<String>,
}

/// Where models that also see images have the tensors of their text model.
const TEXT_MODEL: &str = "model.language_model.";

impl<'a> Views<'a> {
    /// Those of the text model, under the names that they have where there is nothing else.
    fn of_text(dir: &'a Path, all: HashMap<String, TensorView<'a>>, family: Family) -> Self {
        let others = family.other_parts();
        let mut left_out = BTreeMap::new();
        let mut views = HashMap::with_capacity(all.len());
        for (name, view) in all {
            if let Some(part) = others.iter().find(|part| name.starts_with(**part)) {
                *left_out.entry(*part).or_insert(0) += 1;
                continue;
            }
            let name = match name.strip_prefix(TEXT_MODEL) {
                Some(rest) if !others.is_empty() => format!("model.{rest}"),
                _ => name,
            };
            views.insert(name, view);
        }
        let note = |(part, n): (&str, usize)| {
            let (dir, noun) = (dir.display(), if n == 1 { "tensor" } else { "tensors" });
            format!("{dir}: the text model is used, without {n} {noun} `{part}*`")
        };
        let notes = left_out.into_iter().map(note).collect();
        Self { dir, views, notes }
    }
}

impl Tensors for Views<'_> {
    fn origin(&self) -> &Path {
        self.dir
    }

    fn names(&self) -> BTreeSet<String> {
        self.views.keys().cloned().collect()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
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
        let stored = floats(view).ok_or_else(|| LoadError::Dtype {
            path: self.dir.into(),
            name: source.name.clone(),
            found: view.dtype(),
        })?;
        check_finite(self.dir, &source.name, &stored)?;
        if values.is_empty() {
            *values = stored;
        } else {
            values.extend(stored);
        }
        Ok(())
    }
}

/// A tensor's numbers; none if it has another type than F32, F16 and BF16.
pub(in crate::model) fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytes
            .par_chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::BF16 => bytes
            .par_chunks_exact(2)
            .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        Dtype::F16 => bytes
            .par_chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        _ => return None,
    })
}
