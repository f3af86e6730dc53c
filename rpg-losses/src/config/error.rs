//! What can be wrong with an objective.

use thiserror::Error;

/// A configuration that is out of range or contradicts itself.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// A number outside its range.
    #[error("`{key}` is {found}, but must be {expected}")]
    Value {
        /// The key in the config.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("`{key}` is \"{found}\", which does not go with `{other_key}` \"{other}\": {hint}")]
    Conflict {
        /// The key in the config.
        key: &'static str,
        /// Its value.
        found: &'static str,
        /// The key it conflicts with.
        other_key: &'static str,
        /// The value of that key.
        other: &'static str,
        /// What would be right.
        hint: String,
    },
}
