//! What happens to a run when something around it fails: files, other processes, the terminal.

use crate::common::{checkpoint, lines, metrics, rpg, run, small_model, text, train};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn resume(dir: &Path) -> std::process::Output {
    run(&["train", "--resume", dir.to_str().unwrap()])
}

/// Replaces a text in a run's config.
fn change(dir: &Path, before: &str, after: &str) {
    let path = dir.join("config.toml");
    let config = fs::read_to_string(&path).unwrap();
    assert!(config.contains(before), "{before}: {config}");
    fs::write(path, config.replace(before, after)).unwrap();
}

#[test]
fn torn_lines_and_a_second_end_leave_no_trace() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    assert!(train(&dir, &["--steps", "2"]).status.success());
    let expected = (metrics(&dir), fs::read(dir.join("samples.jsonl")).unwrap());
    let append = |name: &str, bytes: &[u8]| {
        let file = fs::OpenOptions::new().append(true).open(dir.join(name));
        file.unwrap().write_all(bytes).unwrap();
    };
    append("samples.jsonl", b"{\"step\":3,\"completion\":\"\xe4\xbd");
    append("metrics.jsonl", b"{\"step\":3,\"x\":\"\xff\0\0");
    let output = resume(&dir);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(metrics(&dir), expected.0);
    assert_eq!(fs::read(dir.join("samples.jsonl")).unwrap(), expected.1);
}

#[test]
fn a_damaged_checkpoint_is_refused_or_an_older_one_is_used() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let more = ["--steps=3", "--set=checkpoint={every=1, keep=2}"];
    assert!(train(&dir, &more).status.success());
    let expected = metrics(&dir);
    let path = |step: u64, name: &str| dir.join(format!("checkpoints/step-{step:06}/{name}"));
    let flip = |step: u64, name: &str| {
        let mut bytes = fs::read(path(step, name)).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 64;
        fs::write(path(step, name), bytes).unwrap();
    };
    flip(9, "model.safetensors");
    let output = resume(&dir);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("warning: ") && said.contains("model.safetensors: damaged"),
        "{said}"
    );
    assert_eq!(metrics(&dir), expected);
    let sums = path(9, "checksums.json");
    let kept = fs::read(&sums).unwrap();
    fs::remove_file(&sums).unwrap();
    fs::rename(path(8, ""), temp.path().join("aside")).unwrap();
    let output = resume(&dir);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("checksums.json: No such file"));
    fs::write(&sums, kept).unwrap();
    fs::rename(temp.path().join("aside"), path(8, "")).unwrap();
    flip(8, "optimizer.safetensors");
    fs::remove_file(path(9, "tokenizer_config.json")).unwrap();
    let output = resume(&dir);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("tokenizer_config.json"));
}

#[test]
fn a_run_is_not_resumed_with_other_inputs() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let data = temp.path().join("data.jsonl");
    let problems: Vec<String> = (10..20)
        .map(|a| format!("{{\"question\": \"{a}+3=\", \"answer\": \"{}\"}}\n", a + 3))
        .collect();
    fs::write(&data, problems.concat()).unwrap();
    let dir = temp.path().join("own");
    let mut args = vec!["train", "--steps=1", "--set=data.instruction=''"];
    let sets = [
        "--set=rollout.prompts_per_step=2",
        "--set=rollout.samples_per_prompt=2",
        "--set=rollout.max_new_tokens=8",
        "--set=evaluate={problems=2, samples=1}",
        "--set=seed=0",
    ];
    args.extend(sets);
    args.extend([
        "--model",
        model.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ]);
    args.extend(["--run-dir", dir.to_str().unwrap()]);
    let output = run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // More steps are no other run, and neither is another place of the same data.
    change(&dir, "\nsteps = 1\n", "\nsteps = 2\n");
    let moved = temp.path().join("moved.jsonl");
    fs::rename(&data, &moved).unwrap();
    fs::copy(&moved, &data).unwrap();
    let output = resume(&dir);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let refused = |message: &str| {
        let output = resume(&dir);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message), "{said}");
    };
    for (before, after, message) in [
        ("seed = 0\n", "seed = 9\n", "seed: found 9; expected 0"),
        (
            "\nsamples = 1\n",
            "\nsamples = 3\n",
            "evaluate.samples: found 3; expected 1",
        ),
        (
            "problems = 2\n",
            "problems = 1\n",
            "evaluate.problems: found 1; expected 2",
        ),
        (
            "[model]\npath = \"",
            "[model]\npath = \"other",
            "model.path: found ",
        ),
    ] {
        change(&dir, before, after);
        refused(message);
        change(&dir, after, before);
    }
    fs::write(&data, problems[2..].concat()).unwrap();
    refused("data.train: the problems are not those");
}

#[test]
fn every_source_has_its_own_accuracy() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let file = |name: &str, sources: &[&str]| {
        let path = temp.path().join(name);
        let line = |(i, source): (usize, &&str)| {
            format!(
                "{{\"question\": \"{i}+3=\", \"answer\": {}, \"data_source\": \"{source}\"}}\n",
                i + 3
            )
        };
        let text: String = sources.iter().enumerate().map(line).collect();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let data = file("train.jsonl", &["own"; 8]);
    let eval = file("eval.jsonl", &["aime", "aime", "gsm"]);
    let dir = temp.path().join("own");
    let output = run(&[
        "train",
        "--model",
        model.to_str().unwrap(),
        "--data",
        &data,
        "--set",
        &format!("data.eval={eval}"),
        "--set=data.instruction=''",
        "--set=evaluate={problems=3, samples=1}",
        "--set=rollout.max_new_tokens=8",
        "--steps=0",
        "--run-dir",
        dir.to_str().unwrap(),
    ]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("note: 3 of the 3 problems of data.eval are in data.train too"),
        "{said}"
    );
    let line = &lines(&dir.join("metrics.jsonl"))[0];
    let mean = |source: &str| {
        line[format!("val-core/{source}/acc/mean@1")]
            .as_f64()
            .unwrap()
    };
    let overall = (2.0 * mean("aime") + mean("gsm")) / 3.0;
    assert!((mean("all") - overall).abs() < 1e-12, "{line}");
}

