//! Models on this machine: a Hugging Face folder, a GGUF file, or random weights.

use crate::config::ScratchModel;
use crate::data::arithmetic::{TOKENIZER, TOKENIZER_SETTINGS};
use crate::failure::{AtPath, Failure};
use rpg_core::gguf::GgufFile;
use rpg_core::model::{CausalLm, LoadError, ModelConfig, Storage};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::{Tokenizer, TokenizerError};
use serde_json::{Value, json};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The hint for what is not a model folder.
pub(crate) const FOLDER_HINT: &str =
    "a model folder contains config.json, model.safetensors and tokenizer.json";

/// Reads a policy and its tokenizer, which must match, from a Hugging Face folder or a `.gguf` file.
pub fn load_model<B: DecodeBackend>(
    path: &Path,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    load_model_as(path, Storage::F32, device)
}

/// The same with matrices in the form that `storage` says.
pub fn load_model_as<B: DecodeBackend>(
    path: &Path,
    storage: Storage,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let (model, tokenizer) = if path.is_dir() {
        (
            CausalLm::<B>::load_hf_as(path, storage, device).map_err(|error| match &error {
                LoadError::NoWeights { .. } => Failure::input(error).hint(FOLDER_HINT),
                LoadError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                    Failure::input(error).hint(FOLDER_HINT)
                }
                _ => Failure::input(error),
            })?,
            Tokenizer::load(path).map_err(|error| match &error {
                TokenizerError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                    Failure::input(error).hint(FOLDER_HINT)
                }
                _ => Failure::input(error),
            })?,
        )
    } else if is_gguf(path) {
        let file = GgufFile::open(path).map_err(Failure::input)?;
        // The tokenizer comes first: a bad one is found sooner than bad weights.
        let tokenizer = Tokenizer::from_gguf(&file).map_err(Failure::input)?;
        let model = CausalLm::<B>::from_gguf_as(&file, storage, device).map_err(Failure::input)?;
        (model, tokenizer)
    } else {
        let what = if path.exists() {
            "neither a model folder nor a .gguf file"
        } else {
            "no such folder or file"
        };
        return Err(Failure::input(format!("{}: {what}", path.display())).hint(FOLDER_HINT));
    };
    let vocab_size = model.config().vocab_size;
    if (tokenizer.max_id() as usize) < vocab_size {
        return Ok((model, tokenizer));
    }
    Err(Failure::input(format!(
        "{}: the tokenizer has a token {}, but the model's vocabulary has only {vocab_size} tokens",
        path.display(),
        tokenizer.max_id()
    ))
    .hint("tokenizer and weights come from different models"))
}

/// The form in which a model keeps its matrices if nothing trains them: no bits are lost, and on backends that read them
/// as they are, no memory is either.
pub fn frozen<B: DecodeBackend>() -> Storage {
    if B::READS_BF16 {
        Storage::Stored
    } else {
        Storage::F32
    }
}

/// The model for texts beyond the context that LongRoPE stretched; `given` is what asks for that.
pub(crate) fn long_context<B: DecodeBackend>(
    given: &str,
    model: CausalLm<B>,
) -> Result<CausalLm<B>, Failure> {
    if model.config().has_long_context() {
        return Ok(model.with_long_context());
    }
    Err(Failure::input(format!(
        "{given}: this model's `rope_scaling` is no LongRoPE: there is one list of factors for all lengths, and it runs to its \
         context of {}",
        model.config().context()
    )))
}

/// What is known of a model before its weights are read.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Its shape.
    pub config: ModelConfig,
    /// The bytes of its weights as they are stored.
    pub stored_bytes: usize,
}

/// Reads the shape of a model and its tokenizer from a Hugging Face folder or a `.gguf` file.
pub fn outline(path: &Path) -> Result<(Outline, Tokenizer), Failure> {
    if is_gguf(path) {
        let file = GgufFile::open(path).map_err(Failure::input)?;
        let outline = Outline {
            config: file.config().map_err(Failure::input)?,
            stored_bytes: size(&fs::metadata(path).at(path)?),
        };
        return Ok((
            outline,
            Tokenizer::from_gguf(&file).map_err(Failure::input)?,
        ));
    }
    let file = path.join("config.json");
    let text = fs::read_to_string(&file).at(&file)?;
    let config = ModelConfig::from_hf_json(&text)
        .map_err(|e| Failure::input(format!("{}: {e}", file.display())))?;
    let mut stored_bytes = 0;
    for entry in fs::read_dir(path).at(path)? {
        let entry = entry.at(path)?.path();
        if entry
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            stored_bytes += size(&fs::metadata(&entry).at(&entry)?);
        }
    }
    // Weights that are not there yet, as of a model that was not fetched as a whole, are counted as those of the config.
    let stored_bytes = stored_bytes.max(config.n_parameters() * bytes_per_weight(&text));
    let outline = Outline {
        config,
        stored_bytes,
    };
    Ok((outline, Tokenizer::load(path).map_err(Failure::input)?))
}

/// The bytes of a weight of the type that a `config.json` names; 2, if it names none.
fn bytes_per_weight(config: &str) -> usize {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    match config["dtype"].as_str().or(config["torch_dtype"].as_str()) {
        Some("float32") => 4,
        _ => 2,
    }
}

fn size(metadata: &fs::Metadata) -> usize {
    usize::try_from(metadata.len()).unwrap_or(usize::MAX)
}

impl ScratchModel {
    /// A Qwen3-like model with random weights for the built-in task, and the task's tokenizer.
    pub fn init<B: DecodeBackend>(
        &self,
        seed: u64,
        device: &B::Device,
    ) -> Result<(CausalLm<B>, Tokenizer), Failure> {
        self.init_as(seed, Storage::F32, device)
    }

    /// The same with matrices in the form that `storage` says.
    pub fn init_as<B: DecodeBackend>(
        &self,
        seed: u64,
        storage: Storage,
        device: &B::Device,
    ) -> Result<(CausalLm<B>, Tokenizer), Failure> {
        let (model, tokenizer) = self.config()?;
        Ok((CausalLm::init_as(&model, seed, storage, device), tokenizer))
    }

    /// The shape of that model, and the tokenizer.
    pub fn config(&self) -> Result<(ModelConfig, Tokenizer), Failure> {
        let tokenizer =
            Tokenizer::from_json(TOKENIZER, Some(TOKENIZER_SETTINGS)).map_err(Failure::internal)?;
        let id = |token: &str| {
            tokenizer
                .token_id(token)
                .ok_or_else(|| Failure::internal(format!("the built-in tokenizer has no {token}")))
        };
        let head_dim = self.hidden_size.get() / self.num_attention_heads.get();
        let model = json!({
            "model_type": "qwen3",
            "vocab_size": tokenizer.vocab_size(),
            "hidden_size": self.hidden_size.get(),
            "intermediate_size": self.intermediate_size.get(),
            "num_hidden_layers": self.num_hidden_layers.get(),
            "num_attention_heads": self.num_attention_heads.get(),
            "num_key_value_heads": self.num_key_value_heads.get(),
            "head_dim": head_dim,
            "max_position_embeddings": 128,
            "tie_word_embeddings": true,
            "eos_token_id": [id("<eos>")?],
            "pad_token_id": id("<pad>")?,
        });
        let model = ModelConfig::from_hf_json(&model.to_string())
            .map_err(|e| Failure::input(format!("model.scratch: {e}")))?;
        Ok((model, tokenizer))
    }
}

pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}
