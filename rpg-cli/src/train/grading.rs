//! From completions to rewards: the built-in grader, the user's command, and the sum of the parts.

use crate::config::TrainConfig;
use crate::data::{Data, PromptedProblem, TrainData};
use crate::failure::Failure;
use rpg_core::{Completion, Group};
use rpg_reward::command::CommandReward;
use rpg_reward::shaping::{RewardParts, format_reward};
use rpg_reward::{
    ErrorPolicy, GradeOptions, Reason, Reward, RewardError, RewardItem, Score, Verdict, grade_batch,
};
use std::time::{Duration, Instant};

/// A problem, its completions and what each of them is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The problem.
    pub problem: PromptedProblem,
    /// The completions.
    pub group: Group,
    /// One grade per completion.
    pub grades: Vec<Grade>,
}

impl Sampled {
    /// The rewards of the completions that have one.
    pub fn rewards(&self) -> Vec<f64> {
        self.grades
            .iter()
            .filter_map(|grade| grade.reward)
            .collect()
    }

    /// Without the completions that have no reward.
    pub fn rewarded(&self) -> Self {
        let mut rewarded = self.clone();
        let mut has_reward = self.grades.iter().map(|grade| grade.reward.is_some());
        let completions = &mut rewarded.group.completions;
        completions.retain(|_| has_reward.next().unwrap_or(false));
        rewarded.grades.retain(|grade| grade.reward.is_some());
        rewarded
    }
}

/// What a completion is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Grade {
    /// What the built-in grader says.
    pub verdict: Verdict,
    /// Whether it counts as right: as the command says in `parts.correct`, else as the built-in grader
    /// does. `None` where the command failed.
    pub correct: Option<bool>,
    /// What the reward is the weighted sum of; empty where the command failed.
    pub parts: RewardParts,
    /// The command's own parts, which are logged and not summed up.
    pub command_parts: Vec<(String, f64)>,
    /// The reward. `None`: the completion is left out.
    pub reward: Option<f64>,
    /// Why the command gave no score.
    pub error: Option<RewardError>,
}

/// Grades completions as a config says.
#[derive(Debug)]
pub struct Grader {
    config: crate::config::RewardConfig,
    /// Where the answer has to stand for the format reward.
    form: GradeOptions,
    command: Option<CommandReward>,
    started: Instant,
}

/// How long a command has to show that it starts at all.
const TIME_TO_FAIL: Duration = Duration::from_millis(1500);

impl Grader {
    /// Looks for the user's command and starts it.
    pub fn new(config: &TrainConfig) -> Result<Self, Failure> {
        let command = config.reward.command.clone().map(CommandReward::new);
        if let Some(command) = &command {
            if command.config().find_program().is_none() {
                let program = command.config().program.first();
                return Err(Failure::input(format!(
                    "reward.command.program: found `{}`; expected a path to an executable file, or the name of \
                     one on PATH",
                    program.map_or("", String::as_str)
                )));
            }
            command
                .start()
                .map_err(|error| Failure::input(format!("reward.command: {error}")))?;
        }
        let form = match config.data.answer_style {
            Some(style) => GradeOptions::only(style),
            None => config.reward.grade.clone(),
        };
        Ok(Self {
            config: config.reward.clone(),
            form,
            command,
            started: Instant::now(),
        })
    }

    /// Refuses a command that has ended by itself, as one whose script is missing does.
    pub fn check(&self) -> Result<(), Failure> {
        let Some(command) = &self.command else {
            return Ok(());
        };
        // An interpreter takes a moment to find out that it has nothing to run; loading the model has
        // given it most of that already.
        let mut running = command.check_running();
        while running.is_ok() && self.started.elapsed() < TIME_TO_FAIL {
            std::thread::sleep(Duration::from_millis(50));
            running = command.check_running();
        }
        running.map_err(|error| {
            let program = command.config().program.join(" ");
            Failure::input(format!("reward.command: `{program}`: {error}")).hint(
                "it has to read one line after the other until its standard input ends; its own messages \
                 stand above",
            )
        })
    }

    /// Whether a command has a say.
    pub fn has_command(&self) -> bool {
        self.command.is_some()
    }

    /// What a user should know of the expected answers where the built-in grader alone decides.
    pub fn note_on_answers(&self, data: &Data) -> Option<String> {
        let TrainData::File { problems, .. } = &data.train else {
            return None;
        };
        if self.has_command() {
            return None;
        }
        let all: Vec<_> = problems.iter().chain(&data.eval).collect();
        let answers: Vec<(&str, &str)> = all
            .iter()
            .map(|p| ("\\boxed{0}", p.problem.answer.as_str()))
            .collect();
        let verdicts = grade_batch(&answers, &self.config.grade);
        let mut not_parsed = all
            .iter()
            .zip(verdicts)
            .filter(|(_, verdict)| verdict.reason == Reason::GoldNotParsed)
            .map(|(p, _)| &p.problem);
        let first = not_parsed.next()?;
        Some(format!(
            "{} of {} expected answers are nothing that the grader understands, so that only a completion \
             which repeats the text is right; the first: {}, `{}`",
            1 + not_parsed.count(),
            all.len(),
            first.id,
            first.answer
        ))
    }

