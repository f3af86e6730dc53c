//! What the user is told when something goes wrong, and with which exit code.

use std::fmt;

/// Exit codes of the `rpg` command.
pub mod exit {
    /// The work was done, and what it found is negative (a verification failed).
    pub const NEGATIVE: i32 = 1;
    /// Something given is wrong: a flag, a config, a file.
    pub const BAD_INPUT: i32 = 2;
    /// Something failed that the user did not cause.
    pub const FAILED: i32 = 3;
    /// The user's reward command failed.
    pub const REWARD: i32 = 4;
    /// Ended by Ctrl-C.
    pub const INTERRUPTED: i32 = 130;
}

/// One clear error: what was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong, with the file, line or key.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The exit code.
    pub code: i32,
}

impl Failure {
    /// Something given is wrong.
    pub fn input(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: exit::BAD_INPUT,
        }
    }

    /// Something failed that the user did not cause.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: exit::FAILED,
        }
    }

    /// The user's reward command failed.
    pub fn reward(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: exit::REWARD,
        }
    }

    /// Ended by Ctrl-C.
    pub fn interrupted(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: exit::INTERRUPTED,
        }
    }

    /// With advice.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Adds the place to an error of the file system.
pub trait AtPath<T> {
    /// Names the path in the error.
    fn at(self, path: &std::path::Path) -> Result<T, Failure>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: &std::path::Path) -> Result<T, Failure> {
        self.map_err(|e| Failure::input(format!("{}: {e}", path.display())))
    }
}
