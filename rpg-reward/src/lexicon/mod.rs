//! What words mean to the grader, as data.

pub(crate) mod meaning;
pub(crate) mod units;
mod words;

pub(crate) use words::{Class, alters, entry, offers_more, said};
