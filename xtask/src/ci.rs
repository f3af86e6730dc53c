//! What must pass before a change is merged, besides the tests.

use crate::{build, root, tidy};
use anyhow::{Result, ensure};
use std::fs;
use std::time::Instant;
use xshell::{Shell, cmd};

/// Runs everything, the fastest first. `RPG_CI_WGPU=1` adds the tests on WGPU, which need a Vulkan driver.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    let _root = shell.push_dir(root());
    stage("tidy", || tidy::run(&root()))?;
    stage("format", || {
        Ok(cmd!(shell, "cargo fmt --all --check").run()?)
    })?;
    stage("clippy", || {
        Ok(cmd!(
            shell,
            "cargo clippy --release --locked --workspace --all-targets -- -D warnings"
        )
        .run()?)
    })?;
    stage("docs", || {
        let _flags = shell.push_env("RUSTDOCFLAGS", "-D warnings");
        Ok(cmd!(shell, "cargo doc --release --locked --workspace --no-deps").run()?)
    })?;
    let rpg = build(shell, "")?;
    stage("verify-gradients", || {
        Ok(cmd!(shell, "{rpg} verify-gradients").run()?)
    })?;
    stage("training", || short_training(shell, &rpg))?;
    if std::env::var_os("RPG_CI_WGPU").is_some_and(|value| value == "1") {
        stage("wgpu", || {
            Ok(cmd!(
                shell,
                "cargo test --release --locked -p rpg-core -p rpg-cli --features wgpu --test wgpu"
            )
            .run()?)
        })?;
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
