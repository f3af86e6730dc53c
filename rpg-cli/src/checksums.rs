//! The checksums of the files of a folder, so that a damaged one is noticed before it is used.

use crate::failure::{AtPath, Failure};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Holds the checksum of every other file, by its path in the folder.
const CHECKSUMS: &str = "checksums.json";

/// How a checksum as text begins.
pub(crate) const KIND: &str = "xxh3";

/// Writes the checksums of all files of a folder into it.
pub(crate) fn write(folder: &Path) -> Result<(), Failure> {
    let mut sums = BTreeMap::new();
    add(folder, "", &mut sums)?;
    let path = folder.join(CHECKSUMS);
    let text = serde_json::to_string_pretty(&sums).map_err(Failure::internal)?;
    fs::write(&path, text + "\n").at(&path)
}

/// Refuses a folder with a file that differs from its checksum, or lacks. Without checksums, it is refused if they are
/// `needed`.
pub(crate) fn verify(folder: &Path, needed: bool) -> Result<(), Failure> {
    let path = folder.join(CHECKSUMS);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound && !needed => return Ok(()),
        read => read.at(&path)?,
    };
    let sums: BTreeMap<String, String> = serde_json::from_slice(&text)
        .map_err(|e| Failure::input(format!("{}: damaged: {e}", path.display())))?;
    for (name, expected) in sums {
        let path = folder.join(name);
        let found = of_file(&path)?;
        if found != expected {
            return Err(Failure::input(format!(
                "{}: damaged: its checksum is {found}; expected {expected}",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The checksum of some bytes as text.
pub(crate) fn as_text(hash: &Xxh3) -> String {
    format!("{KIND}:{:032x}", hash.digest128())
}

fn add(folder: &Path, prefix: &str, sums: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = format!("{prefix}{}", name.to_string_lossy());
        if path.is_dir() {
            add(&path, &format!("{name}/"), sums)?;
        } else {
            sums.insert(name, of_file(&path)?);
        }
    }
    Ok(())
}

fn of_file(path: &Path) -> Result<String, Failure> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).at(path)? {
            0 => return Ok(as_text(&hash)),
            n => hash.update(&buffer[..n]),
        }
    }
}
