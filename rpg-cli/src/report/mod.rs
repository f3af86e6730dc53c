//! Pictures: the learning curve of a run folder.

pub mod curve;
