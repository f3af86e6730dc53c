//! What must pass before a change is merged, besides the tests.

use crate::{build, is_set, root, target_dir, tidy, workspace_features};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use xshell::{Shell, cmd};

/// Runs everything, the fastest first. `RPG_CI_WGPU=1` adds the tests on WGPU, which need a Vulkan driver. With `RPG_CI_MPI=1`
/// `rpg` is built with MPI, which needs MPI and libclang: everything, so that its dependencies are built once.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    let _root = shell.push_dir(root());
    let flags = &workspace_features();
    stage("tidy", || tidy::run(&root()))?;
    stage("format", || {
        Ok(cmd!(shell, "cargo fmt --all --check").run()?)
    })?;
    stage("clippy", || {
        Ok(cmd!(
            shell,
            "cargo clippy --release --locked --workspace --all-targets {flags...} -- -D warnings"
        )
        .run()?)
    })?;
    stage("docs", || {
        let _denied = shell.push_env("RUSTDOCFLAGS", "-D warnings");
        Ok(cmd!(
            shell,
            "cargo doc --release --locked --workspace --no-deps {flags...}"
        )
        .run()?)
    })?;
    stage("features", || features(shell))?;
    stage("cuda", || {
        // Compiles without CUDA's toolkit, which is asked for its version otherwise.
        let _version = shell.push_env("CUDARC_CUDA_VERSION", "13000");
        Ok(cmd!(
            shell,
            "cargo clippy --release --locked -p rpg-cli --features cuda {flags...} --all-targets -- -D warnings"
        )
        .run()?)
    })?;
    stage("manifests", || {
        Ok(cmd!(
            shell,
            "cargo test --release --locked -p xtask --features manifests --test examples"
        )
        .run()?)
    })?;
    stage("packages", || packages(shell))?;
    stage("minimum Rust", || minimum_rust(shell))?;
    let rpg = build(shell, if flags.is_empty() { "" } else { "mpi" })?;
    stage("verify-gradients", || {
        Ok(cmd!(shell, "{rpg} verify-gradients").run()?)
    })?;
    stage("training", || short_training(shell, &rpg))?;
    if is_set("RPG_CI_WGPU") {
        stage("wgpu", || {
            Ok(cmd!(
                shell,
                "cargo test --release --locked -p rpg-core -p rpg-cli --features wgpu {flags...} --test wgpu"
            )
            .run()?)
        })?;
    }
    Ok(())
}

/// Each crate without some of its features, as others may use it, and how it is then checked.
const FEATURES: [(&str, &str); 8] = [
    ("rpg-core", "--lib --no-default-features"),
    ("rpg-rollout", "--lib"),
    ("rpg-losses", "--lib"),
    ("rpg-losses", "--lib --features verify"),
    ("rpg-reward", "--all-targets"),
    ("rpg-reward", "--all-targets --features command"),
    ("rpg-cli", "--lib --no-default-features"),
    ("rpg-cli", "--bins"),
];

fn features(shell: &Shell) -> Result<()> {
    for (package, flags) in FEATURES {
        let flags = flags.split_whitespace();
        cmd!(
            shell,
            "cargo check --release --locked -p {package} {flags...}"
        )
        .run()?;
    }
    Ok(())
}

/// Builds every crate from the package that crates.io would get.
fn packages(shell: &Shell) -> Result<()> {
    // Cargo unpacks the crates that other crates need into its home, and takes them from there the next time, by
    // location and version: every run needs a location of its own.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let location = target_dir().join(format!("packages-{now}"));
    // That they compile is all that is asked.
    let _debug = shell.push_env("CARGO_PROFILE_DEV_DEBUG", "0");
    cmd!(
        shell,
        "cargo package --workspace --exclude xtask --locked --allow-dirty --target-dir {location}"
    )
    .run()?;
    fs::remove_dir_all(&location)?;
    Ok(())
}

/// The workspace must ask for exactly the oldest Rust that its dependencies allow. Clippy finds uses of newer parts
/// of the standard library (`incompatible_msrv`); if that toolchain is installed, it must compile the workspace.
fn minimum_rust(shell: &Shell) -> Result<()> {
    let metadata = cmd!(shell, "cargo metadata --format-version 1 --locked")
        .quiet()
        .read()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let is_ours = |package: &&serde_json::Value| package["source"].is_null();
    let version = |package: &serde_json::Value| -> Option<(u64, u64)> {
        let mut parts = package["rust_version"].as_str()?.split('.');
        let mut next = || parts.next()?.parse().ok();
        Some((next()?, next()?))
    };
    let ours = packages.iter().filter(is_ours).filter_map(version).min();
    let needed = packages
        .iter()
        .filter(|package| !is_ours(package))
        .filter_map(|package| Some((version(package)?, package["name"].as_str()?)))
        .max();
    let (Some(ours), Some((needed, name))) = (ours, needed) else {
        bail!("cargo metadata names no rust-version");
    };
    ensure!(
        ours == needed,
        "rust-version is {}.{}, but the dependencies ask for {}.{} ({name})",
        ours.0,
        ours.1,
        needed.0,
        needed.1
    );
    let toolchain = format!("+{}.{}", ours.0, ours.1);
    if cmd!(shell, "cargo {toolchain} --version")
        .quiet()
        .ignore_stderr()
        .ignore_stdout()
        .run()
        .is_ok()
    {
        cmd!(
            shell,
            "cargo {toolchain} check --release --locked --workspace"
        )
        .run()?;
    } else {
        println!(
            "Rust {}.{} is not installed: only checked by clippy",
            ours.0, ours.1
        );
    }
    Ok(())
}

/// A short run of the built-in recipe, which must write all of its files.
fn short_training(shell: &Shell, rpg: &std::path::Path) -> Result<()> {
    let dir = root().join("target").join("ci-run");
    let _ = fs::remove_dir_all(&dir);
    cmd!(
        shell,
        "{rpg} train --run-dir {dir} --steps 3 --set warm_start.steps=20 --set evaluate.problems=16"
    )
    .run()?;
    for name in [
        "config.toml",
        "metrics.jsonl",
        "samples.jsonl",
        "summary.json",
        "curve.svg",
    ] {
        let path = dir.join(name);
        ensure!(
            fs::metadata(&path)?.len() > 0,
            "{} is empty",
            path.display()
        );
    }
    ensure!(
        dir.join("checkpoints/step-000023/model.safetensors")
            .exists(),
        "the checkpoint is missing"
    );
    Ok(())
}

fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("=== {name}");
    let start = Instant::now();
    work()?;
    println!(
        "=== {name}: passed in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
