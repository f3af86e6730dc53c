//! Which files problems come from, and the worked examples before every question.

use super::keys::{ConfigType, Values, config_section};
use super::values::Positive;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

config_section! {
    /// One of the files of problems.
    pub struct DataFile {
        /// The file, a folder or a pattern of files, or the name of a data set.
        path: PathBuf,
        /// How many of the prompts of a run come from it, relative to the weights of the other files. Without weights,
        /// all problems of all files are equally likely.
        weight: Option<Positive> = None,
        /// The source of its problems, by which metrics are reported, where their rows name none. Without it, the name of
        /// the file or the data set.
        source: Option<String> = None,
    }
}

impl From<&Path> for DataFile {
    fn from(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            weight: None,
            source: None,
        }
    }
}

/// Files of problems, at least one: a config has a path, a table `{ path, weight, source }`, or a list of both.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFiles(Vec<DataFile>);

impl DataFiles {
    /// The files, in the order of the config.
    pub fn iter(&self) -> impl Iterator<Item = &DataFile> {
        self.0.iter()
    }
}

impl From<&Path> for DataFiles {
    fn from(path: &Path) -> Self {
        Self(vec![path.into()])
    }
}

impl ConfigType for DataFiles {
    fn values() -> Values {
        Values::Plain("a path, `{ path, weight, source }`, or a list of both".into())
    }
}

impl Serialize for DataFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [file] => Shortest(file).serialize(serializer),
            files => serializer.collect_seq(files.iter().map(Shortest)),
        }
    }
}

/// A file without weight and source is written as its path.
struct Shortest<'a>(&'a DataFile);

impl Serialize for Shortest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            DataFile {
                path,
                weight: None,
                source: None,
            } => path.serialize(serializer),
            file => file.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DataFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FilesVisitor)
    }
}

struct FilesVisitor;

impl<'de> Visitor<'de> for FilesVisitor {
    type Value = DataFiles;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a path, a table with `path`, or a list of both")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<DataFiles, E> {
        FileVisitor
            .visit_str(path)
            .map(|file| DataFiles(vec![file]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DataFiles, A::Error> {
        FileVisitor.visit_map(map).map(|file| DataFiles(vec![file]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<DataFiles, A::Error> {
        let mut files = Vec::new();
        while let Some(PathOrTable(file)) = list.next_element()? {
            files.push(file);
        }
        let weights = files.iter().filter(|file| file.weight.is_some()).count();
        if files.is_empty() {
            return Err(A::Error::custom("found []; expected at least one file"));
        }
        match files.iter().find(|file| file.weight.is_none()) {
            Some(file) if weights > 0 => Err(A::Error::custom(format!(
                "found no weight for {}; expected a weight for every file, or for none",
                file.path.display()
            ))),
            _ => Ok(DataFiles(files)),
        }
    }
}

struct PathOrTable(DataFile);

impl<'de> Deserialize<'de> for PathOrTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FileVisitor).map(Self)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = DataFile;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a path, or a table with `path`")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<DataFile, E> {
        Ok(Path::new(path).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DataFile, A::Error> {
        DataFile::deserialize(MapAccessDeserializer::new(map))
    }
}

config_section! {
    /// A worked example: two turns of the chat before the question.
    pub struct Example {
        /// The question.
        question: String,
        /// The answer, in the form in which the model is to give its own.
        answer: String,
    }
}

/// Worked examples, in the order of the chat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Examples(pub Vec<Example>);

impl ConfigType for Examples {
    fn values() -> Values {
        Values::Plain("a list of `{ question, answer }`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Section {
        train: DataFiles,
    }

    fn read(text: &str) -> Result<Section, String> {
        let table: toml::Table = text.parse().map_err(|e| format!("{e}"))?;
        serde_path_to_error::deserialize(table)
            .map_err(|e| format!("{}: {}", e.path(), e.inner().message().trim()))
    }

    #[test]
    fn every_way_to_name_files_is_read_and_written() {
        for (text, written) in [
            ("train = 'a'", "train = \"a\"\n"),
            ("train = { path = 'a' }", "train = \"a\"\n"),
            ("train = ['a']", "train = \"a\"\n"),
            ("train = ['a', 'b']", "train = [\"a\", \"b\"]\n"),
            (
                "train = ['a', { path = 'b', source = 's' }]",
                "train = [\"a\", { path = \"b\", source = \"s\" }]\n",
            ),
            (
                "train = [{ path = 'a', weight = 1.0 }, { path = 'b', weight = 3.0 }]",
                "[[train]]\npath = \"a\"\nweight = 1.0\n\n[[train]]\npath = \"b\"\nweight = 3.0\n",
            ),
            (
                "[train]\npath = 'a'\nweight = 2.0",
                "[train]\npath = \"a\"\nweight = 2.0\n",
            ),
        ] {
            let section = read(text).expect(text);
            assert_eq!(toml::to_string(&section).unwrap(), written);
            assert_eq!(read(written).unwrap(), section);
        }
    }

    #[test]
    fn what_names_no_files_is_refused() {
        for (text, message) in [
            ("train = []", "train: found []; expected at least one file"),
            (
                "train = 3",
                "expected a path, a table with `path`, or a list",
            ),
            (
                "train = [3]",
                "train[0]: invalid type: integer `3`, expected a path",
            ),
            ("train = { weight = 1.0 }", "missing field `path`"),
            (
                "train = ['a', { path = 'b', name = 'c' }]",
                "train[1].name: unknown field `name`",
            ),
            (
                "train = { path = 'a', weight = 0.0 }",
                "train.weight: found 0; expected a number above 0",
            ),
            (
                "train = [{ path = 'a', weight = 1.0 }, 'b']",
                "found no weight for b; expected a weight for every file, or for none",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
