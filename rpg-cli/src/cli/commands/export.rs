//! `rpg export`: writes a model as a Hugging Face folder, in the number type that other programs expect.

use super::output;
use crate::cli::args::ExportArgs;
use crate::cli::policy;
use crate::failure::{AtPath, Failure};
use crate::models::frozen;
use crate::run_folder::RunFolder;
use burn::backend::Flex;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let source = model_folder(&args.model)?;
    if args.out.exists() {
        return Err(
            Failure::input(format!("{}: already exists", args.out.display()))
                .hint("name a folder that does not exist yet"),
        );
    }
    // Weights are only rewritten, so the CPU is enough.
    let (model, tokenizer) = policy::load::<Flex>(&source, frozen::<Flex>(), &Default::default())?;
    // The folder appears whole or not at all.
    let partial = partial_path(&args.out)?;
    if partial.exists() {
        fs::remove_dir_all(&partial).at(&partial)?;
    }
    fs::create_dir_all(&partial).at(&partial)?;
    let written = model
        .save_hf(&partial, args.dtype.into())
        .map_err(Failure::input)
        .and_then(|()| tokenizer.save(&partial).map_err(Failure::input))
        .and_then(|()| fs::rename(&partial, &args.out).at(&args.out));
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written?;
    output::line(args.out.display())
}

/// A hidden path next to `out`.
fn partial_path(out: &Path) -> Result<PathBuf, Failure> {
    match out.file_name() {
        Some(name) => Ok(out.with_file_name(format!(".{}.partial", name.to_string_lossy()))),
        None => Err(Failure::input(format!(
            "{}: not the name of a folder",
            out.display()
        ))),
    }
}

/// A model folder, or the newest checkpoint of a run folder.
fn model_folder(given: &Path) -> Result<PathBuf, Failure> {
    if given.join("checkpoints").is_dir() {
        RunFolder::open(given)?.newest_checkpoint()
    } else {
        Ok(given.to_owned())
    }
}
