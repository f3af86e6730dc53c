//! Runs that are resumed with another config, and checkpoints by time.

use crate::common::{metrics, run, text, train};
use crate::resume::{resume_to_the_end, start, wait_for};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// A schedule that does not depend on the number of steps.
const CONSTANT: [&str; 4] = [
    "--set",
    "optimizer.schedule=constant",
    "--set",
    "checkpoint.every=1",
];

fn with_steps(steps: &'static str) -> Vec<&'static str> {
    [&["--steps", steps], &CONSTANT[..]].concat()
}

fn resume(dir: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let dir = dir.to_str().unwrap();
    let output = run(&[&["train", "--resume", dir], flags].concat());
    (output.status.code(), text(&output.stderr))
}

fn config_of(dir: &Path) -> toml::Table {
    let text = fs::read_to_string(dir.join("config.toml")).unwrap();
    text.parse().unwrap()
}

#[test]
fn a_finished_run_goes_on_with_more_steps() {
    let temp = tempfile::tempdir().unwrap();
    let (straight, dir) = (temp.path().join("straight"), temp.path().join("run"));
    assert!(train(&straight, &with_steps("5")).status.success());
    assert!(train(&dir, &with_steps("2")).status.success());
    let (code, said) = resume(&dir, &["--steps", "5"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("note: train.steps is 5 from here on; it was 2"),
        "{said}"
    );
    assert_eq!(metrics(&dir), metrics(&straight));
    assert_eq!(config_of(&dir), config_of(&straight));
    // The same again changes nothing, and says nothing.
    let before = fs::read(dir.join("config.toml")).unwrap();
    let (code, said) = resume(&dir, &["--steps", "5"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("train.steps"), "{said}");
    assert_eq!(fs::read(dir.join("config.toml")).unwrap(), before);
    assert_eq!(metrics(&dir), metrics(&straight));
}

#[test]
fn a_measurement_at_the_former_end_stays_if_one_is_due_there() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    assert!(train(&dir, &with_steps("2")).status.success());
    let measured = || -> Vec<u64> {
        let lines = metrics(&dir);
        let is_measured = |line: &&Value| {
            let score = line.get("val-core/column_addition/acc/mean@2");
            score.is_some()
        };
        let measured = lines.iter().filter(is_measured);
        measured
            .map(|line| line["step"].as_u64().unwrap())
            .collect()
    };
    let (code, said) = resume(&dir, &["--steps", "3", "--set", "evaluate.every=2"]);
    assert_eq!(code, Some(0), "{said}");
    // Said once.
    let note = "evaluate.every is 2 from here on; it was";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    assert_eq!(measured(), [0, 2, 3]);
    let (code, said) = resume(&dir, &["--steps", "5"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("evaluate.every"), "{said}");
    // None is due after step 3.
    assert_eq!(measured(), [0, 2, 4, 5]);
}

#[test]
fn a_run_that_is_killed_after_a_change_goes_on_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let (straight, dir) = (temp.path().join("straight"), temp.path().join("run"));
    let changed = "reward.weights.format=0.5";
    let all = [&with_steps("6")[..], &["--set", changed]].concat();
    assert!(train(&straight, &all).status.success());
    // Killed before the first step of reinforcement learning, so that all of them have the changed reward.
    let mut child = start(&dir, &with_steps("2"));
    wait_for(&mut child, &dir, |lines| {
        lines.iter().any(|line| line["phase"] == "warm_start")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = crate::common::rpg()
        .args(["train", "--resume", dir.to_str().unwrap()])
        .args(["--steps", "6", "--set", changed])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&mut child, &dir, |lines| {
        lines.iter().any(|line| line["phase"] == "train")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    resume_to_the_end(&dir);
    assert_eq!(metrics(&dir), metrics(&straight));
    assert_eq!(config_of(&dir), config_of(&straight));
}

#[test]
fn what_a_run_cannot_go_on_with_is_refused_and_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    assert!(train(&dir, &with_steps("2")).status.success());
    let before = fs::read(dir.join("config.toml")).unwrap();
    for (flags, message) in [
        (
            &["--steps", "1"][..],
            "train.steps: found 1; expected at least 2, as many as the run has done",
        ),
        (
            &["--set", "seed=7"],
            "seed: found 7; expected 0, which the run has",
        ),
        (
            &["--set", "evaluate.samples=3"],
            "evaluate.samples: found 3; expected 2, which the run has",
        ),
        (
            &["--set", "evaluate.problems_during=1"],
            "evaluate.problems_during: found 1; expected 64, which the run has",
        ),
        (
            &["--set", "optimizer.kind=adamw_8bit"],
            "optimizer.kind: found \"adamw_8bit\"; expected \"adamw\", which the run has",
        ),
        (
            &["--set", "rollout.max_new_tokens=9"],
            "rollout.max_new_tokens: found 9",
        ),
        (
            &["--set", "optimizer.lr=-1"],
            "optimizer.lr: found -1; expected a number above 0",
        ),
        (&["--set", "optimizer.speed=1"], "unknown field `speed`"),
        (
            &["--set", "train.data_epochs=2"],
            "train.data_epochs: found 2; expected train.steps in its place",
        ),
        (
            &["--set", "train.data_epochs=2", "--steps", "3"],
            "train: both `steps` and `data_epochs` are given",
        ),
        (&["--seed", "1"], "cannot be used with"),
    ] {
        let (code, said) = resume(&dir, flags);
        assert_eq!(code, Some(2), "{flags:?}: {said}");
        assert!(said.contains(message), "{flags:?}: {said}");
        assert_eq!(
            fs::read(dir.join("config.toml")).unwrap(),
            before,
            "{flags:?}"
        );
    }
    resume_to_the_end(&dir);
}

#[test]
fn a_schedule_that_depends_on_the_steps_says_what_the_change_does() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let more = ["--steps", "2", "--set", "optimizer.schedule=cosine"];
    assert!(train(&dir, &more).status.success());
    let (code, said) = resume(&dir, &["--steps", "4"]);
    assert_eq!(code, Some(0), "{said}");
    let expected = "note: optimizer.schedule = \"cosine\" falls to zero at the end of the run, which is another now: \
                    the learning rate was";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn checkpoints_can_be_written_by_time() {
    let temp = tempfile::tempdir().unwrap();
    let checkpoints = |name: &str, minutes: &str| {
        let dir = temp.path().join(name);
        let minutes = format!("checkpoint.every_minutes={minutes}");
        let more = [
            "--steps",
            "3",
            "--set",
            "checkpoint={every=0, keep=99}",
            "--set",
            &minutes,
        ];
        assert!(train(&dir, &more).status.success());
        let entries = fs::read_dir(dir.join("checkpoints")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    // The steps of the warm start are counted too; those at its beginning and end, and at the end of the run, are always there.
    let all: Vec<String> = (0..=9).map(|n| format!("step-{n:06}")).collect();
    assert_eq!(checkpoints("often", "1e-9"), all);
    assert_eq!(checkpoints("seldom", "999"), [&*all[0], &all[6], &all[9]]);
}

#[test]
fn a_run_that_is_killed_resumes_from_a_checkpoint_by_time() {
    let temp = tempfile::tempdir().unwrap();
    let (straight, dir) = (temp.path().join("straight"), temp.path().join("run"));
    let more = [
        "--steps",
        "4",
        "--set",
        "checkpoint={every=0, every_minutes=1e-9}",
    ];
    assert!(train(&straight, &more).status.success());
    // The checkpoint of a step follows its line.
    let mut child = start(&dir, &more);
    wait_for(&mut child, &dir, |lines| {
        lines.iter().filter(|line| line["phase"] == "train").count() >= 2
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let output = crate::resume::resume(&dir).wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Not from the end of the warm start, step 6.
    assert!(
        said.contains("resuming from") && !said.contains("step-000006"),
        "{said}"
    );
    assert_eq!(metrics(&dir), metrics(&straight));
}
