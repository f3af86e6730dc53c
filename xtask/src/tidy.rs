//! The project's rules, as far as a program can check them.

use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code, tests aside, beyond which a file is two files.
const MAX_LINES: usize = 500;

/// Each crate, and the crates of the workspace that it may depend on.
const EDGES: [(&str, &[&str]); 6] = [
    ("rpg-core", &[]),
    ("rpg-losses", &[]),
    ("rpg-reward", &[]),
    ("rpg-rollout", &["rpg-core"]),
    (
        "rpg-cli",
        &["rpg-core", "rpg-losses", "rpg-reward", "rpg-rollout"],
    ),
    ("xtask", &[]),
];

/// A boundary inside a crate: code that must not use something.
struct Wall {
    /// Below these paths,
    inside: &'static [&'static str],
    /// except below these,
    except: &'static [&'static str],
    /// none of these may appear in code,
    absent: &'static [&'static str],
    /// for this reason.
    why: &'static str,
}

const PRINTING: &[&str] = &[
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "process::exit",
    "is_terminal",
];

const WALLS: [Wall; 6] = [
    Wall {
        inside: &["rpg-cli/src"],
        except: &[
            "rpg-cli/src/cli",
            "rpg-cli/src/main.rs",
            "rpg-cli/src/lib.rs",
        ],
        absent: &[
            "cli::",
            "clap::",
            "indicatif::",
            "plotters::",
            "hf_hub::",
            "ureq::",
            "signal_hook::",
            "ctrlc::",
        ],
        why: "the training library knows nothing of the command",
    },
    Wall {
        inside: &[
            "rpg-cli/src",
            "rpg-core/src",
            "rpg-losses/src",
            "rpg-reward/src",
            "rpg-rollout/src",
        ],
        except: &["rpg-cli/src/cli", "rpg-cli/src/main.rs"],
        absent: PRINTING,
        why: "libraries print nothing and end no process",
    },
    Wall {
        inside: &["rpg-cli/src"],
        except: &["rpg-cli/src/cli/say.rs"],
        absent: &["eprintln!", "eprint!"],
        why: "a standard error that cannot be written must not end a run: `say!`",
    },
    Wall {
        inside: &["rpg-reward/src"],
        except: &["rpg-reward/src/command"],
        absent: &[
            "std::process",
            "std::thread",
            "rustix::",
            "std::fs",
            "std::net",
        ],
        why: "the grader has no process code and no I/O",
    },
    Wall {
        inside: &["rpg-losses/src"],
        except: &[
            "rpg-losses/src/verify",
            "rpg-losses/src/request",
            "rpg-losses/src/lib.rs",
        ],
        absent: &["crate::verify", "crate::request"],
        why: "the losses do not depend on what verifies or serves them",
    },
    Wall {
        inside: &["rpg-core/src", "rpg-losses/src", "rpg-reward/src"],
        except: &[],
        absent: &["rpg_rollout::", "rpg_cli::"],
        why: "the dependency points the other way",
    },
];

/// What a crate needs to be published, besides its manifest.
const PUBLISHED: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// Lists every broken rule, and fails if there is one.
pub(crate) fn run(root: &Path) -> Result<()> {
    let breaches = breaches(root)?;
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    match breaches.len() {
        0 => Ok(()),
        n => bail!("rules broken: {n}"),
    }
}

fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, allowed) in EDGES {
        let manifest = fs::read_to_string(root.join(name).join("Cargo.toml"))?;
        found.extend(wrong_edges(name, allowed, &manifest));
        if name != "xtask" {
            found.extend(unpublishable(root, name, &manifest));
        }
        for folder in ["src", "tests", "examples"] {
            let folder = root.join(name).join(folder);
            if !folder.is_dir() {
                continue;
            }
            for path in rust_files(&folder)? {
                let text = fs::read_to_string(&path)?;
                let shown = shown(&path, root);
                found.extend(untidy_imports(&shown, &text));
                if folder.ends_with("src") {
                    found.extend(too_long(&shown, &text));
                    found.extend(no_module_doc(&shown, &text));
                    found.extend(behind_a_wall(&shown, &text));
                    found.extend(module_beside_folder(
                        &shown,
                        path.with_extension("").is_dir(),
                    ));
                }
            }
        }
    }
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    if map.lines().count() > 200 {
        found.push("ARCHITECTURE.md has more than 200 lines".into());
    }
    for path in pages(root)? {
        let text = fs::read_to_string(&path)?;
        let page = shown(&path, root);
        found.extend(dead_names(root, &page, &text));
        found.extend(dead_links(&path, &page, &text));
    }
    Ok(found)
}

