//! The reference of all keys, from their declarations.

use super::TrainConfig;
use super::keys::{KeyDoc, Values};

/// The keys of a config as Markdown, as docs/config.md has them: a table for each section.
pub fn reference() -> String {
    table("", TrainConfig::KEYS)
}

/// What the key at this place, with dots between sections, is where a config does not give it.
pub(crate) fn default_of(path: &str) -> Option<serde_json::Value> {
    let mut keys = TrainConfig::KEYS;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let key = keys.iter().find(|key| key.name == name)?;
        match (key.values)() {
            Values::Table(within) if names.peek().is_some() => keys = within,
            Values::Named(within) if names.peek().is_some() => {
                names.next();
                keys = within;
            }
            _ if names.peek().is_none() => return serde_json::to_value(key.default?()?).ok(),
            _ => return None,
        }
    }
    None
}

/// The table of the keys of a section, then the sections within it. `path` is empty or ends with a dot.
fn table(path: &str, keys: &[KeyDoc]) -> String {
    let mut rows = String::new();
    let mut sections = String::new();
    for key in keys {
        let (path, about) = (format!("{path}{}", key.name), one_line(key.doc));
        let optional = if is_optional(key) { " Optional." } else { "" };
        let section = format!("\n### `[{path}]`\n\n{about}{optional}");
        match (key.values)() {
            Values::Plain(values) => {
                rows += &format!("| `{path}` | {about} | {values} | {} |\n", default(key));
            }
            Values::Table(keys) => {
                sections += &format!("{section}\n{}", table(&format!("{path}."), keys));
            }
            Values::Named(keys) => {
                let path = format!("{path}.NAME");
                let section = format!("\n### `[{path}]`\n\n{about}{optional}");
                sections += &format!("{section}\n{}", table(&format!("{path}."), keys));
            }
            Values::Page(link) => {
                sections += &format!("{section} Its keys are in [{link}]({link}).\n");
            }
        }
    }
    if !rows.is_empty() {
        let head = "\n| key | meaning | values | default |\n| --- | --- | --- | --- |\n";
        rows.insert_str(0, head);
    }
    rows + &sections
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
                "docs/config.md is out of date: run the tests of rpg-cli with RPG_BLESS=1 to rewrite its tables"
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
