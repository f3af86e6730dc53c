//! Finds what `--data` names: files on this machine, a built-in set, or a data set on the Hugging Face hub.

use super::hub::HubDataset;
use crate::data::builtin::is_builtin;
use crate::data::files::matching;
use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// The files that a path of a config names; those of the hub are fetched if they are not in the cache.
pub(super) fn locate(given: &Path) -> Result<Vec<PathBuf>, Failure> {
    let on_hub = HubDataset::parse(&given.to_string_lossy());
    match on_hub {
        Some(data) if !given.exists() && !is_builtin(given) => data.fetch(),
        _ => matching(given),
    }
}