    /// Grades the groups of these problems. `go_on` is told how many completions the command has scored,
    /// of how many.
    pub fn grade(
        &self,
        problems: &[PromptedProblem],
        groups: Vec<Group>,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Vec<Sampled>, Failure> {
        let all = || {
            groups
                .iter()
                .zip(problems)
                .flat_map(|(group, problem)| group.completions.iter().map(move |c| (problem, c)))
        };
        let answers: Vec<(&str, &str)> = all()
            .map(|(problem, completion)| {
                (completion.text.as_str(), problem.problem.answer.as_str())
            })
            .collect();
        let verdicts = grade_batch(&answers, &self.config.grade);
        let mut scores = self.command_scores(&all().collect::<Vec<_>>(), go_on)?;
        let mut grades = all()
            .zip(verdicts)
            .map(
                |((_, completion), verdict)| match scores.as_mut().map(Iterator::next) {
                    None => self.graded(completion, verdict, None),
                    Some(score) => match score.unwrap_or(Err(RewardError::NotAsked)) {
                        Ok(score) => self.graded(completion, verdict, Some(score)),
                        Err(error) => failed(verdict, None, error),
                    },
                },
            )
            .collect::<Vec<_>>()
            .into_iter();
        let sampled = groups.into_iter().zip(problems).map(|(group, problem)| {
            let grades = grades.by_ref().take(group.completions.len()).collect();
            Sampled {
                problem: problem.clone(),
                group,
                grades,
            }
        });
        Ok(sampled.collect())
    }

    /// What the command says of each completion, if there is one.
    fn command_scores(
        &self,
        completions: &[(&PromptedProblem, &Completion)],
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<std::vec::IntoIter<Result<Score, RewardError>>>, Failure> {
        let Some(command) = &self.command else {
            return Ok(None);
        };
        let items: Vec<RewardItem> = completions
            .iter()
            .map(|(problem, completion)| RewardItem {
                prompt: problem.problem.prompt.readable(),
                completion: &completion.text,
                tokens: &completion.tokens,
                gold: &problem.problem.answer,
            })
            .collect();
        let mut stopped = false;
        let scores = command.score(&items, &mut |done| {
            stopped |= !go_on(done, items.len());
            !stopped
        });
        if stopped {
            return Err(Failure::interrupted("interrupted"));
        }
        let first_error = scores.iter().position(Result::is_err);
        if let Some(i) = first_error
            && command.config().on_error == ErrorPolicy::Stop
            && let Err(error) = &scores[i]
        {
            return Err(Failure::reward(format!(
                "reward.command: `{}`, problem {}: {error}",
                command.config().program.join(" "),
                completions[i].0.problem.id
            ))
            .hint(
                "what the command wrote on standard error stands above; `reward.command.on_error` says what \
                 else may happen to such a completion",
            ));
        }
        Ok(Some(scores.into_iter()))
    }

    fn graded(&self, completion: &Completion, verdict: Verdict, score: Option<Score>) -> Grade {
        let config = &self.config;
        if let Some(Score {
            score,
            error: Some(error),
            ..
        }) = score
        {
            return failed(verdict, Some(score), error);
        }
        let correct = score
            .as_ref()
            .and_then(|score| score.parts.get("correct"))
            .map_or(verdict.correct, |&correct| correct == 1.0);
        let mut parts = RewardParts::new();
        let correct_weight = config.correct_weight();
        if correct_weight != 0.0 {
            parts = parts.with("correct", config.scale.score(correct), correct_weight);
        }
        if let Some(score) = &score {
            parts = parts.with("command", score.score, config.command_weight());
        }
        if config.format_weight() != 0.0 {
            let format = format_reward(&completion.text, &self.form);
            parts = parts.with("format", format, config.format_weight());
        }
        if let Some(overlong) = config.overlong {
            parts = parts.with("overlong", overlong.penalty(completion.tokens.len()), 1.0);
        }
        if let Some(repetition) = config.repetition {
            parts = parts.with("repetition", repetition.penalty(&completion.tokens), 1.0);
        }
        Grade {
            verdict,
            correct: Some(correct),
            reward: Some(parts.total()),
            parts,
            command_parts: score.map_or_else(Vec::new, |score| score.parts.into_iter().collect()),
            error: None,
        }
    }
}

/// A completion that the command gave no score: left out, or with the score that the config names.
fn failed(verdict: Verdict, reward: Option<f64>, error: RewardError) -> Grade {
    Grade {
        verdict,
        correct: None,
        parts: RewardParts::new(),
        command_parts: Vec::new(),
        reward,
        error: Some(error),
    }
}
