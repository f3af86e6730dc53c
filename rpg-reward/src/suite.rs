//! Grades files of cases: one JSON object per line in, one per line out, and a summary.
//!
//! A line is `{"id", "gold", "pred"}`, with `"source"` and `"expect"` if it belongs to a test suite. `"gold"` is
//! text, a number, or a list of them, of which one has to match. A line that cannot be read becomes a
//! [`BadLine`] and does not affect the others.

use crate::grade::{check_gold, grade_any};
use crate::options::GradeOptions;
use crate::verdict::{Reason, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// One case of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Case {
    /// Its name, a string or a number, which is copied to the result.
    #[serde(default)]
    pub id: serde_json::Value,
    /// The gold answers, of which one has to match; a number is read digit by digit.
    #[serde(deserialize_with = "golds")]
    pub gold: Vec<String>,
    /// The whole output of the model.
    pub pred: String,
    /// The group that a summary counts it in.
    #[serde(default)]
    pub source: Option<String>,
    /// The expected verdict.
    #[serde(default)]
    pub expect: Option<bool>,
}

fn golds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let written = Box::<RawValue>::deserialize(deserializer)?;
    let refused = || {
        serde::de::Error::custom(format!(
            "`gold`: found {written}; expected a string, a number or a list of them"
        ))
    };
    let golds = match serde_json::from_str::<Vec<Box<RawValue>>>(written.get()) {
        Ok(items) => items.iter().map(|item| text_or_number(item)).collect(),
        Err(_) => text_or_number(&written).map(|gold| vec![gold]),
    };
    golds
        .filter(|golds: &Vec<String>| !golds.is_empty())
        .ok_or_else(refused)
}

fn text_or_number(written: &RawValue) -> Option<String> {
    let written = written.get();
    let is_number = written.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if is_number {
        Some(written.into())
    } else {
        serde_json::from_str(written).ok()
    }
}

/// A line that is not a valid case. As JSON it is `{"line", "error"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct BadLine {
    /// Its number, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    #[serde(rename = "error")]
    pub message: String,
}

/// The result of one case, as written to the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CaseResult {
    /// The name of the case.
    pub id: serde_json::Value,
    /// Whether the answer is right.
    pub correct: bool,
    /// The text that was taken as the answer.
    pub extracted: Option<String>,
    /// The reason, in words.
    pub reason: String,
}

impl CaseResult {
    /// The result of a verdict.
    pub fn new(case: &Case, verdict: &Verdict) -> Self {
        Self {
            id: case.id.clone(),
            correct: verdict.correct,
            extracted: verdict.extracted.clone(),
            reason: verdict.reason.to_string(),
        }
    }
}

/// Reads one line. An error states its number, counted from 1.
pub fn read_line(line: &str, number: usize) -> Result<Case, BadLine> {
    serde_json::from_str(line).map_err(|error| BadLine {
        line: number,
        message: error.to_string(),
    })
}

/// Grades one line of a file; returns the result and what the summary needs.
pub fn grade_line(
    line: &str,
    number: usize,
    options: &GradeOptions,
) -> Result<(CaseResult, Timed), BadLine> {
    let case = read_line(line, number)?;
    let timed = Timed::grade(&case, options);
    Ok((CaseResult::new(&case, &timed.verdict), timed))
}

/// A gold answer that the grader does not understand, as text at best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnreadGold {
    /// The name of the case.
    pub id: serde_json::Value,
    /// The gold answer.
    pub gold: String,
    /// The reason, in words.
    pub reason: String,
}

/// The gold answers of one line that the grader does not understand.
pub fn check_golds(line: &str, number: usize) -> Result<Vec<UnreadGold>, BadLine> {
    #[derive(Deserialize)]
    struct Golds {
        #[serde(default)]
        id: serde_json::Value,
        #[serde(deserialize_with = "golds")]
        gold: Vec<String>,
    }
    let case: Golds = serde_json::from_str(line).map_err(|error| BadLine {
        line: number,
        message: error.to_string(),
    })?;
    let unread = case.gold.into_iter().filter_map(|gold| {
        check_gold(&gold).err().map(|reason| UnreadGold {
            id: case.id.clone(),
            reason: reason.to_string(),
            gold,
        })
    });
    Ok(unread.collect())
}

