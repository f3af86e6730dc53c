//! Loads what `--model` names: a local folder or file, or a model on the Hugging Face hub.

use super::hub::HubModel;
use super::say::say;
use crate::failure::Failure;
use crate::models::{FOLDER_HINT, is_gguf, load_model};
use rpg_core::model::{CausalLm, ModelConfig};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Reads a policy and its tokenizer.
///
/// `given` is a Hugging Face folder, a `.gguf` file, or, if neither exists, a name on the hub:
/// `ORGANISATION/NAME` or `ORGANISATION/NAME/FILE.gguf`, optionally followed by `@REVISION`.
pub(super) fn load<B: DecodeBackend>(
    given: &Path,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let (model, tokenizer) = load_model::<B>(&located(given)?, device)?;
    for note in model.notes() {
        say!("note: {note}");
    }
    Ok((model, tokenizer))
}

/// Says that completions of a model only end at their limit, if nothing else ends them.
pub(super) fn note_on_ends<B: DecodeBackend>(model: &CausalLm<B>, tokenizer: &Tokenizer) {
    if model.config().eos_token_ids.is_empty() && tokenizer.eos_id().is_none() {
        say!(
            "note: the model names no end-of-sequence token (`eos_token_id`, `eos_token`): completions run to their limit"
        );
    }
}

/// The longest sequence in words, with what limits it.
pub(super) fn context(config: &ModelConfig, context: usize) -> String {
    if context < config.max_position_embeddings {
        format!(
            "{context}, the context before LongRoPE stretched the model's to {}, beyond which it is not run",
            config.max_position_embeddings
        )
    } else {
        format!("the model's context of {context}")
    }
}

/// The local folder or file; a model that is only on the hub is fetched.
fn located(given: &Path) -> Result<PathBuf, Failure> {
    if given.is_dir() || (given.is_file() && is_gguf(given)) {
        return Ok(given.to_owned());
    }
    if given.exists() {
        return Err(Failure::input(format!(
            "{}: neither a model folder nor a .gguf file",
            given.display()
        ))
        .hint(FOLDER_HINT));
    }
    match HubModel::parse(&given.to_string_lossy()) {
        Some(model) => model.fetch(),
        None => Err(
            Failure::input(format!("{}: no such folder or file", given.display())).hint(format!(
                "{FOLDER_HINT}; a model on the Hugging Face hub is named ORGANISATION/NAME"
            )),
        ),
    }
}
