//! Problems from files: JSONL, plain or compressed with gzip, and Parquet.

use super::columns::{Columns, Row};
use super::{builtin, jsonl, parquet};
use crate::config::ColumnNames;
use crate::failure::{AtPath, Failure};
use glob::glob;
use rpg_core::{Problem, Prompt};
use std::collections::HashSet;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The problems of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileProblems {
    /// The problems, in the order of the file.
    pub problems: Vec<Problem>,
    /// How many rows were left out because an earlier one has the same prompt, answer, source and extra columns.
    pub repeated: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jsonl,
    Gzip,
    Parquet,
}

impl Format {
    /// What the first bytes of a file say, which must not contradict its name.
    fn of(path: &Path) -> Result<Self, Failure> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(4).read_to_end(&mut start))
            .at(path)?;
        let found = match &*start {
            b"PAR1" | b"PARE" => Self::Parquet,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::Jsonl,
        };
        let named = match path.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => Self::Parquet,
            Some("gz") => Self::Gzip,
            _ => return Ok(found),
        };
        if found == named {
            return Ok(found);
        }
        let expected = match named {
            Self::Gzip => "gzip",
            _ => "Parquet",
        };
        Err(Failure::input(format!(
            "{}: found a file that begins with `{}`; expected {expected}, as its name says",
            path.display(),
            start.escape_ascii()
        )))
    }
}

/// The files that a path stands for: itself, all files of problems in a folder, or those that a pattern such as
/// `train-*.parquet` matches, by name. The name of a built-in set stands for itself.
pub fn matching(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, expected) = if path.is_dir() {
        let all = std::fs::read_dir(path).at(path)?;
        let all = all.map(|entry| Ok(entry.at(path)?.path()));
        let mut all: Vec<PathBuf> = all.collect::<Result<_, Failure>>()?;
        all.retain(|path| is_named_as_problems(path));
        (all, "files that end in .parquet, .jsonl or .jsonl.gz")
    } else if path.exists() || !is_pattern(path) {
        return Ok(vec![path.to_owned()]);
    } else {
        let bad = |e: &dyn Display| Failure::input(format!("{}: {e}", path.display()));
        let all = glob(&path.to_string_lossy()).map_err(|e| bad(&e))?;
        let all = all.map(|path| path.map_err(|e| bad(&e)));
        let all = all.collect::<Result<_, Failure>>()?;
        (all, "a pattern that some files match")
    };
    if found.is_empty() {
        return Err(Failure::input(format!(
            "{}: found no file; expected {expected}",
            path.display()
        )));
    }
    found.sort();
    Ok(found)
}

