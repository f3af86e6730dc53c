//! The result of an evaluation by the sources of its problems.

use super::collect::{Evaluation, mean_at_k};
use super::report::{Metrics, n_errors};
use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::run_folder::{METRICS, RunFolder};

/// Under which the problems of several sources together are logged.
const ALL: &str = "all";

/// The sources of the held-out problems, and k of Mean@k.
pub(super) struct Sources {
    /// In the order of their first problems.
    names: Vec<String>,
    k: usize,
}

impl Sources {
    pub(super) fn new(problems: &[PromptedProblem], k: usize) -> Self {
        let mut names: Vec<String> = Vec::new();
        for prompted in problems {
            let source = &prompted.problem.data_source;
            if !names.contains(source) {
                names.push(source.clone());
            }
        }
        Self { names, k }
    }

    /// The name of all problems together.
    pub(super) fn overall(&self) -> &str {
        match &self.names[..] {
            [source] => source,
            _ => ALL,
        }
    }

    /// The metric of the accuracy on the problems of a source.
    pub(super) fn accuracy(&self, source: &str) -> String {
        format!("val-core/{source}/acc/mean@{}", self.k)
    }

    /// The newest Mean@k in the metrics of a run.
    pub(super) fn last(&self, folder: &RunFolder) -> Result<Option<f64>, Failure> {
        let name = self.accuracy(self.overall());
        let lines = folder.lines(METRICS)?;
        let mut newest_first = lines.iter().rev();
        Ok(newest_first.find_map(|line| line.get(&name)?.as_f64()))
    }

    /// Adds the results of all problems, then those by source if there are several.
    pub(super) fn add(&self, evaluation: &Evaluation, has_own_reward: bool, metrics: &mut Metrics) {
        let mut add = |source: &str, mean: Option<f64>, n_errors: usize| {
            if let Some(mean) = mean {
                metrics.add(&self.accuracy(source), mean);
            }
            if has_own_reward {
                metrics.add(&format!("val-aux/{source}/reward_errors"), n_errors as f64);
            }
        };
        let groups = &evaluation.groups;
        let overall = self.overall();
        add(overall, Some(evaluation.mean_at_k), n_errors(groups));
        for source in self.names.iter().filter(|&source| source != overall) {
            let own = || {
                let all = groups.iter();
                all.filter(move |group| group.problem.data_source == *source)
            };
            add(source, mean_at_k(own()), n_errors(own()));
        }
    }
}
