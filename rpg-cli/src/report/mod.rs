//! Pictures and pages: the learning curve of a run folder, the gradient study.

pub mod curve;
pub mod study;
