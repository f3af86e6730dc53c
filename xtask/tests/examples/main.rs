//! The examples for clusters are what they claim to be: manifests that Kubernetes takes, and a script that Slurm takes.
//!
//! That `rpg` takes their command lines is tested with it: `rpg-cli/tests/cli/examples.rs`.

#[cfg(feature = "manifests")]
mod kubernetes;
mod slurm;

use std::path::Path;

/// The text of an example.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/examples")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
