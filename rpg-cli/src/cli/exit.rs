//! Exit codes of the `rpg` command.

use crate::failure::FailureKind;

/// The work was done, and its result is negative: a verification failed.
pub const NEGATIVE: i32 = 1;
/// Something given is wrong: a flag, a config, a file.
pub const BAD_INPUT: i32 = 2;
/// Something failed that the user did not cause.
pub const FAILED: i32 = 3;
/// A reward failed to score a completion.
pub const REWARD: i32 = 4;
/// The servers that sample are gone, or what they answer is wrong.
pub const SAMPLER: i32 = 5;
/// The command was ended by Ctrl-C, SIGTERM or SIGHUP.
pub const INTERRUPTED: i32 = 130;

/// The exit code of a failure.
pub fn code(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::Negative => NEGATIVE,
        FailureKind::Input => BAD_INPUT,
        FailureKind::Internal => FAILED,
        FailureKind::Reward => REWARD,
        FailureKind::Sampler => SAMPLER,
        FailureKind::Interrupted => INTERRUPTED,
    }
}
