//! Whether a folder has whole weights: a server that is told to load others may not survive it.

use safetensors::tensor::Metadata;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// No header is longer: the limit of the format.
const MAX_HEADER: u64 = 100_000_000;

/// Refuses a folder without safetensors files, and with one whose tensors do not end where the file does.
pub(super) fn check(folder: &Path) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut n_files = 0;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            check_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            n_files += 1;
        }
    }
    match n_files {
        0 => Err(format!("{} has no safetensors file", folder.display())),
        _ => Ok(()),
    }
}

fn check_file(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let n_bytes = file.metadata()?.len();
    let mut n_header = [0; 8];
    file.read_exact(&mut n_header)?;
    let n_header = u64::from_le_bytes(n_header);
    if n_header > MAX_HEADER {
        return Err(wrong(format!("a header of {n_header} bytes")));
    }
    let mut header = Vec::new();
    file.take(n_header).read_to_end(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let expected = 8 + n_header + metadata.data_len() as u64;
    if n_bytes != expected {
        return Err(wrong(format!(
            "found {n_bytes} bytes; its header says {expected}"
        )));
    }
    Ok(())
}

fn wrong(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
