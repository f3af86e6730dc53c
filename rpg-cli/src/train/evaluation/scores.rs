//! What an evaluation says of the problems of a source: Mean@k, pass@k, maj@k, each with an interval.

use super::statistics::{Estimate, classes, majority, pass_at_k, powers_up_to};
use crate::failure::Failure;
use crate::run_folder::{METRICS, RunFolder};
use crate::train::sample::GradedGroup;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rpg_core::StopReason;
use rpg_core::seed::{derive, stream};
use rpg_reward::same_answer;
use serde::Serialize;

/// Under which the problems of several sources together are logged.
const ALL: &str = "all";

/// A completion of a problem as far as the scores go.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether it counts as right; `None` if the user's reward failed.
    pub correct: Option<bool>,
    /// What the built-in grader takes for the answer.
    pub extracted: Option<String>,
    /// Its length in tokens.
    pub n_tokens: usize,
    /// Whether it was cut off at the limit.
    pub is_cut: bool,
}

/// The completions of a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The source of the problem.
    pub source: String,
    /// The completions.
    pub answers: Vec<Answer>,
}

impl From<&GradedGroup> for Answers {
    fn from(group: &GradedGroup) -> Self {
        let answers = group.samples.iter().map(|sample| Answer {
            correct: sample.grade.correct,
            extracted: sample.grade.verdict.extracted.clone(),
            n_tokens: sample.completion.tokens.len(),
            is_cut: sample.completion.stop == StopReason::Length,
        });
        Self {
            source: group.problem.data_source.clone(),
            answers: answers.collect(),
        }
    }
}

impl Answers {
    /// How many completions have a grade, and how many are right.
    fn counts(&self) -> (usize, usize) {
        let graded = self.answers.iter().filter_map(|answer| answer.correct);
        graded.fold((0, 0), |(n, n_right), correct| {
            (n + 1, n_right + usize::from(correct))
        })
    }

    /// The share of right answers among the completions that have a grade, if there are any.
    fn mean(&self) -> Option<f64> {
        let (n, n_right) = self.counts();
        (n > 0).then(|| n_right as f64 / n as f64)
    }

    fn pass(&self, k: usize) -> Option<f64> {
        let (n, n_right) = self.counts();
        (n >= k).then(|| pass_at_k(n, n_right, k))
    }

    /// Whether the majority is right. A completion without an answer has no vote.
    fn majority(&self) -> Option<f64> {
        self.mean()?;
        let votes: Vec<(&str, bool)> = self
            .answers
            .iter()
            .filter_map(|answer| Some((answer.extracted.as_deref()?, answer.correct?)))
            .collect();
        let texts: Vec<&str> = votes.iter().map(|(text, _)| *text).collect();
        let classes = classes(&texts, same_answer);
        let votes = classes.into_iter().zip(votes);
        let votes: Vec<(usize, bool)> = votes.map(|(class, (_, right))| (class, right)).collect();
        Some(majority(&votes))
    }
}

/// Mean@k: the mean over problems of the share of right answers among their completions that have a grade, if there are
/// any.
pub fn mean_at_k<'a>(problems: impl IntoIterator<Item = &'a Answers>) -> Option<f64> {
    let means: Vec<f64> = problems.into_iter().filter_map(Answers::mean).collect();
    (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
}

/// The scores of the problems of a source, or of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scores {
    /// The source.
    pub source: String,
    /// The number of its problems.
    pub problems: usize,
    /// The number of their completions.
    pub completions: usize,
    /// The number of completions without a grade, which no score counts.
    pub errors: usize,
    /// k.
    pub k: usize,
    /// Mean@k.
    pub mean: Option<Estimate>,
    /// pass@n for n = 1, 2, 4, ... and k, over the problems with as many graded completions.
    pub pass: Vec<Pass>,
    /// maj@k; `None` if the grader finds no answer in any completion.
    pub majority: Option<Estimate>,
    /// Mean length of the completions in tokens.
    pub length: f64,
    /// The share of completions that were cut off at the limit.
    pub cut: f64,
}

/// pass@n.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pass {
    /// n.
    pub n: usize,
    /// Its value.
    #[serde(flatten)]
    pub estimate: Estimate,
}

