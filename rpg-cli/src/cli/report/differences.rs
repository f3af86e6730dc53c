//! In what the configs of runs differ.

use serde::Serialize;
use std::collections::BTreeSet;

/// A key whose value is not the same in all runs, and its value in each; `None` where the config does not have it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) key: String,
    pub(super) values: Vec<Option<String>>,
}

/// The keys in which configs differ, in alphabetical order.
pub(super) fn differences(configs: &[&toml::Table]) -> Vec<Difference> {
    let flat: Vec<Vec<(String, String)>> = configs.iter().map(|config| flat(config)).collect();
    let keys: BTreeSet<&String> = flat.iter().flatten().map(|(key, _)| key).collect();
    let row = |key: &String| Difference {
        key: key.clone(),
        values: (flat.iter())
            .map(|config| {
                let found = config.iter().find(|(name, _)| name == key);
                found.map(|(_, value)| value.clone())
            })
            .collect(),
    };
    let differs = |row: &Difference| row.values.iter().any(|value| *value != row.values[0]);
    keys.into_iter().map(row).filter(differs).collect()
}

/// The keys of a config with dots, and their values as TOML.
pub(super) fn flat(config: &toml::Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    add(&mut found, "", config);
    found
}

fn add(found: &mut Vec<(String, String)>, path: &str, table: &toml::Table) {
    for (name, value) in table {
        let key = format!("{path}{name}");
        match value {
            toml::Value::Table(table) if !table.is_empty() => add(found, &format!("{key}."), table),
            toml::Value::String(text) => found.push((key, text.clone())),
            toml::Value::Float(small) if *small != 0.0 && small.abs() < 1e-3 => {
                found.push((key, format!("{small:e}")));
            }
            value => found.push((key, value.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let configs: Vec<toml::Table> = [
            "seed = 1\n[optimizer]\nlr = 1e-5\nkind = \"adamw\"\n[reference]\nrule = \"never\"\n",
            "seed = 2\n[optimizer]\nlr = 2e-5\nkind = \"adamw\"\n[reference]\nrule = {kl_above = 0.1}\n",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let found = differences(&configs.iter().collect::<Vec<_>>());
        let row = |key: &str, values: [Option<&str>; 2]| Difference {
            key: key.to_owned(),
            values: values.map(|value| value.map(str::to_owned)).into(),
        };
        assert_eq!(
            found,
            [
                row("optimizer.lr", [Some("1e-5"), Some("2e-5")]),
                row("reference.rule", [Some("never"), None]),
                row("reference.rule.kl_above", [None, Some("0.1")]),
                row("seed", [Some("1"), Some("2")]),
            ]
        );
        assert_eq!(differences(&[&configs[0]]), []);
    }
}
