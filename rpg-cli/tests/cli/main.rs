//! The `rpg` command as a user meets it: what it prints, what it leaves behind, how it fails.

mod adapters;
mod changes;
mod common;
mod completions;
mod data;
mod dry_run;
mod epochs;
mod eval;
mod examples;
mod faults;
mod filters;
mod models;
mod reference;
mod resume;
mod rewards;
mod train;
