//! `rpg eval`: the numbers of training once more, sets of problems, what is refused, and grading again.

use crate::common::{lines, run, small_model, text, train};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The last lines that a command prints as JSON.
fn json(args: &[&str]) -> Value {
    let output = run(args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The metrics of an evaluation in a line of metrics.jsonl.
fn validation(line: &Value) -> Vec<(String, f64)> {
    let all = line.as_object().unwrap().iter();
    let own = all.filter(|(name, _)| name.starts_with("val-"));
    own.map(|(name, value)| (name.clone(), value.as_f64().unwrap()))
        .collect()
}

#[test]
fn a_run_is_measured_as_it_measured_itself() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    // Right answers to sums of one digit come soon.
    let more = [
        "--steps=1",
        "--set=data.task.digits=1",
        "--set=warm_start.steps=80",
        "--set=warm_start.batch_size=32",
        "--set=evaluate.problems=12",
        "--set=evaluate.samples=4",
    ];
    let output = train(&dir, &more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let own = validation(lines(&dir.join("metrics.jsonl")).last().unwrap());
    let names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "val-core/column_addition/acc/mean@4",
        "val-aux/column_addition/acc/mean@4/ci95_low",
        "val-aux/column_addition/acc/mean@4/ci95_high",
        "val-aux/column_addition/acc/best@2/mean",
        "val-aux/column_addition/acc/best@2/ci95_low",
        "val-aux/column_addition/acc/best@2/ci95_high",
        "val-core/column_addition/acc/best@4/mean",
    ];
    assert_eq!(names[..expected.len()], expected);
    let (mean, best) = (own[0].1, own[6].1);
    assert!(0.0 < mean && mean < best, "nothing was learned: {own:?}");

    let run_dir = dir.to_str().unwrap();
    let found = json(&["eval", "--model", run_dir, "--json"]);
    assert_eq!(validation(&found["metrics"]), own);
    assert_eq!(found["scores"][0]["problems"], 12);

    // Other draws, and only some of the problems.
    let out = temp.path().join("out");
    let more = ["--seed=5", "--problems=5", "--samples=3", "--out"];
    let args = ["eval", "--model", run_dir];
    let args = [&args[..], &more, &[out.to_str().unwrap()]].concat();
    let output = run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for part in [
        "column_addition",
        "mean@3",
        "pass@2",
        "pass@3",
        "maj@3",
        "cut off",
    ] {
        assert!(table.contains(part), "no `{part}` in {table}");
    }
    let samples = lines(&out.join("samples.jsonl"));
    assert_eq!(samples.len(), 15);
    let right = samples
        .iter()
        .filter(|line| line["correct"] == true)
        .count();
    let mean = format!("mean@3  {:>11.3}", right as f64 / 15.0);
    assert!(table.contains(&mean), "no `{mean}` in {table}");
    assert_eq!(
        (&samples[4]["sample"], samples[4].get("step")),
        (&Value::from(1), None)
    );
    let scores: Value =
        serde_json::from_str(&fs::read_to_string(out.join("scores.json")).unwrap()).unwrap();
    assert_eq!(scores["seed"], 5);

    // Graded again: the samples are still those of problems.
    let again = run(&["eval", "--regrade", out.to_str().unwrap()]);
    let said = text(&again.stdout);
    assert!(
        said.contains("changed       0:") && said.contains(&mean),
        "{said}"
    );
}

fn write_problems(path: &Path, source: &str, n: usize) -> String {
    let problems: String = (0..n)
        .map(|i| format!("{{\"question\": \"{i}+{i}=\", \"answer\": \"{}\", \"data_source\": \"{source}\"}}\n", 2 * i))
        .collect();
    fs::write(path, problems).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn sets_are_measured_each_as_if_alone() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    // A model that is no run.
    let bare = temp.path().join("bare");
    fs::rename(&model, &bare).unwrap();
    let a = write_problems(&temp.path().join("a.jsonl"), "sums", 3);
    let b = write_problems(&temp.path().join("b.jsonl"), "others", 4);
    let model = bare.to_str().unwrap();
    let settings = [
        "--samples=2",
        "--max-new-tokens=6",
        "--set=data.instruction=''",
        "--json",
    ];
    let measured = |data: &[&str]| {
        let args = [&["eval", "--model", model], data, &settings].concat();
        json(&args)
    };
    let both = measured(&["--data", &a, "--data", &b]);
    let alone = measured(&["--data", &b]);
    let scores = both["scores"].as_array().unwrap();
    let names: Vec<&str> = scores
        .iter()
        .map(|one| one["source"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["all", "sums", "others"]);
    assert_eq!(scores[0]["problems"], 7);
    assert_eq!(scores[2], alone["scores"][0]);
    assert!(both["metrics"]["val-core/all/acc/mean@2"].is_number());
    assert_eq!(both["max_new_tokens"], 6);

    // Files that name the same source.
    let c = write_problems(&temp.path().join("c.jsonl"), "sums", 5);
    let args = ["eval", "--model", model, "--data", &a, "--data", &c];
    let output = run(&[&args[..], &settings].concat());
    let note = "c.jsonl both have problems of the source sums, which are reported together";
    assert!(
        text(&output.stderr).contains(note),
        "{}",
        text(&output.stderr)
    );

    // The most probable token, once.
    let greedy = json(&[
        "eval",
        "--model",
        model,
        "--data",
        &a,
        "--greedy",
        "--max-new-tokens=6",
        "--set=data.instruction=''",
        "--json",
    ]);
    assert_eq!(
        (&greedy["samples"], &greedy["temperature"]),
        (&1.into(), &0.0.into())
    );
}

#[test]
fn what_cannot_be_measured_is_one_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let a = write_problems(&temp.path().join("a.jsonl"), "sums", 3);
    let empty = temp.path().join("empty.jsonl");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let bare = temp.path().join("bare");
    fs::create_dir(&bare).unwrap();
    for entry in fs::read_dir(&model).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, bare.join(path.file_name().unwrap())).unwrap();
        }
    }
    let model = bare.to_str().unwrap();
    let out = temp.path().join("out");
    for (flags, message) in [
        (&[][..], "--data is missing: on which problems?"),
        (&["--data=none.jsonl"], "none.jsonl: No such file"),
        (&["--data", empty], "empty.jsonl: "),
        (
            &["--data", &a, "--samples=0"],
            "--samples: found 0; expected at least 1",
        ),
        (
            &["--data", &a, "--samples=runs/x"],
            "(--regrade PATH grades samples again)",
        ),
        (
            &["--data", &a, "--samples=4", "--greedy"],
            "--samples: found 4; expected 1, as at temperature 0",
        ),
        (
            &["--data", &a, "--greedy", "--temperature=1"],
            "cannot be used with",
        ),
        (
            &["--data", &a, "--temperature=-1"],
            "--temperature: found -1; expected",
        ),
        (
            &["--data", &a, "--problems=0"],
            "--problems: found 0; expected at least 1",
        ),
        (&["--data", &a, "--data", &a], "a.jsonl: given twice"),
        (
            &["--data", &a, "--set=data.columns.question=text"],
            "a.jsonl, line 1: `text` is missing",
        ),
        (
            &["--data", &a, "--set=optimizer.lr=1"],
            "--set optimizer.lr: an evaluation does not read this key",
        ),
        (
            &["--data", &a, "--set=data.eval=x"],
            "--set data.eval: the problems are named with --data",
        ),
        (
            &["--data", &a, "--max-new-tokens=1000"],
            "plus rollout.max_new_tokens = 1000 exceeds the model's context of 128",
        ),
        (&["--data", &a, "--out", model], "bare: already exists"),
        (&["--data", &a, "--regrade", &a], "cannot be used with"),
    ] {
        let output = run(&[
            &["eval", "--model", model][..],
            flags,
            &["--out", out.to_str().unwrap()][..usize::from(!flags.contains(&"--out")) * 2],
        ]
        .concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(
            said.contains(message),
            "{flags:?}: no `{message}` in {said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        assert!(!out.exists(), "{flags:?}");
    }
    let left: Vec<PathBuf> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn samples_are_graded_again() {
    let temp = tempfile::tempdir().unwrap();
    let line = |id: &str, completion: &str, correct: bool| {
        serde_json::json!({
            "step": 3, "id": id, "prompt": "?", "completion": completion, "answer": "3", "extracted": "3",
            "correct": correct, "reason": "correct", "reward": 1.0, "parts": {}, "stop": "eos", "n_tokens": 4,
        })
    };
    let samples = [
        line("t:1", "It is 3.", true),
        line("t:2", "Answer: 3", true),
        line("t:3", "\\boxed{3}", false),
        line("t:4", "no idea", false),
    ];
    let text_of = |lines: &[Value]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let file = temp.path().join("samples.jsonl");
    // The last line of a run that is being written.
    fs::write(&file, text_of(&samples) + "{\"step\": 4, \"co").unwrap();
    let out = temp.path().join("again");
    let args = [
        "eval",
        "--regrade",
        file.to_str().unwrap(),
        "--set=reward.grade.last_expression=false",
    ];
    let output = run(&[&args[..], &["--out", out.to_str().unwrap()]].concat());
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in [
        "4 samples of",
        "right before  2\nright after   2\nchanged       2: 1 from wrong to right, 1 from right to wrong",
        "step 3, t:1, expected 3\n  before: right, found 3 (correct)\n  after:  wrong, found nothing (no answer)",
        "step 3, t:3, expected 3\n  before: wrong",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert!(text(&output.stderr).contains("its last line is not whole"));
    let again = lines(&out.join("samples.jsonl"));
    assert_eq!((again.len(), &again[0]["correct"]), (4, &false.into()));
    assert_eq!(again[0]["before"]["correct"], true);
    let counts = json(&[&args[..], &["--json"]].concat());
    assert_eq!(
        (&counts["wrong_to_right"], &counts["right_to_wrong"]),
        (&1.into(), &1.into())
    );
    assert_eq!(counts["changed"].as_array().unwrap().len(), 2);

    let bad = temp.path().join("bad.jsonl");
    fs::write(&bad, "{\"completion\": \"1\"}\n").unwrap();
    let (bad, file) = (bad.to_str().unwrap(), file.to_str().unwrap());
    for (flags, message) in [
        (&[bad][..], "bad.jsonl, line 1: `correct` is missing"),
        (&["nowhere"], "nowhere: No such file"),
        (
            &[
                temp.path().to_str().unwrap(),
                "--set=reward.grade.boxes=true",
            ],
            "boxes",
        ),
        (
            &[file, "--set=data.seed=1"],
            "--set data.seed: grading samples again does not read this key",
        ),
    ] {
        let output = run(&[&["eval", "--regrade"][..], flags].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(
            said.contains(message),
            "{flags:?}: no `{message}` in {said}"
        );
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    use crate::common::rpg;
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let data = write_problems(&temp.path().join("a.jsonl"), "sums", 50);
    let out = temp.path().join("out");
    let mut child = rpg()
        .args(["eval", "--model", model.to_str().unwrap()])
        .args(["--data", &data, "--out", out.to_str().unwrap()])
        .args(["--samples=4000", "--max-new-tokens=40"])
        .args(["--set=data.instruction=''", "--set=rollout.ignore_eos=true"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("4000 samples each") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("error: interrupted"), "{rest}");
    let left: Vec<_> = fs::read_dir(temp.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A reward command by which the right answers change from step to step.
#[cfg(unix)]
mod best {
    use super::{json, validation};
    use crate::common::{metrics, rpg, run, text};
    use crate::resume::resume;
    use serde_json::Value;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    const SCRIPT: &str = r#"while read -r line; do
    id=${line#*'"id":'}
    n=$((${#line} % 2))
    echo "{\"id\": ${id%%,*}, \"score\": 0.$((${#line} % 7)), \"parts\": {\"correct\": $n}}"
done"#;

    fn config(temp: &Path, more: &str) -> PathBuf {
        let script = temp.join("reward.sh");
        fs::write(&script, SCRIPT).unwrap();
        let path = temp.join("config.toml");
        let text = format!(
            "seed = 0\n\
             model.scratch = {{ hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 1 }}\n\
             data.task = {{ name = \"column_addition\", digits = 1 }}\n\
             rollout = {{ prompts_per_step = 4, samples_per_prompt = 2, max_new_tokens = 12 }}\n\
             objective.kind = \"rpg\"\n\
             optimizer.lr = 5e-3\n\
             reward.command.program = [\"sh\", \"{}\"]\n\
             train = {{ steps = 8, mini_batches = 2 }}\n\
             evaluate = {{ problems = 6, samples = 4, every = 1{more} }}\n\
             checkpoint.every = 3\n",
            script.display()
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn start(config: &Path, dir: &Path) -> Child {
        rpg()
            .args(["train", "--config", config.to_str().unwrap()])
            .args(["--run-dir", dir.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The lines of the evaluations.
    fn measured(dir: &Path) -> Vec<Value> {
        let mut lines = metrics(dir);
        lines.retain(|line| line.get("evaluate/score").is_some());
        lines
    }

    /// The folders and files in `best`.
    fn kept(dir: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(dir.join("best")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_best_policy_is_kept_and_can_be_named() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        let output = start(&config(temp.path(), ""), &dir)
            .wait_with_output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let metrics = measured(&dir);
        let mean = |line: &Value| {
            line["val-core/column_addition/acc/mean@4"]
                .as_f64()
                .unwrap()
        };
        let highest = metrics.iter().map(mean).fold(0.0, f64::max);
        let best = metrics.iter().find(|line| mean(line) == highest).unwrap();
        let last = metrics.last().unwrap();
        let step = best["step"].as_u64().unwrap();
        assert!(
            0 < step && step < 8,
            "the best step is no step in between: {step}"
        );
        assert_eq!(last["evaluate/best_step"].as_u64(), None);
        assert_eq!(last["evaluate/best_step"].as_f64(), Some(step as f64));
        assert_eq!(last["evaluate/best_score"].as_f64(), Some(highest));
        let summary: Value =
            serde_json::from_str(&fs::read_to_string(dir.join("summary.json")).unwrap()).unwrap();
        assert_eq!(summary["best"]["step"], step);
        assert_eq!(summary["best"]["mean@4"], highest);
        let line = format!("best mean@4 {highest:.3} after step {step} (6 problems): ");
        let said = text(&output.stdout);
        assert!(said.contains(&line), "no `{line}` in {said}");
        assert_eq!(kept(&dir), [format!("step-{step:06}")]);

        // It is what it was measured to be.
        let name = dir.join("best");
        let name = name.to_str().unwrap();
        let found = json(&["eval", "--model", name, "--json"]);
        assert_eq!(validation(&found["metrics"]), validation(best));
        let last_found = json(&["eval", "--model", dir.to_str().unwrap(), "--json"]);
        assert_eq!(validation(&last_found["metrics"]), validation(last));
        let out = temp.path().join("exported");
        let args = ["export", "--model", name, "--out", out.to_str().unwrap()];
        assert!(run(&args).status.success());
        assert!(out.join("model.safetensors").exists());
        let refused = run(&["train", "--model", name, "--data=x.jsonl", "--dry-run"]);
        assert!(text(&refused.stderr).contains("a run, not a model"));

        // A damaged file is noticed.
        let weights = dir.join(format!("best/step-{step:06}/model.safetensors"));
        let mut bytes = fs::read(&weights).unwrap();
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        fs::write(&weights, bytes).unwrap();
        let output = run(&["eval", "--model", name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("damaged: its checksum"));
        fs::remove_dir_all(dir.join("best")).unwrap();
        let output = run(&["eval", "--model", name]);
        let expected = "the run has kept no policy of a best evaluation";
        assert!(text(&output.stderr).contains(expected));
    }

    #[test]
    fn evaluations_of_fewer_problems_are_compared_on_these() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        let config = config(temp.path(), ", problems_during = 2");
        let output = start(&config, &dir).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let all = measured(&dir);
        let value = |line: &Value, name: &str| line[name].as_f64().unwrap();
        let scores: Vec<f64> = all
            .iter()
            .map(|line| value(line, "evaluate/score"))
            .collect();
        // Of two problems with four samples.
        assert!(
            scores.iter().all(|score| (8.0 * score).fract() == 0.0),
            "{scores:?}"
        );
        let means = all
            .iter()
            .map(|line| value(line, "val-core/column_addition/acc/mean@4"));
        for (i, (mean, score)) in means.zip(&scores).enumerate() {
            let is_during = 0 < i && i + 1 < all.len();
            assert!(!is_during || mean == *score, "{i}: {mean} {score}");
        }
        let highest = scores.iter().copied().fold(0.0, f64::max);
        let last = all.last().unwrap();
        assert_eq!(value(last, "evaluate/best_score"), highest);
        // The last step is measured on all problems afterwards, and the same draws give the same score.
        let summary: Value =
            serde_json::from_str(&fs::read_to_string(dir.join("summary.json")).unwrap()).unwrap();
        assert_eq!(summary["best"]["problems"], 2);
    }

    #[test]
    fn a_run_that_is_killed_at_any_moment_keeps_the_same_best_policy() {
        let temp = tempfile::tempdir().unwrap();
        let config = config(temp.path(), "");
        let straight = temp.path().join("straight");
        let output = start(&config, &straight).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let expected = kept(&straight);
        let dir = temp.path().join("killed");
        let mut child = start(&config, &dir);
        let mut n_killed = 0;
        for round in 0.. {
            // Steps take some milliseconds; checkpoints come every third.
            let wait = Duration::from_millis(40).mul_f64(1.3f64.powi(round));
            let begun = Instant::now();
            while begun.elapsed() < wait && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            n_killed += 1;
            // What is there is whole.
            for name in kept(&dir).iter().filter(|name| name.starts_with("step-")) {
                let folder = dir.join("best").join(name);
                assert!(folder.join("checksums.json").exists(), "{name}");
            }
            child = if dir.join("config.toml").exists() {
                resume(&dir)
            } else {
                start(&config, &dir)
            };
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(n_killed >= 3, "only {n_killed} kills");
        assert_eq!(metrics(&dir), metrics(&straight));
        assert_eq!(kept(&dir), expected);
        for file in ["model.safetensors", "evaluation.json"] {
            let [found, right] = [&dir, &straight]
                .map(|dir| fs::read(dir.join("best").join(&expected[0]).join(file)).unwrap());
            assert!(found == right, "{file} differs");
        }
    }
}
