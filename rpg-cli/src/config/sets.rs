//! Changes of single keys of a config: `--set key=value`.

use super::check::SEEDS;
use crate::failure::Failure;

/// Keys of which a config has one: setting one of them takes the place of the other.
const EXCLUSIVE: [[&str; 2]; 1] = [["train.steps", "train.data_epochs"]];

/// Sets keys of a table from `a.b.c=value`, in this order.
pub(super) fn apply_all(table: &mut toml::Table, sets: &[String]) -> Result<(), Failure> {
    let is_set = |key: &str| sets.iter().any(|set| key_of(set) == Some(key));
    for [one, other] in EXCLUSIVE {
        match (is_set(one), is_set(other)) {
            (true, false) => remove(table, other),
            (false, true) => remove(table, one),
            // Both are refused by what checks the config.
            (true, true) | (false, false) => {}
        }
    }
    sets.iter().try_for_each(|set| apply(table, set))
}

fn key_of(set: &str) -> Option<&str> {
    Some(set.split_once('=')?.0.trim())
}

fn remove(table: &mut toml::Table, key: &str) {
    let (section, key) = key.split_once('.').unwrap_or_default();
    if let Some(section) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
        section.remove(key);
    }
}

/// Sets one key of a table from `a.b.c=value`; a value that is not TOML is taken as a string.
fn apply(table: &mut toml::Table, set: &str) -> Result<(), Failure> {
    let usage = || {
        Failure::input(format!("--set {set}: expected KEY=VALUE"))
            .hint("for example --set optimizer.lr=1e-5")
    };
    let (key, text) = set.split_once('=').ok_or_else(usage)?;
    let value = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()));
    if value.is_str() && text.trim().parse::<f64>().is_ok_and(|x| x.fract() == 0.0) {
        return Err(Failure::input(format!(
            "{}: found {}; expected {}",
            key.trim(),
            text.trim(),
            SEEDS
        )));
    }
    let mut parts: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = parts
        .pop()
        .filter(|last| !last.is_empty())
        .ok_or_else(usage)?;
    let mut section = table;
    for part in parts {
        let entry = section
            .entry(part.to_owned())
            .or_insert_with(|| toml::Table::new().into());
        section = entry
            .as_table_mut()
            .ok_or_else(|| Failure::input(format!("--set {set}: `{part}` is not a table")))?;
    }
    section.insert(last.to_owned(), value);
    Ok(())
}
