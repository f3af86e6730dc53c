//! Runs that are stopped or killed, and resumed.

use crate::common::{SMALL, checkpoint, metrics, rpg, run, text, train};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_same_seed_gives_the_same_numbers_and_resuming_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let more = [
        "--steps",
        "4",
        "--set",
        "checkpoint.every=1",
        "--set",
        "evaluate.every=2",
    ];
    assert!(train(&path("a"), &more).status.success());
    assert!(train(&path("b"), &more).status.success());
    assert_eq!(metrics(&path("a")), metrics(&path("b")));
    assert_eq!(
        fs::read(path("a").join("samples.jsonl")).unwrap(),
        fs::read(path("b").join("samples.jsonl")).unwrap()
    );

    // A schedule acts on the learning rate.
    let cosine = [
        "--set",
        "optimizer.schedule=cosine",
        "--set",
        "optimizer.warmup_updates=0",
    ];
    assert!(
        train(&path("cosine"), &[&more[..], &cosine].concat())
            .status
            .success()
    );
    let rates: Vec<f64> = metrics(&path("cosine"))
        .iter()
        .filter_map(|line| line["actor/lr"].as_f64())
        .collect();
    assert!(
        rates.len() == 4 && rates.is_sorted_by(|a, b| a > b),
        "{rates:?}"
    );

    let threads = |n: &str| {
        let dir = path(n);
        let status = rpg()
            .args(["train", "--run-dir", dir.to_str().unwrap()])
            .args(SMALL)
            .args(more)
            .env("RAYON_NUM_THREADS", n)
            .output()
            .unwrap()
            .status;
        assert!(status.success());
        metrics(&dir)
    };
    assert_eq!(threads("1"), metrics(&path("a")));
    assert_eq!(threads("3"), metrics(&path("a")));

    let other = [&more[..], &["--seed", "1"]].concat();
    assert!(train(&path("c"), &other).status.success());
    assert_ne!(metrics(&path("a")), metrics(&path("c")));

    // Killed without warning in the middle, then resumed.
    let dir = path("killed");
    kill_after_a_step(&dir, &more);
    resume_to_the_end(&dir);
    assert_eq!(metrics(&dir), metrics(&path("a")));
    checkpoint(&dir);

    // A config that asks for a model of another size is refused.
    let config = fs::read_to_string(dir.join("config.toml")).unwrap();
    let (before, after) = ("num_hidden_layers = 1", "num_hidden_layers = 2");
    assert!(config.contains(before), "{config}");
    fs::write(dir.join("config.toml"), config.replace(before, after)).unwrap();
    let refused = run(&["train", "--resume", dir.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let expected =
        "model.scratch.num_hidden_layers: found 2; expected 1, the size in the run's checkpoint";
    let message = text(&refused.stderr);
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_killed_run_with_averaged_weights_ends_with_the_same_bytes() {
    killed_run_ends_with_the_same_bytes("adamw_schedule_free");
}

#[test]
fn a_killed_run_with_moments_of_8_bits_ends_with_the_same_bytes() {
    killed_run_ends_with_the_same_bytes("adamw_8bit");
}

fn killed_run_ends_with_the_same_bytes(kind: &str) {
    let temp = tempfile::tempdir().unwrap();
    let kind = format!("optimizer.kind={kind}");
    let more = [
        "--steps",
        "4",
        "--set",
        "checkpoint.every=1",
        "--set",
        &kind,
        "--set",
        "optimizer.schedule=constant",
    ];
    let straight = temp.path().join("straight");
    assert!(train(&straight, &more).status.success());
    let dir = temp.path().join("killed");
    let mut child = start(&dir, &more);
    // In the warm start, then in the middle of reinforcement learning.
    for phase in ["warm_start", "train"] {
        wait_for(&mut child, &dir, |lines| {
            lines.iter().any(|line| line["phase"] == phase)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        child = resume(&dir);
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(metrics(&dir), metrics(&straight));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let [found, expected] =
            [&dir, &straight].map(|dir| fs::read(checkpoint(dir).join(file)).unwrap());
        assert!(found == expected, "{file} differs");
    }
}

pub(crate) fn resume(dir: &Path) -> Child {
    rpg()
        .args(["train", "--resume", dir.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts a run and kills it without warning after a step of reinforcement learning.
pub(crate) fn kill_after_a_step(dir: &Path, more: &[&str]) {
    let mut child = start(dir, more);
    wait_for(&mut child, dir, |lines| {
        lines.iter().any(|line| line["phase"] == "train")
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn resume_to_the_end(dir: &Path) {
    let output = resume(dir).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

pub(crate) fn start(dir: &Path, more: &[&str]) -> Child {
    rpg()
        .args(["train", "--run-dir", dir.to_str().unwrap()])
        .args(SMALL)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn wait_for(child: &mut Child, dir: &Path, done: impl Fn(&[Value]) -> bool) {
    assert!(
        wait_while_running(child, dir, done),
        "the run ended early: {:?}",
        metrics(dir)
    );
}

/// Whether it is done before the run ends.
fn wait_while_running(child: &mut Child, dir: &Path, done: impl Fn(&[Value]) -> bool) -> bool {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .collect();
        if done(&lines) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "the run makes no progress"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_checkpoint_from_which_the_run_resumes() {
    let temp = tempfile::tempdir().unwrap();
    let straight = temp.path().join("straight");
    assert!(train(&straight, &["--steps", "40"]).status.success());
    for phase in ["warm_start", "train"] {
        let dir = temp.path().join(phase);
        let mut child = start(&dir, &["--steps", "40"]);
        wait_for(&mut child, &dir, |lines| {
            lines.iter().any(|line| line["phase"] == phase)
        });
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("--resume"));
        let n_steps = metrics(&dir)
            .iter()
            .filter(|line| line["phase"] == "train")
            .count();
        let said = match n_steps {
            0 => "interrupted before the end of the first step".to_owned(),
            n => format!("interrupted after step {n}\n"),
        };
        assert!(
            text(&output.stderr).contains(&said),
            "{}",
            text(&output.stderr)
        );
        assert!(checkpoint(&dir).join("model.safetensors").exists());
        let resumed = run(&["train", "--resume", dir.to_str().unwrap()]);
        assert!(resumed.status.success(), "{}", text(&resumed.stderr));
        assert_eq!(metrics(&dir), metrics(&straight), "{phase}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_interrupted_many_times_ends_with_the_same_numbers() {
    let temp = tempfile::tempdir().unwrap();
    // Several sampling batches and an evaluation in every step: interruptions hit all of them.
    let more = [
        "--steps",
        "8",
        "--set",
        "evaluate.every=1",
        "--set",
        "train.max_generation_batches=4",
    ];
    let straight = temp.path().join("straight");
    assert!(train(&straight, &more).status.success());
    let expected = metrics(&straight);
    assert!(
        expected
            .iter()
            .any(|line| line["train/num_gen_batches"].as_f64() > Some(1.0)),
        "no step samples twice: {expected:?}"
    );
    // No answer is right after so short a warm start: a step without a group to learn from says so.
    let idle: Vec<&Value> = expected
        .iter()
        .filter(|line| line["train/num_updates"] == 0.0)
        .collect();
    assert!(!idle.is_empty() && idle.iter().all(|line| line.get("actor/kl_loss").is_none()));
    let dir = temp.path().join("interrupted");
    let mut n_interrupted = 0;
    for round in 0u64.. {
        let (mut child, n_before) = match round {
            0 => (start(&dir, &more), 0),
            _ => (resume(&dir), metrics(&dir).len()),
        };
        let progressed = wait_while_running(&mut child, &dir, |lines| {
            lines.len() > n_before && lines.iter().any(|line| line["phase"] == "train")
        });
        if progressed {
            std::thread::sleep(Duration::from_millis(7 * round % 60));
            let id = child.id().to_string();
            let _ = Command::new("kill").args(["-INT", &id]).status().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(130) => n_interrupted += 1,
            Some(0) => break,
            _ => panic!("{}: {}", output.status, text(&output.stderr)),
        }
    }
    assert!(n_interrupted >= 3, "only {n_interrupted} interruptions");
    assert_eq!(metrics(&dir), expected);
}
