//! What remains of a run: checkpoints, and how it ends before its last step.

use super::setup::Outcome;
use super::trainer::Trainer;
use crate::best;
use crate::checkpoint::{Checkpoint, read_state};
use crate::failure::{Failure, FailureKind};
use rpg_core::ops::DecodeBackend;
use std::path::PathBuf;

impl<B: DecodeBackend> Trainer<'_, B> {
    /// Ends a run that was interrupted or has failed: where it can go on later, with a checkpoint.
    pub(super) fn stopped(&mut self, failure: Failure) -> Result<Outcome, Failure> {
        // The other ranks stop at the same point of the run. Any other failure ends them where they are.
        let failure = match failure.kind {
            kind if kind == FailureKind::Interrupted || kind.may_pass() => self.team.tell(failure),
            _ => failure,
        };
        if !self.team.all_know(&failure) {
            return Err(failure);
        }
        let interrupted = self.team.any(self.interrupt.requested())?;
        // An incomplete step cannot be saved: the run resumes from the last checkpoint.
        if self.within_step && failure.kind == FailureKind::Interrupted {
            let (checkpoint, state) = self.team.first(|| {
                let checkpoint = self.folder.newest_checkpoint()?;
                let state = read_state(&checkpoint)?;
                Ok((checkpoint, state))
            })?;
            self.state = state;
            return Ok(self.outcome(f64::NAN, checkpoint, true));
        }
        if self.within_step || !(interrupted || failure.kind.may_pass()) {
            return Err(failure);
        }
        let checkpoint = self.save()?;
        if interrupted {
            Ok(self.outcome(f64::NAN, checkpoint, true))
        } else {
            Err(failure)
        }
    }

    /// Whether a checkpoint is written after this step of so many.
    pub(super) fn is_checkpoint_due(&self, step: u64, steps: u64) -> Result<bool, Failure> {
        let config = &self.config.checkpoint;
        if config.due(step, steps) || step >= steps || config.every_minutes.is_none() {
            return Ok(config.due(step, steps));
        }
        // Clocks differ.
        self.team
            .first(|| Ok(self.pace.has_passed(config.every_minutes)))
    }

    pub(super) fn save(&mut self) -> Result<PathBuf, Failure> {
        self.state.reference = self.reference.state().clone();
        self.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let (policy, optimizer) = (self.learner.policy()?, self.learner.optimizer_state()?);
        let checkpoint = Checkpoint {
            policy: &policy,
            optimizer: &optimizer,
            reference: self.reference.kept_model(),
            past: self.versions.past(self.state.steps).collect(),
            tokenizer: &self.tokenizer,
            state: self.state.clone(),
        };
        let n_kept = self.config.checkpoint.keep.get();
        let written = self.team.first(|| {
            let written = checkpoint.write(self.folder, n_kept)?;
            best::keep(self.folder, &self.state, self.config)?;
            Ok(written)
        })?;
        self.pace.saved();
        Ok(written)
    }

    pub(super) fn outcome(&self, after: f64, checkpoint: PathBuf, interrupted: bool) -> Outcome {
        Outcome {
            before: self.state.before.unwrap_or(f64::NAN),
            after,
            k: self.config.evaluate.samples.get(),
            best: self.state.best.clone(),
            steps: self.state.steps,
            seconds: self.state.seconds,
            updates: self.state.updates,
            checkpoint,
            interrupted,
        }
    }
}
