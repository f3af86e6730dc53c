//! Data sets on the hub, by their Parquet files.
//!
//! A data set has configs, each of which has splits. Where they are is a convention on names of files: `CONFIG/SPLIT-00000-of-00002.parquet`,
//! in which the folder `data` stands for the config `default`, as `datasets` writes them, or `CONFIG/SPLIT/0000.parquet`, as
//! the hub itself does when it converts a data set of another form: it keeps the result as the revision `refs/convert/parquet`.

use super::{FetchError, IN_CACHE, Listing, MAIN, ON_HUB, Remote, Repository, is_name, listed};
use crate::data::files::is_named_as_problems;
use crate::failure::Failure;
use hf_hub::{Cache, RepoType};
use std::path::{Path, PathBuf};

/// The revision in which the hub keeps what it has converted to Parquet.
const CONVERTED: &str = "refs/convert/parquet";

/// The name of a data set's config where it has only one.
const DEFAULT: &str = "default";

/// A data set on the hub: `ORGANISATION/NAME`, `ORGANISATION/NAME:CONFIG:SPLIT`, of which either may be left out where there is
/// no choice, or a file of one, `ORGANISATION/NAME/FOLDER/FILE.parquet`; a revision follows the name, or the file: `@REVISION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct HubDataset {
    repo: String,
    revision: Option<String>,
    part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    File(String),
    /// The names of a config and a split, as far as they are given.
    Table(Vec<String>),
}

/// Why a name means no split: what there is, and how to name it.
struct NotChosen {
    problem: String,
    hint: String,
}

/// The files of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    config: String,
    split: String,
    files: Vec<String>,
}

impl HubDataset {
    pub(in crate::cli) fn parse(text: &str) -> Option<Self> {
        let (path, part) = match text.split_once(':') {
            Some((path, part)) => (path, Some(part)),
            None => (text, None),
        };
        let (path, revision) = match path.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (path, None),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let [organisation, name, file @ ..] = parts.as_slice() else {
            return None;
        };
        let names: Vec<&str> = part.into_iter().flat_map(|part| part.split(':')).collect();
        let is_data = is_named_as_problems(Path::new(path));
        let is_valid = (is_data != file.is_empty())
            && (file.is_empty() || names.is_empty())
            && names.len() <= 2
            && parts.iter().chain(&names).all(|part| is_name(part))
            && revision.is_none_or(|r| r.split('/').all(is_name));
        is_valid.then(|| Self {
            repo: format!("{organisation}/{name}"),
            revision: revision.map(str::to_owned),
            part: match file {
                [] => Part::Table(names.into_iter().map(str::to_owned).collect()),
                file => Part::File(file.join("/")),
            },
        })
    }

