//! What can be drawn from a run folder, again and again, without the run.

pub mod curve;
