//! Grading completions again that a run or an evaluation has written down.

use super::{Answer, Answers};
use crate::failure::Failure;
use rpg_reward::{GradeOptions, Verdict, grade_batch};
use serde_json::{Map, Value, json};

/// A line of samples.jsonl: a completion, the expected answer, and the grade that it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleLine {
    line: Map<String, Value>,
    completion: String,
    answer: String,
    /// The grade; `None` where a reward command gave none.
    pub before: Option<bool>,
}

impl SampleLine {
    /// Reads a line. The error says what it lacks.
    pub fn new(line: Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| match line.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(format!("`{key}`: found {other}; expected text")),
            None => Err(format!("`{key}` is missing")),
        };
        let before = match line.get("correct") {
            Some(Value::Bool(correct)) => Some(*correct),
            Some(Value::Null) => None,
            Some(other) => return Err(format!("`correct`: found {other}; expected true or false")),
            None => return Err("`correct` is missing".into()),
        };
        Ok(Self {
            completion: text("completion")?,
            answer: text("answer")?,
            before,
            line,
        })
    }

    /// The text at a key, or nothing.
    pub fn text(&self, key: &str) -> &str {
        self.line.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// Where the completion comes from, for people.
    pub fn place(&self) -> String {
        let number = |key: &str| self.line.get(key).and_then(Value::as_u64);
        let step = number("step").map(|step| format!("step {step}, "));
        let sample = number("sample").map(|sample| format!(", sample {sample}"));
        format!(
            "{}{}{}",
            step.unwrap_or_default(),
            self.text("id"),
            sample.unwrap_or_default()
        )
    }

    /// The expected answer.
    pub fn answer(&self) -> &str {
        &self.answer
    }
}

/// A completion with both grades.
#[derive(Debug, Clone, PartialEq)]
pub struct Regraded {
    /// The completion and its grade before.
    pub sample: SampleLine,
    /// The verdict of the grader now.
    pub after: Verdict,
}

impl Regraded {
    /// Whether it counted as right and does not now, or the other way.
    pub fn has_changed(&self) -> bool {
        self.sample.before != Some(self.after.correct)
    }

    /// The line with the verdict of now in place of the one before, which is kept as `before`.
    pub fn to_json(&self) -> Value {
        let mut line = self.sample.line.clone();
        let old = |key: &str| line.get(key).cloned().unwrap_or_default();
        let before = json!({
            "correct": old("correct"),
            "extracted": old("extracted"),
            "reason": old("reason"),
        });
        line.insert("correct".into(), self.after.correct.into());
        line.insert("extracted".into(), json!(self.after.extracted));
        line.insert("reason".into(), self.after.reason.to_string().into());
        // These belong to the grade before.
        line.remove("reward");
        line.remove("parts");
        line.insert("before".into(), before);
        Value::Object(line)
    }
}

/// Grades all with the built-in grader.
pub fn regrade(samples: Vec<SampleLine>, options: &GradeOptions) -> Vec<Regraded> {
    let answers: Vec<(&str, &str)> = samples
        .iter()
        .map(|sample| (sample.completion.as_str(), sample.answer.as_str()))
        .collect();
    let verdicts = grade_batch(&answers, options);
    let samples = samples.into_iter().zip(verdicts);
    samples
        .map(|(sample, after)| Regraded { sample, after })
        .collect()
}

/// The completions by their problems, with the grades of now; `None` if they are not those of an evaluation, in which
/// every problem has as many.
pub fn by_problem(regraded: &[Regraded]) -> Option<(Vec<Answers>, usize)> {
    let mut problems: Vec<Answers> = Vec::new();
    for one in regraded {
        let line = &one.sample.line;
        // The completions of a problem follow each other.
        if line.get("sample")?.as_u64()? == 0 {
            problems.push(Answers {
                source: one.sample.text("source").to_owned(),
                answers: Vec::new(),
            });
        }
        let n_tokens = line.get("n_tokens").and_then(Value::as_u64);
        problems.last_mut()?.answers.push(Answer {
            correct: Some(one.after.correct),
            extracted: one.after.extracted.clone(),
            n_tokens: n_tokens.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            is_cut: one.sample.text("stop") == "length",
        });
    }
    let k = problems.first()?.answers.len();
    let is_even = problems.iter().all(|problem| problem.answers.len() == k);
    is_even.then_some((problems, k))
}

/// Samples of lines; the error names the first line that is none.
pub fn sample_lines(
    lines: impl IntoIterator<Item = (usize, Map<String, Value>)>,
    name: &str,
) -> Result<Vec<SampleLine>, Failure> {
    lines
        .into_iter()
        .map(|(number, line)| {
            SampleLine::new(line).map_err(|why| {
                Failure::input(format!("{name}, line {number}: {why}")).hint(
                    "each line is a sample as samples.jsonl has them: an object with `completion`, `answer` and `correct`",
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(completion: &str, answer: &str, correct: Value) -> SampleLine {
        let line = json!({
            "source": "a", "id": answer, "sample": 0, "completion": completion, "answer": answer,
            "correct": correct, "extracted": "old", "reason": "old", "reward": 1.0, "stop": "length", "n_tokens": 7,
        });
        SampleLine::new(line.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn what_changes_is_what_counted_otherwise() {
        let samples = vec![
            sample("it is 3", "3", true.into()),
            sample("\\boxed{4}", "4", true.into()),
            sample("\\boxed{5}", "5", false.into()),
            sample("\\boxed{6}", "7", Value::Null),
        ];
        let mut options = GradeOptions::default();
        options.last_expression = false;
        let regraded = regrade(samples, &options);
        let changed: Vec<bool> = regraded.iter().map(Regraded::has_changed).collect();
        assert_eq!(changed, [true, false, true, true]);
        let line = regraded[0].to_json();
        assert_eq!(line["correct"], false);
        assert_eq!(line["extracted"], Value::Null);
        assert_eq!(line["reason"], "no answer");
        let before = json!({"correct": true, "extracted": "old", "reason": "old"});
        assert_eq!(line["before"], before);
        assert_eq!((line.get("reward"), &line["n_tokens"]), (None, &json!(7)));
        let (problems, k) = by_problem(&regraded).unwrap();
        assert_eq!((problems.len(), k), (4, 1));
        assert!(problems[0].answers[0].is_cut);
        // The samples of steps are not all of a problem.
        let mut of_step = regraded;
        of_step[2].sample.line.remove("sample");
        assert_eq!(by_problem(&of_step), None);
    }

    #[test]
    fn a_line_that_is_no_sample_is_named() {
        for (line, message) in [
            (
                json!({"completion": "1"}),
                "x, line 1: `correct` is missing",
            ),
            (
                json!({"completion": "1", "correct": true}),
                "x, line 1: `answer` is missing",
            ),
            (
                json!({"completion": 1, "answer": "1", "correct": true}),
                "x, line 1: `completion`: found 1; expected text",
            ),
            (
                json!({"completion": "1", "answer": "1", "correct": "yes"}),
                "x, line 1: `correct`: found \"yes\"; expected true or false",
            ),
        ] {
            let lines = [(1, line.as_object().unwrap().clone())];
            assert_eq!(sample_lines(lines, "x").unwrap_err().message, message);
        }
    }
}