/// A verdict with its duration and the expected one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Timed {
    /// The name of the case.
    pub id: serde_json::Value,
    /// The group of the case.
    pub source: String,
    /// The expected verdict.
    pub expect: Option<bool>,
    /// The verdict.
    pub verdict: Verdict,
    /// The time it took.
    pub elapsed: Duration,
}

impl Timed {
    /// Grades a case and measures the time.
    pub fn grade(case: &Case, options: &GradeOptions) -> Self {
        let start = Instant::now();
        let verdict = grade_any(&case.pred, &case.gold, options);
        Self {
            id: case.id.clone(),
            source: case.source.clone().unwrap_or_else(|| "all".into()),
            expect: case.expect,
            verdict,
            elapsed: start.elapsed(),
        }
    }
}

/// The counts of one group of cases.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Cases with an expected verdict.
    pub cases: usize,
    /// Verdicts as expected.
    pub agree: usize,
    /// Wrong answers called correct.
    pub false_positives: usize,
    /// Right answers called wrong.
    pub false_negatives: usize,
}

impl Counts {
    fn add(&mut self, expect: bool, correct: bool) {
        self.cases += 1;
        match (expect, correct) {
            (false, true) => self.false_positives += 1,
            (true, false) => self.false_negatives += 1,
            _ => self.agree += 1,
        }
    }

    /// The fraction of verdicts as expected; 1 if there are no cases.
    pub fn agreement(&self) -> f64 {
        if self.cases == 0 {
            1.0
        } else {
            self.agree as f64 / self.cases as f64
        }
    }
}

/// The summary of a file of cases.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The counts of all cases with an expected verdict.
    pub total: Counts,
    /// The same by source.
    pub sources: BTreeMap<String, Counts>,
    /// How often each reason was given.
    pub reasons: BTreeMap<String, usize>,
    /// The number of graded cases.
    pub graded: usize,
    /// The number of verdicts that nothing could be shown for.
    pub undecided: usize,
    /// The number of answers, or gold answers, that could not be parsed.
    pub not_parsed: usize,
    /// The number of lines that could not be read.
    pub bad_lines: usize,
    /// The total time spent grading, in seconds.
    pub seconds: f64,
    /// The longest time of one case, in seconds, and its name.
    pub slowest: (f64, String),
}

impl Summary {
    /// Counts one graded case.
    pub fn add(&mut self, timed: &Timed) {
        if let Some(expect) = timed.expect {
            self.total.add(expect, timed.verdict.correct);
            let counts = self.sources.entry(timed.source.clone()).or_default();
            counts.add(expect, timed.verdict.correct);
        }
        *self
            .reasons
            .entry(timed.verdict.reason.to_string())
            .or_default() += 1;
        self.graded += 1;
        match timed.verdict.reason {
            Reason::Undecided => self.undecided += 1,
            Reason::NotParsed | Reason::GoldNotParsed => self.not_parsed += 1,
            Reason::Correct
            | Reason::Wrong
            | Reason::NoAnswer
            | Reason::Undefined
            | Reason::OverBudget(_) => {}
        }
        let seconds = timed.elapsed.as_secs_f64();
        self.seconds += seconds;
        if seconds > self.slowest.0 {
            self.slowest = (seconds, name_of(&timed.id));
        }
    }

    /// Counts a line that could not be read.
    pub fn add_bad_line(&mut self) {
        self.bad_lines += 1;
    }

    /// Graded cases per second in one thread.
    pub fn cases_per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.graded as f64 / self.seconds
        } else {
            0.0
        }
    }
}

