//! The vocabulary as data.

pub(crate) mod meaning;
pub(crate) mod units;
