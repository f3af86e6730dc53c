//! The command lines of the examples for clusters.

use crate::common::{run, text};
use std::fs;
use std::path::Path;

const EXAMPLES: [&str; 3] = [
    "slurm/train.sbatch",
    "kubernetes/trainer.yaml",
    "kubernetes/trainers.yaml",
];

/// The arguments of every `rpg train` in a script, as a shell would pass them; `$urls` is a list of addresses, every other
/// variable a path.
fn commands(script: &str) -> Vec<Vec<String>> {
    let script = script
        .replace("$urls", r#"\"http://a:8000\",\"http://b:8000\","#)
        .replace("\\\n", " ");
    let starts = script.match_indices("rpg train ");
    let args = |(start, name): (usize, &str)| words(&script[start + name.len()..]);
    starts.map(args).collect()
}

/// The words of a command, which ends with its line.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\n') => break,
            (None, ' ') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some('"') | None, '$') => *word.get_or_insert_default() += "/a/",
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_commands_of_the_examples_are_those_of_a_config() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    // The package alone has no `docs`.
    if !folder.exists() {
        return;
    }
    for name in EXAMPLES {
        let script = fs::read_to_string(folder.join(name)).unwrap();
        let (resumed, begun): (Vec<_>, Vec<_>) = commands(&script)
            .into_iter()
            .partition(|args| args[0] == "--resume");
        let [begun] = &begun[..] else {
            panic!("{name}: one command begins the run: {begun:?}");
        };
        let [resumed] = &resumed[..] else {
            panic!("{name}: one command resumes the run: {resumed:?}");
        };
        // There is no run to resume: what that changes in the config is changed in the one it begins with.
        for more in [&[], &resumed[2..]] {
            let args = [begun, more].concat();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = run(&[&["train", "--print-config"], &args[..]].concat());
            let said = text(&output.stderr);
            assert!(output.status.success(), "{name}: {args:?}: {said}");
            let config = text(&output.stdout);
            assert!(config.contains("[rollout.server]"), "{name}: {config}");
        }
    }
}

#[test]
fn a_command_line_is_split_as_a_shell_does() {
    for (line, expected) in [
        ("a  b\nc", vec!["a", "b"]),
        (
            "--set 'x=[\"a\", \"b\"]' c",
            vec!["--set", "x=[\"a\", \"b\"]", "c"],
        ),
        (r#""x=[\"a\"]" "$A/b""#, vec![r#"x=["a"]"#, "/a/A/b"]),
        ("''", vec![""]),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
}
