//! Problems from JSONL: one object per line.
//!
//! `question` or `problem` is the text, `answer` the expected answer: in a solution as GSM8K has them, what follows
//! `####`. An error names the bad line.

use crate::failure::{AtPath, Failure};
use rpg_core::{Problem, Prompt};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Reads all problems of a file.
pub fn read(path: &Path) -> Result<Vec<Problem>, Failure> {
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into());
    let source = path
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into());
    let mut problems = Vec::new();
    for (i, line) in BufReader::new(File::open(path).at(path)?)
        .lines()
        .enumerate()
    {
        let number = i + 1;
        let bad = |message: String| {
            Failure::input(format!("{}, line {number}: {message}", path.display())).hint(
                "each line must be an object such as {\"question\": \"1 + 1?\", \"answer\": \"2\"}",
            )
        };
        let line = line.map_err(|e| bad(e.to_string()))?;
        // Spreadsheets and editors on Windows begin a file with a byte-order mark.
        let line = if i == 0 {
            line.trim_start_matches('\u{feff}')
        } else {
            line.as_str()
        };
        if line.trim().is_empty() {
            continue;
        }
        let object: HashMap<String, Box<RawValue>> =
            serde_json::from_str(line).map_err(|e| bad(format!("not a JSON object: {e}")))?;
        let question = text(&object, &["question", "problem"]).map_err(bad)?;
        let answer = text(&object, &["answer"]).map_err(bad)?;
        let answer = answer
            .rsplit("####")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        if question.trim().is_empty() || answer.is_empty() {
            return Err(bad("the question or the answer is empty".into()));
        }
        problems.push(Problem {
            id: format!("{name}:{number}"),
            data_source: object
                .get("data_source")
                .and_then(|own| serde_json::from_str(own.get()).ok())
                .unwrap_or_else(|| source.clone()),
            prompt: Prompt::Text(question),
            answer,
        });
    }
    if problems.is_empty() {
        let message = format!("{}: there are no problems in it", path.display());
        return Err(Failure::input(message));
    }
    Ok(problems)
}

/// The value of the first key that is there; it may be a number, of which every digit is kept.
fn text(object: &HashMap<String, Box<RawValue>>, keys: &[&str]) -> Result<String, String> {
    let Some(value) = keys.iter().find_map(|key| object.get(*key)) else {
        return Err(format!("`{}` is missing", keys.join("` or `")));
    };
    let value = value.get();
    if let Ok(text) = serde_json::from_str(value) {
        return Ok(text);
    }
    if value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Ok(value.into());
    }
    Err(format!(
        "`{}`: found {value}; expected text or a number",
        keys[0]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Problem>, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn the_usual_forms_of_data_sets_are_read() {
        let problems = read_text(
            "{\"question\": \"1+1?\", \"answer\": \"One more.\\n#### 2\"}\n\n\
             {\"problem\": \"2+2?\", \"answer\": 4, \"data_source\": \"own\"}\n",
        )
        .unwrap();
        assert_eq!(problems[0].answer, "2");
        assert_eq!(
            (problems[0].id.as_str(), problems[0].data_source.as_str()),
            ("set.jsonl:1", "set")
        );
        assert_eq!(problems[1].answer, "4");
        assert_eq!(
            (problems[1].id.as_str(), problems[1].data_source.as_str()),
            ("set.jsonl:3", "own")
        );
        let digits = "123456789012345678901234567890";
        let problems =
            read_text(&format!("{{\"question\": \"q\", \"answer\": {digits}}}\n")).unwrap();
        assert_eq!(problems[0].answer, digits);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let line = "{\"question\": \"1+1?\", \"answer\": \"2\"}\r\n";
        let problems = read_text(&format!("\u{feff}{line}{line}")).unwrap();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0].prompt, problems[1].prompt);
        assert_eq!(read_text(&format!("\u{feff}\n{line}")).unwrap().len(), 1);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let good = "{\"question\": \"q\", \"answer\": \"a\"}\n";
        for (line, message) in [
            ("{\"question\": \"q\"", "line 2: not a JSON object"),
            ("[1]", "line 2: not a JSON object"),
            (
                "{\"answer\": \"a\"}",
                "line 2: `question` or `problem` is missing",
            ),
            ("{\"question\": \"q\"}", "line 2: `answer` is missing"),
            (
                "{\"question\": [], \"answer\": \"a\"}",
                "line 2: `question`: found []",
            ),
            (
                "{\"question\": \"q\", \"answer\": \"#### \"}",
                "line 2: the question or the answer",
            ),
        ] {
            let error = read_text(&format!("{good}{line}\n")).unwrap_err();
            assert!(error.message.contains(message), "{error}");
        }
        let error = read_text("\n").unwrap_err();
        assert!(error.message.contains("no problems"), "{error}");
    }
}
