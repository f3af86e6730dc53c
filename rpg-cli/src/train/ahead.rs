//! Where the loop gets its steps from: sampled in its own thread when it asks for them, or ahead of it in another.

use super::collector::{Collected, Collector, Measurement, OnProgress};
use super::evaluation::Evaluation;
use super::report::Progress;
use super::versions::Order;
use crate::failure::Failure;
use rpg_core::ops::DecodeBackend;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Instant;

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

/// What the thread is asked to do.
enum Job<B: DecodeBackend> {
    Begin(u64),
    Step(Order<B>),
    Measure(Measurement<B>),
}

/// What the thread has to say.
enum Answer {
    Progress(Progress),
    Step(Collected),
    Measured(Evaluation),
    /// The thread has ended.
    Failed(Failure),
}

/// The loop's end of the channels to the thread, and what has come through them.
pub(super) struct Ahead<B: DecodeBackend> {
    jobs: Sender<Job<B>>,
    answers: Receiver<Answer>,
    steps: VecDeque<Collected>,
    measured: Option<Evaluation>,
}

impl<B: DecodeBackend> Ahead<B> {
    fn new<'scope, 'a: 'scope>(
        collector: Collector<'a, B>,
        scope: &'scope Scope<'scope, 'a>,
    ) -> Self {
        let (jobs, received) = channel();
        let (answered, answers) = channel();
        scope.spawn(move || work(collector, &received, &answered));
        Self {
            jobs,
            answers,
            steps: VecDeque::new(),
            measured: None,
        }
    }

    /// A thread that has ended has said why: that is found when its answer is waited for.
    fn send(&self, job: Job<B>) {
        let _ = self.jobs.send(job);
    }

    fn step(&mut self, on_progress: OnProgress<'_>) -> Result<Collected, Failure> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(step);
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
                return Ok(evaluation);
            }
            self.receive(on_progress)?;
        }
    }

    fn receive(&mut self, on_progress: OnProgress<'_>) -> Result<(), Failure> {
        match self.answers.recv() {
            Ok(Answer::Progress(progress)) => {
                if on_progress(progress).is_break() {
                    return Err(Failure::interrupted());
                }
            }
            Ok(Answer::Step(step)) => self.steps.push_back(step),
            Ok(Answer::Measured(evaluation)) => self.measured = Some(evaluation),
            Ok(Answer::Failed(failure)) => return Err(failure),
            Err(_) => return Err(Failure::internal("the thread that samples has ended")),
        }
        Ok(())
    }
}

/// Does the jobs until one fails, or until nobody listens any more: then the sampling stops where it is.
fn work<B: DecodeBackend>(
    mut collector: Collector<'_, B>,
    jobs: &Receiver<Job<B>>,
    answers: &Sender<Answer>,
) {
    let mut idle_since = Instant::now();
    for job in jobs {
        let idle = idle_since.elapsed();
        let on_progress = &mut |progress| match answers.send(Answer::Progress(progress)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let answer = match job {
            Job::Begin(n_problems) => {
                collector.n_problems = n_problems;
                continue;
            }
            Job::Step(order) if collector.is_beyond_end(order.step) => continue,
            Job::Step(order) => collector.step(order, on_progress).map(|mut step| {
                step.timing.add("sampler_idle", idle);
                Answer::Step(step)
            }),
            Job::Measure(measurement) => collector
                .measure(measurement, on_progress)
                .map(Answer::Measured),
        };
        let has_failed = answer.is_err();
        let sent = answers.send(answer.unwrap_or_else(Answer::Failed));
        if has_failed || sent.is_err() {
            return;
        }
        idle_since = Instant::now();
    }
}
