//! Runs whose length is that of the data.

use crate::common::{metrics, rpg, run, small_model, text};
use crate::resume::{resume_to_the_end, wait_for};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A model and a file of 10 problems.
struct Files {
    temp: tempfile::TempDir,
    model: PathBuf,
}

impl Files {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let model = small_model(temp.path());
        let lines: String = (0..10)
            .map(|i| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}\n", i + 1))
            .collect();
        fs::write(temp.path().join("data.jsonl"), lines).unwrap();
        Self { temp, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Four problems a step.
    fn train(&self, name: &str, sets: &[&str]) -> Command {
        let mut command = rpg();
        command.args(["train", "--model", self.model.to_str().unwrap()]);
        command.args(["--data", self.path("data.jsonl").to_str().unwrap()]);
        command.args(["--run-dir", self.path(name).to_str().unwrap()]);
        let small = [
            "rollout={prompts_per_step=4, samples_per_prompt=2, max_new_tokens=4}",
            "train={data_epochs=1.5, mini_batches=1}",
            "data.instruction=''",
            "evaluate.problems=0",
            "checkpoint.every=1",
            "optimizer={lr=1e-3, schedule='cosine'}",
        ];
        for set in small.iter().chain(sets) {
            command.args(["--set", set]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn finished(&self, name: &str, sets: &[&str]) -> String {
        let output = self.train(name, sets).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    }
}

/// The values of a metric in the steps of a run.
fn values(dir: &Path, name: &str) -> Vec<f64> {
    let lines = metrics(dir);
    lines
        .iter()
        .filter_map(|line| line[name].as_f64())
        .collect()
}

#[test]
fn a_run_ends_when_the_data_have_been_passed() {
    let files = Files::new();
    let said = files.finished("passes", &[]);
    // 15 problems, 4 a step.
    let dir = files.path("passes");
    assert_eq!(values(&dir, "train/epoch"), [0.4, 0.8, 1.2, 1.6]);
    assert!(said.contains("step    4/4 | epoch 1.60"), "{said}");
    // Half a cosine from 1e-3 to zero, by the share of the data that has been passed.
    for (rate, done) in values(&dir, "actor/lr").iter().zip([0.0, 4.0, 8.0, 12.0]) {
        let expected = 0.5e-3 * (1.0 + (std::f64::consts::PI * done / 15.0).cos());
        assert!((rate - expected).abs() < 1e-12, "{rate} {expected}");
    }

    // Dynamic sampling takes two batches in every step, as no group of this policy has a difference.
    files.finished("dynamic", &["train.max_generation_batches=2"]);
    assert_eq!(values(&files.path("dynamic"), "train/epoch"), [0.8, 1.6]);

    // Longer, afterwards.
    let flags = [
        "train",
        "--resume",
        dir.to_str().unwrap(),
        "--set",
        "train.data_epochs=2",
    ];
    let output = run(&flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(values(&dir, "train/epoch"), [0.4, 0.8, 1.2, 1.6, 2.0]);
    // Steps in place of passes.
    let output = run(&[&flags[..3], &["--steps", "6"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(values(&dir, "actor/lr").len(), 6);
    let config = fs::read_to_string(dir.join("config.toml")).unwrap();
    assert!(
        config.contains("steps = 6") && !config.contains("data_epochs"),
        "{config}"
    );
}

#[test]
fn a_killed_run_passes_the_data_as_often_as_another() {
    let files = Files::new();
    let sets = ["train.data_epochs=4"];
    files.finished("straight", &sets);
    let dir = files.path("killed");
    let mut child = files.train("killed", &sets).spawn().unwrap();
    wait_for(&mut child, &dir, |lines: &[Value]| lines.len() >= 3);
    child.kill().unwrap();
    child.wait().unwrap();
    resume_to_the_end(&dir);
    assert_eq!(metrics(&dir), metrics(&files.path("straight")));
    assert_eq!(values(&dir, "train/epoch").last(), Some(&4.0));
}

#[test]
fn one_length_is_given_and_it_has_an_end() {
    for (sets, message) in [
        (
            &["train.data_epochs=2"][..],
            "train.data_epochs: found 2; expected train.steps in its place, as the problems of data.task never end",
        ),
        (
            &["train.data_epochs=0"],
            "train.data_epochs: found 0; expected a number above 0",
        ),
        (
            &["train.data_epochs=2", "train.steps=2"],
            "train: both `steps` and `data_epochs` are given",
        ),
        (
            &["train={mini_batches=1}"],
            "train: neither `steps` nor `data_epochs` is given",
        ),
        (
            &[
                "train.mask_truncated_completions=true",
                "rollout.ignore_eos=true",
            ],
            "train.mask_truncated_completions: found true; expected false with rollout.ignore_eos",
        ),
    ] {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let output = run(&[&["train", "--print-config"], &sets[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{sets:?}");
        let said = text(&output.stderr);
        assert!(said.contains(message), "{said}");
    }
}