    fn repository(&self) -> Repository<'_> {
        Repository {
            name: &self.repo,
            kind: RepoType::Dataset,
        }
    }

    /// Where the files of a split may be.
    fn revisions(&self) -> Vec<&str> {
        match &self.revision {
            Some(revision) => vec![revision],
            None => vec![MAIN, CONVERTED],
        }
    }

    /// The files in the cache, downloaded if they are not there yet.
    pub(in crate::cli) fn fetch(&self) -> Result<Vec<PathBuf>, Failure> {
        self.repository().fetch(
            |cache| self.cached(cache),
            |remote| match &self.part {
                Part::File(file) => self.download_file(remote, file),
                Part::Table(names) => self.download_table(remote, names),
            },
        )
    }

    /// The files in the cache, if they are there. A failure says between which splits in the cache to choose.
    fn cached(&self, cache: &Cache) -> Option<Result<Vec<PathBuf>, Failure>> {
        let in_revision = |revision: &str| {
            let folder = self.repository().snapshot(cache, revision)?;
            let found = match &self.part {
                Part::File(file) => vec![file.clone()],
                Part::Table(names) => {
                    let tables = tables(&files_within(&folder));
                    if tables.is_empty() {
                        return None;
                    }
                    match self.chosen(&tables, names) {
                        Ok(table) => table.files.clone(),
                        Err(why) => return Some(Err(self.not_chosen(why, IN_CACHE))),
                    }
                }
            };
            let found: Vec<PathBuf> = found.iter().map(|file| folder.join(file)).collect();
            if found.iter().all(|file| file.is_file()) && has_all_shards(&found) {
                return Some(Ok(found));
            }
            match &self.part {
                Part::File(file) => {
                    let failure = self.no_file(file, &files_within(&folder), IN_CACHE);
                    Some(Err(failure.hint(
                        "to download it, unset HF_HUB_OFFLINE and see that the hub can be reached",
                    )))
                }
                Part::Table(_) => None,
            }
        };
        let mut found: Vec<_> = self
            .revisions()
            .into_iter()
            .filter_map(in_revision)
            .collect();
        // What one revision lacks another may have.
        match found.iter().position(Result::is_ok) {
            Some(place) => Some(found.swap_remove(place)),
            None => found.into_iter().next(),
        }
    }

    /// A file that is not among those of a revision.
    fn no_file(&self, file: &str, names: &[String], place: &str) -> Failure {
        let data = names.iter();
        let data: Vec<&String> = data
            .filter(|n| is_named_as_problems(Path::new(n)))
            .collect();
        let problem = format!(
            "there is no file {file}; its files of problems: {}",
            listed(&data)
        );
        self.repository().failure_at(place, &problem)
    }

    fn download_file(&self, remote: &Remote<'_>, file: &str) -> Result<Vec<PathBuf>, FetchError> {
        let revision = self.revision.as_deref().unwrap_or(MAIN);
        let listing = remote.list(revision)?;
        if !listing.names.iter().any(|name| name == file) {
            return Err(self.no_file(file, &listing.names, ON_HUB).into());
        }
        let folder = remote.download(revision, &listing, &[file])?;
        Ok(vec![folder.join(file)])
    }

    fn download_table(
        &self,
        remote: &Remote<'_>,
        names: &[String],
    ) -> Result<Vec<PathBuf>, FetchError> {
        let mut seen: Vec<Listing> = Vec::new();
        for revision in self.revisions() {
            let listing = match (remote.list(revision), seen.is_empty()) {
                // A data set of another form that the hub has not converted.
                (Err(FetchError::Refused(_)), false) => break,
                (listing, _) => listing?,
            };
            let tables = tables(&listing.names);
            if !tables.is_empty() {
                let chosen = self.chosen(&tables, names);
                let files = chosen
                    .map_err(|why| self.not_chosen(why, ON_HUB))?
                    .files
                    .iter();
                let files: Vec<&str> = files.map(String::as_str).collect();
                let folder = remote.download(revision, &listing, &files)?;
                return Ok(files.iter().map(|file| folder.join(file)).collect());
            }
            seen.push(listing);
        }
        let data = seen.iter().flat_map(|listing| &listing.names);
        let data: Vec<&String> = data
            .filter(|n| is_named_as_problems(Path::new(n)))
            .collect();
        let failure = self
            .repository()
            .failure("the data set has no Parquet files by the names of splits");
        Err(FetchError::Refused(match data.first() {
            Some(file) => failure.hint(format!(
                "it has {}; name one of these files, as in {}/{file}",
                listed(&data),
                self.repo
            )),
            None => failure,
        }))
    }

    /// The split that is meant.
    fn chosen<'a>(&self, tables: &'a [Table], names: &[String]) -> Result<&'a Table, NotChosen> {
        let configs = distinct(tables.iter().map(|table| table.config.as_str()));
        let is_config = |name: &String| configs.contains(&name.as_str());
        let (config, split) = match names {
            [] => (None, None),
            // One name is that of a config, if there is such a config.
            [name] if is_config(name) => (Some(name), None),
            [name] => (None, Some(name)),
            [config, split, ..] => (Some(config), Some(split)),
        };
        let config = match (config, &configs[..]) {
            (Some(config), _) if is_config(config) => config,
            (None, [only]) => *only,
            (None, configs) if configs.contains(&DEFAULT) => DEFAULT,
            (found, configs) => {
                return Err(self.choice("configs", found, configs, ":CONFIG:SPLIT"));
            }
        };
        let own: Vec<&Table> = tables
            .iter()
            .filter(|table| table.config == config)
            .collect();
        let splits: Vec<&str> = own.iter().map(|table| table.split.as_str()).collect();
        let found = match (split, &own[..]) {
            (None, [only]) => Some(*only),
            (Some(split), own) => own.iter().copied().find(|table| table.split == *split),
            (None, _) => None,
        };
        found.ok_or_else(|| self.choice("splits", split, &splits, &format!(":{config}:SPLIT")))
    }

    fn choice(&self, of: &str, found: Option<&String>, names: &[&str], form: &str) -> NotChosen {
        let shown = found.map_or_else(|| "none is named".into(), |name| format!("found {name}"));
        NotChosen {
            problem: format!("its {of} are {}; {shown}", listed(names)),
            hint: format!("name one of them, as in {}{form}", self.repo),
        }
    }

    /// The failure to choose among what there is at a place.
    fn not_chosen(&self, why: NotChosen, place: &str) -> Failure {
        let failure = self.repository().failure_at(place, &why.problem);
        failure.hint(why.hint)
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The splits whose files have these names.
fn tables(names: &[String]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    for name in sorted {
        let Some((config, split)) = table_of(name) else {
            continue;
        };
        let known = tables.iter_mut();
        match known
            .into_iter()
            .find(|t| t.config == config && t.split == split)
        {
            Some(table) => table.files.push(name.clone()),
            None => tables.push(Table {
                config: config.into(),
                split: split.into(),
                files: vec![name.clone()],
            }),
        }
    }
    tables
}

/// The config and the split of a file.
fn table_of(name: &str) -> Option<(&str, &str)> {
    let stem = name.strip_suffix(".parquet")?;
    let parts: Vec<&str> = stem.split('/').collect();
    let config = |folder| if folder == "data" { DEFAULT } else { folder };
    match parts.as_slice() {
        [config, split, number] if is_number(number) => Some((config, split)),
        [file] => Some((DEFAULT, shard(file)?.0)),
        [folder, file] => Some((config(folder), shard(file)?.0)),
        _ => None,
    }
}

/// The split and the number of all shards in `SPLIT-00000-of-00002`, which a hash may follow.
fn shard(stem: &str) -> Option<(&str, usize)> {
    let (before, after) = stem.split_once("-of-")?;
    let (split, number) = before.rsplit_once('-')?;
    let all = after.split('-').next()?;
    (is_number(number) && is_number(all)).then_some((split, all.parse().ok()?))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether files of a split that say how many there are, are all there.
fn has_all_shards(files: &[PathBuf]) -> bool {
    let stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
    let mut counts = stems.filter_map(|stem| Some(shard(stem)?.1));
    counts.all(|all| all == files.len())
}

/// The files in a folder and the folders in it, by their names from there.
fn files_within(folder: &Path) -> Vec<String> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut found = Vec::new();
    let mut open = entries(folder);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(entries(&path));
        } else if let Ok(name) = path.strip_prefix(folder) {
            found.push(name.to_string_lossy().replace('\\', "/"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(repo: &str, revision: Option<&str>, names: &[&str]) -> Option<HubDataset> {
        Some(HubDataset {
            repo: repo.into(),
            revision: revision.map(str::to_owned),
            part: Part::Table(owned(names)),
        })
    }

    fn file(repo: &str, revision: Option<&str>, file: &str) -> Option<HubDataset> {
        Some(HubDataset {
            repo: repo.into(),
            revision: revision.map(str::to_owned),
            part: Part::File(file.into()),
        })
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_of_data_sets_are_parsed() {
        for (text, expected) in [
            ("openai/gsm8k", table("openai/gsm8k", None, &[])),
            ("openai/gsm8k:main", table("openai/gsm8k", None, &["main"])),
            (
                "openai/gsm8k:main:test",
                table("openai/gsm8k", None, &["main", "test"]),
            ),
            ("a/b@v1.0:test", table("a/b", Some("v1.0"), &["test"])),
            ("a/b@refs/pr/3", table("a/b", Some("refs/pr/3"), &[])),
            ("a/b/data/c.parquet", file("a/b", None, "data/c.parquet")),
            ("a/b/c.jsonl@1f2e", file("a/b", Some("1f2e"), "c.jsonl")),
            // Files that are not there.
            ("data/train.jsonl", None),
            ("data/train.jsonl.gz", None),
            ("gsm8k", None),
            ("./a/b", None),
            ("/a/b", None),
            ("a/b/c", None),
            ("a/b/../c.parquet", None),
            ("a/b:c:d:e", None),
            ("a/b:", None),
            ("a/b/c.parquet:main", None),
            ("a/b@", None),
        ] {
            assert_eq!(HubDataset::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn splits_are_found_by_the_names_of_their_files() {
        let names = owned(&[
            "README.md",
            "main/train-00001-of-00002.parquet",
            "main/train-00000-of-00002.parquet",
            "main/test-00000-of-00001-8f3a.parquet",
            "data/a-b-00000-of-00001.parquet",
            "x/train/0000.parquet",
            "x/train/0001.parquet",
            "train-00000-of-00001.parquet",
            "data/dapo-math-17k.parquet",
            "x/y/z/0000.parquet",
            "main/train-00000-of-00001.jsonl",
        ]);
        let found = tables(&names);
        let found: Vec<(&str, &str, usize)> = found
            .iter()
            .map(|t| (&*t.config, &*t.split, t.files.len()))
            .collect();
        let expected = [
            ("default", "a-b", 1),
            ("main", "test", 1),
            ("main", "train", 2),
            ("default", "train", 1),
            ("x", "train", 2),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_split_must_be_named_where_there_is_a_choice() {
        let gsm8k = tables(&owned(&[
            "main/train-00000-of-00001.parquet",
            "main/test-00000-of-00001.parquet",
            "socratic/train-00000-of-00001.parquet",
        ]));
        let own = tables(&owned(&[
            "data/train-00000-of-00001.parquet",
            "more/test-00000-of-00001.parquet",
        ]));
        for (tables, names, expected) in [
            (
                &gsm8k,
                "a/b:main:test",
                Ok("main/test-00000-of-00001.parquet"),
            ),
            (
                &gsm8k,
                "a/b:socratic",
                Ok("socratic/train-00000-of-00001.parquet"),
            ),
            (
                &gsm8k,
                "a/b",
                Err("its configs are main, socratic; none is named"),
            ),
            (
                &gsm8k,
                "a/b:none",
                Err("its configs are main, socratic; none is named"),
            ),
            (
                &gsm8k,
                "a/b:no:test",
                Err("its configs are main, socratic; found no"),
            ),
            (
                &gsm8k,
                "a/b:main",
                Err("its splits are test, train; none is named"),
            ),
            (
                &gsm8k,
                "a/b:main:dev",
                Err("its splits are test, train; found dev"),
            ),
            (&own, "a/b", Ok("data/train-00000-of-00001.parquet")),
            (&own, "a/b:train", Ok("data/train-00000-of-00001.parquet")),
            (&own, "a/b:test", Err("its splits are train; found test")),
            (
                &own,
                "a/b:more:test",
                Ok("more/test-00000-of-00001.parquet"),
            ),
        ] {
            let hub = HubDataset::parse(names).unwrap();
            let Part::Table(given) = &hub.part else {
                panic!("a table")
            };
            match (hub.chosen(tables, given), expected) {
                (Ok(table), Ok(file)) => assert_eq!(table.files, [file], "{names}"),
                (Err(why), Err(message)) => {
                    assert!(why.problem.contains(message), "{names}: {}", why.problem);
                    assert!(why.hint.contains("as in a/b:"), "{names}");
                }
                _ => panic!("{names}"),
            }
        }
    }
}
