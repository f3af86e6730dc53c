//! Where models come from: a Hugging Face folder, a GGUF file, or the Hugging Face hub.

mod hub;

use crate::failure::Failure;
use hub::HubModel;
use rpg_core::gguf::GgufFile;
use rpg_core::model::CausalLm;
use rpg_core::ops::ModelBackend;
use rpg_core::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

const FOLDER_HINT: &str = "a model folder holds config.json, model.safetensors and tokenizer.json";

/// Reads a policy and its tokenizer, which must fit each other.
///
/// `given` is a Hugging Face folder, a `.gguf` file, or, where there is neither, the id of a model on the
/// hub: `ORGANISATION/NAME`, with `@REVISION` behind it or a GGUF file of the model as a third part.
pub fn load_model<B: ModelBackend>(
    given: &Path,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let path = located(given)?;
    let (model, tokenizer) = match path.is_dir() {
        true => (
            CausalLm::<B>::load_hf(&path, device)
                .map_err(|e| Failure::input(e).hint(FOLDER_HINT))?,
            Tokenizer::load(&path).map_err(|e| Failure::input(e).hint(FOLDER_HINT))?,
        ),
        false => {
            let file = GgufFile::open(&path).map_err(Failure::input)?;
            // The tokenizer is the quicker one to refuse.
            let tokenizer = Tokenizer::from_gguf(&file).map_err(Failure::input)?;
            let model = CausalLm::<B>::from_gguf(&file, device).map_err(Failure::input)?;
            (model, tokenizer)
        }
    };
    let vocab_size = model.config().vocab_size;
    match (tokenizer.max_id() as usize) < vocab_size {
        true => Ok((model, tokenizer)),
        false => Err(Failure::input(format!(
            "{}: the tokenizer has token {}, but the model's vocabulary is {vocab_size}",
            path.display(),
            tokenizer.max_id()
        ))
        .hint("tokenizer and weights come from different models")),
    }
}

/// The folder or file on this machine; what is on the hub only is fetched.
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
                "{FOLDER_HINT}; on the Hugging Face hub a model is called ORGANISATION/NAME"
            )),
        ),
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}
