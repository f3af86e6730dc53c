//! Errors in the user's terms: what was found, and what would be right.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::Path;

/// Whose fault a [`Failure`] is; the command turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FailureKind {
    /// Something given is wrong: a flag, a config, a file.
    Input,
    /// Something failed that the user did not cause.
    Internal,
    /// A reward failed to score a completion.
    Reward,
    /// The servers that sample are gone, or what they answer is wrong.
    Sampler,
    /// The caller asked to stop.
    Interrupted,
    /// The work was done, and its result is negative: a verification failed.
    Negative,
}

/// One clear error: what was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong, with the file, line or key.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whose fault it is.
    pub kind: FailureKind,
    /// Whether every rank of the run has it, so that all stop at the same point and the first of them says it.
    #[serde(skip)]
    pub everywhere: bool,
}

impl FailureKind {
    /// Whether it lies with a service that the run asks, so that the run can go on from where it is when that works again.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Reward | Self::Sampler)
    }
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            kind,
            everywhere: false,
        }
    }

    /// Something given is wrong.
    pub fn input(message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Input, message)
    }

    /// Something failed that the user did not cause.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Internal, message)
    }

    /// A reward failed to score a completion.
    pub fn reward(message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Reward, message)
    }

    /// There is no space left where `path` is written.
    pub fn disk_full(path: &Path) -> Self {
        Self::internal(format!("{}: the disk is full", path.display()))
            .hint("free some space; nothing that was written before is damaged")
    }

    /// The caller asked to stop.
    pub fn interrupted() -> Self {
        Self::new(FailureKind::Interrupted, "interrupted")
    }

    /// Adds advice.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Adds the path to an I/O error.
pub trait AtPath<T> {
    /// Names the path in the error.
    fn at(self, path: &Path) -> Result<T, Failure>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, Failure> {
        self.map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::disk_full(path),
            _ => Failure::input(format!("{}: {e}", path.display())),
        })
    }
}
