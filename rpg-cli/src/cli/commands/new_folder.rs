//! A folder that appears whole or not at all.

use crate::failure::{AtPath, Failure};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder that is being written, under a hidden name beside its own. Without [`finish`](Self::finish) nothing is left.
#[derive(Debug)]
pub(super) struct NewFolder {
    out: PathBuf,
    partial: PathBuf,
}

impl NewFolder {
    /// Begins a folder that must not exist yet.
    pub(super) fn begin(out: &Path) -> Result<Self, Failure> {
        check_free(out)?;
        let Some(name) = out.file_name() else {
            return Err(Failure::input(format!(
                "{}: not the name of a folder",
                out.display()
            )));
        };
        let partial = out.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        if partial.exists() {
            fs::remove_dir_all(&partial).at(&partial)?;
        }
        fs::create_dir_all(&partial).at(&partial)?;
        Ok(Self {
            out: out.to_owned(),
            partial,
        })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives the folder its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        fs::rename(&self.partial, &self.out).at(&self.out)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // It has another name if it is finished.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

/// Refuses a path at which something is.
pub(super) fn check_free(out: &Path) -> Result<(), Failure> {
    if !out.exists() {
        return Ok(());
    }
    Err(Failure::input(format!("{}: already exists", out.display()))
        .hint("name a folder that does not exist yet"))
}
