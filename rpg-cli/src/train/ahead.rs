//! Where the loop gets its steps from: sampled in its own thread when it asks for them, or ahead of it in another.

use super::collector::{Collected, Collector, Measurement, OnProgress};
use super::evaluation::Evaluation;
use super::report::Progress;
use super::versions::Order;
use crate::failure::{Failure, FailureKind};
use rayon::Yield;
use rpg_core::ops::DecodeBackend;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Samples the steps that are ordered, in their order, and measures policies in between.
pub(super) enum Sampler<'a, B: DecodeBackend> {
    /// In the loop's thread, when a step is asked for.
    Here(Collector<'a, B>, VecDeque<Order<B>>),
    /// In a thread of its own, as soon as it can.
    Ahead(Ahead<B>),
}

impl<'a, B: DecodeBackend> Sampler<'a, B> {
    pub(super) fn new(collector: Collector<'a, B>) -> Self {
        Self::Here(collector, VecDeque::new())
    }

    /// With `rollout.max_staleness` above 0, moves to a thread, which ends when this is dropped.
    pub(super) fn start<'scope>(self, scope: &'scope Scope<'scope, 'a>) -> Self
    where
        'a: 'scope,
    {
        match self {
            Self::Here(collector, _) if collector.config.rollout.max_staleness.get() > 0 => {
                Self::Ahead(Ahead::new(collector, scope))
            }
            other => other,
        }
    }

    /// Goes on from this position in the data.
    pub(super) fn begin(&mut self, n_problems: u64) {
        match self {
            Self::Here(collector, _) => collector.n_problems = n_problems,
            Self::Ahead(ahead) => ahead.send(Job::Begin(n_problems)),
        }
    }

    pub(super) fn order(&mut self, order: Order<B>) {
        match self {
            Self::Here(_, orders) => orders.push_back(order),
            Self::Ahead(ahead) => ahead.send(Job::Step(order)),
        }
    }

    /// The first step that was ordered and not yet taken.
    pub(super) fn step(&mut self, on_progress: OnProgress<'_>) -> Result<Collected, Failure> {
        match self {
            Self::Here(collector, orders) => {
                let order = orders.pop_front();
                let order = order.ok_or_else(|| Failure::internal("no step is ordered"))?;
                collector.step(order, on_progress)
            }
            Self::Ahead(ahead) => ahead.step(on_progress),
        }
    }

    /// Measures a policy, after the steps that were ordered before.
    pub(super) fn measure(
        &mut self,
        measurement: Measurement<B>,
        on_progress: OnProgress<'_>,
    ) -> Result<Evaluation, Failure> {
        match self {
            Self::Here(collector, _) => collector.measure(measurement, on_progress),
            Self::Ahead(ahead) => ahead.measure(measurement, on_progress),
        }
    }
}

/// How often a loop that waits looks whether there is something to compute.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the thread is asked to do.
enum Job<B: DecodeBackend> {
    Begin(u64),
    Step(Order<B>),
    Measure(Measurement<B>),
}

/// What the thread has to say.
enum Answer {
    Progress(Progress),
    Step(Result<Collected, Failure>),
    Measured(Result<Evaluation, Failure>),
}

/// The loop's end of the channels to the thread, and what has come through them.
pub(super) struct Ahead<B: DecodeBackend> {
    jobs: Sender<Job<B>>,
    answers: Receiver<Answer>,
    /// Set when the thread is to end at its next sign of progress.
    stops: Arc<AtomicBool>,
    steps: VecDeque<Result<Collected, Failure>>,
    measured: Option<Result<Evaluation, Failure>>,
}

