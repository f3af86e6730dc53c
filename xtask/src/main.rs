//! The project's tasks: `cargo xtask NAME`.
//!
//! This crate builds in seconds: it starts cargo and the `rpg` binary, and depends on no other crate of ours.

mod bench;
mod ci;
mod compare;
mod generated;
mod machine;
mod scaling;
mod tidy;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

const HELP: &str = "\
cargo xtask NAME [ARGUMENTS]

  train [ARGS]              build `rpg` for this machine and run `rpg train ARGS`
  verify-gradients [ARGS]   check the gradients of the losses: `rpg verify-gradients ARGS`
  verify-gradients --study[=PAGE]
                            compute bias and variance of every estimator and of every correction for another
                            sampler with the example gradient_study of rpg-losses, draw the clips, and write a
                            page with tables and plots (default: docs/gradient-study.md)
  test [ARGS]               tidy, then all tests: `cargo test ARGS`
  bench NAME [OPTIONS]      compare with what users would run otherwise; `cargo xtask bench help` lists the names
  compare [OPTIONS]         train RPG, GRPO, DAPO and REINFORCE++ on the built-in task, and write docs/comparison.md (hours)
  scaling [OPTIONS]         predict tokens per second on H100 nodes by a model of a step, or check it on runs of this machine
  tidy                      check the project's own rules: dependencies, imports, file lengths and more
  ci                        all that must pass besides the tests: tidy, format, clippy, docs, packages, a run and more

Options of train and verify-gradients, before ARGS:
  --features LIST           cargo features of `rpg`, instead of those that suit this machine (\"\" for none)
";

fn main() {
    forget_cargo();
    if let Err(error) = run() {
        // A child process that failed has said why; scripts need its exit code.
        match error.downcast_ref::<ChildFailed>() {
            Some(ChildFailed(code)) => std::process::exit(*code),
            None => {
                eprintln!("error: {error:#}");
                std::process::exit(2);
            }
        }
    }
}

/// Forgets what cargo has said of this crate to the process. Build scripts that ask for these variables, as that of `ring` does,
/// would otherwise run again whenever `cargo build` follows `cargo xtask train`, and all that depends on them.
fn forget_cargo() {
    let is_ours = |name: &str| {
        ["CARGO_MANIFEST_", "CARGO_PKG_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| is_ours(name)).collect::<Vec<_>>() {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::remove_var(name) };
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let mut rest: Vec<String> = args.collect();
    let features = take_features(&mut rest)?;
    // `cargo xtask train -- ARGS` and `cargo xtask train ARGS` are the same.
    if rest.first().is_some_and(|arg| arg == "--") {
        rest.remove(0);
    }
    let shell = Shell::new()?;
    // Paths in ARGS are relative to the user's folder, so cargo is told where the workspace is.
    match name.as_str() {
        "train" => rpg(&shell, features, "train", &rest),
        "verify-gradients" => {
            if let Some(page) = study_page(&rest)? {
                return gradient_study(&shell, &page);
            }
            let features = features.or_else(|| verify_features(&rest));
            rpg(&shell, features, "verify-gradients", &rest)
        }
        "test" => test(&shell, &rest),
        "bench" => bench::run(&shell, &rest),
        "compare" => compare::run(&shell, &rest),
        "scaling" => scaling::run(&rest),
        "tidy" => tidy::run(&root()),
        "ci" => ci::run(&shell),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("no task is called `{other}`\n\n{HELP}"),
    }
}

/// A child process ended with this code.
#[derive(Debug)]
struct ChildFailed(i32);

impl std::fmt::Display for ChildFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for ChildFailed {}

/// Removes `--features LIST` from the arguments.
fn take_features(args: &mut Vec<String>) -> Result<Option<String>> {
    let Some(i) = args.iter().position(|arg| arg == "--features") else {
        return Ok(None);
    };
    if i + 1 == args.len() {
        bail!("--features: expected a list of features");
    }
    args.remove(i);
    Ok(Some(args.remove(i)))
}

/// Verification is built for a GPU only if it is asked to use one.
fn verify_features(args: &[String]) -> Option<String> {
    let backend = args
        .iter()
        .position(|arg| arg == "--backend")
        .and_then(|i| args.get(i + 1));
    match backend.map(String::as_str) {
        Some("auto") => None,
        Some(gpu @ ("wgpu" | "cuda")) => Some(gpu.to_owned()),
        _ => Some(String::new()),
    }
}

/// The page that `--study` asks for; without a name, the one in the workspace.
fn study_page(args: &[String]) -> Result<Option<PathBuf>> {
    let is_study = |arg: &&String| *arg == "--study" || arg.starts_with("--study=");
    let Some(arg) = args.iter().find(is_study) else {
        return Ok(None);
    };
    if args.len() > 1 {
        bail!("--study takes no other arguments");
    }
    Ok(Some(match arg.strip_prefix("--study=") {
        Some(page) => PathBuf::from(page),
        None => root().join("docs/gradient-study.md"),
    }))
}

/// Runs the study's example, which writes the page.
fn gradient_study(shell: &Shell, page: &Path) -> Result<()> {
    let manifest = root().join("Cargo.toml");
    cmd!(
        shell,
        "cargo run --quiet --release --locked --manifest-path {manifest} -p rpg-losses --features verify --example gradient_study -- {page}"
    )
    .quiet()
    .run()?;
    Ok(())
}

/// Builds `rpg` and runs one of its commands.
fn rpg(shell: &Shell, features: Option<String>, command: &str, args: &[String]) -> Result<()> {
    let features = features.unwrap_or_else(machine::features);
    let binary = build(shell, &features)?;
    let status = std::process::Command::new(&binary)
        .arg(command)
        .args(args)
        .status()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(ChildFailed(status.code().unwrap_or(2)).into())
    }
}

/// Builds the optimised binary with these features and returns its path.
fn build(shell: &Shell, features: &str) -> Result<PathBuf> {
    let manifest = root().join("Cargo.toml");
    if !features.is_empty() {
        eprintln!("building rpg with features: {features}");
    }
    cmd!(
        shell,
        "cargo build --release --locked --manifest-path {manifest} -p rpg-cli --features {features}"
    )
    .quiet()
    .run()?;
    Ok(target_dir()
        .join("release")
        .join(format!("rpg{}", std::env::consts::EXE_SUFFIX)))
}

/// The flags with which the workspace is checked: with `RPG_CI_MPI=1`, also what needs MPI.
fn workspace_features() -> Vec<&'static str> {
    if is_set("RPG_CI_MPI") {
        vec!["--features", "rpg-cli/mpi"]
    } else {
        Vec::new()
    }
}

/// Whether a variable of the environment is 1.
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Runs all tests; cargo's own summary comes last. Everything uses one profile, so that Burn is built once.
fn test(shell: &Shell, args: &[String]) -> Result<()> {
    tidy::run(&root())?;
    let manifest = root().join("Cargo.toml");
    let features = workspace_features();
    cmd!(
        shell,
        "cargo test --release --locked --workspace {features...} --manifest-path {manifest} {args...}"
    )
    .run()?;
    Ok(())
}

fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => root().join("target"),
    }
}
