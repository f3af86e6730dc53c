//! Weights: from Hugging Face folders and GGUF files, and into Hugging Face folders.

#[cfg(feature = "gguf")]
mod gguf;
mod hf;
mod names;
mod save;
mod storage;

pub(super) use hf::floats;
pub use save::SaveDtype;
pub(super) use save::set_permissions_like;
pub use storage::Storage;
pub(super) use storage::{StoredMatrix, is_bf16};

use super::{CausalLm, ConfigError, Mixer, ModelConfig};
#[cfg(feature = "gguf")]
use crate::gguf::GgufError;
use crate::ops::{ModelBackend, PackedMatrix};
use names::{Source, sources};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensorError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// The folder has no weights.
    #[error("{}: neither model.safetensors nor model.safetensors.index.json", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// The file is not there: its place is taken by what Git LFS left.
    #[error("{}: {}", path.display(), crate::files::POINTER)]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// The folder holds something else than a model in safetensors.
    #[error("{}: {what}", dir.display())]
    NotAModel {
        /// The folder.
        dir: PathBuf,
        /// What it holds, and what to do.
        what: String,
    },
    /// The weights are quantised, in a way that this crate does not read.
    #[error(
        "{}: `quantization_config`: found the method \"{method}\"; expected weights in F32, F16 or BF16 ({source})",
        path.display()
    )]
    Quantised {
        /// The config.
        path: PathBuf,
        /// The `quant_method`.
        method: String,
        /// Where reading the weights failed.
        source: Box<LoadError>,
    },
    /// A GGUF file is damaged, or holds a model that this crate does not run.
    #[cfg(feature = "gguf")]
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A tensor is missing.
    #[error("{}: tensor `{name}` is missing", path.display())]
    MissingTensor {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor belongs to no part of the model.
    #[error("{}: unknown tensor `{name}` ({n_more} more)", path.display())]
    UnknownTensor {
        /// The folder or file.
        path: PathBuf,
        /// The first such tensor.
        name: String,
        /// How many others there are.
        n_more: usize,
    },
    /// A tensor has the wrong shape.
    #[error("{}: tensor `{name}` has shape {found:?}; the model's sizes require {expected:?}", path.display())]
    Shape {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the config implies.
        expected: Vec<usize>,
    },
    /// A tensor has a type that cannot be read.
    #[error("{}: tensor `{name}` has type {found:?}; supported are F32, F16 and BF16", path.display())]
    Dtype {
        /// The folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
    /// A tensor holds NaN or an infinity.
    #[error("{}: tensor `{name}` holds a value that is not finite", path.display())]
    NotFinite {
        /// The folder or file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
}

/// Tensors to build a model from, by the names that Hugging Face gives them.
trait Tensors {
    /// The folder or file that they come from.
    fn origin(&self) -> &Path;

    /// The names of all of them; those without a Hugging Face name keep their own.
    fn names(&self) -> BTreeSet<String>;

    /// Appends a tensor's values, row by row. Memory is allocated for what the file holds: a config may promise
    /// anything.
    fn append(&self, source: &Source, values: &mut Vec<f32>) -> Result<(), LoadError>;

    /// What should be known of where they come from.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The blocks of a matrix, if it has some that products read as they are.
    fn blocks(&self, _source: &Source) -> Option<PackedMatrix> {
        None
    }
}

impl<B: ModelBackend> CausalLm<B> {
    fn from_tensors(
        config: &ModelConfig,
        tensors: &impl Tensors,
        storage: Storage,
        device: &B::Device,
    ) -> Result<Self, LoadError> {
        let mut unused = tensors.names();
        let mut config = config.clone();
        let mut notes = Vec::new();
        if config.tie_word_embeddings && unused.remove(HEAD) {
            match is_tied_head(&config, tensors) {
                Some(true) => {}
                // As transformers does.
                Some(false) => {
                    config.tie_word_embeddings = false;
                    notes.push(format!(
                        "{}: `tie_word_embeddings` is true, but `{HEAD}` differs from the embedding; it is used",
                        tensors.origin().display()
                    ));
                    unused.insert(HEAD.into());
                }
                None => notes.push(format!(
                    "{}: `{HEAD}` is not used: `tie_word_embeddings` is true, and its shape is not the embedding's",
                    tensors.origin().display()
                )),
            }
        }
        let config = &config;
        let mut model = Self::build(config, storage, device, |name, shape| {
            let sources = sources(config, name);
            for source in &sources {
                unused.remove(&source.name);
            }
            if storage.keeps_blocks(name) && shape.len() == 2 {
                let blocks: Option<Vec<_>> = sources
                    .iter()
                    .map(|source| tensors.blocks(source))
                    .collect();
                if let Some(blocks) = blocks {
                    return Ok(StoredMatrix::Blocks(PackedMatrix::stacked(blocks)));
                }
            }
            let mut values = Vec::new();
            for source in &sources {
                tensors.append(source, &mut values)?;
            }
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
            Ok::<_, LoadError>(StoredMatrix::Values(values))
        })?;
        // Old checkpoints store their rotary frequencies.
        unused.retain(|name| !name.ends_with("rotary_emb.inv_freq"));
        notes.extend(tensors.notes());
        model.origin.notes = notes;
        match unused.first() {
            None => Ok(model),
            Some(name) => Err(LoadError::UnknownTensor {
                path: tensors.origin().into(),
                name: name.clone(),
                n_more: unused.len() - 1,
            }),
        }
    }
}

const HEAD: &str = "lm_head.weight";

/// Whether the head that a checkpoint with tied weights stores is its embedding; none if it cannot be.
fn is_tied_head(config: &ModelConfig, tensors: &impl Tensors) -> Option<bool> {
    let values = |name: &str| {
        let mut values = Vec::new();
        let source = sources(config, name).pop()?;
        tensors.append(&source, &mut values).ok()?;
        Some(values)
    };
    let head = values("lm_head")?;
    Some(values("embedding").is_none_or(|embedding| embedding == head))
}

fn check_shape(
    path: &Path,
    name: &str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), LoadError> {
    if found == expected {
        Ok(())
    } else {
        Err(LoadError::Shape {
            path: path.into(),
            name: name.into(),
            found: found.into(),
            expected: expected.into(),
        })
    }
}

fn check_finite(path: &Path, name: &str, values: &[f32]) -> Result<(), LoadError> {
    if values.par_iter().all(|x| x.is_finite()) {
        Ok(())
    } else {
        Err(LoadError::NotFinite {
            path: path.into(),
            name: name.into(),
        })
    }
}

/// The layers of block `i` that adapters can add to. In a model with experts these are the mixer's: PEFT takes the names of
/// the others to mean the experts, of which transformers 5 has those of a layer in one tensor.
fn adapted_layers(config: &ModelConfig, i: usize) -> impl Iterator<Item = &'static str> {
    let mixer: &[&str] = match config.layers[i] {
        Mixer::Attention(_) => &["qkv", "output"],
        Mixer::GatedDelta(_) => &["delta_qkv", "delta_z", "delta_gates", "delta_output"],
    };
    let feed_forward: &[&str] = match config.experts {
        None => &["gate_up", "down"],
        Some(_) => &[],
    };
    mixer.iter().chain(feed_forward).copied()
}

/// The modules of a layer of the blocks, such as `blocks.0.qkv`, that adapters can add to, one below the other: their
/// names, outputs and inputs.
pub(super) fn modules(config: &ModelConfig, layer: &str) -> Vec<(String, [usize; 2])> {
    let (block, part) = names::in_block(layer);
    if !adapted_layers(config, block).any(|adapted| adapted == part) {
        return Vec::new();
    }
    let of_source = |source: Source| {
        let name = source.name.strip_suffix(".weight")?;
        Some((name.to_owned(), source.shape.try_into().ok()?))
    };
    let sources = sources(config, layer).into_iter();
    sources.filter_map(of_source).collect()
}

/// All modules of the blocks.
pub(super) fn block_layers(config: &ModelConfig) -> Vec<(String, [usize; 2])> {
    let of_block = |i| {
        let layers = adapted_layers(config, i);
        layers.flat_map(move |layer| modules(config, &format!("blocks.{i}.{layer}")))
    };
    (0..config.num_hidden_layers).flat_map(of_block).collect()
}

/// The last parts of their names, each once.
pub(super) fn block_modules(config: &ModelConfig) -> Vec<String> {
    let mut all = Vec::new();
    for (name, _) in block_layers(config) {
        let last = name.rsplit('.').next().unwrap_or(&name);
        if !all.iter().any(|known| known == last) {
            all.push(last.to_owned());
        }
    }
    all
}

/// The name of a parameter of an adapter.
pub(super) fn param_name(module: &str, part: &str) -> String {
    format!("{module}.lora_{part}")
}
