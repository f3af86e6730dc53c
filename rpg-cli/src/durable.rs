//! Files and folders that appear whole or not at all: they are written under another name, synced and renamed.

use crate::checksums;
use crate::failure::{AtPath, Failure};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How the temporary name of a file that is being written begins.
pub(crate) const TEMPORARY: &str = ".new-";

/// A folder that is being written.
pub(crate) const PARTIAL: &str = ".partial";

/// A folder that is being replaced by another of the same name: this, then its name.
const REPLACED: &str = ".replaced-";

/// Writes a whole file: under another name first, so that whoever reads it sees the old one or the new one.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(
            Failure::input(format!("{}: there is no such folder", parent.display())).hint(format!(
                "make it, or choose another place for {}",
                path.display()
            )),
        );
    }
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(parent)
        .at(path)?;
    temporary.write_all(bytes).at(path)?;
    temporary.as_file().sync_all().at(path)?;
    temporary.persist(path).map_err(|e| e.error).at(path)?;
    // Temporary files are private to the user; a run may be read by others.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).at(path)?;
    }
    sync_folder(parent)
}

/// Makes a folder and those above it, unless they are there.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = fs::create_dir_all(path).at(path);
    made.map_err(|mut failure| {
        failure.message = format!("the folder cannot be made: {}", failure.message);
        failure
    })
}

/// Writes a folder under a temporary name, with checksums, and renames it. Nothing is left of one that could not be
/// written whole.
pub(crate) fn write_folder(
    parent: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    let target = parent.join(name);
    let partial = parent.join(PARTIAL);
    remove_folder(&partial)?;
    make_folder(parent)?;
    let written = fs::create_dir(&partial)
        .at(&partial)
        .and_then(|()| write(&partial))
        .and_then(|()| checksums::write(&partial))
        .and_then(|()| sync_all(&partial));
    if written.is_err() {
        // The first error is the one to report.
        let _ = remove_folder(&partial);
    }
    written?;
    if target.exists() {
        // The old folder is first moved to a name from which it can be taken back.
        let old = parent.join(format!("{REPLACED}{name}"));
        remove_folder(&old)?;
        fs::rename(&target, &old).at(&target)?;
        fs::rename(&partial, &target).at(&target)?;
        fs::remove_dir_all(&old).at(&old)?;
    } else {
        fs::rename(&partial, &target).at(&target)?;
    }
    sync_folder(parent)?;
    Ok(target)
}

/// Puts back what was to be replaced by something that did not come to its end.
pub(crate) fn recover_replaced(parent: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(parent).at(parent)? {
        let path = entry.at(parent)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_prefix(REPLACED) else {
            continue;
        };
        let target = parent.join(name);
        if target.exists() {
            fs::remove_dir_all(&path).at(&path)?;
        } else {
            fs::rename(&path, &target).at(&path)?;
        }
    }
    Ok(())
}

/// Removes a folder, which need not exist.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.at(path),
    }
}

/// Syncs a folder and everything in it.
fn sync_all(folder: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .at(&path)?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(path: &Path) -> Result<(), Failure> {
    // A rename survives a power failure only if the folder is synced; not every system allows that.
    #[cfg(unix)]
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .at(path)?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
