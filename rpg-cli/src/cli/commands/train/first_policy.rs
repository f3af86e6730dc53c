//! Where a run's policy comes from.

use crate::checkpoint::with_adapter_of;
use crate::cli::commands::dry_run::two_adapters;
use crate::cli::policy;
use crate::cli::say::say;
use crate::config::{BaseWeights, LoraSection, ScratchModel, TrainConfig};
use crate::failure::Failure;
use crate::models::{frozen, load_model};
use crate::run_folder::RunFolder;
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
        return Err(two_adapters());
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