/// Whether a path stands for all files that it matches.
pub(super) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Whether a file's name says that it has problems.
pub fn is_named_as_problems(path: &Path) -> bool {
    let name = path.to_string_lossy();
    [".parquet", ".jsonl", ".jsonl.gz"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Reads all problems of files. `source` is that of rows that name none; without it, it is the name of their file. With
/// `deduplicate`, rows with the same prompt, answer, source and extra columns are one problem.
pub fn read(
    files: &[PathBuf],
    source: Option<&str>,
    names: &ColumnNames,
    deduplicate: bool,
) -> Result<FileProblems, Failure> {
    let columns = Columns::new(names);
    let mut seen = HashSet::new();
    let mut found = FileProblems {
        problems: Vec::new(),
        repeated: 0,
    };
    for path in files {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into());
        let source = source.unwrap_or_else(|| source_of(&name));
        let n_before = (found.problems.len(), found.repeated);
        each_row(path, &columns, &mut |number, row| {
            let problem = columns.problem(row, format!("{name}:{number}"), source)?;
            if deduplicate && !seen.insert(fingerprint(&problem)) {
                found.repeated += 1;
            } else {
                found.problems.push(problem);
            }
            Ok(())
        })?;
        if n_before == (found.problems.len(), found.repeated) {
            let message = format!("{}: there are no problems in it", path.display());
            return Err(Failure::input(message));
        }
    }
    Ok(found)
}

fn each_row(
    path: &Path,
    columns: &Columns,
    on_row: &mut dyn FnMut(usize, &Row) -> Result<(), String>,
) -> Result<(), Failure> {
    if let Some(text) = builtin::text(path)? {
        return jsonl::each_line(path, text.as_bytes(), "", on_row);
    }
    match Format::of(path)? {
        Format::Jsonl => jsonl::each_row(path, false, on_row),
        Format::Gzip => jsonl::each_row(path, true, on_row),
        Format::Parquet => parquet::each_row(path, columns, on_row),
    }
}

/// The source of problems that name none: the file without its endings.
fn source_of(name: &str) -> &str {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// Problems of a file may be millions: what they are compared by is kept as a hash of 128 bits.
fn fingerprint(problem: &Problem) -> u128 {
    let mut hash = Xxh3::new();
    let mut add = |part: &str| {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    };
    add(&problem.answer);
    add(&problem.data_source);
    match &problem.prompt {
        Prompt::Text(text) => add(text),
        Prompt::Chat(messages) => {
            for message in messages {
                add(message.role.as_str());
                add(&message.content);
            }
        }
    }
    if let Some(columns) = &problem.columns {
        add(columns.as_json());
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_core::Message;
    use serde_json::Value;

    fn fixture(name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/problems");
        folder.join(name)
    }

    fn names(question: &str, answer: &str) -> ColumnNames {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        ColumnNames {
            question: name(question),
            answer: name(answer),
            source: None,
            extra: Vec::new(),
        }
    }

    fn read(path: &Path, names: &ColumnNames, once: bool) -> Result<FileProblems, Failure> {
        super::read(&[path.to_owned()], None, names, once)
    }

    fn read_usual(path: &Path) -> Result<FileProblems, Failure> {
        read(path, &ColumnNames::default(), true)
    }

    /// The rows of a file, of which only these columns are asked for.
    fn rows(path: &Path, columns: &ColumnNames) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        each_row(path, &Columns::new(columns), &mut |_, row| {
            rows.push(row.clone());
            Ok(())
        })?;
        Ok(rows)
    }

    #[test]
    fn every_form_of_a_file_has_the_same_problems() {
        let expected = read_usual(&fixture("verl.jsonl")).unwrap();
        assert_eq!((expected.problems.len(), expected.repeated), (5, 15));
        let all = read(&fixture("verl.jsonl"), &ColumnNames::default(), false).unwrap();
        assert_eq!((all.problems.len(), all.repeated), (20, 0));
        let last = &expected.problems[4];
        assert_eq!((&*last.answer, &*last.data_source), ("8", "sums"));
        assert_eq!(last.id, "verl.jsonl:5");
        let question = "What is 4 + 4?\n\nEnd with \"Answer:\".";
        assert_eq!(last.prompt, Prompt::Chat(vec![Message::user(question)]));
        for name in [
            "verl.jsonl.gz",
            "verl.none.parquet",
            "verl.snappy.parquet",
            "verl.gzip.parquet",
            "verl.zstd.parquet",
        ] {
            let mut found = read_usual(&fixture(name)).expect(name);
            for problem in &mut found.problems {
                problem.id = problem.id.replace(name, "verl.jsonl");
            }
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn every_kind_of_column_is_read_as_the_json_of_its_values() {
        let text = rows(&fixture("kinds.jsonl"), &ColumnNames::default()).unwrap();
        let value =
            |row: &Row, name: &str| -> Value { serde_json::from_str(row[name].get()).expect(name) };
        for name in text[0].keys() {
            // The other two columns are wanted by default.
            let columns = names(
                name,
                if name == "answer" {
                    "question"
                } else {
                    "answer"
                },
            );
            let found = rows(&fixture("kinds.parquet"), &columns).expect(name);
            assert_eq!(found.len(), 6);
            for (i, (found, text)) in found.iter().zip(&text).enumerate() {
                assert_eq!(value(found, name), value(text, name), "{name}, row {i}");
            }
        }
        // Only what is asked for within a column.
        let found = rows(&fixture("kinds.parquet"), &names("question", "inner.y")).unwrap();
        assert_eq!(found[0]["inner"].get(), r#"{"y":{"z":["p","q"]}}"#);
        assert_eq!(found[0].len(), 2);
    }

    #[test]
    fn more_rows_than_are_read_at_a_time() {
        let found = read_usual(&fixture("many.parquet")).unwrap();
        assert_eq!((found.problems.len(), found.repeated), (2500, 0));
        for (i, problem) in found.problems.iter().enumerate() {
            assert_eq!(problem.prompt, Prompt::Text(format!("{i} + 1")));
            assert_eq!(problem.answer, (i + 1).to_string());
            assert_eq!(problem.id, format!("many.parquet:{}", i + 1));
            assert_eq!(problem.data_source, "many");
        }
    }

    #[test]
    fn columns_have_the_names_that_the_config_gives() {
        let mut columns = names("extra_info.raw_problem", "extra_info.index");
        columns.source = Some("reward_model.style".into());
        for name in ["verl.jsonl", "verl.jsonl.gz", "verl.snappy.parquet"] {
            let found = read(&fixture(name), &columns, true).unwrap().problems;
            let first = (&found[1].prompt, &*found[1].answer, &*found[1].data_source);
            let question = Prompt::Text("What is 1 + 1?".into());
            assert_eq!(first, (&question, "1", "rule"), "{name}");
        }
        // A column whose own name has dots.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.b");
        std::fs::write(&path, "{\"a.b\": \"x\", \"a\": {\"b\": \"y\"}}\n").unwrap();
        let found = read(&path, &names("a.b", "a.b"), true).unwrap().problems;
        assert_eq!((&*found[0].answer, &*found[0].data_source), ("x", "a"));
    }

    #[test]
    fn extra_columns_are_kept_as_they_are_in_the_row() {
        let names = |extra: &[&str]| ColumnNames {
            extra: extra.iter().map(|&name| name.to_owned()).collect(),
            ..ColumnNames::default()
        };
        let columns = |file: &str, extra: &[&str]| -> Vec<String> {
            let found = read(&fixture(file), &names(extra), true).expect(file);
            let problems = found.problems.into_iter();
            problems
                .map(|problem| problem.columns.unwrap().as_json().to_owned())
                .collect()
        };
        let extra = ["extra_info.index", "ability", "reward_model", "ability"];
        let expected = columns("verl.jsonl", &extra);
        assert_eq!(expected.len(), 5);
        for file in ["verl.jsonl.gz", "verl.snappy.parquet"] {
            let found = columns(file, &extra);
            let value = |text: &String| -> Value { serde_json::from_str(text).unwrap() };
            assert_eq!(
                found.iter().map(value).collect::<Vec<_>>(),
                expected.iter().map(value).collect::<Vec<_>>(),
                "{file}"
            );
        }
        assert!(
            expected[3].starts_with("{\"extra_info.index\":3,\"ability\":"),
            "{expected:?}"
        );
        assert_eq!(columns("verl.jsonl", &["ability"]).len(), 5);
        // Numbers keep their digits; what lies in nothing is nothing. Rows that differ in these columns are two problems.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        let rows = "{\"question\": \"q\", \"answer\": 1, \"x\": 0.10000000000000000001, \"in\": {\"y\" : [ 1 ]}}\n\
                    {\"question\": \"q\", \"answer\": 1, \"x\": null, \"in\": null}\n";
        std::fs::write(&path, rows).unwrap();
        let read_extra = |extra: &[&str]| read(&path, &names(extra), true);
        let found = read_extra(&["x", "in.y"]).unwrap().problems;
        let found: Vec<&str> = found
            .iter()
            .map(|p| p.columns.as_ref().unwrap().as_json())
            .collect();
        assert_eq!(
            found,
            [
                "{\"x\":0.10000000000000000001,\"in.y\":[1]}",
                "{\"x\":null,\"in.y\":null}"
            ]
        );
        // A column that a row lacks.
        std::fs::write(
            &path,
            format!("{rows}{{\"question\": \"r\", \"answer\": 1}}\n"),
        )
        .unwrap();
        let error = read_extra(&["x"]).unwrap_err();
        let expected = "d.jsonl, line 3: data.columns.extra: `x` is missing; the columns are `answer`, `question`";
        assert!(error.message.ends_with(expected), "{error}");
        let error = read(
            &fixture("verl.snappy.parquet"),
            &names(&["ability", "level"]),
            true,
        );
        let error = error.unwrap_err();
        let expected = "verl.snappy.parquet: data.columns.extra: `level` is missing; the columns are `data_source`";
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        for (file, columns, message) in [
            (
                "verl.snappy.parquet",
                names("text", ""),
                "verl.snappy.parquet: `text` is missing; the columns are `data_source`, `prompt`, `ability`, `reward_model`, \
                 `reward_model.ground_truth`, `reward_model.style`, `extra_info`, `extra_info.index`, \
                 `extra_info.raw_problem`, `extra_info.split`",
            ),
            (
                "many.parquet",
                names("answer", "result"),
                "many.parquet: `result` is missing; the columns are `problem`, `answer`",
            ),
            (
                "verl.jsonl",
                names("", "result"),
                "verl.jsonl, line 1: `result` is missing; the columns are `ability`, `data_source`, `extra_info`, \
                 `extra_info.index`, `extra_info.raw_problem`, `extra_info.split`, `prompt`, `reward_model`, \
                 `reward_model.ground_truth`, `reward_model.style`",
            ),
        ] {
            let failure = read(&fixture(file), &columns, true).unwrap_err();
            assert!(failure.message.ends_with(message), "{failure}");
            assert!(failure.to_string().contains("data.columns"), "{failure}");
        }
        let mut columns = names("problem", "");
        columns.source = Some("topic".into());
        let error = read(&fixture("many.parquet"), &columns, true).unwrap_err();
        assert!(error.message.contains("`topic` is missing"), "{error}");
    }

    #[test]
    fn columns_that_cannot_be_read_are_named_with_what_they_hold() {
        for (column, message) in [
            (
                "date",
                "column `date`: found values of type DATE; expected text, numbers",
            ),
            ("decimal", "column `decimal`: found values of type DECIMAL"),
            ("time", "column `time`: found values of type Timestamp"),
            ("map", "column `map`: found a column of kind MAP"),
            (
                "bytes",
                "rows 1 to 1: column `bytes`: found bytes that are not UTF-8",
            ),
            (
                "chat",
                "row 1: `chat`: found [{\"role\":\"tool\",\"content\":\"c\"}]; expected text, or a list of",
            ),
        ] {
            let error = read(&fixture("odd.parquet"), &names(column, "question"), true);
            let error = error.expect_err(column);
            assert!(error.message.contains("odd.parquet"), "{error}");
            assert!(error.message.contains(message), "{error}");
        }
        let error = read_usual(&fixture("verl.lz4.parquet")).unwrap_err();
        let expected = "column `data_source`: found the compression LZ4_RAW; expected none, SNAPPY";
        assert!(error.message.contains(expected), "{error}");
        // The value that is nothing.
        let error = read_usual(&fixture("kinds.parquet")).unwrap_err();
        let expected = "row 3: the question or the answer is empty";
        assert!(error.message.contains(expected), "{error}");
        let error = read(&fixture("kinds.parquet"), &names("answer", "half"), true).unwrap_err();
        let expected = "row 3: `half`: found null; expected text or a number";
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, message) in [
            (
                "a.parquet",
                &b"{\"q\""[..],
                "begins with `{\\\"q\\\"`; expected Parquet",
            ),
            ("a.parquet", b"", "begins with ``; expected Parquet"),
            ("a.parquet", b"PAR1", "damaged or cut off"),
            ("a.jsonl.gz", b"{}", "expected gzip, as its name says"),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let error = read_usual(&path).unwrap_err();
            assert!(error.message.contains(message), "{error}");
            assert!(error.message.contains(name), "{error}");
        }
        // Without an ending, the first bytes decide.
        for name in ["verl.zstd.parquet", "verl.jsonl.gz"] {
            let path = dir.path().join("blob");
            std::fs::copy(fixture(name), &path).unwrap();
            assert_eq!(read_usual(&path).unwrap().problems.len(), 5, "{name}");
        }
        let error = read_usual(&dir.path().join("none.parquet")).unwrap_err();
        assert!(
            error.message.contains("none.parquet: No such file"),
            "{error}"
        );
    }

    /// Whatever is done to a file, the answer is problems or one sentence that names it.
    #[test]
    fn damaged_files_are_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "verl.none.parquet",
            "verl.snappy.parquet",
            "verl.gzip.parquet",
            "verl.zstd.parquet",
            "kinds.parquet",
            "verl.jsonl.gz",
        ] {
            let whole = std::fs::read(fixture(name)).unwrap();
            let path = dir.path().join(name);
            let columns = match name {
                "kinds.parquet" => names("structs", "inner.y"),
                _ => ColumnNames::default(),
            };
            let is_refused = |bytes: &[u8]| {
                std::fs::write(&path, bytes).unwrap();
                let refused = read(&path, &columns, true).err();
                if let Some(failure) = &refused {
                    assert!(failure.message.contains(name), "{failure}");
                    assert!(!failure.message.contains('\n'), "{failure}");
                }
                refused.is_some()
            };
            // Every place of a Parquet file's end, which says where everything else is, and some of the rest.
            let all = whole.len();
            let is_chosen = |i: &usize| all - i < 200 || i.is_multiple_of(11);
            for length in (0..all).filter(is_chosen) {
                assert!(is_refused(&whole[..length]), "{name}: {length} bytes");
            }
            let (mut n_refused, mut n_flipped) = (0, 0);
            for i in (0..all).filter(is_chosen) {
                for flip in [0xff, 1 << (i % 8)] {
                    let mut bytes = whole.clone();
                    bytes[i] ^= flip;
                    n_flipped += 1;
                    n_refused += usize::from(is_refused(&bytes));
                }
            }
            // Some of the bytes are not read at all, and text may become another text.
            assert!(4 * n_refused > n_flipped, "{name}: {n_refused} refused");
        }
    }

    #[test]
    fn a_source_is_the_name_of_the_file() {
        for (name, source) in [
            ("a.b.jsonl", "a.b"),
            ("a.jsonl.gz", "a"),
            ("a.parquet", "a"),
            ("a", "a"),
            (".hidden", ".hidden"),
        ] {
            assert_eq!(source_of(name), source);
        }
    }
}