impl Scores {
    /// The scores of some problems. `seed` is that of the intervals.
    pub fn of(source: &str, problems: &[&Answers], k: usize, seed: u64) -> Self {
        let seed = derive(seed, &[stream::BOOTSTRAP]);
        let estimate = |value: &dyn Fn(&Answers) -> Option<f64>| {
            let values: Vec<f64> = problems.iter().filter_map(|one| value(one)).collect();
            Estimate::of(&values, seed)
        };
        let pass = powers_up_to(k).into_iter().filter_map(|n| {
            let estimate = estimate(&|problem| problem.pass(n))?;
            Some(Pass { n, estimate })
        });
        let all = || problems.iter().flat_map(|problem| &problem.answers);
        let completions = all().count();
        let share = |sum: usize| sum as f64 / completions.max(1) as f64;
        // Comparing answers is the only part that takes time.
        let majorities: Vec<f64> = problems
            .par_iter()
            .filter_map(|problem| problem.majority())
            .collect();
        let has_votes = all().any(|answer| answer.extracted.is_some());
        Self {
            source: source.to_owned(),
            problems: problems.len(),
            completions,
            errors: all().filter(|answer| answer.correct.is_none()).count(),
            k,
            mean: estimate(&Answers::mean),
            pass: pass.collect(),
            majority: Estimate::of(&majorities, seed).filter(|_| has_votes),
            length: share(all().map(|answer| answer.n_tokens).sum()),
            cut: share(all().filter(|answer| answer.is_cut).count()),
        }
    }

    /// The scores by the names that verl gives them: what is about all k samples in `val-core`, the rest in `val-aux`. Where
    /// the user's reward may fail, how often it did.
    pub fn metrics(&self, has_own_reward: bool) -> Vec<(String, f64)> {
        let (source, k) = (&self.source, self.k);
        let mut metrics = Vec::new();
        let mut add = |core: &str, name: &str, value: &str, estimate: &Estimate| {
            metrics.push((format!("{core}/{source}/acc/{name}{value}"), estimate.value));
            for (end, value) in [("low", estimate.low), ("high", estimate.high)] {
                metrics.push((format!("val-aux/{source}/acc/{name}/ci95_{end}"), value));
            }
        };
        if let Some(mean) = &self.mean {
            add("val-core", &format!("mean@{k}"), "", mean);
        }
        // pass@1 is Mean@k again.
        for Pass { n, estimate } in self.pass.iter().filter(|pass| pass.n > 1) {
            let core = if *n == k { "val-core" } else { "val-aux" };
            add(core, &format!("best@{n}"), "/mean", estimate);
        }
        if let Some(majority) = self.majority.as_ref().filter(|_| k > 1) {
            add("val-core", &format!("maj@{k}"), "/mean", majority);
        }
        if has_own_reward {
            let name = format!("val-aux/{source}/reward_errors");
            metrics.push((name, self.errors as f64));
        }
        metrics
    }
}

/// The sources of the held-out problems, and k of Mean@k.
#[derive(Debug, Clone)]
pub struct Sources {
    /// In the order of their first problems.
    names: Vec<String>,
    k: usize,
}

