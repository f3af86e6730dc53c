//! Turns completions into rewards: with the built-in grader, the user's own reward, and a sum of parts.

use super::sample::{GradedGroup, Sample};
use crate::config::{RewardConfig, TrainConfig};
use crate::data::{Data, PromptedProblem, TrainData};
use crate::failure::Failure;
use rpg_core::{Completion, Group, Problem};
use rpg_reward::command::CommandReward;
use rpg_reward::shaping::{RewardParts, format_reward};
use rpg_reward::{
    ErrorPolicy, GradeOptions, Reason, Reward, RewardError, RewardItem, Score, Verdict, grade_batch,
};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a completion is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Grade {
    /// The verdict of the built-in grader.
    pub verdict: Verdict,
    /// Whether it counts as right: the part `correct` of the user's reward decides, or else the built-in grader.
    /// `None` if the user's reward failed.
    pub correct: Option<bool>,
    /// `correct`, where the reward is about that: where the user's reward says it, or where `reward.weights.correct`
    /// is not 0. It is what dynamic sampling goes by.
    pub accuracy: Option<bool>,
    /// The parts whose weighted sum is the reward; empty if the user's reward failed.
    pub parts: RewardParts,
    /// The parts that the user's reward itself reports, which are logged but not added up.
    pub own_parts: Vec<(String, f64)>,
    /// The reward. `None`: the completion is left out.
    pub reward: Option<f64>,
    /// Why the user's reward gave no score.
    pub error: Option<RewardError>,
}

impl Grade {
    /// The parts by the names under which they are logged, those in `own_parts` last.
    pub fn named_parts(&self) -> impl Iterator<Item = (&str, f64)> {
        let parts = self.parts.parts().iter();
        let own = self.own_parts.iter();
        parts
            .map(|part| (part.name.as_str(), part.value))
            .chain(own.map(|(name, value)| (name.as_str(), *value)))
    }
}

/// Grades completions as the config says.
pub struct Grader {
    config: RewardConfig,
    /// Where the format reward expects the answer.
    form: GradeOptions,
    own: Option<Box<dyn Reward>>,
    has_scored: AtomicBool,
}

impl Grader {
    /// Grades with the built-in grader and, if given, with the user's own reward, whose weight is
    /// `reward.weights.command`.
    pub fn new(config: &TrainConfig, own: Option<Box<dyn Reward>>) -> Self {
        let form = match config.data.answer_style {
            Some(style) => GradeOptions::only(style),
            None => config.reward.grade.clone(),
        };
        Self {
            config: config.reward.clone(),
            form,
            own,
            has_scored: AtomicBool::new(false),
        }
    }

    /// Whether the user has given a reward besides the built-in grader.
    pub fn has_own_reward(&self) -> bool {
        self.own.is_some()
    }

    /// Refuses completions of `what` of which none has a score from the user's reward, if it has never given one.
    pub(super) fn check_scored(&self, what: &str, groups: &[GradedGroup]) -> Result<(), Failure> {
        if !self.has_own_reward() || self.has_scored.load(Ordering::Relaxed) {
            return Ok(());
        }
        let errors = groups.iter().flat_map(|group| &group.samples);
        let first = errors
            .filter_map(|sample| sample.grade.error.as_ref())
            .next();
        first.map_or(Ok(()), |error| Err(no_score(what, Some(error))))
    }

    /// A note on the expected answers that the built-in grader cannot parse, if it alone decides.
    pub fn note_on_answers(&self, data: &Data) -> Option<String> {
        let TrainData::Files(file) = &data.train else {
            return None;
        };
        if self.has_own_reward() {
            return None;
        }
        let all: Vec<&Problem> = file
            .problems()
            .iter()
            .chain(&data.eval)
            .map(|prompted| &prompted.problem)
            .collect();
        let answers: Vec<(&str, &str)> = all
            .iter()
            .map(|problem| ("\\boxed{0}", problem.answer.as_str()))
            .collect();
        let verdicts = grade_batch(&answers, &self.config.grade);
        let mut not_parsed = all
            .iter()
            .zip(verdicts)
            .filter(|(_, verdict)| verdict.reason == Reason::GoldNotParsed)
            .map(|(problem, _)| problem);
        let first = not_parsed.next()?;
        Some(format!(
            "the grader cannot parse {} of {} expected answers: only a completion that repeats the text counts as \
             right; the first: {}, `{}`",
            1 + not_parsed.count(),
            all.len(),
            first.id,
            first.answer
        ))
    }

