//! Training with a reward command: what it scores, what is logged, and what happens if it crashes, hangs or is
//! missing.
#![cfg(unix)]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The end of every script: a score that depends on the line alone, and a right answer for some lengths.
const ANSWER: &str = r#"
    id=${line#*'"id":'}
    n=$((${#line} % 7))
    echo "{\"id\": ${id%%,*}, \"score\": 0.$n, \"parts\": {\"correct\": $((n % 2)), \"sevenths\": $n}}"
done"#;

/// Eight completions for each evaluation and for each of three steps.
const SMALL: &str = r#"
seed = 0
[model.scratch]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
[data.task]
name = "column_addition"
digits = 1
[rollout]
prompts_per_step = 4
samples_per_prompt = 2
max_new_tokens = 12
[objective]
kind = "rpg"
[optimizer]
lr = 1e-3
[train]
steps = 3
mini_batches = 2
[evaluate]
problems = 4
samples = 2
[checkpoint]
samples_per_step = 8
"#;

/// A folder for scripts, configs and runs.
struct TestFolder(tempfile::TempDir);

impl TestFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command that trains with this shell script as the body of its loop; `more` are keys of the
    /// command, `sets` other keys.
    fn train(&self, name: &str, body: &str, more: &str, sets: &[&str]) -> Command {
        let script = self.path(&format!("{name}.sh"));
        fs::write(
            &script,
            format!(
                "n_lines=0\nwhile read -r line; do\nn_lines=$((n_lines+1))\n{body}\n{ANSWER}\n"
            ),
        )
        .unwrap();
        let text = format!(
            "{SMALL}[reward.command]\nprogram = [\"sh\", \"{}\"]\n{more}\n",
            script.display()
        );
        self.train_config(name, &text, sets)
    }

    fn train_config(&self, name: &str, text: &str, sets: &[&str]) -> Command {
        let config = self.path(&format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rpg"));
        command.args(["train", "--config", config.to_str().unwrap()]);
        command.args(["--run-dir", self.path(name).to_str().unwrap()]);
        for set in sets {
            command.args(["--set", set]);
        }
        command
    }

    fn resume(&self, name: &str) -> Output {
        let dir = self.path(name);
        let args = ["train", "--resume", dir.to_str().unwrap()];
        Command::new(env!("CARGO_BIN_EXE_rpg"))
            .args(args)
            .output()
            .unwrap()
    }

    fn lines(&self, name: &str, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name).join(file)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The metrics without what may differ between two runs.
    fn metrics(&self, name: &str) -> Vec<Value> {
        let mut lines = self.lines(name, "metrics.jsonl");
        for line in &mut lines {
            let object = line.as_object_mut().unwrap();
            object.retain(|key, _| !key.starts_with("timing_s/") && key != "perf/throughput");
        }
        lines
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn a_command_scores_the_run_with_any_number_of_processes() {
    let folder = TestFolder::new();
    let sets = [
        "reward.weights.command=2.0",
        "reward.weights.format=0.5",
        "reward.overlong={max_length=12, buffer=8, penalty=0.25}",
        "reward.repetition={ngram=2, penalty=0.1}",
    ];
    for processes in [1, 3] {
        let name = processes.to_string();
        succeeds(folder.train(&name, "", &format!("processes = {processes}"), &sets));
    }
    assert_eq!(folder.metrics("1"), folder.metrics("3"));
    let samples = folder.lines("1", "samples.jsonl");
    assert_eq!(samples, folder.lines("3", "samples.jsonl"));

    // One sample of each of four groups in three steps; the reward is the weighted sum of its parts.
    assert_eq!(samples.len(), 12);
    for sample in &samples {
        let part = |name: &str| sample["parts"][name].as_f64().unwrap();
        let sum =
            2.0 * part("command") + 0.5 * part("format") + part("overlong") + part("repetition");
        assert_eq!(sample["reward"].as_f64().unwrap(), sum);
        assert!((part("command/sevenths") / 10.0 - part("command")).abs() < 1e-12);
        assert_eq!(sample["correct"], part("command/correct") == 1.0);
        assert!(sample.get("error").is_none() && sample["parts"].get("correct").is_none());
    }
    let metrics = folder.metrics("1");
    let validation = "val-core/column_addition/acc/mean@2";
    assert_eq!(metrics.len(), 5);
    for line in &metrics {
        let value = |name: &str| {
            line[name]
                .as_f64()
                .unwrap_or_else(|| panic!("{name}: {line}"))
        };
        if line["phase"] != "train" {
            // Random lengths are odd about half of the time; the model's answers are never right.
            assert!(value(validation) > 0.0, "{line}");
            assert_eq!(value("val-aux/column_addition/reward_errors"), 0.0);
            continue;
        }
        let sum = 2.0 * value("reward/command")
            + 0.5 * value("reward/format")
            + value("reward/overlong")
            + value("reward/repetition");
        assert!((value("critic/rewards/mean") - sum).abs() < 1e-12);
        assert_eq!(value("critic/score/mean"), value("reward/command/correct"));
        assert_eq!(value("reward/errors"), 0.0);
    }
}

#[test]
fn correctness_counts_besides_the_command_if_it_is_given_a_weight() {
    let folder = TestFolder::new();
    let sets = ["reward.weights.correct=3.0", "reward.scale=plus_minus_one"];
    succeeds(folder.train("run", "", "", &sets));
    for sample in folder.lines("run", "samples.jsonl") {
        let sign = if sample["correct"] == true { 1.0 } else { -1.0 };
        assert_eq!(sample["parts"]["correct"], sign);
        let command = sample["parts"]["command"].as_f64().unwrap();
        assert_eq!(sample["reward"].as_f64().unwrap(), 3.0 * sign + command);
    }
}

/// Crashes or hangs at the 20th line of a process: in the second step.
fn at_line_20(what: &str) -> String {
    format!("[ $n_lines = 20 ] && {what}")
}

const ONE_TRY: &str = "processes = 1\nmax_restarts = 0\n";

#[test]
fn a_crash_ends_the_run_with_a_checkpoint_from_which_it_resumes() {
    let folder = TestFolder::new();
    succeeds(folder.train("straight", "", ONE_TRY, &[]));
    let output = folder
        .train("run", &at_line_20("exit 9"), ONE_TRY, &[])
        .output()
        .unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert_eq!(error.matches("error:").count(), 1, "{error}");
    for part in [
        "reward.command: `sh ",
        "run.sh`, problem ",
        "exit status: 9",
        "--resume",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
    assert_eq!(folder.metrics("run"), folder.metrics("straight")[..2]);
    assert!(folder.path("run/checkpoints/step-000001").exists());
    // The third step's last completions are lines 13 to 16 of the new process. The last evaluation crashes it
    // again; the process after that has only this evaluation left.
    let output = folder.resume("run");
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(folder.path("run/checkpoints/step-000003").exists());
    let output = folder.resume("run");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(folder.metrics("run"), folder.metrics("straight"));
}

#[test]
fn a_run_survives_a_crash_if_the_config_says_so() {
    let folder = TestFolder::new();
    let crash = at_line_20("exit 9");
    let skip = format!("{ONE_TRY}on_error = \"skip\"\n");
    let score = format!("{ONE_TRY}on_error = {{ score = -1 }}\n");
    let hang = at_line_20("sleep 100");
    let hang_skip = format!("{skip}timeout_seconds = 1.0\n");
    let babble = at_line_20("echo nonsense");
    for (name, body, more, message) in [
        ("skip", &crash, &skip, "exit status: 9"),
        ("score", &crash, &score, "exit status: 9"),
        ("hang", &hang, &hang_skip, "did not answer within 1 s"),
        ("babble", &babble, &skip, "answered \"nonsense\""),
    ] {
        let start = Instant::now();
        let said = succeeds(folder.train(name, body, more, &[]));
        assert!(start.elapsed() < Duration::from_secs(60), "{name}");
        for part in ["step 2: 1 of 8 completions have no score", message] {
            assert!(said.contains(part), "{name}: no `{part}` in {said}");
        }
        let metrics = folder.metrics(name);
        let errors: Vec<f64> = metrics
            .iter()
            .filter_map(|line| line["reward/errors"].as_f64())
            .collect();
        assert_eq!(errors, [0.0, 1.0, 0.0], "{name}");
        // The new process reaches its 20th line in the last completion of the last evaluation.
        let last = &metrics[4];
        assert_eq!(last["val-aux/column_addition/reward_errors"], 1.0);
        let least = metrics[2]["critic/rewards/min"].as_f64().unwrap();
        assert_eq!(least == -1.0, name == "score", "{name}: {least}");
        assert!(metrics[2]["actor/grad_norm"].is_number());
    }
    // The scores before the crash are the same under every policy.
    assert_eq!(folder.metrics("skip"), folder.metrics("hang"));
    assert_eq!(folder.metrics("skip"), folder.metrics("babble"));
    assert_eq!(folder.metrics("skip")[..2], folder.metrics("score")[..2]);

    // A completion without a score has a line that says why.
    let body = "case $line in *1*) exit 9;; esac";
    succeeds(folder.train("often", body, &skip, &["rollout.prompts_per_step=16"]));
    let samples = folder.lines("often", "samples.jsonl");
    let without: Vec<_> = samples.iter().filter(|s| s["reward"].is_null()).collect();
    assert!(!without.is_empty());
    for sample in without {
        assert!(sample["correct"].is_null() && sample["parts"] == serde_json::json!({}));
        assert!(sample["error"].as_str().unwrap().contains("exit status: 9"));
    }
    let rewards: Vec<f64> = samples
        .iter()
        .filter_map(|s| s["reward"].as_f64())
        .collect();
    assert!(mean(&rewards) > 0.0);
}

#[test]
fn a_command_that_scores_no_completion_ends_the_run_before_the_first_step() {
    let folder = TestFolder::new();
    for policy in ["\"skip\"", "{ score = 0.0 }"] {
        let name = &policy[1..3];
        let more = format!("{ONE_TRY}on_error = {policy}\n");
        let output = folder.train(name, "exit 9", &more, &[]).output().unwrap();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{error}");
        assert!(
            error.contains("no completion of the evaluation has a score"),
            "{error}"
        );
        let name = format!("{name} unmeasured");
        let mut run = folder.train(&name, "exit 9", &more, &["evaluate.problems=0"]);
        let output = run.output().unwrap();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{error}");
        assert!(
            error.contains("no completion of the first step has a score"),
            "{error}"
        );
    }
}

#[test]
fn a_command_that_cannot_work_is_refused_before_the_run_folder_is_created() {
    let folder = TestFolder::new();
    let check = |program: &str, message: &str| {
        let text = format!("{SMALL}[reward.command]\nprogram = {program}\n");
        let output = folder.train_config("never", &text, &[]).output().unwrap();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{program}: {error}");
        assert!(
            error.contains(message),
            "{program}: no `{message}` in {error}"
        );
        assert_eq!(error.matches("error:").count(), 1, "{error}");
        assert!(!folder.path("never").exists(), "{program}");
    };
    check(
        "[\"no-such-program\", \"reward.py\"]",
        "reward.command.program: found `no-such-program`; expected a path to an executable file, or the name",
    );
    check("[\"./reward.py\"]", "found `./reward.py`");
    check("[]", "reward.command.program: found []");
    check(
        "[\"sh\", \"no-such-script.sh\"]",
        "reward.command: `sh no-such-script.sh`: the reward command ended before it answered",
    );
}

#[test]
fn the_python_example_trains() {
    let found = Command::new("python3").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: no python3");
        return;
    }
    let folder = TestFolder::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/length_reward.py");
    let text = format!(
        "{SMALL}[reward.command]\nprogram = [\"python3\", \"{}\"]\n",
        example.display()
    );
    succeeds(folder.train_config("run", &text, &[]));
    for line in folder
        .metrics("run")
        .iter()
        .filter(|line| line["phase"] == "train")
    {
        assert!(
            line["reward/command/brevity"].as_f64().unwrap() < 0.0,
            "{line}"
        );
        assert!(line["reward/command/found"].is_number());
        // The example does not say what is right or wrong, so the built-in grader does.
        assert_eq!(line["critic/score/mean"], 0.0);
    }
}

/// Those processes whose ids a script wrote down that are still running.
fn alive(file: &Path) -> Vec<String> {
    let ids = fs::read_to_string(file).unwrap_or_default();
    let runs = |id: &&str| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    ids.lines().filter(runs).map(str::to_owned).collect()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_process_outlives_the_run() {
    let folder = TestFolder::new();
    let started = folder.path("started");
    let hangs = folder.path("hangs");
    // Each process starts a child, which does not read.
    let note = format!(
        "[ $n_lines = 1 ] && {{ sleep 300 & echo $! >> '{0}'; echo $$ >> '{0}'; }}",
        started.display()
    );
    succeeds(folder.train("whole", &note, "", &[]));
    wait_until("processes are left after the end", || {
        alive(&started).is_empty()
    });
    assert!(fs::read_to_string(&started).unwrap().lines().count() >= 4);

    // Line 10 is in the first step, where one signal is enough. Line 17 is in the evaluation within a step, which
    // runs to its end unless a second signal ends everything.
    for (line, signal, n_signals) in [(10, "INT", 1), (10, "TERM", 1), (17, "INT", 2)] {
        let body = format!(
            "{note}\n[ $n_lines = {line} ] && {{ touch '{}'; sleep 300; }}",
            hangs.display()
        );
        let name = format!("line-{line}-{signal}");
        let mut run = folder
            .train(&name, &body, "processes = 1", &["evaluate.every=1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("the command does not reach the line", || hangs.exists());
        assert!(!alive(&started).is_empty());
        for _ in 0..n_signals {
            std::thread::sleep(Duration::from_millis(300));
            assert!(run.try_wait().unwrap().is_none());
            let id = run.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-s", signal, &id])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let start = Instant::now();
        let status = run.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{name}");
        assert!(start.elapsed() < Duration::from_secs(20), "{name}");
        wait_until("processes are left after the signal", || {
            alive(&started).is_empty()
        });
        fs::remove_file(&hangs).unwrap();
    }
}