fn name_of(id: &serde_json::Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_string)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .sources
            .keys()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .max(6);
        writeln!(
            f,
            "{:width$} {:>6} {:>9} {:>6} {:>6}",
            "source", "cases", "agreement", "false+", "false-"
        )?;
        let rows = self
            .sources
            .iter()
            .map(|(name, counts)| (name.as_str(), counts));
        for (name, counts) in rows.chain([("total", &self.total)]) {
            let agreement = match counts.cases {
                0 => "-".into(),
                _ => format!("{:.1}%", counts.agreement() * 100.0),
            };
            writeln!(
                f,
                "{name:width$} {:>6} {agreement:>9} {:>6} {:>6}",
                counts.cases, counts.false_positives, counts.false_negatives
            )?;
        }
        writeln!(
            f,
            "{} graded, {} undecided, {} not parsed, {} bad lines, {:.0} cases/s in one thread, slowest {:.2} ms ({})",
            self.graded,
            self.undecided,
            self.not_parsed,
            self.bad_lines,
            self.cases_per_second(),
            self.slowest.0 * 1e3,
            self.slowest.1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_results_in_order_and_bad_ones_are_named() {
        let lines = [
            r#"{"id": "a", "gold": "4", "pred": "\\boxed{4}", "source": "s", "expect": true}"#,
            "",
            r#"{"id": 7, "gold": "4", "pred": "\\boxed{5}", "source": "s", "expect": true}"#,
            "{not json",
            r#"{"id": "c", "gold": "4"}"#,
            r#"{"id": "d", "gold": 4, "pred": "4"}"#,
            r#"{"id": "e", "gold": [{}], "pred": "4"}"#,
            r#"{"id": "f", "gold": ["3", 4], "pred": "4"}"#,
            r#"{"id": "g", "gold": 123456789012345678901, "pred": "123456789012345678902"}"#,
            r#"{"id": "h", "gold": "x \\heartsuit", "pred": "4"}"#,
            r#"{"id": "i", "gold": [], "pred": "4"}"#,
        ];
        let results: Vec<_> = (1..)
            .zip(lines)
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| grade_line(line, number, &GradeOptions::default()))
            .collect();
        let mut summary = Summary::default();
        let mut shown = Vec::new();
        for result in &results {
            match result {
                Ok((result, timed)) => {
                    summary.add(timed);
                    shown.push(serde_json::to_string(result).unwrap());
                }
                Err(bad) => {
                    summary.add_bad_line();
                    shown.push(format!("bad {}", bad.line));
                    let json = serde_json::to_string(bad).unwrap();
                    assert!(json.contains("\"error\":"), "{json}");
                }
            }
        }
        assert_eq!(
            shown,
            [
                r#"{"id":"a","correct":true,"extracted":"4","reason":"correct"}"#,
                r#"{"id":7,"correct":false,"extracted":"5","reason":"wrong"}"#,
                "bad 4",
                "bad 5",
                r#"{"id":"d","correct":true,"extracted":"4","reason":"correct"}"#,
                "bad 7",
                r#"{"id":"f","correct":true,"extracted":"4","reason":"correct"}"#,
                r#"{"id":"g","correct":false,"extracted":"123456789012345678902","reason":"wrong"}"#,
                r#"{"id":"h","correct":false,"extracted":"4","reason":"gold answer not parsed"}"#,
                "bad 11",
            ]
        );
        assert_eq!((summary.graded, summary.bad_lines), (6, 4));
        assert_eq!((summary.undecided, summary.not_parsed), (0, 1));
        assert_eq!((summary.total.agree, summary.total.false_negatives), (1, 1));
        assert!(summary.to_string().contains("50.0%"), "{summary}");
        assert!(!Summary::default().to_string().contains('%'));
    }

    #[test]
    fn gold_answers_that_are_not_understood_are_named() {
        let rows = [
            (r#"{"id": 1, "gold": "\\frac12"}"#, ""),
            (r#"{"id": 2, "gold": "\\text{Yes}"}"#, ""),
            (r#"{"id": 3, "gold": "x \\heartsuit"}"#, "x \\heartsuit"),
            (r#"{"id": 4, "gold": ["5", "1/0"]}"#, "1/0"),
        ];
        for (line, expected) in rows {
            let unread = check_golds(line, 1).unwrap();
            let golds: Vec<&str> = unread.iter().map(|unread| unread.gold.as_str()).collect();
            assert_eq!(golds.join(" "), expected, "{line}");
        }
        assert_eq!(check_golds("{}", 7).unwrap_err().line, 7);
    }
}
