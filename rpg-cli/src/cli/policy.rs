//! Loads what `--model` names: a local folder or file, or a model on the Hugging Face hub.

use super::hub::HubModel;
use super::say::say;
use crate::best;
use crate::failure::Failure;
use crate::models::{FOLDER_HINT, is_gguf, load_model_as};
use crate::run_folder::RunFolder;
use rpg_core::model::{ADAPTER_CONFIG, AdapterFolder, CausalLm, ModelConfig, Storage};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Reads a policy and its tokenizer.
///
/// `given` is a Hugging Face folder, a `.gguf` file, or, if neither exists, a name on the hub:
/// `ORGANISATION/NAME` or `ORGANISATION/NAME/FILE.gguf`, optionally followed by `@REVISION`.
///
/// A folder may also be that of an adapter in PEFT's format: it names the model that it belongs to.
pub(super) fn load<B: DecodeBackend>(
    given: &Path,
    storage: Storage,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    if AdapterFolder::is_one(given) {
        return load_adapter(given, storage, device);
    }
    let (model, tokenizer) = load_model_as::<B>(&located(given)?, storage, device)?;
    for note in model.notes() {
        say!("note: {note}");
    }
    Ok((model, tokenizer))
}

/// The local folder or file of a model; of an adapter, that of its base.
pub(super) fn model_of(given: &Path) -> Result<PathBuf, Failure> {
    if !AdapterFolder::is_one(given) {
        return located(given);
    }
    let adapter = AdapterFolder::open(given).map_err(Failure::input)?;
    located(base_of(&adapter, given)?).map_err(|failure| of_adapter(failure, given))
}

/// The folder or name of the model that the adapter in `dir` belongs to.
fn base_of<'a>(adapter: &'a AdapterFolder, dir: &Path) -> Result<&'a Path, Failure> {
    let file = dir.join(ADAPTER_CONFIG);
    let Some(base) = adapter.base.as_deref().filter(|base| !base.is_empty()) else {
        return Err(Failure::input(format!(
            "{}: `base_model_name_or_path` names no model that the adapter belongs to",
            file.display()
        ))
        .hint("write the folder or the name of that model there"));
    };
    if AdapterFolder::is_one(Path::new(base)) {
        return Err(Failure::input(format!(
            "{}: `base_model_name_or_path` names {base}, which is an adapter too; expected a model",
            file.display()
        ))
        .hint("`rpg export` makes a model of an adapter"));
    }
    Ok(Path::new(base))
}

/// Says which adapter needs the model that cannot be read.
fn of_adapter(mut failure: Failure, dir: &Path) -> Failure {
    failure.message = format!(
        "the model of the adapter {}: {}",
        dir.display(),
        failure.message
    );
    failure
}

/// Reads an adapter, the model that it belongs to, and its tokenizer, or else the model's.
fn load_adapter<B: DecodeBackend>(
    dir: &Path,
    storage: Storage,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let adapter = AdapterFolder::open(dir).map_err(Failure::input)?;
    let base = base_of(&adapter, dir)?;
    let loaded = load(base, storage, device);
    let (base, mut tokenizer) = loaded.map_err(|failure| of_adapter(failure, dir))?;
    if dir.join("tokenizer.json").is_file() {
        tokenizer = Tokenizer::load(dir).map_err(Failure::input)?;
    }
    let model = base.with_adapter_of(&adapter).map_err(Failure::input)?;
    Ok((model, tokenizer))
}

/// The model that a run folder stands for, its newest checkpoint, and that of `RUN_DIR/best`, the policy of its best
/// evaluation; any other path or name stands for itself.
pub(super) fn of_run(given: &Path) -> Result<PathBuf, Failure> {
    let model = if best::is_place(given) {
        best::whole_folder(given.parent().unwrap_or(given))?
    } else if is_run(given) {
        RunFolder::open(given)?.newest_checkpoint()?
    } else {
        return Ok(given.to_owned());
    };
    say!("model: {}", model.display());
    Ok(model)
}

/// The run folder that a model belongs to: the folder itself, or that around one of its checkpoints.
pub(super) fn run_of(given: &Path) -> Option<PathBuf> {
    let has_config = |run: &&Path| is_run(run) && run.join("config.toml").is_file();
    // A name on the hub is in no folder.
    let given = given.exists().then_some(given)?;
    given
        .ancestors()
        .take(3)
        .find(has_config)
        .map(Path::to_owned)
}

fn is_run(path: &Path) -> bool {
    path.join("checkpoints").is_dir() && !path.join("config.json").exists()
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
            "{context}, the context before LongRoPE stretched the model's to {} (--long-context)",
            config.max_position_embeddings
        )
    } else {
        format!("the model's context of {context}")
    }
}

/// The local folder or file; a model that is only on the hub is fetched.
fn located(given: &Path) -> Result<PathBuf, Failure> {
    if is_run(given) || best::is_place(given) {
        return Err(Failure::input(format!(
            "{}: a run, not a model",
            given.display()
        ))
        .hint(format!(
            "its models are the folders step-... in its folders checkpoints and best; `rpg export --model {}` writes the \
             newest one",
            given.display()
        )));
    }
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
