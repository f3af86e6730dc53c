//! Rewards in other languages: a pool of processes of one command.
//!
//! Each process of a [`CommandReward`] reads one JSON object per line from its standard input and answers
//! with one per line on its standard output, in the same order:
//!
//! ```text
//! -> {"id": 0, "prompt": "2 + 2 = ?", "completion": "\\boxed{4}", "gold": "4"}
//! <- {"id": 0, "score": 1.0, "parts": {"correct": 1.0}}
//! ```
//!
//! Where the data have other columns to judge by, the request has them as `"columns": {..}`.
//! `id` numbers the items of a batch; an answer may repeat it, and then it must match. `parts` may be
//! omitted; a part called `correct` is 0 or 1. The command's standard error is that of the caller.
//!
//! If each answer of the command depends only on its line, the scores do not depend on the number of
//! processes. Neither do failures: if a process ends, hangs or gives an invalid answer, only that item has
//! no score, because the next item gets a new process.
//!
//! **The command runs with the permissions of the user who starts it.** It is not sandboxed: a command
//! from someone you do not trust can do anything that you can.

mod pipe;
mod pool;
mod process;

pub use pool::CommandReward;
pub use process::stop_all_processes;

use crate::reward::ErrorPolicy;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a reward command is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CommandConfig {
    /// The program and its arguments; no shell is involved.
    pub program: Vec<String>,
    /// The number of processes.
    #[serde(default = "default_processes")]
    pub processes: usize,
    /// The time limit of one answer, in seconds; the first answer of a process includes its start.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: f64,
    /// The time limit of a whole batch, in seconds: items that are not answered by then have no score.
    #[serde(default = "default_batch_timeout")]
    pub batch_timeout_seconds: f64,
    /// How often a process that ends without an answer is restarted for the same item.
    #[serde(default = "default_restarts")]
    pub max_restarts: usize,
    /// What to do with completions that have no score.
    #[serde(default)]
    pub on_error: ErrorPolicy,
}

fn default_processes() -> usize {
    2
}

fn default_timeout() -> f64 {
    60.0
}

fn default_batch_timeout() -> f64 {
    3600.0
}

fn default_restarts() -> usize {
    1
}

impl CommandConfig {
    /// A command with its arguments; all else has its default.
    pub fn new<S: Into<String>>(program: impl IntoIterator<Item = S>) -> Self {
        Self {
            program: program.into_iter().map(Into::into).collect(),
            processes: default_processes(),
            timeout_seconds: default_timeout(),
            batch_timeout_seconds: default_batch_timeout(),
            max_restarts: default_restarts(),
            on_error: ErrorPolicy::default(),
        }
    }

    /// The file that will be run: the program itself if it is a path, otherwise the first match on `PATH`.
    /// `None` if there is no executable file.
    pub fn find_program(&self) -> Option<PathBuf> {
        let program = Path::new(self.program.first()?);
        if program.components().count() > 1 || program.is_absolute() {
            return executable(program).then(|| program.to_owned());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .flat_map(|file| {
                [
                    file.clone(),
                    file.with_extension(std::env::consts::EXE_EXTENSION),
                ]
            })
            .find(|file| executable(file))
    }
}

fn executable(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else {
        return false;
    };
    #[cfg(unix)]
    let allowed = {
        use std::os::unix::fs::PermissionsExt;
        metadata.permissions().mode() & 0o111 != 0
    };
    #[cfg(not(unix))]
    let allowed = true;
    metadata.is_file() && allowed
}
