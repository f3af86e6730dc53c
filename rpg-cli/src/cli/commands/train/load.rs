//! What a run begins with: its policy, its problems, and a reference of its own.

use crate::checkpoint::with_adapter_of;
use crate::cli::beat::Waiting;
use crate::cli::commands::dry_run;
use crate::cli::console::Console;
use crate::cli::say::say;
use crate::cli::{policy, problems};
use crate::config::{BaseWeights, LoraSection, ScratchModel, TrainConfig};
use crate::data::Reading;
use crate::failure::Failure;
use crate::models::{frozen, load_model};
use crate::run_folder::RunFolder;
use crate::train::Start;
use rpg_core::model::{AdapterFolder, CausalLm, ModelConfig, Storage};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::path::Path;

/// The policy of a checkpoint, or that of a new run.
pub(super) fn first_policy<B: DecodeBackend>(
    config: &TrainConfig,
    checkpoint: Option<&Path>,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let is_whole = |dir: &&Path| !AdapterFolder::is_one(dir);
    if let Some(dir) = checkpoint.filter(is_whole) {
        return load_model(dir, device);
    }
    let storage = base_storage::<B>(config, checkpoint)?;
    // The checkpoint names its base, which an adapter at `model.path` need not be there for any more.
    if let (Some(dir), Some(_)) = (checkpoint, &config.model.path) {
        return policy::load(dir, storage, device);
    }
    let (policy, tokenizer) = match (&config.model.path, &config.model.scratch) {
        (Some(given), _) => policy::load(given, storage, device)?,
        (None, Some(shape)) => shape.init_as(config.seed, storage, device)?,
        (None, None) => {
            return Err(Failure::input(
                "model: neither `path` nor `scratch` is given",
            ));
        }
    };
    let policy = match (checkpoint, &config.lora) {
        (Some(dir), _) => with_adapter_of(policy, dir)?,
        (None, Some(lora)) => {
            if config.model.scratch.is_some() {
                say!(
                    "note: the adapter's base is made from the seed and isn't written: nothing but this run can use the adapter"
                );
            }
            new_adapter(lora, policy, config.seed)?
        }
        (None, None) => policy,
    };
    Ok((policy, tokenizer))
}

/// In which form the weights of a policy are kept that are read from files.
fn base_storage<B: DecodeBackend>(
    config: &TrainConfig,
    checkpoint: Option<&Path>,
) -> Result<Storage, Failure> {
    let mut given = config.model.path.as_deref().into_iter().chain(checkpoint);
    match &config.lora {
        Some(lora) if lora.base != BaseWeights::F32 && !B::READS_BF16 => Err(Failure::input(
            "lora.base: this backend cannot read weights of fewer bits as they are stored; expected f32",
        )
        .hint("--set lora.base=f32, or --backend cpu")),
        Some(lora) => Ok(lora.base.storage()),
        None if given.any(AdapterFolder::is_one) => Ok(frozen::<B>()),
        None => Ok(Storage::F32),
    }
}

fn new_adapter<B: DecodeBackend>(
    lora: &LoraSection,
    policy: CausalLm<B>,
    seed: u64,
) -> Result<CausalLm<B>, Failure> {
    if policy.lora().is_some() {
        return Err(dry_run::two_adapters());
    }
    let lora = lora.adapter(policy.config());
    let adapted = policy.with_adapter(&lora, seed);
    adapted.map_err(|e| Failure::input(format!("lora: {e}")))
}

/// Refuses sizes in a run's config that differ from those of its checkpoint.
pub(super) fn check_shape(
    config: &TrainConfig,
    found: &ModelConfig,
    folder: &RunFolder,
) -> Result<(), Failure> {
    let Some(shape) = &config.model.scratch else {
        return Ok(());
    };
    let given = shape.sizes();
    for ((key, given), (_, found)) in given.into_iter().zip(ScratchModel::of(found).sizes()) {
        if given != found {
            let path = folder.path("config.toml");
            return Err(Failure::input(format!(
                "{}: model.scratch.{key}: found {given}; expected {found}, the size in the run's checkpoint",
                path.display()
            ))
            .hint("a model of another size needs a new run, without --resume"));
        }
    }
    Ok(())
}

/// Loads the problems; of a large file it shows how far it is.
pub(super) fn read_problems<B: DecodeBackend>(
    config: &TrainConfig,
    policy: CausalLm<B>,
    tokenizer: Tokenizer,
) -> Result<Start<B>, Failure> {
    let mut console: Option<Console> = None;
    let mut waiting = Some(Waiting::for_the_end_of("reading the problems"));
    let mut on_progress = |done: usize, total: usize| {
        waiting = None;
        if total < LARGE_FILE {
            return;
        }
        if done == 0 {
            let bar = Console::new(total as u64, "reading");
            bar.line(&format!("reading {total} problems"));
            console = Some(bar);
        }
        if let Some(bar) = &mut console {
            bar.progress(done as u64, total as u64, "reading");
            if done == total {
                bar.done();
            }
        }
    };
    let reading = Reading {
        locate: &problems::locate,
        on_progress: &mut on_progress,
    };
    let start = Start::reading(config, policy, tokenizer, reading);
    if let Some(bar) = &console {
        bar.done();
    }
    start
}

/// Files of so many problems take seconds to become tokens.
const LARGE_FILE: usize = 10_000;

/// Adds the model that `reference.path` names, if it names one.
pub(super) fn with_reference<B: DecodeBackend>(
    config: &TrainConfig,
    start: Start<B>,
    device: &B::Device,
) -> Result<Start<B>, Failure> {
    let Some(given) = &config.reference.path else {
        return Ok(start);
    };
    let storage = config.reference.storage::<B>();
    let waiting = Waiting::for_the_end_of("loading the reference");
    let loaded = policy::load(given, storage, device);
    drop(waiting);
    let (reference, tokenizer) = loaded.map_err(of_reference)?;
    say!(
        "reference: {} parameters from {}",
        reference.config().n_parameters(),
        given.display()
    );
    start.reference(config, reference, &tokenizer)
}

/// Says that a model that cannot be read is that of `reference.path`.
fn of_reference(mut failure: Failure) -> Failure {
    failure.message = format!("reference.path: {}", failure.message);
    failure
}
