//! The reference of all keys, from their declarations.

use super::TrainConfig;
use super::keys::{KeyDoc, Values};
use std::fmt::Write;

/// The keys of a config as Markdown: a table for each section.
pub fn reference() -> String {
    let mut page = String::new();
    table(&mut page, "", TrainConfig::KEYS);
    page
}

/// The table of the keys of a section, then the sections within it. `path` is empty or ends with a dot.
fn table(page: &mut String, path: &str, keys: &[KeyDoc]) {
    let mut sections = Vec::new();
    let mut rows = String::new();
    for key in keys {
        match (key.values)() {
            Values::Plain(values) => {
                let row = [
                    format!("`{path}{}`", key.name),
                    one_line(key.doc),
                    values,
                    default(key),
                ];
                writeln!(rows, "| {} |", row.join(" | ")).expect("a text grows");
            }
            section => sections.push((key, section)),
        }
    }
    if !rows.is_empty() {
        *page += "\n| key | meaning | values | default |\n| --- | --- | --- | --- |\n";
        *page += &rows;
    }
    for (key, section) in sections {
        let optional = if is_optional(key) { " Optional." } else { "" };
        let (path, about) = (format!("{path}{}", key.name), one_line(key.doc));
        *page += &format!("\n### `[{path}]`\n\n{about}{optional}");
        match section {
            Values::Page(link) => *page += &format!(" Its keys are in [{link}]({link}).\n"),
            Values::Table(keys) => {
                page.push('\n');
                table(page, &format!("{path}."), keys);
            }
            Values::Plain(_) => unreachable!("plain values are rows"),
        }
    }
}

fn default(key: &KeyDoc) -> String {
    match key.default.map(|default| default()) {
        None => "must be given".to_owned(),
        Some(None) => "absent".to_owned(),
        Some(Some(toml::Value::String(text))) => format!("`{text}`"),
        Some(Some(toml::Value::Float(small))) if small != 0.0 && small < 1e-3 => {
            format!("`{small:e}`")
        }
        Some(Some(value)) => format!("`{value}`"),
    }
}

fn is_optional(key: &KeyDoc) -> bool {
    key.default.is_some_and(|default| default().is_none())
}

fn one_line(doc: &str) -> String {
    let lines = doc.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    const BEGIN: &str = "<!-- generated: config -->\n";
    const END: &str = "<!-- end -->\n";

    #[test]
    fn the_page_in_docs_has_the_reference() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        // A package has no docs/.
        let Ok(page) = fs::read_to_string(&path) else {
            return;
        };
        let (before, rest) = page.split_once(BEGIN).expect(BEGIN);
        let (_, after) = rest.split_once(END).expect(END);
        let expected = format!("{before}{BEGIN}{}\n{END}{after}", reference());
        if std::env::var_os("RPG_BLESS").is_some_and(|bless| bless == "1") {
            fs::write(&path, expected).unwrap();
        } else {
            assert!(
                page == expected,
                "docs/config.md is stale: RPG_BLESS=1 cargo test -p rpg-cli --lib config::reference"
            );
        }
    }

    #[test]
    fn every_row_has_four_cells() {
        let reference = reference();
        let rows = reference.lines().filter(|line| line.starts_with('|'));
        for row in rows {
            assert_eq!(row.matches('|').count(), 5, "{row}");
        }
    }
}