    /// Grades the groups of these problems. `on_progress` is given the number of completions that the user's
    /// reward has scored and the number of all completions, and may stop the grading.
    pub fn grade(
        &self,
        problems: Vec<PromptedProblem>,
        groups: Vec<Group>,
        on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<GradedGroup>, Failure> {
        let completions: Vec<(&Problem, &Completion)> = groups
            .iter()
            .zip(&problems)
            .flat_map(|(group, prompted)| {
                let completions = group.completions.iter();
                completions.map(|completion| (&prompted.problem, completion))
            })
            .collect();
        let answers: Vec<(&str, &str)> = completions
            .iter()
            .map(|(problem, completion)| (completion.text.as_str(), problem.answer.as_str()))
            .collect();
        let verdicts = grade_batch(&answers, &self.config.grade);
        let grades: Vec<Grade> = match self.own_scores(&completions, on_progress)? {
            None => completions
                .iter()
                .zip(verdicts)
                .map(|((_, completion), verdict)| self.graded(completion, verdict, None))
                .collect(),
            Some(scores) => completions
                .iter()
                .zip(verdicts)
                .zip(scores)
                .map(|(((_, completion), verdict), score)| match score {
                    Ok(score) => self.graded(completion, verdict, Some(score)),
                    Err(error) => failed(verdict, None, error),
                })
                .collect(),
        };
        let mut grades = grades.into_iter();
        let graded = groups.into_iter().zip(problems).map(|(group, prompted)| {
            let samples = group.completions.into_iter().zip(grades.by_ref());
            GradedGroup {
                problem: prompted.problem,
                prompt_tokens: prompted.prompt_tokens,
                samples: samples
                    .map(|(completion, grade)| Sample { completion, grade })
                    .collect(),
            }
        });
        Ok(graded.collect())
    }

    /// The scores of the user's reward, if there is one.
    fn own_scores(
        &self,
        completions: &[(&Problem, &Completion)],
        on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Result<Score, RewardError>>>, Failure> {
        let Some(reward) = &self.own else {
            return Ok(None);
        };
        let items: Vec<RewardItem> = completions
            .iter()
            .map(|(problem, completion)| RewardItem {
                prompt: problem.prompt.readable(),
                completion: &completion.text,
                tokens: &completion.tokens,
                gold: &problem.answer,
            })
            .collect();
        let mut stopped = false;
        let scores = reward.score(&items, &mut |done| {
            let flow = on_progress(done, items.len());
            stopped |= flow.is_break();
            flow
        });
        if stopped {
            return Err(Failure::interrupted());
        }
        if scores.len() != items.len() {
            return Err(Failure::reward(format!(
                "reward `{}`: {} scores for {} completions",
                reward.describe(),
                scores.len(),
                items.len()
            )));
        }
        if scores.iter().flatten().any(|score| score.error.is_none()) {
            self.has_scored.store(true, Ordering::Relaxed);
        }
        let first_error = scores.iter().position(Result::is_err);
        if let Some(i) = first_error
            && reward.on_error() == ErrorPolicy::Stop
            && let Err(error) = &scores[i]
        {
            return Err(Failure::reward(format!(
                "reward.{}: `{}`, problem {}: {error}",
                reward.name(),
                reward.describe(),
                completions[i].0.id
            ))
            .hint(format!(
                "{}; `reward.command.on_error` can leave out such a completion or give it a fixed score",
                hint(error)
            )));
        }
        Ok(Some(scores))
    }

    fn graded(&self, completion: &Completion, verdict: Verdict, score: Option<Score>) -> Grade {
        let config = &self.config;
        if let Some(score) = &score
            && let Some(error) = &score.error
        {
            return failed(verdict, Some(score.score), error.clone());
        }
        let stated = score
            .as_ref()
            .and_then(|score| score.parts.get("correct"))
            .map(|&correct| correct == 1.0);
        let correct = stated.unwrap_or(verdict.correct);
        let mut parts = RewardParts::new();
        let correct_weight = config.weights.correct(self.has_own_reward());
        if correct_weight != 0.0 {
            parts = parts.with("correct", config.scale.score(correct), correct_weight);
        }
        if let (Some(reward), Some(score)) = (&self.own, &score) {
            parts = parts.with(reward.name(), score.score, config.weights.own());
        }
        let format_weight = config.weights.format();
        if format_weight != 0.0 {
            let format = format_reward(&completion.text, &self.form);
            parts = parts.with("format", format, format_weight);
        }
        if let Some(overlong) = config.overlong {
            parts = parts.with("overlong", overlong.penalty(completion.tokens.len()), 1.0);
        }
        if let Some(repetition) = config.repetition {
            parts = parts.with("repetition", repetition.penalty(&completion.tokens), 1.0);
        }
        let own_name = self.own.as_ref().map_or("", |reward| reward.name());
        let own_parts = score.map_or_else(Vec::new, |score| {
            let parts = score.parts.into_iter();
            parts
                .map(|(name, value)| (format!("{own_name}/{name}"), value))
                .collect()
        });
        Grade {
            verdict,
            correct: Some(correct),
            accuracy: (stated.is_some() || correct_weight != 0.0).then_some(correct),
            reward: Some(parts.total()),
            parts,
            own_parts,
            error: None,
        }
    }
}

/// The failure of a reward that has scored none of the completions of `what`.
pub(super) fn no_score(what: &str, first: Option<&RewardError>) -> Failure {
    let said = "the command's own messages, on standard error, are above";
    Failure::reward(format!(
        "reward.command: no completion of {what} has a score; the first error: {}",
        first.map_or_else(String::new, ToString::to_string)
    ))
    .hint(first.map_or(said, hint))
}

/// Where to look for the cause of an error of the reward command.
fn hint(error: &RewardError) -> &'static str {
    match error {
        RewardError::NotFlushed { .. } => {
            "flush after every answer (in Python: print(..., flush=True), or run it with `python3 -u`)"
        }
        RewardError::Timeout { .. } | RewardError::BatchTimeout { .. } => {
            "answers that the command does not flush after every line never arrive (in Python: \
             print(..., flush=True)); its own messages, on standard error, are above"
        }
        _ => "the command's own messages, on standard error, are above",
    }
}

/// A completion without a score: left out, or with the reward that the error policy names.
fn failed(verdict: Verdict, reward: Option<f64>, error: RewardError) -> Grade {
    Grade {
        verdict,
        correct: None,
        accuracy: None,
        parts: RewardParts::new(),
        own_parts: Vec::new(),
        reward,
        error: Some(error),
    }
}

/// The reward command of a config, started but not yet known to work.
pub struct StartedCommand {
    command: CommandReward,
    started: Instant,
}

/// How long a command is watched, since it may end right after its start.
const TIME_TO_FAIL: Duration = Duration::from_millis(1500);

impl StartedCommand {
    /// Finds the command of a config, if it has one, and starts it.
    pub fn start(config: &RewardConfig) -> Result<Option<Self>, Failure> {
        let Some(command) = config
            .command
            .clone()
            .map(|c| CommandReward::new(c.into_inner()))
        else {
            return Ok(None);
        };
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
        Ok(Some(Self {
            command,
            started: Instant::now(),
        }))
    }

    /// Refuses a command that has already ended, as an interpreter does whose script is missing.
    pub fn check(self) -> Result<Box<dyn Reward>, Failure> {
        // An interpreter takes a moment to notice that it has nothing to run. Part of that time has passed between
        // start and check, with loading the model for example.
        let mut running = self.command.check_running();
        while running.is_ok() && self.started.elapsed() < TIME_TO_FAIL {
            std::thread::sleep(Duration::from_millis(50));
            running = self.command.check_running();
        }
        match running {
            Ok(()) => Ok(Box::new(self.command)),
            Err(error) => Err(Failure::input(format!(
                "reward.command: `{}`: {error}",
                self.command.describe()
            ))
            .hint(
                "the command must read lines until its standard input ends; its own messages, on standard \
                 error, are above",
            )),
        }
    }
}
