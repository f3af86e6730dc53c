//! Rules of the house that a program can check.

use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code, tests aside, beyond which a file is two files.
const MAX_LINES: usize = 520;

/// Each crate and those of ours that it may depend on.
const EDGES: [(&str, &[&str]); 6] = [
    ("rpg-core", &[]),
    ("rpg-losses", &[]),
    ("rpg-reward", &[]),
    ("rpg-rollout", &["rpg-core"]),
    (
        "rpg-cli",
        &["rpg-core", "rpg-losses", "rpg-reward", "rpg-rollout"],
    ),
    ("xtask", &[]),
];

/// Lists every breach and fails if there is one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let breaches = breaches(root)?;
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    match breaches.len() {
        0 => Ok(()),
        n => bail!("{n} breaches of the rules of the house"),
    }
}

fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, allowed) in EDGES {
        let manifest = fs::read_to_string(root.join(name).join("Cargo.toml"))?;
        found.extend(wrong_edges(name, allowed, &manifest));
        for path in rust_files(&root.join(name).join("src"))? {
            let text = fs::read_to_string(&path)?;
            let shown = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            found.extend(too_long(&shown, &text));
            found.extend(no_module_doc(&shown, &text));
        }
    }
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    if map.lines().count() > 200 {
        found.push("ARCHITECTURE.md has more than 200 lines".into());
    }
    Ok(found)
}

fn wrong_edges(name: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    let dependencies = manifest.lines().filter_map(|line| {
        let end = line.find(['.', ' ', '='])?;
        line[..end]
            .starts_with("rpg-")
            .then(|| line[..end].to_owned())
    });
    dependencies
        .filter(|dependency| !allowed.contains(&dependency.as_str()))
        .map(|dependency| format!("{name} must not depend on {dependency}"))
        .collect()
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let n = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count();
    (n > MAX_LINES).then(|| format!("{path} has {n} lines before its tests: it is two files"))
}

fn no_module_doc(path: &str, text: &str) -> Option<String> {
    let documented = text.starts_with("//!") || text.starts_with("#!");
    (!documented).then(|| format!("{path} does not begin by saying what it is"))
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_keeps_the_rules() {
        let found = breaches(&crate::root()).unwrap();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn breaches_are_found() {
        let manifest = "[dependencies]\nrpg-core.workspace = true\nserde.workspace = true\n";
        assert_eq!(wrong_edges("rpg-losses", &[], manifest).len(), 1);
        assert!(wrong_edges("rpg-rollout", &["rpg-core"], manifest).is_empty());
        let long = "//! x\n".repeat(MAX_LINES + 1);
        assert!(too_long("a.rs", &long).is_some());
        assert!(too_long("a.rs", &format!("//! x\n#[cfg(test)]\n{long}")).is_none());
        assert!(no_module_doc("a.rs", "fn main() {}").is_some());
    }
}
