//! Pages whose tables are made by the code; the words around them are written by hand.

use anyhow::{Context, Result};
use std::fmt::Write;

const END: &str = "<!-- end -->";

/// The text with every block between markers made anew.
pub(crate) fn with_tables(text: &str, table: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<!-- generated: ") {
        let (before, block) = rest.split_at(start);
        let end = block.find(END).context("a marker `generated` has no end")?;
        let marker = block.lines().next().unwrap_or_default();
        let name = marker
            .trim_start_matches("<!-- generated: ")
            .trim_end_matches(" -->");
        let table = table(name).with_context(|| format!("no table is called `{name}`"))?;
        write!(out, "{before}{marker}\n{table}")?;
        rest = &block[end..];
    }
    Ok(out + rest)
}
