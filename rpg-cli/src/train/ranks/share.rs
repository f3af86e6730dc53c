//! Sampling and grading in shares.

use super::Team;
use crate::data::PromptedProblem;
use crate::failure::Failure;
use crate::train::sample::{GradedGroup, Sample};

/// The groups of all `problems`, each of which one rank samples and grades: `work` is given the place of the first problem of
/// this rank's share, and the share. Every rank has the problems, so that only samples are exchanged.
pub(in crate::train) fn in_shares(
    team: &Team,
    problems: Vec<PromptedProblem>,
    work: impl FnOnce(usize, Vec<PromptedProblem>) -> Result<Vec<GradedGroup>, Failure>,
) -> Result<Vec<GradedGroup>, Failure> {
    if team.is_alone() {
        return work(0, problems);
    }
    let share = team.share(problems.len());
    // There may be more ranks than problems.
    let groups = if share.is_empty() {
        Vec::new()
    } else {
        work(share.start, problems[share].to_vec())?
    };
    let samples = groups.into_iter().map(|group| group.samples);
    let samples: Vec<Vec<Sample>> = team.concat(samples.collect())?;
    let groups = problems.into_iter().zip(samples);
    let group = |(prompted, samples): (PromptedProblem, _)| GradedGroup {
        problem: prompted.problem,
        prompt_tokens: prompted.prompt_tokens,
        samples,
    };
    Ok(groups.map(group).collect())
}
