//! Models on the hub.

use super::{FetchError, MAIN, Repository, is_name, listed};
use crate::failure::Failure;
use crate::models::is_gguf;
use hf_hub::{Cache, RepoType};
use rpg_core::tokenizer::FILES;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";

const INDEX: &str = "model.safetensors.index.json";

/// A model on the hub: `ORGANISATION/NAME`, `ORGANISATION/NAME@REVISION` or `ORGANISATION/NAME/FILE.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct HubModel {
    repo: String,
    revision: String,
    gguf: Option<String>,
}

impl HubModel {
    pub(in crate::cli) fn parse(text: &str) -> Option<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let parts: Vec<&str> = path.split('/').collect();
        let (repo, gguf) = match parts.as_slice() {
            [organisation, name] => (format!("{organisation}/{name}"), None),
            [organisation, name, file] if is_gguf(Path::new(file)) => {
                (format!("{organisation}/{name}"), Some((*file).to_owned()))
            }
            _ => return None,
        };
        let is_valid = parts.iter().all(|part| is_name(part)) && is_name(revision);
        is_valid.then(|| Self {
            repo,
            revision: revision.into(),
            gguf,
        })
    }

    fn repository(&self) -> Repository<'_> {
        Repository {
            name: &self.repo,
            kind: RepoType::Model,
        }
    }

    /// The model's folder or file in the cache, downloaded if it is not there yet.
    pub(in crate::cli) fn fetch(&self) -> Result<PathBuf, Failure> {
        self.repository().fetch(
            |cache| self.cached(cache).map(Ok),
            |remote| {
                let listing = remote.list(&self.revision)?;
                let wanted = self.wanted(&listing.names)?;
                let folder = remote.download(&self.revision, &listing, &wanted)?;
                Ok(self.within(folder))
            },
        )
    }

    /// The model in the folder of its revision.
    fn within(&self, folder: PathBuf) -> PathBuf {
        match &self.gguf {
            Some(file) => folder.join(file),
            None => folder,
        }
    }

    /// This revision in the cache, if it is there.
    fn cached(&self, cache: &Cache) -> Option<PathBuf> {
        let folder = self.repository().snapshot(cache, &self.revision)?;
        let marker = self.gguf.as_deref().unwrap_or(CONFIG);
        let is_there = folder.join(marker).is_file();
        is_there.then(|| self.within(folder))
    }

    /// Which of the model's files to fetch.
    fn wanted<'a>(&self, names: &'a [String]) -> Result<Vec<&'a str>, FetchError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let has = |wanted: &str| names.contains(&wanted);
        let ggufs: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| is_gguf(Path::new(name)) && !name.contains('/'))
            .collect();
        if let Some(file) = &self.gguf {
            let found = ggufs.iter().copied().find(|name| name == file);
            return found.map(|name| vec![name]).ok_or_else(|| {
                let what = format!(
                    "the model has no file {file}; its GGUF files: {}",
                    listed(&ggufs)
                );
                FetchError::Refused(self.repository().failure(&what))
            });
        }
        let is_weights: fn(&str) -> bool = match (has("model.safetensors"), has(INDEX)) {
            (true, _) => |name| name == "model.safetensors",
            (false, true) => |name| {
                let shard = name.starts_with("model-") && name.ends_with(".safetensors");
                name == INDEX || shard
            },
            (false, false) => {
                let repository = self.repository();
                let failure = repository.failure("the model has no safetensors weights");
                return Err(FetchError::Refused(match ggufs.first() {
                    Some(file) => failure.hint(format!(
                        "it has {}; name one of these files, as in {}/{file}",
                        listed(&ggufs),
                        self.repo
                    )),
                    None => failure,
                }));
            }
        };
        // What a model folder may contain besides weights.
        let is_config = |name: &str| [CONFIG, "generation_config.json"].contains(&name);
        let is_wanted = |name: &&str| is_config(name) || FILES.contains(name) || is_weights(name);
        Ok(names.iter().copied().filter(is_wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(repo: &str, revision: &str, gguf: Option<&str>) -> Option<HubModel> {
        Some(HubModel {
            repo: repo.into(),
            revision: revision.into(),
            gguf: gguf.map(str::to_owned),
        })
    }

    #[test]
    fn names_on_the_hub_are_parsed() {
        let rows = [
            (
                "Qwen/Qwen2.5-0.5B",
                model("Qwen/Qwen2.5-0.5B", "main", None),
            ),
            ("a/b@v1.0", model("a/b", "v1.0", None)),
            (
                "a/b/c-Q4_K_M.gguf",
                model("a/b", "main", Some("c-Q4_K_M.gguf")),
            ),
            ("a/b/c.gguf@1f2e", model("a/b", "1f2e", Some("c.gguf"))),
            ("gpt2", None),
            ("./a/b", None),
            ("../b", None),
            ("/a/b", None),
            ("a/b/c", None),
            ("a/../b.gguf", None),
            ("a//b.gguf", None),
            ("a/b@", None),
            ("a b/c", None),
        ];
        for (text, expected) in rows {
            assert_eq!(HubModel::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn only_the_files_that_are_needed_are_fetched() {
        let hub = HubModel::parse("a/b").unwrap();
        let owned = |names: &[&str]| -> Vec<String> { names.iter().map(|&n| n.into()).collect() };
        let wanted = |names: &[&str]| match hub.wanted(&owned(names)) {
            Ok(names) => names.join(" "),
            Err(FetchError::Refused(failure)) => failure.hint.unwrap_or(failure.message),
            Err(FetchError::Unreachable(why)) => why,
        };
        assert_eq!(
            wanted(&[
                "README.md",
                "config.json",
                "model.safetensors",
                "model-00001-of-00002.safetensors",
                "pytorch_model.bin"
            ]),
            "config.json model.safetensors"
        );
        assert_eq!(
            wanted(&[
                "tokenizer.json",
                INDEX,
                "model-00001-of-00002.safetensors",
                "original/model-1.safetensors"
            ]),
            "tokenizer.json model.safetensors.index.json model-00001-of-00002.safetensors"
        );
        assert_eq!(
            wanted(&["x.gguf", "y.gguf"]),
            "it has x.gguf, y.gguf; name one of these files, as in a/b/x.gguf"
        );
        assert!(wanted(&["pytorch_model.bin"]).ends_with("the model has no safetensors weights"));
    }
}