#[test]
fn evaluation_can_be_turned_off() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let output = train(&dir, &["--steps=1", "--set=evaluate.problems=0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("not measured: evaluate.problems = 0"));
    let phases: Vec<String> = metrics(&dir)
        .iter()
        .map(|line| line["phase"].to_string())
        .collect();
    assert_eq!(phases[6..], ["\"train\""]);
    assert!(resume(&dir).status.success());
}

#[test]
fn skipped_updates_are_said() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let more = [
        "--steps=2",
        "--set=objective.beta=1e38",
        "--set=reward.repetition={ngram=1, penalty=1.0}",
        "--set=train.mini_batches=1000",
    ];
    let output = train(&dir, &more);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("every update skipped"), "{said}");
    for expected in [
        "warning: 8 of 8 updates were skipped",
        "error: every update was skipped (8 of 8)",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let last = lines(&dir.join("metrics.jsonl")).pop().unwrap();
    assert_eq!(last["train/skipped_updates_total"], 8.0);
    let summary = fs::read_to_string(dir.join("summary.json")).unwrap();
    assert!(summary.contains("\"skipped_updates\": 8"), "{summary}");
    // Resuming the finished run is no way around it.
    assert_eq!(resume(&dir).status.code(), Some(3));
    assert!(
        said.contains("warning: train.mini_batches: found 1000"),
        "{said}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_cannot_be_written_costs_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = rpg()
        .args(["train", "--steps=2", "--run-dir", dir.to_str().unwrap()])
        .args(crate::common::SMALL)
        .stdout(Stdio::null())
        .stderr(full)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    checkpoint(&dir);
}

#[cfg(unix)]
#[test]
fn a_run_killed_before_its_first_step_resumes_and_one_process_trains_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let evaluation = "--set=evaluate={problems=128, samples=8}";
    let long = ["--steps=1", "--set=warm_start.steps=120", evaluation];
    let without = ["--steps=1", "--set=warm_start.steps=0", evaluation];
    // Until which checkpoint or how many lines of metrics the run goes on, the steps between checkpoints, and whether
    // the resumed run begins at the start.
    for (name, more, until, n_lines, every, at_start) in [
        ("first", &long[..], Some(0), 0, 1000, true),
        ("unsaved", &long, None, 12, 1000, true),
        ("saved", &long, None, 12, 5, false),
        ("evaluation", &long, Some(120), 0, 1000, false),
        ("no warm start", &without, Some(0), 0, 1000, true),
    ] {
        let straight = temp.path().join(more[1]);
        if !straight.exists() {
            assert!(train(&straight, more).status.success());
        }
        let dir = temp.path().join(name);
        let mut child = rpg()
            .args(["train", "--run-dir", dir.to_str().unwrap()])
            .args(crate::common::SMALL)
            .args(more)
            .args(["--set", &format!("checkpoint.every={every}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let is_there = || {
            let written = fs::read_to_string(dir.join("metrics.jsonl"));
            let written = written.map_or(0, |text| text.lines().count());
            let checkpoint = |step: u64| dir.join(format!("checkpoints/step-{step:06}"));
            written >= n_lines && until.is_none_or(|step| checkpoint(step).exists())
        };
        while !is_there() {
            assert!(child.try_wait().unwrap().is_none(), "{name}: ended early");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // It waits while another process is refused: it is to be killed at this point, not later.
        let stopped = Command::new("kill")
            .args(["-STOP", &child.id().to_string()])
            .status();
        assert!(stopped.unwrap().success());
        let second = resume(&dir);
        assert_eq!(second.status.code(), Some(2));
        assert!(text(&second.stderr).contains("another process is training"));
        child.kill().unwrap();
        child.wait().unwrap();
        let n_evaluated = metrics(&dir)
            .iter()
            .filter(|line| line["phase"] == "initial")
            .count();
        assert_eq!(n_evaluated, 0, "{name}: killed too late");
        let resumed = resume(&dir);
        let said = text(&resumed.stderr);
        assert!(resumed.status.success(), "{name}: {said}");
        let (from, first) = ("resuming from ", "checkpoints/step-000000\n");
        assert!(said.contains(from), "{name}: {said}");
        assert_eq!(said.contains(first), at_start, "{name}: {said}");
        assert_eq!(metrics(&dir), metrics(&straight), "{name}");
        let weights = |dir: &Path| fs::read(checkpoint(dir).join("model.safetensors")).unwrap();
        assert_eq!(weights(&dir), weights(&straight), "{name}");
    }
}

#[test]
fn one_of_several_ranks_meets_the_others_or_does_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let output = rpg()
        .args(["train", "--run-dir", dir.to_str().unwrap()])
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let why = if cfg!(feature = "mpi") {
        "MPI finds no other: start it by the mpirun of the MPI that this rpg is built with, or by srun --mpi=pmix"
    } else {
        "this rpg is built without MPI: cargo build --release -p rpg-cli --features mpi"
    };
    let expected = format!("error: started as one of 2 ranks, but {why}\n");
    assert_eq!(text(&output.stderr), expected);
    assert!(!dir.exists());
}
