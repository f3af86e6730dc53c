//! Progress on standard error: a bar with lines above it on a terminal, otherwise plain lines.

use crate::cli::beat::Beat;
use crate::cli::say::say;
use crate::failure::Failure;
use crate::train::report::{Activity, Event, Metrics, Moment, Progress, Reporter};
use crate::train::{GradedGroup, Sample};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Warm-start steps per printed line.
const WARM_START_LINE_EVERY: u64 = 50;

/// Steps per printed sample.
const SAMPLE_EVERY: u64 = 25;

/// Shows the progress of a long task.
#[derive(Debug, Clone, Default)]
pub(super) struct Console {
    bar: Option<ProgressBar>,
    beat: Beat,
}

impl Console {
    /// A bar of `total` steps.
    pub(super) fn new(total: u64, what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix:>11} [{bar:32}] {pos}/{len} {elapsed} (left {eta}) {wide_msg}";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            let bar = ProgressBar::new(total)
                .with_style(style)
                .with_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            beat: Beat::default(),
        }
    }

    /// Prints a line.
    pub(super) fn line(&self, text: &str) {
        self.beat.said(Instant::now());
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    /// Shows what is happening, to the right of the bar; without one, prints it as a line from time to time.
    pub(super) fn status(&self, text: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => bar.set_message(text()),
            None if self.beat.is_time(Instant::now()) => self.line(&text()),
            None => {}
        }
    }

    /// Moves the bar.
    pub(super) fn position(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// Moves the bar; without one, prints a line from time to time.
    pub(super) fn progress(&self, done: u64, total: u64, what: &str) {
        self.position(done);
        if self.bar.is_none() {
            self.status(|| format!("{what} {done}/{total}"));
        }
    }

    /// The bar's length, where it is an estimate.
    pub(super) fn total(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// Removes the bar.
    pub(super) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Reports a training run on the terminal.
#[derive(Debug, Default)]
pub(super) struct TrainConsole {
    console: Console,
    /// Steps of reinforcement learning done.
    done: u64,
    /// Whether what goes on is part of the next step, not of an evaluation.
    is_step: bool,
}

impl Reporter for TrainConsole {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        match event {
            Event::WarmStart {
                done,
                steps,
                batch_size,
            } => {
                self.console = Console::new(*steps, "warm start");
                self.console.position(*done);
                self.console.line(&format!(
                    "warm start: {steps} supervised steps of {batch_size} worked examples"
                ));
            }
            Event::WarmStartStep {
                step,
                steps,
                metrics,
            } => {
                let nll = metrics.get("warm_start/nll").unwrap_or(f64::NAN);
                self.console.position(*step);
                let line = format!("warm start {step:>4}/{steps} | nll {nll:.4}");
                if *step == 1 || step.is_multiple_of(WARM_START_LINE_EVERY) || step == steps {
                    self.console.line(&line);
                }
                // The bar has the step.
                self.console.status(|| match &self.console.bar {
                    Some(_) => format!("nll {nll:.4}"),
                    None => line,
                });
            }
            Event::WarmStartEnd | Event::End => self.console.done(),
            Event::Start { done, steps, notes } => {
                self.console = Console::new(*steps, "train");
                self.done = *done;
                self.console.position(*done);
                for note in *notes {
                    self.console.line(&format!("note: {note}"));
                }
            }
            Event::Graded { step, groups } => {
                let when = match step {
                    Some(step) => format!("step {step}"),
                    None => "evaluation".into(),
                };
                if let Some(line) = errors(&when, groups) {
                    self.console.line(&line);
                }
            }
            Event::Evaluated {
                moment,
                evaluation,
                k,
                ..
            } => {
                let groups = &evaluation.groups;
                match moment {
                    Moment::Before => self.console.line(&format!(
                        "held-out mean@{k} before training: {:.3} ({} problems); two samples:",
                        evaluation.mean_at_k,
                        groups.len()
                    )),
                    Moment::During => return Ok(()),
                    Moment::After => self.console.line("two samples of the trained policy:"),
                }
                groups.iter().take(2).for_each(|group| self.sample(group));
            }
            Event::Updated { update, updates } => {
                self.status(|| format!("update {update}/{updates}"));
            }
            Event::Step {
                step,
                steps,
                rollout,
                metrics,
                held_out,
                ..
            } => {
                self.console
                    .line(&step_line(*step, *steps, metrics, *held_out));
                self.done = *step;
                self.console.total(*steps);
                self.console.position(*step);
                if step.is_multiple_of(SAMPLE_EVERY) {
                    rollout
                        .groups
                        .iter()
                        .take(1)
                        .for_each(|group| self.sample(group));
                }
            }
        }
        Ok(())
    }

    fn on_progress(&mut self, progress: Progress) {
        // What a command scores was sampled before.
        self.is_step = match progress.activity {
            Activity::Evaluating => false,
            Activity::Grading => self.is_step,
            Activity::Sampling | Activity::Scoring | Activity::Updating => true,
        };
        let what = match progress.activity {
            Activity::Sampling => "sampling",
            Activity::Evaluating => "evaluating",
            Activity::Grading => "grading",
            Activity::Scoring => "scoring",
            Activity::Updating => "updating",
        };
        let Progress { done, total, .. } = progress;
        self.status(|| format!("{what} {done}/{total}"));
    }
}

impl TrainConsole {
    /// Shows what is happening: on a terminal the bar has the step.
    fn status(&self, text: impl FnOnce() -> String) {
        self.console
            .status(|| match (&self.console.bar, self.is_step) {
                (None, true) => format!("step {:>4}: {}", self.done + 1, text()),
                _ => text(),
            });
    }

    /// Prints the first sample of a group.
    fn sample(&self, group: &GradedGroup) {
        if let Some(sample) = group.samples.first() {
            self.console.line(&readable(group, sample));
        }
    }
}

/// The share of the updates of a step that were skipped.
fn skipped_share(metrics: &Metrics) -> f64 {
    metrics.get("actor/skipped_updates").unwrap_or(0.0)
}

fn step_line(step: u64, steps: u64, metrics: &Metrics, held_out: f64) -> String {
    let number = |name: &str| metrics.get(name).unwrap_or(f64::NAN);
    let updates = match metrics.get("train/num_updates") {
        Some(0.0) if metrics.get("train/masked_completions") > Some(0.0) => {
            "no update: every completion was cut off (train.mask_truncated_completions)".into()
        }
        Some(0.0) => "no update: every group was left out as equal (train.filter)".into(),
        Some(_) if skipped_share(metrics) == 1.0 => {
            "every update skipped: the gradient is not a finite number".into()
        }
        _ => format!(
            "kl {:.1e} | entropy {:.3} | clip {:.3}",
            number("actor/kl_loss"),
            number("actor/entropy"),
            number("actor/pg_clipfrac"),
        ),
    };
    let skipped = match skipped_share(metrics) * metrics.get("train/num_updates").unwrap_or(0.0) {
        n if n > 0.0 && skipped_share(metrics) < 1.0 => {
            format!(" ({n:.0} skipped: gradient not finite)")
        }
        _ => String::new(),
    };
    let held_out = if held_out.is_nan() {
        String::new()
    } else {
        format!(" | held-out {held_out:.3}")
    };
    let passes = match metrics.get("train/epoch") {
        Some(passes) => format!(" | epoch {passes:.2}"),
        None => String::new(),
    };
    format!(
        "step {step:>4}/{steps}{passes} | reward {:.3}{held_out} | {updates}{skipped} | length {:.1} | {:.0} tokens/s",
        number("critic/rewards/mean"),
        number("response_length/mean"),
        number("perf/throughput"),
    )
}

/// Says how many completions got no score from the user's reward, if any, and why the first got none.
fn errors(when: &str, groups: &[GradedGroup]) -> Option<String> {
    let all = || {
        groups
            .iter()
            .flat_map(|group| group.samples.iter().map(move |sample| (group, sample)))
    };
    let mut errors =
        all().filter_map(|(group, sample)| Some((group, sample.grade.error.as_ref()?)));
    let (group, error) = errors.next()?;
    Some(format!(
        "{when}: {} of {} completions have no score; the first, of problem {}: {error}",
        errors.count() + 1,
        all().count(),
        group.problem.id
    ))
}

fn readable(group: &GradedGroup, sample: &Sample) -> String {
    let grade = &sample.grade;
    let prompt = group.problem.prompt.readable().trim_end();
    let text = sample.completion.text.trim_end();
    let mark = match grade.correct {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "not graded",
    };
    // The reason is the built-in grader's, even where the user's reward decided otherwise.
    let whose = if grade.correct == Some(grade.verdict.correct) {
        ""
    } else {
        "built-in grader: "
    };
    let extracted = grade.verdict.extracted.as_deref().unwrap_or("nothing");
    let shown = |text: &str| {
        text.lines()
            .map(|line| format!("  | {line}\n"))
            .collect::<String>()
    };
    format!(
        "{}{}  {mark}: found {extracted}, expected {} ({whose}{})",
        shown(prompt),
        shown(text),
        group.problem.answer,
        grade.verdict.reason
    )
}
