//! How a run begins: from a policy, or from a checkpoint.

use super::ahead::Sampler;
use super::collector::Collector;
use super::evaluation::HeldOut;
use super::learner::Learner;
use super::length::Length;
use super::origin::Origin;
use super::ranks::check_alike;
use super::reference::Reference;
use super::report::{Event, Metrics, Moment, Reporters};
use super::setup::{Parts, Start, check_correction};
use super::stops::Pace;
use super::trainer::Trainer;
use super::versions::Versions;
use crate::best;
use crate::checkpoint::{TrainerState, read_optimizer, read_state};
use crate::config::TrainConfig;
use crate::failure::Failure;
use crate::run_folder::RunFolder;
use rpg_core::ops::DecodeBackend;
use std::sync::Arc;
use std::time::Instant;

impl<'a, B: DecodeBackend> Trainer<'a, B> {
    /// A run in `folder`: a new one, or the one that `start` resumes.
    pub fn new(
        config: &'a TrainConfig,
        folder: &'a RunFolder,
        start: Start<B>,
        parts: Parts<'a, B>,
    ) -> Result<Self, Failure> {
        let Start {
            policy,
            tokenizer,
            mut data,
            reference,
            resume,
        } = start;
        check_correction(config, parts.rollouts.as_ref())?;
        let team = parts.team;
        let mut state = TrainerState::default();
        let length = Length::new(config, &data.train)?;
        let now = Origin::new(config, &data, &policy, reference.as_ref())?;
        check_alike(&team, &now, &policy)?;
        let mut reference = Reference::new(config, reference)?;
        let mut versions = Versions::new(config.rollout.max_staleness.get());
        if let Some(dir) = &resume {
            state = read_state(dir)?;
            if let Some(origin) = &state.origin {
                let notes = origin.check(&now, &folder.path("config.toml"))?;
                data.notes.extend(notes);
            }
            length.check(&state)?;
            reference.restore(dir, &state.reference, &policy)?;
            versions.restore(dir, &policy)?;
            let steps = length.steps(&state);
            team.first(|| state.drop_later_lines(folder, |step| config.evaluate.due(step, steps)))?;
        } else {
            team.first(|| folder.retain_lines(|_| false))?;
        }
        // Others are of steps that come again.
        team.first(|| best::keep(folder, &state, config))?;
        // What is noted once is noted.
        state.origin = Some(now);
        state.base = (state.base).or_else(|| policy.lora().map(|_| config.model.name()));
        data.notes.extend(parts.grader.note_on_answers(&data));
        let learner =
            Learner::over(
                &team,
                policy,
                parts.optimizer,
                |policy, optimizer| match &resume {
                    Some(dir) => read_optimizer(dir, policy, optimizer),
                    None => Ok(policy),
                },
            )?;
        let grader = Arc::new(parts.grader);
        // A thread that samples ahead exchanges what it has beside the updates.
        let sampling = if config.samples_ahead() {
            team.second()?
        } else {
            team.clone()
        };
        let sampler = Sampler::new(Collector {
            config,
            length,
            train: data.train,
            n_problems: state.n_problems,
            rollouts: parts.rollouts,
            grader: Arc::clone(&grader),
            team: sampling,
        });
        Ok(Self {
            config,
            folder,
            tokenizer,
            held_out: HeldOut::new(&data.eval, config),
            eval: data.eval,
            notes: data.notes,
            length,
            learner,
            reference,
            sampler,
            versions,
            grader,
            reporters: Reporters(if team.is_first() {
                parts.reporters
            } else {
                Vec::new()
            }),
            team,
            interrupt: parts.interrupt,
            seconds_before: state.seconds,
            state,
            within_step: false,
            is_new: resume.is_none(),
            pace: Pace::default(),
            started: Instant::now(),
        })
    }

    /// What comes before the first step of a new or resumed run.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.reporters.on(&Event::Start {
            done: self.state.steps,
            steps: self.length.steps(&self.state),
            notes: &self.notes,
        })?;
        match self.state.before {
            Some(before) => self.held_out.resume(self.folder, before)?,
            None => {
                let mut metrics = Metrics::new(0, "initial");
                self.state.before = self.evaluate(Moment::Before, &mut metrics)?;
                self.save()?;
            }
        }
        self.reference.begin(&self.learner)?;
        self.sampler.begin(self.state.n_problems);
        Ok(())
    }
}
