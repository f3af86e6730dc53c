//! Rows of JSONL: one object per line, plain or compressed with gzip.

use super::columns::Row;
use crate::failure::{AtPath, Failure};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Reads a file line by line. An error, also one of `on_row`, names the line.
pub(super) fn each_row(
    path: &Path,
    is_gzip: bool,
    on_row: &mut dyn FnMut(usize, &Row) -> Result<(), String>,
) -> Result<(), Failure> {
    let file = BufReader::new(File::open(path).at(path)?);
    if !is_gzip {
        return each_line(path, file, "", on_row);
    }
    let text = BufReader::new(MultiGzDecoder::new(file));
    each_line(path, text, "the gzip data is damaged or cut off: ", on_row)
}

/// The rows of text; `damaged` begins the error where it cannot be read.
pub(super) fn each_line(
    path: &Path,
    text: impl BufRead,
    damaged: &str,
    on_row: &mut dyn FnMut(usize, &Row) -> Result<(), String>,
) -> Result<(), Failure> {
    for (i, line) in text.lines().enumerate() {
        let number = i + 1;
        let at_line = |message: String| {
            Failure::input(format!("{}, line {number}: {message}", path.display()))
        };
        let line = line.map_err(|e| at_line(format!("{damaged}{e}")))?;
        // Spreadsheets and editors on Windows begin a file with a byte-order mark.
        let line = if i == 0 {
            line.trim_start_matches('\u{feff}')
        } else {
            line.as_str()
        };
        if line.trim().is_empty() {
            continue;
        }
        let bad = |message: String| {
            at_line(message).hint(
                "each line must be an object such as {\"question\": \"1 + 1?\", \"answer\": \"2\"}; \
                 data.columns names other columns",
            )
        };
        let row = serde_json::from_str(line).map_err(|e| bad(format!("not a JSON object: {e}")))?;
        on_row(number, &row).map_err(bad)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::ColumnNames;
    use crate::data::files::{FileProblems, read};
    use crate::failure::Failure;

    fn read_text(text: &str) -> Result<FileProblems, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&[path], None, &ColumnNames::default(), false)
    }

    #[test]
    fn the_usual_forms_of_data_sets_are_read() {
        let problems = read_text(
            "{\"question\": \"1+1?\", \"answer\": \"One more.\\n#### 2\"}\n\n\
             {\"problem\": \"2+2?\", \"answer\": 4, \"data_source\": \"own\"}\n\
             {\"prompt\": \"3+3?\", \"answer\": null, \"reward_model\": {\"ground_truth\": 6.0}}\n",
        )
        .unwrap()
        .problems;
        let found: Vec<[&str; 3]> = problems
            .iter()
            .map(|p| [&*p.id, &p.data_source, &p.answer])
            .collect();
        assert_eq!(
            found,
            [
                ["set.jsonl:1", "set", "2"],
                ["set.jsonl:3", "own", "4"],
                ["set.jsonl:4", "set", "6.0"]
            ]
        );
        let digits = "123456789012345678901234567890";
        let line = format!("{{\"question\": \"q\", \"answer\": {digits}}}\n");
        assert_eq!(read_text(&line).unwrap().problems[0].answer, digits);
    }

    /// What follows `####`, as it is written there: the grader reads thousands and units.
    #[test]
    fn answers_of_gsm8k_are_read_as_published() {
        for (solution, answer) in [
            (
                "She sold 48/2 = <<48/2=24>>24.\\n48+24 = <<48+24=72>>72.\\n#### 72",
                "72",
            ),
            ("#### 1,080", "1,080"),
            ("#### -3", "-3"),
            ("a #### b\\n#### 5 ", "5"),
        ] {
            let line = format!("{{\"question\": \"q\", \"answer\": \"{solution}\"}}\n");
            assert_eq!(read_text(&line).unwrap().problems[0].answer, answer);
        }
        let grade = rpg_reward::grade("\\boxed{1080}", "1,080", &Default::default());
        assert!(grade.correct, "{grade:?}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let line = "{\"question\": \"1+1?\", \"answer\": \"2\"}\r\n";
        let found = read_text(&format!("\u{feff}{line}{line}")).unwrap();
        assert_eq!(found.problems.len(), 2);
        assert_eq!(found.problems[0].prompt, found.problems[1].prompt);
        let found = read_text(&format!("\u{feff}\n{line}")).unwrap();
        assert_eq!(found.problems.len(), 1);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let good = "{\"question\": \"q\", \"answer\": \"a\"}\n";
        let message_of = |message: &str| format!("{{\"prompt\": [{message}], \"answer\": \"a\"}}");
        for (line, message) in [
            ("{\"question\": \"q\"", "line 2: not a JSON object"),
            ("[1]", "line 2: not a JSON object"),
            (
                "{\"answer\": \"a\"}",
                "line 2: `question`, `problem` or `prompt` is missing; the columns are `answer`",
            ),
            (
                "{\"question\": \"q\"}",
                "line 2: `answer` or `reward_model.ground_truth` is missing; the columns are `question`",
            ),
            (
                "{}",
                "line 2: `question`, `problem` or `prompt` is missing; there are no columns",
            ),
            (
                "{\"question\": [], \"answer\": \"a\"}",
                "line 2: `question`: found []; expected text, or a list of messages",
            ),
            (
                &message_of("{\"role\": \"assistant\", \"content\": \"c\"}"),
                "the last one of the user",
            ),
            (
                &message_of("{\"role\": \"user\", \"content\": \"c\", \"tools\": []}"),
                "unknown field `tools`",
            ),
            (
                "{\"question\": \"q\", \"answer\": {}}",
                "line 2: `answer`: found {}; expected text or a number",
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