impl<B: DecodeBackend> Ahead<B> {
    fn new<'scope, 'a: 'scope>(
        collector: Collector<'a, B>,
        scope: &'scope Scope<'scope, 'a>,
    ) -> Self {
        let (jobs, received) = channel();
        let (answered, answers) = channel();
        let stops = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stops);
        scope.spawn(move || work(collector, &received, &answered, &is_stopped));
        Self {
            jobs,
            answers,
            stops,
            steps: VecDeque::new(),
            measured: None,
        }
    }

    /// A thread that has ended is noticed when its answer is waited for.
    fn send(&self, job: Job<B>) {
        let _ = self.jobs.send(job);
    }

    fn step(&mut self, on_progress: OnProgress<'_>) -> Result<Collected, Failure> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return step;
            }
            self.receive(on_progress)?;
        }
    }

    fn measure(
        &mut self,
        measurement: Measurement<B>,
        on_progress: OnProgress<'_>,
    ) -> Result<Evaluation, Failure> {
        self.send(Job::Measure(measurement));
        loop {
            if let Some(evaluation) = self.measured.take() {
                return evaluation;
            }
            self.receive(on_progress)?;
        }
    }

    /// The next answer. The loop may have the only thread of the pool in which the sampling computes: it works there while it waits.
    fn answer(&self) -> Result<Answer, RecvTimeoutError> {
        loop {
            let time = match rayon::yield_now() {
                Some(Yield::Executed) => Duration::ZERO,
                _ => LOOK_EVERY,
            };
            match self.answers.recv_timeout(time) {
                Err(RecvTimeoutError::Timeout) => {}
                other => return other,
            }
        }
    }

    fn receive(&mut self, on_progress: OnProgress<'_>) -> Result<(), Failure> {
        match self.answer() {
            Ok(Answer::Progress(progress)) => {
                if on_progress(progress).is_break() {
                    // The thread ends, and with it those of all ranks.
                    self.stops.store(true, Ordering::Relaxed);
                }
            }
            Ok(Answer::Step(step)) => self.steps.push_back(step),
            Ok(Answer::Measured(evaluation)) => self.measured = Some(evaluation),
            Err(_) => return Err(Failure::internal("the thread that samples has ended")),
        }
        Ok(())
    }
}

/// Does the jobs until there are no more. When the loop has ended, the sampling stops where it is. After a step that failed no others
/// are sampled, but policies are still measured: the steps before it go on to their ends.
///
/// The loops of all ranks give the same jobs. Whoever fails within one, or stops at its beginning, tells the others, who are within
/// the same one or come to it: a thread that just left could keep another waiting.
fn work<B: DecodeBackend>(
    mut collector: Collector<'_, B>,
    jobs: &Receiver<Job<B>>,
    answers: &Sender<Answer>,
    is_stopped: &AtomicBool,
) {
    let team = collector.team.clone();
    let mut is_heard = true;
    let mut failed: Option<Failure> = None;
    let mut idle_since = Instant::now();
    for job in jobs {
        let idle = idle_since.elapsed();
        let ends = !is_heard || is_stopped.load(Ordering::Relaxed);
        let on_progress = &mut |progress| {
            let is_heard = answers.send(Answer::Progress(progress)).is_ok();
            if is_heard && !is_stopped.load(Ordering::Relaxed) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let answer = match (job, &failed) {
            (Job::Begin(n_problems), _) => {
                collector.n_problems = n_problems;
                continue;
            }
            (Job::Step(_), Some(_)) => continue,
            (Job::Step(order), None) if collector.is_beyond_end(order.step) => continue,
            (Job::Step(order), None) => {
                let step = if ends {
                    Err(Failure::interrupted())
                } else {
                    collector.step(order, on_progress)
                };
                let mut step = step.map_err(|failure| team.tell(failure));
                match &mut step {
                    Ok(step) => step.timing.add("sampler_idle", idle),
                    Err(failure) => failed = Some(failure.clone()),
                }
                Answer::Step(step)
            }
            (Job::Measure(_), Some(failure)) if failure.kind == FailureKind::Interrupted => {
                Answer::Measured(Err(failure.clone()))
            }
            (Job::Measure(measurement), _) => {
                let evaluation = collector.measure(measurement, on_progress);
                Answer::Measured(evaluation.map_err(|failure| team.tell(failure)))
            }
        };
        is_heard &= answers.send(answer).is_ok();
        idle_since = Instant::now();
    }
}
