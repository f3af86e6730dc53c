//! Models on the Hugging Face hub, through the same cache as Python's `huggingface_hub`.
//!
//! The same variables configure it: `HF_HUB_CACHE` and `HF_HOME` (where the cache is), `HF_ENDPOINT` (a mirror),
//! `HF_TOKEN` (for gated and private models) and `HF_HUB_OFFLINE` (use the cache alone).

use crate::cli::say::say;
use crate::failure::Failure;
use crate::models::is_gguf;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use rpg_core::tokenizer::FILES;
use std::env;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";

const INDEX: &str = "model.safetensors.index.json";

/// A model on the hub: `ORGANISATION/NAME`, `ORGANISATION/NAME@REVISION` or `ORGANISATION/NAME/FILE.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubModel {
    repo: String,
    revision: String,
    gguf: Option<String>,
}

impl HubModel {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_name = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(allowed)
        };
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

    /// The model's folder or file in the cache, downloaded if it is not there yet.
    pub(super) fn fetch(&self) -> Result<PathBuf, Failure> {
        let cache = Cache::new(cache_folder()?);
        let cached = self.cached(&cache);
        if env::var("HF_HUB_OFFLINE").is_ok_and(|v| is_true(&v)) {
            return cached.ok_or_else(|| {
                self.failure(&format!(
                    "not in the cache {}, and HF_HUB_OFFLINE is set",
                    cache.path().display()
                ))
                .hint("unset HF_HUB_OFFLINE to download it")
            });
        }
        match (self.download(&cache), cached) {
            (Ok(path), _) => Ok(path),
            (Err(FetchError::Unreachable(why)), Some(path)) => {
                say!(
                    "note: the hub cannot be reached ({why}); using {} from the cache",
                    self.repo
                );
                Ok(path)
            }
            (Err(FetchError::Unreachable(why)), None) => Err(self
                .failure(&format!("{} cannot be reached: {why}", endpoint()))
                .hint(
                    "give a folder or a .gguf file on this machine, or set HF_ENDPOINT to a mirror or HF_HOME to \
                     another cache",
                )),
            (Err(FetchError::Refused(failure)), _) => Err(failure),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::input(format!(
            "{}: no such folder or file on this machine; on the Hugging Face hub: {what}",
            self.repo
        ))
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }

    /// This revision in the cache, if it is there.
    fn cached(&self, cache: &Cache) -> Option<PathBuf> {
        let cached = cache.repo(self.repo());
        let marker = self.gguf.as_deref().unwrap_or(CONFIG);
        let by_name = cached.get(marker);
        // A revision may also be a commit.
        let by_commit = || Some(cached.pointer_path(&self.revision).join(marker));
        let file = by_name.or_else(by_commit).filter(|path| path.is_file())?;
        match self.gguf {
            Some(_) => Some(file),
            None => file.parent().map(Path::to_owned),
        }
    }

    fn download(&self, cache: &Cache) -> Result<PathBuf, FetchError> {
        let api = self.api(cache)?;
        let remote = api.repo(self.repo());
        let info = remote.info().map_err(|error| self.fetch_error(error))?;
        let names: Vec<&str> = info.siblings.iter().map(|f| f.rfilename.as_str()).collect();
        let folder = cache.repo(self.repo()).pointer_path(&info.sha);
        for name in self.wanted(&names)? {
            if folder.join(name).is_file() {
                continue;
            }
            say!("fetching {}/{name}", self.repo);
            remote
                .download(name)
                .map_err(|error| self.fetch_error(error))?;
        }
        Ok(match &self.gguf {
            Some(file) => folder.join(file),
            None => folder,
        })
    }

    fn api(&self, cache: &Cache) -> Result<Api, FetchError> {
        let token = env::var("HF_TOKEN").ok().or_else(|| cache.token());
        ApiBuilder::from_cache(cache.clone())
            .with_endpoint(endpoint())
            .with_token(token.filter(|token| !token.is_empty()))
            .with_retries(3)
            .with_user_agent("rpg", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| self.fetch_error(error))
    }

    /// Which of the model's files to fetch.
    fn wanted<'a>(&self, names: &[&'a str]) -> Result<Vec<&'a str>, FetchError> {
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
                FetchError::Refused(self.failure(&what))
            });
        }
        let is_weights: fn(&str) -> bool = match (has("model.safetensors"), has(INDEX)) {
            (true, _) => |name| name == "model.safetensors",
            (false, true) => |name| {
                let shard = name.starts_with("model-") && name.ends_with(".safetensors");
                name == INDEX || shard
            },
            (false, false) => {
                let failure = self.failure("the model has no safetensors weights");
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

    /// What an error means for the user.
    fn fetch_error(&self, error: ApiError) -> FetchError {
        let refused = |what: &str, hint: &str| {
            FetchError::Refused(
                self.failure(&format!("{} answered {what}", endpoint()))
                    .hint(hint),
            )
        };
        match &error {
            ApiError::RequestError(request) => match **request {
                // The hub gives the same answer for a name that does not exist.
                ureq::Error::StatusCode(code @ (401 | 403)) => refused(
                    &format!("{code}: there is no such model, or you have no access to it"),
                    "check the name; for a gated or private model set HF_TOKEN",
                ),
                ureq::Error::StatusCode(404) => refused(
                    "404: there is no such model, revision or file",
                    "check the name and the revision",
                ),
                _ => FetchError::Unreachable(error.to_string()),
            },
            ApiError::IoError(_) | ApiError::LockAcquisition(_) => {
                FetchError::Refused(self.failure(&format!("the cache cannot be written: {error}")))
            }
            _ => FetchError::Unreachable(error.to_string()),
        }
    }
}

/// Why a model cannot be fetched.
enum FetchError {
    /// There was no usable answer: a cached model will do.
    Unreachable(String),
    /// The answer was a refusal, which the user must see.
    Refused(Failure),
}

fn endpoint() -> String {
    let given = env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
    let endpoint = given.unwrap_or_else(|| "https://huggingface.co".into());
    endpoint.trim_end_matches('/').into()
}

fn cache_folder() -> Result<PathBuf, Failure> {
    let folder = |variable: &str| {
        env::var_os(variable)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache/huggingface/hub")))
        .ok_or_else(|| {
            Failure::input("no home folder was found for the Hugging Face cache")
                .hint("set HF_HOME")
        })
}

fn is_true(text: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&text.to_ascii_lowercase().as_str())
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".into(),
        names => names.join(", "),
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
        let wanted = |names: &[&'static str]| match hub.wanted(names) {
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