impl Sources {
    /// Those of these problems, in the order of their first ones.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a str>, k: usize) -> Self {
        let mut names: Vec<String> = Vec::new();
        for source in sources {
            if !names.iter().any(|name| name == source) {
                names.push(source.to_owned());
            }
        }
        Self { names, k }
    }

    /// The name of all problems together.
    pub fn overall(&self) -> &str {
        match &self.names[..] {
            [source] => source,
            _ => ALL,
        }
    }

    /// The newest Mean@k in the metrics of a run.
    pub(in crate::train) fn last(&self, folder: &RunFolder) -> Result<Option<f64>, Failure> {
        let name = format!("val-core/{}/acc/mean@{}", self.overall(), self.k);
        let lines = folder.lines(METRICS)?;
        let mut newest_first = lines.iter().rev();
        Ok(newest_first.find_map(|line| line.get(&name)?.as_f64()))
    }

    /// The scores of all problems, then those by source if there are several.
    pub fn scores(&self, problems: &[Answers], seed: u64) -> Vec<Scores> {
        let all: Vec<&Answers> = problems.iter().collect();
        let overall = self.overall();
        let mut scores = vec![Scores::of(overall, &all, self.k, seed)];
        for source in self.names.iter().filter(|&source| source != overall) {
            let own: Vec<&Answers> = problems
                .iter()
                .filter(|one| one.source == *source)
                .collect();
            if !own.is_empty() {
                scores.push(Scores::of(source, &own, self.k, seed));
            }
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A problem by its completions: `R` right, `W` wrong, `E` without a grade, then the answer.
    fn problem(source: &str, answers: &[&str]) -> Answers {
        let answers = answers.iter().map(|text| {
            let (grade, extracted) = text.split_at(1);
            Answer {
                correct: match grade {
                    "R" => Some(true),
                    "W" => Some(false),
                    _ => None,
                },
                extracted: (!extracted.is_empty()).then(|| extracted.to_owned()),
                n_tokens: 10,
                is_cut: extracted.is_empty(),
            }
        });
        Answers {
            source: source.into(),
            answers: answers.collect(),
        }
    }

    fn value(scores: &Scores, name: &str) -> Option<f64> {
        let metrics = scores.metrics(true);
        let found = metrics.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| *value)
    }

    #[test]
    fn scores_have_the_names_of_verl() {
        let problems = [
            // pass@2 = 1 - C(3,2)/C(4,2) = 1/2; three wrong answers of which two are equal, and a right one: 0.
            problem("a", &["R3", "W4", "W4.0", "W5"]),
            // pass@2 = 1 - 0; the right answer has two votes, the wrong one too: 1/2.
            problem("a", &["R\\frac12", "R0.5", "W7", "W7"]),
            // Only one has an answer.
            problem("b", &["W", "W", "W", "R1/2"]),
        ];
        let sources = Sources::new(problems.iter().map(|one| one.source.as_str()), 4);
        let all = sources.scores(&problems, 0);
        let names: Vec<&str> = all.iter().map(|scores| scores.source.as_str()).collect();
        assert_eq!(names, ["all", "a", "b"]);
        for (name, expected) in [
            ("val-core/all/acc/mean@4", Some((0.25 + 0.5 + 0.25) / 3.0)),
            (
                "val-aux/all/acc/best@2/mean",
                Some((0.5 + 5.0 / 6.0 + 0.5) / 3.0),
            ),
            ("val-core/all/acc/best@4/mean", Some(1.0)),
            ("val-core/all/acc/maj@4/mean", Some(0.5)),
            ("val-aux/all/acc/best@4/ci95_low", Some(1.0)),
            ("val-aux/all/acc/maj@4/ci95_high", Some(1.0)),
            ("val-core/all/acc/best@1/mean", None),
        ] {
            let found = value(&all[0], name);
            let is_near = found.unwrap_or(9.0) - expected.unwrap_or(9.0);
            assert!(is_near.abs() < 1e-12, "{name}: {found:?}");
        }
        assert_eq!(value(&all[1], "val-core/a/acc/maj@4/mean"), Some(0.25));
        assert_eq!(value(&all[2], "val-core/b/acc/maj@4/mean"), Some(1.0));
        let mean = value(&all[0], "val-core/all/acc/mean@4");
        assert_eq!(mean, mean_at_k(&problems));
        assert_eq!((all[2].length, all[2].cut), (10.0, 0.75));
        // One source is its own name.
        let one = Sources::new(["b", "b"], 4);
        assert_eq!(one.scores(&problems[2..], 0).len(), 1);
        assert_eq!(one.overall(), "b");
    }

    #[test]
    fn a_completion_without_a_grade_counts_nowhere() {
        let problems = [
            problem("a", &["R3", "E3"]),
            problem("a", &["E", "E"]),
            problem("a", &["W3", "R4"]),
        ];
        let scores = &Sources::new(["a"], 2).scores(&problems, 0)[0];
        assert_eq!((scores.completions, scores.errors), (6, 3));
        assert_eq!(value(scores, "val-aux/a/reward_errors"), Some(3.0));
        assert_eq!(scores.mean.unwrap().value, 0.75);
        // Only the third problem has two.
        assert_eq!(scores.pass[1].n, 2);
        assert_eq!(scores.pass[1].estimate.value, 1.0);
        assert_eq!(scores.majority.unwrap().value, 0.75);
        // Where the grader finds no answer at all, as with a command for programs, there is no majority.
        let programs = [problem("a", &["R", "W"])];
        assert_eq!(
            Sources::new(["a"], 2).scores(&programs, 0)[0].majority,
            None
        );
        assert_eq!(mean_at_k(&[]), None);
    }

    #[test]
    fn one_sample_has_only_a_mean() {
        let scores = &Sources::new(["a"], 1).scores(&[problem("a", &["R3"])], 0)[0];
        let names: Vec<String> = scores
            .metrics(false)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let expected = [
            "val-core/a/acc/mean@1",
            "val-aux/a/acc/mean@1/ci95_low",
            "val-aux/a/acc/mean@1/ci95_high",
        ];
        assert_eq!(names, expected);
    }
}
