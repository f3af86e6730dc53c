//! `rpg export`: writes a model as a Hugging Face folder, in the number type that other programs expect.

use super::new_folder::{NewFolder, check_free};
use super::output;
use crate::cli::args::ExportArgs;
use crate::cli::policy;
use crate::failure::Failure;
use crate::models::frozen;
use burn::backend::Flex;

pub(super) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let source = policy::of_run(&args.model)?;
    check_free(&args.out)?;
    // Weights are only rewritten, so the CPU is enough.
    let (model, tokenizer) = policy::load::<Flex>(&source, frozen::<Flex>(), &Default::default())?;
    let folder = NewFolder::begin(&args.out)?;
    model
        .save_hf(folder.path(), args.dtype.into())
        .map_err(Failure::input)?;
    tokenizer.save(folder.path()).map_err(Failure::input)?;
    folder.finish()?;
    output::line(args.out.display())
}
