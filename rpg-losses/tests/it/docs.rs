//! The tables in the documentation are those that the code makes.

use rpg_losses::{Kind, ObjectiveConfig, tables};
use std::env;
use std::fs;
use std::path::Path;

const END: &str = "<!-- end -->";

/// The text with every table between markers made anew.
fn regenerated(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<!-- generated: ") {
        let (before, block) = rest.split_at(start);
        let (marker, block) = block.split_once('\n').expect("a line for the marker");
        let name = marker
            .trim_start_matches("<!-- generated: ")
            .trim_end_matches(" -->");
        let table = match name {
            "divergences" => tables::divergences_markdown(),
            "forms" => tables::forms_markdown(),
            "keys" => tables::keys_markdown(),
            "kinds" => tables::kinds_markdown(),
            other => panic!("no table is called `{other}`"),
        };
        let end = block.find(END).expect("an end for the marker");
        out += &format!("{before}{marker}\n{table}");
        rest = &block[end..];
    }
    out + rest
}

#[test]
fn the_tables_in_the_documentation_are_up_to_date() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, n_tables) in [("README.md", 4), ("../docs/rpg-loss.md", 4)] {
        let path = package.join(page);
        // The package alone has no `docs`.
        let Ok(text) = fs::read_to_string(&path) else {
            assert_ne!(page, "README.md", "the package has a README");
            continue;
        };
        assert_eq!(text.matches(END).count(), n_tables, "{page}");
        let expected = regenerated(&text);
        if env::var_os("RPG_BLESS").is_some_and(|value| value == "1") {
            fs::write(&path, expected).unwrap();
        } else {
            assert!(
                text == expected,
                "{page} is out of date: run the tests of rpg-losses with RPG_BLESS=1 to rewrite its tables"
            );
        }
    }
}

#[test]
fn the_help_names_every_kind_and_key() {
    let text = tables::keys_text();
    let words: Vec<&str> = text.split([' ', ',', '\n']).collect();
    let config = ObjectiveConfig::default();
    let json = serde_json::to_value(&config).unwrap();
    let keys = json.as_object().unwrap().keys().map(String::as_str);
    let kinds = Kind::ALL.iter().map(|kind| kind.name());
    for name in keys.chain(kinds).chain(["max_length"]) {
        assert!(words.contains(&name), "{name} is missing in:\n{text}");
    }
    assert!(text.lines().all(|line| line.len() < 100), "{text}");
}
