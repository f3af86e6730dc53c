//! The `rpg` command as a user meets it: what it prints, what it leaves behind, how it fails.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn rpg() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rpg"))
}

fn run(args: &[&str]) -> Output {
    rpg().args(args).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Flags that make the built-in recipe a matter of seconds.
const SMALL: [&str; 16] = [
    "--set",
    "warm_start.steps=6",
    "--set",
    "warm_start.batch_size=8",
    "--set",
    "rollout.prompts_per_step=4",
    "--set",
    "rollout.samples_per_prompt=2",
    "--set",
    "evaluate.problems=4",
    "--set",
    "evaluate.samples=2",
    "--set",
    "train.max_generation_batches=0",
    "--set",
    "model.scratch.num_hidden_layers=1",
];

fn train(dir: &Path, more: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    run(&[&["train", "--run-dir", dir], &SMALL[..], more].concat())
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The metrics without what is allowed to differ between two runs.
fn metrics(dir: &Path) -> Vec<Value> {
    let mut lines = lines(&dir.join("metrics.jsonl"));
    for line in &mut lines {
        let object = line.as_object_mut().unwrap();
        object.retain(|key, _| !key.starts_with("timing_s/") && key != "perf/throughput");
    }
    lines
}

fn checkpoint(dir: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> = fs::read_dir(dir.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.sort();
    assert_eq!(
        all.len(),
        1,
        "one checkpoint is kept, and nothing half-written: {all:?}"
    );
    all.remove(0)
}

#[test]
fn a_run_leaves_what_it_promises() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let output = train(&dir, &["--steps", "2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    for part in ["before", "after", "mean@2", "run folder", "learning curve"] {
        assert!(stdout.contains(part), "{part} is missing in {stdout}");
    }
    let stderr = text(&output.stderr);
    for part in [
        "step    2/2",
        "reward",
        "held-out",
        "kl",
        "entropy",
        "clip",
        "length",
        "tokens/s",
    ] {
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
    }
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("summary.json")).unwrap()).unwrap();
    assert!(summary["before"]["mean@2"].is_number() && summary["after"]["mean@2"].is_number());
    assert_eq!(summary["steps"], 2);
    assert!(
        fs::read_to_string(dir.join("curve.svg"))
            .unwrap()
            .contains("</svg>")
    );
    let metrics = lines(&dir.join("metrics.jsonl"));
    let steps: Vec<_> = metrics
        .iter()
        .filter(|line| line["phase"] == "train")
        .collect();
    assert_eq!(steps.len(), 2);
    for name in [
        "critic/rewards/mean",
        "actor/pg_loss",
        "actor/pg_clipfrac",
        "actor/kl_loss",
        "actor/entropy",
        "actor/grad_norm",
        "response_length/mean",
        "sampling/sampling_logp_difference/max",
        "timing_s/gen",
        "perf/throughput",
    ] {
        assert!(steps[0][name].is_number(), "{name} is missing");
    }
    // The sampler and the scorer see the same policy.
    assert!(
        steps[0]["sampling/sampling_logp_difference/max"]
            .as_f64()
            .unwrap()
            < 1e-4
    );
    assert_eq!(lines(&dir.join("samples.jsonl")).len(), 8);
    let checkpoint = checkpoint(&dir);
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        assert!(
            checkpoint.join(name).exists(),
            "{name} is missing in the checkpoint"
        );
    }

    // The report can be drawn again, and the folder is not taken twice.
    let before = fs::read(dir.join("curve.svg")).unwrap();
    fs::remove_file(dir.join("curve.svg")).unwrap();
    assert!(run(&["report", dir.to_str().unwrap()]).status.success());
    assert_eq!(fs::read(dir.join("curve.svg")).unwrap(), before);
    let again = train(&dir, &[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("holds a run already"));
}

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
    let mut child = start(&dir, &more);
    wait_for(&mut child, &dir, |lines| {
        lines.iter().any(|line| line["phase"] == "train")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = run(&["train", "--resume", dir.to_str().unwrap()]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert_eq!(metrics(&dir), metrics(&path("a")));
    checkpoint(&dir);

    // A model of another size is not what the checkpoint holds.
    let config = fs::read_to_string(dir.join("config.toml")).unwrap();
    let (before, after) = ("num_hidden_layers = 1", "num_hidden_layers = 2");
    assert!(config.contains(before), "{config}");
    fs::write(dir.join("config.toml"), config.replace(before, after)).unwrap();
    let refused = run(&["train", "--resume", dir.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let expected =
        "model.scratch.num_hidden_layers: found 2; expected 1, as the run's checkpoint has it";
    let message = text(&refused.stderr);
    assert!(message.contains(expected), "{message}");
}

fn start(dir: &Path, more: &[&str]) -> Child {
    rpg()
        .args(["train", "--run-dir", dir.to_str().unwrap()])
        .args(SMALL)
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(child: &mut Child, dir: &Path, done: impl Fn(&[Value]) -> bool) {
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
            "the run does not get on"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_with_a_checkpoint_from_which_it_goes_on() {
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
        assert!(checkpoint(&dir).join("model.safetensors").exists());
        let resumed = run(&["train", "--resume", dir.to_str().unwrap()]);
        assert!(resumed.status.success(), "{}", text(&resumed.stderr));
        assert_eq!(metrics(&dir), metrics(&straight), "{phase}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_interrupted_anywhere_again_and_again_ends_with_the_same_numbers() {
    let temp = tempfile::tempdir().unwrap();
    // Several sampling batches and an evaluation in every step: interruptions fall into all of them.
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
    // Nothing is right after so short a warm start: a step without a group to learn from says so.
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
            _ => {
                let child = rpg()
                    .args(["train", "--resume", dir.to_str().unwrap()])
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                (child, metrics(&dir).len())
            }
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
    assert!(n_interrupted >= 3, "{n_interrupted} interruptions only");
    assert_eq!(metrics(&dir), expected);
}

/// A trained checkpoint to generate from.
fn small_model(temp: &Path) -> PathBuf {
    let dir = temp.join("run");
    assert!(train(&dir, &["--steps", "0"]).status.success());
    checkpoint(&dir)
}

#[test]
fn generated_text_scores_as_it_was_sampled() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let model = model.to_str().unwrap();
    let prompts = temp.path().join("prompts.txt");
    fs::write(&prompts, "12+34=\n{\"prompt\": \"987+123=\\n\"}\n").unwrap();
    let args = [
        "generate",
        "--model",
        model,
        "--prompts",
        prompts.to_str().unwrap(),
    ];
    let more = [
        "-n",
        "3",
        "--max-new-tokens",
        "9",
        "--temperature",
        "0.8",
        "--json",
    ];
    let output = run(&[&args[..], &more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let completions: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let places: Vec<_> = completions
        .iter()
        .map(|c| {
            (
                c["prompt_idx"].as_u64().unwrap(),
                c["sample_idx"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    assert!(text(&output.stderr).contains("tokens/s"));

    let input: String = completions
        .iter()
        .map(|c| {
            let line = serde_json::json!({
                "prompt_tokens": c["prompt_tokens"], "completion_tokens": c["tokens"],
            });
            format!("{line}\n")
        })
        .collect();
    let scored = piped(
        &[
            "score",
            "--model",
            model,
            "--input",
            "-",
            "--temperature",
            "0.8",
        ],
        &input,
    );
    assert!(scored.status.success(), "{}", text(&scored.stderr));
    for (line, completion) in text(&scored.stdout).lines().zip(&completions) {
        let line: Value = serde_json::from_str(line).unwrap();
        let values = |v: &Value| -> Vec<f64> {
            v.as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap())
                .collect()
        };
        let (a, b) = (values(&line["logprobs"]), values(&completion["logprobs"]));
        assert_eq!(a.len(), b.len());
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5),
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn export_writes_a_folder_that_scores_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let run_dir = temp.path().join("run");
    let score = |model: &Path| {
        let output = piped(
            &["score", "--model", model.to_str().unwrap(), "--input", "-"],
            "{\"prompt\": \"12+34=\", \"completion\": \"46\"}\n",
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        let logprobs = line["logprobs"].as_array().unwrap();
        logprobs
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect::<Vec<f64>>()
    };
    let expected = score(&model);
    for (source, dtype, tolerance) in [(&model, "f32", 0.0), (&run_dir, "bf16", 0.02)] {
        let out = temp.path().join(dtype);
        let args = ["export", "--model", source.to_str().unwrap()];
        let args = [
            &args[..],
            &["--out", out.to_str().unwrap(), "--dtype", dtype],
        ]
        .concat();
        let output = run(&args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        for (a, b) in expected.iter().zip(score(&out)) {
            assert!((a - b).abs() <= tolerance, "{dtype}: {a} and {b}");
        }
        let again = run(&args);
        assert_eq!(again.status.code(), Some(2));
        assert!(text(&again.stderr).contains("exists already"));
    }
    assert!(
        fs::read_dir(temp.path()).unwrap().count() == 3,
        "nothing half-written is left"
    );
}

#[test]
fn large_inputs_are_a_result_or_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let file = |name: &str, text: String| {
        let path = temp.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let generate = |prompts: &str| {
        run(&[
            "generate",
            "--model",
            model.to_str().unwrap(),
            "--prompts",
            prompts,
            "--max-new-tokens",
            "1",
        ])
    };
    let output = generate(&file("long.txt", "1".repeat(1_000_000)));
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.contains("long.txt: prompt 0 has 1000000 tokens") && error.contains("context of 128"),
        "{error}"
    );
    // Many more than there are slots; they come back in order.
    let n = 5000;
    let many: String = (0..n).map(|i| format!("{}+{i}=\n", i % 7)).collect();
    let output = generate(&file("many.txt", many));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let places: Vec<u64> = text(&output.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["prompt_idx"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert!(places.into_iter().eq(0..n));
}

#[test]
fn the_chat_template_hears_of_thinking_and_the_date() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let settings = model.join("tokenizer_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&settings).unwrap()).unwrap();
    json["chat_template"] = "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %}=={% endif %}\
        {% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}".into();
    fs::write(&settings, json.to_string()).unwrap();
    let n_prompt = |more: &[&str]| {
        let args = [
            "generate",
            "--model",
            model.to_str().unwrap(),
            "--prompts",
            "-",
            "--json",
        ];
        let output = piped(&[&args[..], more].concat(), "1+2\n");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let line = text(&output.stdout);
        let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        line["prompt_tokens"].as_array().unwrap().len()
    };
    assert_eq!(n_prompt(&["--max-new-tokens", "2"]), 3);
    assert_eq!(
        n_prompt(&["--max-new-tokens", "2", "--thinking", "true"]),
        3
    );
    assert_eq!(
        n_prompt(&["--max-new-tokens", "2", "--thinking", "false"]),
        5
    );
    assert_eq!(
        n_prompt(&["--max-new-tokens", "2", "--date", "2026-03-05"]),
        7
    );

    let data = temp.path().join("data.jsonl");
    let problems =
        "{\"question\": \"1+2\", \"answer\": \"3\"}\n{\"question\": \"1+3\", \"answer\": \"4\"}\n";
    fs::write(&data, problems).unwrap();
    let dir = temp.path().join("own");
    let output = run(&[
        "train",
        "--model",
        model.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--run-dir",
        dir.to_str().unwrap(),
        "--steps=1",
        "--set=data.thinking=false",
        "--set=data.date=2026-03-05",
        "--set=data.instruction=",
        "--set=rollout.prompts_per_step=1",
        "--set=rollout.max_new_tokens=4",
        "--set=evaluate.problems=1",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let step = metrics(&dir)
        .into_iter()
        .find(|line| line["phase"] == "train");
    // The question, a line break, and the template's two characters and four digits.
    assert_eq!(step.unwrap()["prompt_length/mean"], 10.0);
}

#[test]
fn an_instruction_of_ones_own_follows_the_question() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let data = temp.path().join("data.jsonl");
    let mut problems: String = (10..18)
        .map(|a| format!("{{\"question\": \"{a}+3\", \"answer\": \"{}\"}}\n", a + 3))
        .collect();
    problems += "{\"question\": \"1+3\", \"answer\": \"\\\\frac{4}{\"}\n";
    fs::write(&data, problems).unwrap();
    let dir = temp.path().join("own");
    let args = [
        "train",
        "--model",
        model.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let more = [
        "--run-dir",
        dir.to_str().unwrap(),
        "--steps",
        "1",
        "--set",
        "data.instruction=4+5=",
        "--set",
        "rollout.prompts_per_step=2",
        "--set",
        "rollout.samples_per_prompt=2",
        "--set",
        "rollout.max_new_tokens=8",
        "--set",
        "evaluate.problems=1",
    ];
    let output = run(&[&args[..], &more].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let note = "note: 1 of 9 expected answers are nothing that the grader understands";
    assert!(said.contains(note), "{said}");
    assert!(said.contains("data.jsonl:9, `\\frac{4}{`"), "{said}");
    let samples = lines(&dir.join("samples.jsonl"));
    assert!(!samples.is_empty());
    for sample in samples {
        let prompt = sample["prompt"].as_str().unwrap();
        assert!(prompt.ends_with("+3\n4+5="), "{prompt}");
    }
}

fn piped(args: &[&str], input: &str) -> Output {
    let mut child = rpg()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its flags ends without reading; what it says is looked at, not the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn bad_input_is_one_clear_error_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = temp.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let model = small_model(temp.path());
    let model = model.to_str().unwrap();
    let good = (0..80)
        .map(|i| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}\n", i + 1))
        .collect::<String>();
    let good_data = file("good.jsonl", &good);
    let bad_data = file("bad.jsonl", &format!("{good}{{\"question\": 3\n"));
    let long = format!(
        "{{\"question\": \"{}\", \"answer\": \"1\"}}\n",
        "1".repeat(120)
    );
    let long_data = file("long.jsonl", &format!("{good}{long}"));
    let config = file("config.toml", "seed = 0\nsteps = 3\n");
    let not_toml = file("not.toml", "seed = = 0\n");
    let bare = temp.path().join("bare");
    fs::create_dir(&bare).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(model).join(name), bare.join(name)).unwrap();
    }
    let truncated = temp.path().join("truncated");
    fs::create_dir(&truncated).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(Path::new(model).join(name), truncated.join(name)).unwrap();
    }
    let weights = fs::read(Path::new(model).join("model.safetensors")).unwrap();
    fs::write(
        truncated.join("model.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    let (bare, truncated) = (bare.to_str().unwrap(), truncated.to_str().unwrap());

    let run_dir = temp.path().join("never");
    let run_dir_text = run_dir.to_str().unwrap();
    let check = |args: &[&str], message: &str| {
        let output = run(&[&["train", "--run-dir", run_dir_text], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains(message),
            "{args:?}: no `{message}` in: {stderr}"
        );
        assert_eq!(stderr.matches("error:").count(), 1, "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(!run_dir.exists(), "{args:?} left a run folder behind");
    };
    check(&["--config", &config], "unknown field `steps`");
    check(&["--config", &not_toml], "not.toml");
    check(&["--config", "missing.toml"], "missing.toml");
    check(&["--set", "train.stepz=1"], "stepz");
    check(&["--recipe", "cooking"], "no recipe is called `cooking`");
    check(&["--model", model], "neither `train` nor `task`");
    check(&["--data", &good_data], "neither `path` nor `scratch`");
    check(
        &["--model", "missing", "--data", &good_data],
        "missing: no such folder",
    );
    check(&["--model", bare, "--data", &good_data], "tokenizer.json");
    check(
        &["--model", truncated, "--data", &good_data],
        "model.safetensors",
    );
    check(
        &["--model", model, "--data", "missing.jsonl"],
        "missing.jsonl",
    );
    check(
        &["--model", model, "--data", &bad_data],
        "bad.jsonl, line 81",
    );
    let fits = ["--set", "rollout.max_new_tokens=8"];
    check(
        &[&["--model", model, "--data", &long_data], &fits[..]].concat(),
        "context of 128",
    );
    check(&["--backend", "abacus"], "abacus");
    check(&["--set", "objective.beta=-1"], "beta");
}

#[test]
fn other_commands_name_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let model = model.to_str().unwrap();
    let check = |args: &[&str], input: &str, message: &str| {
        let output = piped(args, input);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains(message),
            "{args:?}: no `{message}` in: {stderr}"
        );
    };
    let generate = ["generate", "--model", model, "--prompts", "-"];
    let with = |more: &[&'static str]| [&generate[..], more].concat();
    check(
        &with(&["--temperature", "-1"]),
        "1\n",
        "--temperature: found -1",
    );
    check(&with(&["--top-p", "0"]), "1\n", "--top-p: found 0");
    check(&with(&["-n", "0"]), "1\n", "-n: found 0");
    check(&with(&["--stop", ""]), "1\n", "--stop: found an empty text");
    check(
        &with(&[]),
        "1\n{\"prompt\": 1\n",
        "line 2: not a JSON object",
    );
    check(
        &with(&[]),
        "{\"text\": 1}\n",
        "line 1: an object needs `prompt` or `messages`",
    );
    check(
        &with(&["--max-new-tokens", "128"]),
        "1\n",
        "more than the model's context of 128",
    );
    let score = ["score", "--model", model, "--input", "-"];
    check(
        &score,
        "{\"text\": \"12\"}\n{\"prompt\": \"1\"}\n",
        "line 2: the keys do not fit",
    );
    check(
        &score,
        "{\"prompt_tokens\": [1], \"completion_tokens\": [99]}\n",
        "token 99",
    );
    check(&["loss", "-"], "{\"logp\": [[0.0]]", "not a loss request");
    check(&["loss", "missing.json"], "", "missing.json");
    check(
        &["report", temp.path().to_str().unwrap()],
        "",
        "no run is there",
    );
}

#[test]
fn verify_grades_line_by_line_and_sums_up() {
    let cases = "{\"id\": 1, \"gold\": \"1/2\", \"pred\": \"so \\\\boxed{0.5}\", \"expect\": true, \"source\": \"a\"}\n\
                 {\"id\": \"x\", \"gold\": \"3\", \"pred\": \"Answer: 4\", \"expect\": true, \"source\": \"b\"}\n";
    let output = piped(&["verify", "-"], cases);
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["id"], &lines[0]["correct"]),
        (&Value::from(1), &Value::from(true))
    );
    assert_eq!(
        (&lines[1]["id"], &lines[1]["correct"]),
        (&Value::from("x"), &Value::from(false))
    );
    assert_eq!(lines[1]["extracted"], "4");
    assert!(lines[1]["reason"].is_string());
    let summary = text(&piped(&["verify", "-", "--summary"], cases).stdout);
    assert!(
        summary.contains("50.0%") && summary.contains("cases/s"),
        "{summary}"
    );
    let bad = piped(&["verify", "-"], &format!("nonsense\n{cases}"));
    assert_eq!(bad.status.code(), Some(2));
    assert!(
        text(&bad.stderr).contains("line 1"),
        "{}",
        text(&bad.stderr)
    );
    assert_eq!(
        text(&bad.stdout).lines().count(),
        2,
        "the other lines are graded"
    );
    // So they are around bytes that are no text, and a verdict comes before the input ends.
    let mut child = rpg()
        .args(["verify", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let first = cases.lines().next().unwrap();
    for _ in 0..2 {
        stdin.write_all(format!("{first}\n").as_bytes()).unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert!(line.contains("\"correct\":true"), "{line}");
        stdin.write_all(b"{\"gold\": \"\xff\"}\n").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("line 4: not UTF-8"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn loss_answers_the_documented_request() {
    let request = r#"{"objective": {"kind": "rpg"}, "logp": [[-1.0, -2.0]], "logp_old": [[-1.1, -1.9]],
        "mask": [[1, 1]], "advantages": [1.0]}"#;
    let output = piped(&["loss", "-"], request);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    for key in ["loss", "grad", "advantages", "metrics"] {
        assert!(!answer[key].is_null(), "{key} is missing in {answer}");
    }
}
