//! Turns completions into rewards: with the built-in grader, the user's own reward, and a sum of parts.

use super::ranks::Team;
use super::sample::{GradedGroup, Sample};
use crate::config::{RewardConfig, TrainConfig};
use crate::data::{Data, PromptedProblem, TrainData};
use crate::failure::Failure;
use rpg_core::{Columns, Completion, Group, Problem};
use rpg_reward::shaping::{RewardParts, format_reward};
use rpg_reward::{
    ErrorPolicy, GradeOptions, Reason, Reward, RewardError, RewardItem, Score, Verdict, grade_batch,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a completion is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Why a reward of the user's gave no score.
    pub error: Option<OwnError>,
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

/// Why a reward of the user's gave no score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnError {
    /// Which of several; `None` of the only one.
    pub name: Option<String>,
    /// The error.
    pub error: RewardError,
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

/// A reward of the user's.
struct Own {
    reward: Box<dyn Reward>,
    weight: f64,
    has_scored: AtomicBool,
}

/// What a reward of the user's says of a completion.
type Scored = Result<Score, RewardError>;

/// Grades completions as the config says.
pub struct Grader {
    config: RewardConfig,
    /// Where the format reward expects the answer.
    form: GradeOptions,
    own: Vec<Own>,
}

impl Grader {
    /// Grades with the built-in grader and the user's own rewards, if there are any. The weight of one that `reward.commands`
    /// names is there, that of another is `reward.weights.command`.
    pub fn new(config: &TrainConfig, own: Vec<Box<dyn Reward>>) -> Self {
        let form = match config.data.answer_style {
            Some(style) => GradeOptions::only(style),
            None => config.reward.grade.clone(),
        };
        let own = own.into_iter().map(|reward| Own {
            weight: config.reward.weight_of(reward.name()),
            reward,
            has_scored: AtomicBool::new(false),
        });
        Self {
            config: config.reward.clone(),
            form,
            own: own.collect(),
        }
    }

    /// Whether the user has given a reward besides the built-in grader.
    pub fn has_own_reward(&self) -> bool {
        !self.own.is_empty()
    }

    /// An error of one of the rewards, by its name where there are several.
    fn error_of(&self, own: &Own, error: RewardError) -> OwnError {
        let name = (self.own.len() > 1).then(|| own.reward.name().to_owned());
        OwnError { name, error }
    }

    /// Refuses completions of `what` of which none has a score from one of the user's rewards, if that has never given one on any
    /// rank.
    pub(super) fn check_scored(
        &self,
        what: &str,
        groups: &[GradedGroup],
        team: &Team,
    ) -> Result<(), Failure> {
        let has_scored = |own: &Own| f64::from(u8::from(own.has_scored.load(Ordering::Relaxed)));
        let scored = team.sum(self.own.iter().map(has_scored).collect())?;
        let mut silent = self.own.iter().zip(scored).filter(|(_, n)| *n == 0.0);
        silent.try_for_each(|(own, _)| {
            let samples = groups.iter().flat_map(|group| &group.samples);
            let mut errors = samples.filter_map(|sample| sample.grade.error.as_ref());
            let first = errors.find(|error| {
                let name = error.name.as_deref();
                name.is_none_or(|name| name == own.reward.name())
            });
            first.map_or(Ok(()), |error| Err(self.no_score(what, Some(error))))
        })
    }

    /// The failure of a reward that has scored none of the completions of `what`.
    pub(super) fn no_score(&self, what: &str, first: Option<&OwnError>) -> Failure {
        let named = first.and_then(|error| error.name.as_deref());
        let own = self.own.first().map(|own| own.reward.name());
        let section = self.config.section_of(named.or(own).unwrap_or("command"));
        Failure::reward(format!(
            "{section}: no completion of {what} has a score; the first error: {}",
            first.map_or_else(String::new, |error| error.error.to_string())
        ))
        .hint(first.map_or(SAID, |error| hint(&error.error)))
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
        let mut scores = self.own_scores(&completions, on_progress)?.into_iter();
        let grades = completions
            .iter()
            .zip(verdicts)
            .map(|((_, completion), verdict)| {
                self.graded(completion, verdict, scores.next().unwrap_or_default())
            });
        let grades: Vec<Grade> = grades.collect::<Result<_, _>>()?;
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

    /// What the user's rewards say of each completion, in their order; nothing if there are none.
    fn own_scores(
        &self,
        completions: &[(&Problem, &Completion)],
        on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Scored>>, Failure> {
        let items: Vec<RewardItem> = completions
            .iter()
            .map(|(problem, completion)| RewardItem {
                prompt: problem.prompt.readable(),
                completion: &completion.text,
                tokens: &completion.tokens,
                gold: &problem.answer,
                columns: problem.columns.as_ref().map(Columns::as_json),
            })
            .collect();
        let mut all: Vec<Vec<Scored>> = Vec::new();
        for (i, own) in self.own.iter().enumerate() {
            let (n_before, n) = (i * items.len(), self.own.len() * items.len());
            let mut stopped = false;
            let scores = own.reward.score(&items, &mut |done| {
                let flow = on_progress(n_before + done, n);
                stopped |= flow.is_break();
                flow
            });
            if stopped {
                return Err(Failure::interrupted());
            }
            self.check_scores(own, &scores, completions)?;
            all.resize_with(scores.len(), Vec::new);
            for (of_completion, score) in all.iter_mut().zip(scores) {
                of_completion.push(score);
            }
        }
        Ok(all)
    }

    /// Refuses scores that do not fit the completions, and errors if the reward's policy is to stop.
    fn check_scores(
        &self,
        own: &Own,
        scores: &[Scored],
        completions: &[(&Problem, &Completion)],
    ) -> Result<(), Failure> {
        let reward = own.reward.as_ref();
        if scores.len() != completions.len() {
            return Err(Failure::reward(format!(
                "reward `{}`: {} scores for {} completions",
                reward.describe(),
                scores.len(),
                completions.len()
            )));
        }
        if scores.iter().flatten().any(|score| score.error.is_none()) {
            own.has_scored.store(true, Ordering::Relaxed);
        }
        let first_error = scores.iter().position(Result::is_err);
        if let Some(i) = first_error
            && reward.on_error() == ErrorPolicy::Stop
            && let Err(error) = &scores[i]
        {
            let section = self.config.section_of(reward.name());
            return Err(Failure::reward(format!(
                "{section}: `{}`, problem {}: {error}",
                reward.describe(),
                completions[i].0.id
            ))
            .hint(format!(
                "{}; `{section}.on_error` can leave out such a completion or give it a fixed score",
                hint(error)
            )));
        }
        Ok(())
    }

    /// The grade of a completion of which the user's rewards say this, in their order.
    fn graded(
        &self,
        completion: &Completion,
        verdict: Verdict,
        scores: Vec<Scored>,
    ) -> Result<Grade, Failure> {
        let config = &self.config;
        let mut first_error = None;
        let mut given: Vec<(&Own, Score)> = Vec::with_capacity(scores.len());
        for (own, score) in self.own.iter().zip(scores) {
            match score {
                Err(error) => return Ok(failed(verdict, None, self.error_of(own, error))),
                Ok(mut score) => {
                    if let Some(error) = score.error.take() {
                        let error = self.error_of(own, error);
                        // The only reward's is the whole reward; that of one of several is its part of it.
                        if self.own.len() == 1 {
                            return Ok(failed(verdict, Some(score.score), error));
                        }
                        first_error.get_or_insert(error);
                    }
                    given.push((own, score));
                }
            }
        }
        let stated = self.stated(&given)?;
        // Whoever failed might have said it.
        let is_known = stated.is_some() || first_error.is_none();
        let correct = stated.unwrap_or(verdict.correct);
        let mut parts = RewardParts::new();
        let correct_weight = config.weights.correct(self.has_own_reward());
        if correct_weight != 0.0 {
            parts = parts.with("correct", config.scale.score(correct), correct_weight);
        }
        for (own, score) in &given {
            parts = parts.with(own.reward.name(), score.score, own.weight);
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
        let own_parts = given.into_iter().flat_map(|(own, score)| {
            let parts = score.parts.into_iter();
            parts.map(|(name, value)| (format!("{}/{name}", own.reward.name()), value))
        });
        let is_about_it = stated.is_some() || correct_weight != 0.0;
        Ok(Grade {
            verdict,
            correct: is_known.then_some(correct),
            accuracy: (is_known && is_about_it).then_some(correct),
            reward: Some(parts.total()),
            own_parts: own_parts.collect(),
            parts,
            error: first_error,
        })
    }

    /// Whether the completion is right, if one of the user's rewards says it: that of `reward.correct_by`, or the only one.
    fn stated(&self, given: &[(&Own, Score)]) -> Result<Option<bool>, Failure> {
        let says = given.iter().filter_map(|(own, score)| {
            let name = own.reward.name();
            let is_asked = self
                .config
                .correct_by
                .as_deref()
                .is_none_or(|by| by == name);
            let correct = score.parts.get("correct").filter(|_| is_asked)?;
            Some((name, *correct == 1.0))
        });
        match says.collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [(_, correct)] => Ok(Some(correct)),
            [(one, _), (other, _), ..] => Err(Failure::reward(format!(
                "reward.correct_by: found nothing; expected one of `{one}` and `{other}`, which both say what is right, in a \
                 part `correct`"
            ))
            .hint(format!("--set reward.correct_by={one}, for example"))),
        }
    }
}

/// Where a command has said why it failed.
const SAID: &str = "the command's own messages, on standard error, are above";

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
        _ => SAID,
    }
}

/// A completion without a score: left out, or with the reward that the error policy names.
fn failed(verdict: Verdict, reward: Option<f64>, error: OwnError) -> Grade {
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
