//! How long a run is: so many steps, or so many passes over the training problems.

use crate::checkpoint::TrainerState;
use crate::config::TrainConfig;
use crate::data::TrainData;
use crate::failure::Failure;
use crate::optim::Place;

/// What ends a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Length {
    /// A number of steps.
    Steps(u64),
    /// A number of problems, counted with repetition.
    Problems {
        /// So many are used before the run ends.
        all: u64,
        /// Those of one pass over the data.
        of_pass: u64,
        /// The least that a step takes.
        of_step: u64,
    },
}

impl Length {
    pub(super) fn new(config: &TrainConfig, data: &TrainData) -> Result<Self, Failure> {
        match (config.train.steps, config.train.data_epochs, data) {
            (Some(steps), ..) => Ok(Self::Steps(steps)),
            (None, Some(passes), TrainData::Files(file)) => {
                let of_pass = file.problems().len() as u64;
                let all = (passes.get() * of_pass as f64).round().max(1.0);
                Ok(Self::Problems {
                    all: all as u64,
                    of_pass,
                    of_step: config.rollout.prompts_per_step.get() as u64,
                })
            }
            // The check of the config has more to say.
            (None, ..) => Err(Failure::input("train.steps is missing")),
        }
    }

    /// Refuses fewer steps than the run has done.
    pub(super) fn check(&self, state: &TrainerState) -> Result<(), Failure> {
        match *self {
            Self::Steps(steps) if steps < state.steps => Err(Failure::input(format!(
                "train.steps: found {steps}; expected at least {}, as many as the run has done",
                state.steps
            ))),
            Self::Steps(_) | Self::Problems { .. } => Ok(()),
        }
    }

    /// Whether a run with so many steps done and problems used is at its end.
    pub(super) fn is_over(&self, done: u64, used: u64) -> bool {
        match *self {
            Self::Steps(steps) => done >= steps,
            Self::Problems { all, .. } => used >= all,
        }
    }

    /// The steps in total: where the data decide, those done and as many as the rest takes if steps go on to use as many
    /// problems as they have so far.
    pub(super) fn steps(&self, state: &TrainerState) -> u64 {
        let (all, of_step) = match *self {
            Self::Steps(steps) => return steps,
            Self::Problems { all, of_step, .. } => (all, of_step),
        };
        let (done, used) = match (state.steps, state.n_problems) {
            (0, _) | (_, 0) => (1, of_step),
            done_and_used => done_and_used,
        };
        let left = u128::from(all.saturating_sub(state.n_problems));
        let left = (left * u128::from(done)).div_ceil(u128::from(used));
        state
            .steps
            .saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
    }

    /// The place in the run of the step that comes next.
    pub(super) fn place(&self, state: &TrainerState) -> Place {
        let step = state.steps + 1;
        let place = Place::of(step, self.steps(state));
        match *self {
            Self::Steps(_) => place,
            Self::Problems { all, .. } => Place {
                done: state.n_problems as f64 / all as f64,
                ..place
            },
        }
    }

    /// The passes over the data so far, where they decide.
    pub(super) fn passes(&self, state: &TrainerState) -> Option<f64> {
        match *self {
            Self::Steps(_) => None,
            Self::Problems { of_pass, .. } => Some(state.n_problems as f64 / of_pass as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(steps: u64, n_problems: u64) -> TrainerState {
        TrainerState {
            steps,
            n_problems,
            ..TrainerState::default()
        }
    }

    #[test]
    fn the_data_decide_how_many_steps_there_are() {
        // Two passes over 10 problems, 4 a step.
        let length = Length::Problems {
            all: 20,
            of_pass: 10,
            of_step: 4,
        };
        // Steps done and problems used; steps in total, the share that is done, passes, and whether the run is over.
        for (steps, used, total, done, passes, over) in [
            (0, 0, 5, 0.0, 0.0, false),
            (1, 4, 5, 0.2, 0.4, false),
            (4, 16, 5, 0.8, 1.6, false),
            (5, 20, 5, 1.0, 2.0, true),
            // Steps that have used twice as many, and the last one more than there were left.
            (1, 8, 3, 0.4, 0.8, false),
            (2, 16, 3, 0.8, 1.6, false),
            (3, 24, 3, 1.2, 2.4, true),
            (2, 12, 4, 0.6, 1.2, false),
        ] {
            let state = state(steps, used);
            assert_eq!(length.steps(&state), total, "{steps} {used}");
            let place = length.place(&state);
            assert_eq!((place.step, place.steps), (steps + 1, total));
            assert_eq!(place.done, done, "{steps} {used}");
            assert_eq!(length.passes(&state), Some(passes));
            assert_eq!(length.is_over(steps, used), over, "{steps} {used}");
        }
    }

    #[test]
    fn a_number_of_steps_is_what_it_says() {
        let length = Length::Steps(8);
        for (steps, used) in [(0, 0), (3, 999), (8, 1)] {
            let state = state(steps, used);
            assert_eq!(length.steps(&state), 8);
            assert_eq!(length.place(&state), Place::of(steps + 1, 8));
            assert_eq!(length.passes(&state), None);
            assert_eq!(length.is_over(steps, used), steps == 8);
            assert_eq!(length.check(&state), Ok(()));
        }
        let error = length.check(&state(9, 0)).unwrap_err().message;
        assert_eq!(
            error,
            "train.steps: found 8; expected at least 9, as many as the run has done"
        );
    }
}
