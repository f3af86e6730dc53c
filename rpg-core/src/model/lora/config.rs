//! What an adapter is, and what can be wrong with one.

use crate::model::ModelConfig;
use crate::model::weights::{block_layers, block_modules};
use safetensors::SafeTensorError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An adapter's shape, under the names of PEFT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// The rank of what is added to a weight matrix.
    pub rank: usize,
    /// What is added is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The modules that have an adapter, by the last parts of their names, such as `q_proj`.
    pub target_modules: Vec<String>,
    /// Whether it is multiplied by `alpha / sqrt(rank)` instead (rsLoRA; Kalajdzievski, 2023, arXiv 2312.03732).
    pub use_rslora: bool,
}

impl LoraConfig {
    /// The names of all modules that can have an adapter in a model of this shape.
    pub fn all_modules(model: &ModelConfig) -> Vec<String> {
        block_modules(model)
    }

    /// The factor of what is added.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The numbers of an adapter of a model of this shape.
    pub fn n_parameters(&self, model: &ModelConfig) -> usize {
        let layers = block_layers(model).into_iter();
        let targets = layers.filter(|(module, _)| self.targets(module));
        let sizes = targets.map(|(_, [outputs, inputs])| outputs + inputs);
        self.rank * sizes.sum::<usize>()
    }

    /// Whether a module has an adapter.
    pub(super) fn targets(&self, module: &str) -> bool {
        let last = module.rsplit('.').next().unwrap_or(module);
        self.target_modules.iter().any(|target| target == last)
    }

    /// Refuses what cannot be an adapter of a model of this shape.
    pub fn check(&self, model: &ModelConfig) -> Result<(), AdapterError> {
        let refuse = |key, found: String, expected: String| {
            Err(AdapterError::Key {
                key,
                found,
                expected,
            })
        };
        if self.rank == 0 {
            return refuse("rank", "0".into(), "at least 1".into());
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return refuse("alpha", self.alpha.to_string(), "a number above 0".into());
        }
        let known = block_modules(model);
        let expected = || format!("some of {}", known.join(", "));
        if self.target_modules.is_empty() {
            return refuse("target_modules", "none".into(), expected());
        }
        let is_unknown = |target: &&String| !known.contains(target);
        match self.target_modules.iter().find(is_unknown) {
            Some(unknown) => refuse("target_modules", format!("\"{unknown}\""), expected()),
            None => Ok(()),
        }
    }
}

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A value that an adapter of this model cannot have.
    #[error("`{key}`: found {found}; expected {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// What was found.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The same, in a file.
    #[error("{}: {source}", path.display())]
    Config {
        /// `adapter_config.json`.
        path: PathBuf,
        /// What is wrong.
        source: Box<AdapterError>,
    },
    /// The file is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A safetensors file is damaged, or cannot be written.
    #[error("{}: not a usable safetensors file: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SafeTensorError,
    },
}
