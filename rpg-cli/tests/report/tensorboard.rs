//! Event files as TensorBoard itself reads them.

use crate::runs::{Folder, report, rpg, skip, text};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Reads a folder as TensorBoard does, and prints every scalar as [tag, step, value], and the texts.
const READ: &str = r#"
import json, sys
from tensorboard.backend.event_processing import event_accumulator
found = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
found.Reload()
scalars = [[tag, e.step, e.value] for tag in found.Tags()["scalars"] for e in found.Scalars(tag)]
times = [e.wall_time for tag in found.Tags()["scalars"] for e in found.Scalars(tag)]
texts = [[tag, e.tensor_proto.string_val[0].decode()] for tag in found.Tags()["tensors"] for e in found.Tensors(tag)]
print(json.dumps({"scalars": scalars, "texts": texts, "times": times}))
"#;

/// A Python with TensorBoard, in a virtual environment beside what cargo builds; made if it can be.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(find_python).clone()
}

fn find_python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tensorboard-venv");
    let python = venv.join("bin/python");
    let works = |command: &mut Command| {
        let run = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let has_it = || works(Command::new(&python).args(["-c", "import tensorboard"]));
    let install = || {
        works(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            && works(Command::new(&python).args(["-m", "pip", "install", "--quiet", "tensorboard"]))
            && has_it()
    };
    (has_it() || install()).then_some(python)
}

fn read(python: &Path, run: &Path) -> Value {
    let output = Command::new(python)
        .args(["-c", READ])
        .arg(run.join("tensorboard"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What metrics.jsonl says, as TensorBoard should.
fn expected(run: &Path) -> Vec<(String, u64, f64)> {
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut found = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for (name, value) in line.as_object().unwrap() {
            let tag = match line["phase"].as_str() {
                Some("warm_start") if name != "warm_start/nll" => format!("warm_start/{name}"),
                _ => name.clone(),
            };
            if let (Some(value), true) = (value.as_f64(), name != "step") {
                found.push((tag, line["step"].as_u64().unwrap(), f64::from(value as f32)));
            }
        }
    }
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    found
}

fn scalars(read: &Value) -> Vec<(String, u64, f64)> {
    let scalar = |entry: &Value| {
        let tag = entry[0].as_str().unwrap().to_owned();
        (tag, entry[1].as_u64().unwrap(), entry[2].as_f64().unwrap())
    };
    let mut found: Vec<_> = read["scalars"]
        .as_array()
        .unwrap()
        .iter()
        .map(scalar)
        .collect();
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    found
}

#[test]
fn tensorboard_reads_what_a_run_logs() {
    let Some(python) = python() else {
        return skip(
            "TensorBoard cannot be installed: python3 -m venv and pip are needed, and the network",
        );
    };
    let temp = tempfile::tempdir().unwrap();
    let run = Folder::new(&temp.path().join("run"), "seed = 7\n");
    run.add(
        "metrics.jsonl",
        &json!({"step": 1, "phase": "warm_start", "warm_start/nll": 2.5, "timing_s/step": 1.0}),
    );
    run.add(
        "metrics.jsonl",
        &json!({"step": 0, "phase": "initial", "val-core/all/acc/mean@2": 0.1}),
    );
    run.add_steps(1, 30, 0.01);
    run.add(
        "metrics.jsonl",
        &json!({"step": 31, "phase": "train", "actor/entropy": null}),
    );
    run.finish(31);
    for _ in 0..2 {
        // Written again, nothing is there twice.
        let output = report(&["--tensorboard", run.arg()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let path = text(&output.stdout);
        assert!(Path::new(path.trim()).is_file(), "{path}");
        let found = read(&python, &run.0);
        assert_eq!(scalars(&found), expected(&run.0));
        assert_eq!(found["texts"], json!([["config", "    seed = 7\n"]]));
        assert_eq!(fs::read_dir(run.0.join("tensorboard")).unwrap().count(), 1);
    }
    // The time between the first and the last line is that of the steps.
    let times = read(&python, &run.0);
    let times = times["times"]
        .as_array()
        .unwrap()
        .iter()
        .map(|time| time.as_f64().unwrap());
    let (first, last) = times.fold((f64::MAX, 0.0), |(a, b), time| (time.min(a), time.max(b)));
    assert!((last - first - 30.0 * 36.0).abs() < 1e-3, "{first} {last}");
}

#[test]
fn a_killed_and_resumed_run_has_every_step_once() {
    let Some(python) = python() else {
        return skip(
            "TensorBoard cannot be installed: python3 -m venv and pip are needed, and the network",
        );
    };
    let temp = tempfile::tempdir().unwrap();
    let run = temp.path().join("run");
    let mut args = vec!["train", "--run-dir", run.to_str().unwrap(), "--steps", "4"];
    for set in [
        "warm_start.steps=4",
        "warm_start.batch_size=8",
        "rollout.prompts_per_step=4",
        "rollout.samples_per_prompt=2",
        "evaluate.problems=4",
        "evaluate.samples=2",
        "train.max_generation_batches=0",
        "model.scratch.num_hidden_layers=1",
        "checkpoint.every=3",
        "checkpoint.tensorboard=true",
    ] {
        args.extend(["--set", set]);
    }
    let mut child = rpg()
        .args(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Killed after step 2, whose checkpoint is that of the evaluation before step 1.
    let started = Instant::now();
    let has_step = || {
        let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        lines.contains("{\"step\":2,\"phase\":\"train\"")
    };
    while !has_step() {
        assert!(
            started.elapsed() < Duration::from_secs(300),
            "no second step"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let _ = child.wait();
    let before = scalars(&read(&python, &run));
    let resumed = rpg()
        .args(["train", "--resume", run.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let after = scalars(&read(&python, &run));
    assert_eq!(after, expected(&run));
    assert!(before.len() < after.len());
    let rewards = |scalars: &[(String, u64, f64)]| -> Vec<u64> {
        let of_rewards = scalars
            .iter()
            .filter(|(tag, ..)| tag == "critic/rewards/mean");
        of_rewards.map(|(_, step, _)| *step).collect()
    };
    assert_eq!(rewards(&after), [1, 2, 3, 4]);
    assert!(rewards(&before).contains(&2), "{before:?}");
}
