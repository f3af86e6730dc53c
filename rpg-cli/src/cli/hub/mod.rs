//! Models and data sets on the Hugging Face hub, through the same cache as Python's `huggingface_hub`.
//!
//! The same variables configure it: `HF_HUB_CACHE` and `HF_HOME` (where the cache is), `HF_ENDPOINT` (a mirror),
//! `HF_TOKEN` (for gated and private repositories) and `HF_HUB_OFFLINE` (use the cache alone).

mod dataset;
mod model;

pub(super) use dataset::HubDataset;
pub(super) use model::HubModel;

use crate::cli::say::say;
use crate::failure::Failure;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use std::env;
use std::path::PathBuf;

/// The revision that a name without one means.
const MAIN: &str = "main";

/// A repository of the hub.
#[derive(Debug, Clone, Copy)]
struct Repository<'a> {
    /// `ORGANISATION/NAME`.
    name: &'a str,
    kind: RepoType,
}

/// Why something cannot be fetched.
enum FetchError {
    /// There was no usable answer: what is in the cache will do.
    Unreachable(String),
    /// The answer was a refusal, which the user must see.
    Refused(Failure),
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Repository<'_> {
    /// What the repository is.
    fn what(&self) -> &'static str {
        match self.kind {
            RepoType::Dataset => "data set",
            RepoType::Model | RepoType::Space => "model",
        }
    }

    /// What `download` makes of the hub's answers, or `cached` of the cache where there are none: `None` if it isn't there.
    fn fetch<T>(
        &self,
        cached: impl Fn(&Cache) -> Option<Result<T, Failure>>,
        download: impl FnOnce(&Remote<'_>) -> Result<T, FetchError>,
    ) -> Result<T, Failure> {
        let cache = Cache::new(cache_folder()?);
        if env::var("HF_HUB_OFFLINE").is_ok_and(|v| is_true(&v)) {
            return cached(&cache).unwrap_or_else(|| {
                let problem = format!(
                    "not in the cache {}, and HF_HUB_OFFLINE is set",
                    cache.path().display()
                );
                let failure = self.failure(&problem);
                Err(failure.hint("unset HF_HUB_OFFLINE to download it"))
            });
        }
        let downloaded = self.remote(&cache).and_then(|remote| download(&remote));
        let why = match downloaded {
            Ok(found) => return Ok(found),
            Err(FetchError::Refused(failure)) => return Err(failure),
            Err(FetchError::Unreachable(why)) => why,
        };
        match cached(&cache) {
            Some(found) => {
                say!(
                    "note: the hub cannot be reached ({why}); using {} from the cache",
                    self.name
                );
                found
            }
            None => {
                let own = match self.kind {
                    RepoType::Dataset => "a file",
                    RepoType::Model | RepoType::Space => "a folder or a .gguf file",
                };
                let failure = self.failure(&format!("{} cannot be reached: {why}", endpoint()));
                Err(failure.hint(format!(
                    "give {own} on this machine, or set HF_ENDPOINT to a mirror or HF_HOME to another cache"
                )))
            }
        }
    }

    fn failure(&self, problem: &str) -> Failure {
        self.failure_at(ON_HUB, problem)
    }

    /// A failure at one of the places where the repository may be.
    fn failure_at(&self, place: &str, problem: &str) -> Failure {
        Failure::input(format!(
            "{}: no such folder or file on this machine; {place}: {problem}",
            self.name
        ))
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.to_owned(), self.kind, revision.to_owned())
    }

    /// The folder of a revision in the cache, if it is there.
    fn snapshot(&self, cache: &Cache, revision: &str) -> Option<PathBuf> {
        let cached = cache.repo(self.at(revision));
        // A revision may also be a commit.
        let by_commit = || Some(cached.pointer_path(revision));
        let folder = cached.get(".").or_else(by_commit)?;
        folder.is_dir().then_some(folder)
    }

    fn remote<'a>(&'a self, cache: &'a Cache) -> Result<Remote<'a>, FetchError> {
        let token = env::var("HF_TOKEN").ok().or_else(|| cache.token());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(endpoint())
            .with_token(token.filter(|token| !token.is_empty()))
            .with_retries(3)
            .with_user_agent("rpg", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| self.fetch_error(error))?;
        Ok(Remote {
            repository: self,
            cache,
            api,
        })
    }

    /// What an error means for the user.
    fn fetch_error(&self, error: ApiError) -> FetchError {
        let what = self.what();
        let refused = |problem: String, hint: &str| {
            let problem = format!("{} answered {problem}", endpoint());
            FetchError::Refused(self.failure(&problem).hint(hint))
        };
        match &error {
            ApiError::RequestError(request) => match **request {
                // The hub gives the same answer for a name that does not exist.
                ureq::Error::StatusCode(code @ (401 | 403)) => refused(
                    format!("{code}: there is no such {what}, or you have no access to it"),
                    match self.kind {
                        RepoType::Dataset => {
                            "check the name; for a gated or private data set set HF_TOKEN"
                        }
                        _ => "check the name; for a gated or private model set HF_TOKEN",
                    },
                ),
                ureq::Error::StatusCode(404) => refused(
                    format!("404: there is no such {what}, revision or file"),
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

/// Where a repository may be.
const ON_HUB: &str = "on the Hugging Face hub";
const IN_CACHE: &str = "in the cache of the Hugging Face hub";

/// A repository on a hub that may answer.
struct Remote<'a> {
    repository: &'a Repository<'a>,
    cache: &'a Cache,
    api: Api,
}

/// The files of a revision on the hub.
struct Listing {
    /// The commit.
    commit: String,
    names: Vec<String>,
}

impl Remote<'_> {
    fn list(&self, revision: &str) -> Result<Listing, FetchError> {
        let info = self.api.repo(self.repository.at(revision)).info();
        let info = info.map_err(|error| self.repository.fetch_error(error))?;
        Ok(Listing {
            commit: info.sha,
            names: info.siblings.into_iter().map(|f| f.rfilename).collect(),
        })
    }

    /// Fetches files of a revision that are not in the cache yet. Returns the folder that they are in.
    fn download(
        &self,
        revision: &str,
        listing: &Listing,
        names: &[&str],
    ) -> Result<PathBuf, FetchError> {
        let repo = || self.repository.at(revision);
        let remote = self.api.repo(repo());
        let folder = self.cache.repo(repo()).pointer_path(&listing.commit);
        for name in names {
            if folder.join(name).is_file() {
                continue;
            }
            say!("fetching {}/{name}", self.repository.name);
            remote
                .download(name)
                .map_err(|error| self.repository.fetch_error(error))?;
        }
        Ok(folder)
    }
}

/// Whether a part of a name on the hub may be one.
fn is_name(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(allowed)
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

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => "none".into(),
        names => names
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
