//! The `rpg` command as a user meets it: what it prints, what it leaves behind, how it fails.

mod adapters;
mod common;
mod data;
mod dry_run;
mod eval;
mod faults;
mod filters;
mod models;
mod reference;
mod resume;
mod train;
