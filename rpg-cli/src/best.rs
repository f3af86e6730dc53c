//! The policy of a run's best evaluation, kept in the run's folder as `best/step-N`.
//!
//! It is written as soon as it is measured, and the one before is removed only when a checkpoint says that there is a
//! better one. So whatever a run is killed at, the one that its newest checkpoint names is there, and a resumed run
//! removes any of a step that it is about to repeat.

use crate::checkpoint::{TrainerState, write_policy};
use crate::checksums;
use crate::config::TrainConfig;
use crate::durable::{PARTIAL, remove_folder, write_folder};
use crate::failure::{AtPath, Failure};
use crate::run_folder::{RunFolder, step_folders, step_name};
use rpg_core::model::{CausalLm, SaveDtype};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder in a run's folder.
pub(crate) const BEST: &str = "best";

/// Says which evaluation it is.
const EVALUATION: &str = "evaluation.json";

/// Writes the policy of the best evaluation, which was the last. Of one with an adapter it is the adapter.
pub(crate) fn write<B: DecodeBackend>(
    folder: &RunFolder,
    state: &TrainerState,
    policy: &CausalLm<B>,
    tokenizer: &Tokenizer,
) -> Result<(), Failure> {
    let Some(best) = &state.best else {
        return Ok(());
    };
    let base = state.base.as_deref().unwrap_or_default();
    let written = write_folder(&folder.path(BEST), &step_name(best.step), |dir| {
        write_policy(policy, base, tokenizer, SaveDtype::F32, dir)?;
        let path = dir.join(EVALUATION);
        let text = serde_json::to_string_pretty(best).map_err(Failure::internal)?;
        fs::write(&path, text + "\n").at(&path)
    });
    written.map(|_| ())
}

/// Removes all but the one that a checkpoint with this state names, if the config asks for one at all.
pub(crate) fn keep(
    folder: &RunFolder,
    state: &TrainerState,
    config: &TrainConfig,
) -> Result<(), Failure> {
    let dir = folder.path(BEST);
    if !config.checkpoint.keep_best || !dir.is_dir() {
        return Ok(());
    }
    let aside = dir.join(PARTIAL);
    remove_folder(&aside)?;
    for (step, path) in step_folders(&dir)? {
        if state.best.as_ref().is_none_or(|best| best.step != step) {
            // Under its own name a folder is whole.
            fs::rename(&path, &aside).at(&path)?;
            remove_folder(&aside)?;
        }
    }
    Ok(())
}

/// Whether a path is the folder `best` of a run, or would be.
pub fn is_place(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == BEST)
        && path
            .parent()
            .is_some_and(|run| run.join("config.toml").exists() && run.join("checkpoints").is_dir())
}

/// The folder of the policy of a run's best evaluation so far, if there is one.
pub fn folder(run: &Path) -> Result<Option<PathBuf>, Failure> {
    let dir = run.join(BEST);
    if !dir.is_dir() {
        return Ok(None);
    }
    let newest = step_folders(&dir)?.pop();
    Ok(newest.map(|(_, path)| path))
}

/// The same; that there is none is an error, and that it differs from its checksums.
pub fn whole_folder(run: &Path) -> Result<PathBuf, Failure> {
    let Some(folder) = folder(run)? else {
        return Err(Failure::input(format!(
            "{}: the run has kept no policy of a best evaluation",
            run.display()
        ))
        .hint("it does after its first evaluation, with evaluate.problems above 0 and checkpoint.keep_best = true"));
    };
    checksums::verify(&folder, true)?;
    Ok(folder)
}