/// The documents: those of the root, of `docs`, and of the crates. The changelog names what once was.
fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let crates = EDGES.iter().map(|(name, _)| root.join(name));
    let mut found = Vec::new();
    for folder in crates.chain([root.to_owned(), root.join("docs")]) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_page = path.extension().is_some_and(|extension| extension == "md");
            if is_page && !path.ends_with("CHANGELOG.md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The path from the root, with `/`.
fn shown(path: &Path, root: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.display().to_string().replace('\\', "/")
}

fn wrong_edges(name: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    let dependencies = manifest.lines().filter_map(|line| {
        let end = line.find(['.', ' ', '='])?;
        line[..end]
            .starts_with("rpg-")
            .then(|| line[..end].to_owned())
    });
    dependencies
        .filter(|dependency| !allowed.contains(&dependency.as_str()))
        .map(|dependency| format!("{name} must not depend on {dependency}"))
        .collect()
}

fn unpublishable(root: &Path, name: &str, manifest: &str) -> Vec<String> {
    let keys = [
        "description",
        "license",
        "repository",
        "readme",
        "keywords",
        "categories",
    ];
    let missing_keys = keys
        .into_iter()
        .filter(|key| !manifest.lines().any(|line| line.starts_with(key)))
        .map(|key| format!("{name}/Cargo.toml has no `{key}`"));
    let missing_files = PUBLISHED
        .into_iter()
        .filter(|file| !root.join(name).join(file).exists())
        .map(|file| format!("{name} has no {file}"));
    missing_keys.chain(missing_files).collect()
}

/// Paths from the root in backticks, `FOLDER/FILE` or `FOLDER/FILE::NAME`, of which there is no such file, or
/// nothing of that name in it. Patterns are left out, and `NEW`, which stands for a name.
fn dead_names(root: &Path, page: &str, text: &str) -> Vec<String> {
    let is_place = |place: &str| {
        let folder = place.split_once('/').map_or("", |(folder, _)| folder);
        let is_ours = folder == "docs" || EDGES.iter().any(|(name, _)| *name == folder);
        let is_pattern = |c: char| c.is_whitespace() || "*{}<>".contains(c);
        is_ours && !place.contains(is_pattern) && !place.contains("NEW")
    };
    let exists = |place: &str| match place.split_once("::") {
        None => root.join(place).exists(),
        Some((path, name)) => {
            fs::read_to_string(root.join(path)).is_ok_and(|code| defines(&code, name))
        }
    };
    // Every second piece is between backticks; that of a fenced block has white space.
    let places = text.split('`').skip(1).step_by(2);
    places
        .filter(|place| is_place(place) && !exists(place))
        .map(|place| format!("{page} names `{place}`, which does not exist"))
        .collect()
}

/// Whether something of this name is defined in the code.
fn defines(text: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "trait", "const", "mod"]
        .iter()
        .any(|keyword| {
            let definition = format!("{keyword} {name}");
            text.match_indices(&definition).any(|(start, _)| {
                let after = text[start + definition.len()..].chars().next();
                !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        })
}

/// Links to files that do not exist, outside backticks.
fn dead_links(path: &Path, page: &str, text: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(path);
    let prose: String = text.split('`').step_by(2).collect();
    let links = prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    links
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.contains(':') && !folder.join(target).exists())
        .map(|target| format!("{page} links to {target}, which does not exist"))
        .collect()
}

/// Code that uses what it must not; comments may name it.
fn behind_a_wall(path: &str, text: &str) -> Vec<String> {
    let below = |places: &[&str]| {
        places.iter().any(|place| {
            let rest = path.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let walls = WALLS
        .iter()
        .filter(|wall| below(wall.inside) && !below(wall.except));
    let code: Vec<&str> = code_lines(text).collect();
    walls
        .flat_map(|wall| {
            let words = wall.absent.iter();
            let found = words.filter(|word| code.iter().any(|line| has_word(line, word)));
            found.map(|word| format!("{path} uses `{word}`: {}", wall.why))
        })
        .collect()
}

/// The lines before the tests that are not comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
}

/// Whether the line contains `word`, and not as the end of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Imports come in one block, one line per module, with one level of braces.
fn untidy_imports(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut import = String::new();
    let mut blank_since_import = None;
    for line in text.lines() {
        if import.is_empty() {
            if line.trim().is_empty() {
                blank_since_import = blank_since_import.map(|_| true);
                continue;
            }
            if !line.starts_with("use ") {
                blank_since_import = None;
                continue;
            }
            if blank_since_import == Some(true) {
                found.push(format!(
                    "{path}: an empty line before `{line}` divides the imports"
                ));
            }
        }
        import += line;
        if import.ends_with(';') {
            let names = import.split_once('{').map_or("", |(_, names)| names);
            if names.contains(['{', ':']) {
                found.push(format!("{path}: more than one module in `{import}`"));
            }
            import.clear();
            blank_since_import = Some(false);
        }
    }
    found
}

/// A module with files of its own is `NAME/mod.rs`.
fn module_beside_folder(path: &str, is_folder: bool) -> Option<String> {
    is_folder.then(|| {
        format!("{path} is next to a folder of the same name: move it to that folder's mod.rs")
    })
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let n = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count();
    (n > MAX_LINES)
        .then(|| format!("{path} has {n} lines before its tests, more than {MAX_LINES}: split it"))
}

fn no_module_doc(path: &str, text: &str) -> Option<String> {
    let documented = text.starts_with("//!") || text.starts_with("#!");
    (!documented)
        .then(|| format!("{path} does not begin with a `//!` sentence that says what it is"))
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_follows_the_rules() {
        let found = breaches(&crate::root()).unwrap();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn broken_rules_are_found() {
        let manifest = "[dependencies]\nrpg-core.workspace = true\nserde.workspace = true\n";
        assert_eq!(wrong_edges("rpg-losses", &[], manifest).len(), 1);
        assert!(wrong_edges("rpg-rollout", &["rpg-core"], manifest).is_empty());
        let long = "//! x\n".repeat(MAX_LINES + 1);
        assert!(too_long("a.rs", &long).is_some());
        assert!(too_long("a.rs", &format!("//! x\n#[cfg(test)]\n{long}")).is_none());
        assert!(no_module_doc("a.rs", "fn main() {}").is_some());
        assert!(module_beside_folder("a.rs", true).is_some());
    }

    #[test]
    fn walls_hold_inside_a_crate() {
        let check = |path: &str, code: &str, n_breaches: usize| {
            let found = behind_a_wall(path, code);
            assert_eq!(found.len(), n_breaches, "{path}: {code}: {found:?}");
        };
        check(
            "rpg-cli/src/train/trainer.rs",
            "use crate::cli::console;",
            1,
        );
        check("rpg-cli/src/train/trainer.rs", "eprintln!(\"step\");", 2);
        check("rpg-cli/src/train/trainer.rs", "println!(\"step\");", 1);
        check("rpg-cli/src/cli/console.rs", "println!(\"step\");", 0);
        check("rpg-cli/src/cli/console.rs", "eprintln!(\"step\");", 1);
        check(
            "rpg-cli/src/train/trainer.rs",
            "// as crate::cli::console does",
            0,
        );
        check("rpg-cli/src/train/trainer.rs", "let client::x;", 0);
        check("rpg-reward/src/grade.rs", "std::thread::spawn(f);", 1);
        check(
            "rpg-reward/src/command/pool.rs",
            "std::thread::spawn(f);",
            0,
        );
        check("rpg-losses/src/objective.rs", "use crate::verify::run;", 1);
    }

    #[test]
    fn documents_name_what_exists() {
        let root = crate::root();
        let check = |text: &str, n_breaches: usize| {
            let mut found = dead_names(&root, "page", text);
            found.extend(dead_links(&root.join("docs/page.md"), "page", text));
            assert_eq!(found.len(), n_breaches, "{text}: {found:?}");
        };
        check("see `xtask/src/tidy.rs` and `docs/metrics.md`", 0);
        check("see `xtask/src/tidy.rs::dead_names`, `xtask/src`", 0);
        check("`xtask/src/untidy.rs`", 1);
        check("`xtask/src/untidy.rs::dead_names`", 1);
        check("`xtask/src/tidy.rs::dead_name`", 1);
        check("`xtask/src/tidy.rs::dead`, `xtask/src/tidy.rs::EDGES`", 1);
        check(
            "`rpg/fkl/reinforce`, `train/num_updates`, `xtask/src/*.rs`",
            0,
        );
        check(
            "```text\nxtask/src/untidy.rs\n```\n`xtask/src/untidy.rs`",
            1,
        );
        check("[a](metrics.md#x), [b](#c), [d](https://e.org/f.md)", 0);
        check("[a](metric.md), ![b](../README.md), `c[d](e)`", 1);
    }

    #[test]
    fn imports_have_one_form() {
        let check = |text: &str, n_breaches: usize| {
            let found = untidy_imports("a.rs", text);
            assert_eq!(found.len(), n_breaches, "{text}: {found:?}");
        };
        check("use a::b;\nuse c::{d, E};\n\nfn f() {}\n", 0);
        check("use a::{\n    b,\n    c,\n};\nuse d::e;\n", 0);
        check("use a::b;\n\nuse c::d;\n", 1);
        check("use a::{b::c, d};\n", 1);
        check("use a::{\n    b::{c, d},\n};\n", 1);
    }
}
