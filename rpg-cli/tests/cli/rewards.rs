//! Reward commands: several of them, and the columns of the data that they are given.

use crate::common::{lines, metrics, rpg, run, small_model, text, train};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A shell script that answers every line; `body` sets `score`, and `parts` where it has any.
fn script(dir: &Path, name: &str, body: &str) -> String {
    let path = dir.join(format!("{name}.sh"));
    let text = format!(
        "while read -r line; do\nid=${{line#*'\"id\":'}}\nparts='{{}}'\n{body}\n\
         echo \"{{\\\"id\\\": ${{id%%,*}}, \\\"score\\\": $score, \\\"parts\\\": $parts}}\"\ndone\n"
    );
    fs::write(&path, text).unwrap();
    format!("program=['sh', '{}']", path.display())
}

/// A score by the length of the line, with an opinion on what is right.
const LENGTH: &str = "score=0.$((${#line} % 7)); parts=\"{\\\"correct\\\": $((${#line} % 2))}\"";

fn set<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    sets.iter().flat_map(|set| ["--set", set]).collect()
}

#[test]
fn every_command_is_a_part_of_the_reward_with_its_weight() {
    let temp = tempfile::tempdir().unwrap();
    let length = script(temp.path(), "length", LENGTH);
    let constant = script(temp.path(), "constant", "score=0.25; parts='{\"seen\": 1}'");
    let commands = format!(
        "reward.commands={{length={{{length}, weight=2}}, constant={{{constant}, weight=-0.5, processes=1}}}}"
    );
    let dir = temp.path().join("run");
    let sets = set(&[&commands, "reward.weights.format=0.125", "evaluate.every=1"]);
    let output = train(&dir, &[&["--steps", "2"], &sets[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let samples = lines(&dir.join("samples.jsonl"));
    assert_eq!(samples.len(), 8);
    for sample in &samples {
        let part = |name: &str| sample["parts"][name].as_f64().unwrap();
        assert_eq!(part("constant"), 0.25);
        assert_eq!(part("constant/seen"), 1.0);
        let sum = -0.5 * part("constant") + 2.0 * part("length") + 0.125 * part("format");
        assert!(
            (sample["reward"].as_f64().unwrap() - sum).abs() < 1e-12,
            "{sample}"
        );
        assert_eq!(sample["correct"], part("length/correct") == 1.0);
    }
    for line in metrics(&dir).iter().filter(|line| line["phase"] == "train") {
        let value = |name: &str| line[name].as_f64().unwrap();
        assert_eq!(value("reward/constant"), 0.25);
        assert_eq!(value("critic/score/mean"), value("reward/length/correct"));
        assert_eq!(value("reward/errors"), 0.0);
        assert!(line.get("reward/command").is_none());
    }
}

#[test]
fn one_command_says_what_is_right() {
    let temp = tempfile::tempdir().unwrap();
    let one = script(temp.path(), "one", LENGTH);
    let other = script(temp.path(), "other", "score=1; parts='{\"correct\": 1}'");
    let commands = format!("reward.commands={{one={{{one}}}, other={{{other}}}}}");
    let dir = temp.path().join("run");
    let output = train(&dir, &[&["--steps", "2"], &set(&[&commands])[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    let expected = "reward.correct_by: found nothing; expected one of `one` and `other`, which both say what is right";
    assert!(said.contains(expected), "{said}");
    // The run goes on with an answer.
    let resume = ["train", "--resume", dir.to_str().unwrap()];
    let output = run(&[&resume[..], &["--set", "reward.correct_by=other"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    for sample in lines(&dir.join("samples.jsonl")) {
        assert_eq!(sample["correct"], true);
        assert!(sample["parts"]["one/correct"].is_number());
    }
}

#[test]
fn every_command_has_its_own_answer_to_errors() {
    let temp = tempfile::tempdir().unwrap();
    // Fails on some completions, and then says nothing of what is right.
    let body = format!("[ $((${{#line}} % 3)) = 0 ] && exit 9\n{LENGTH}");
    let fails = script(temp.path(), "fails", &body);
    let constant = script(temp.path(), "constant", "score=0.5");
    let train_with = |name: &str, policy: &str| {
        let commands = format!(
            "reward.commands={{fails={{{fails}, on_error={policy}, max_restarts=0}}, constant={{{constant}}}}}"
        );
        let dir = temp.path().join(name);
        let output = train(&dir, &[&["--steps", "3"], &set(&[&commands])[..]].concat());
        (dir, output.status.code(), text(&output.stderr))
    };
    let (dir, code, said) = train_with("score", "{score=-4}");
    assert_eq!(code, Some(0), "{said}");
    let samples = lines(&dir.join("samples.jsonl"));
    let failed = |sample: &&Value| sample.get("error").is_some();
    assert!(samples.iter().any(|sample| failed(&sample)), "{samples:?}");
    for sample in &samples {
        if failed(&sample) {
            assert_eq!(sample["reward"], -3.5, "the other command counts: {sample}");
            assert!(sample["correct"].is_null(), "{sample}");
            let error = sample["error"].as_str().unwrap();
            assert!(
                error.starts_with("fails: the reward command ended"),
                "{error}"
            );
        } else {
            assert!(sample["correct"].is_boolean(), "{sample}");
        }
    }
    let (dir, code, said) = train_with("skip", "'skip'");
    assert_eq!(code, Some(0), "{said}");
    for sample in lines(&dir.join("samples.jsonl")) {
        assert_eq!(sample["reward"].is_null(), sample.get("error").is_some());
    }
    let (_, code, said) = train_with("stop", "'stop'");
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("reward.commands.fails: `sh "), "{said}");
    assert!(
        said.contains("`reward.commands.fails.on_error` can leave out"),
        "{said}"
    );
}

#[test]
fn a_command_that_cannot_work_is_named_before_the_run_begins() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let good = script(temp.path(), "good", LENGTH);
    for (command, message) in [
        (
            "program=['no-such-program']",
            "reward.commands.bad.program: found `no-such-program`; expected a path",
        ),
        (
            "program=['sh', 'no-such-script.sh']",
            "reward.commands.bad: `sh no-such-script.sh`: the reward command ended",
        ),
    ] {
        let commands = format!("reward.commands={{good={{{good}}}, bad={{{command}}}}}");
        let output = train(&dir, &set(&[&commands]));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message), "{said}");
        assert!(!dir.exists());
    }
    // One that has never scored anything, beside one that has.
    let never = script(temp.path(), "never", "exit 9");
    let commands = format!(
        "reward.commands={{good={{{good}}}, never={{{never}, on_error={{score=0}}, max_restarts=0}}}}"
    );
    let output = train(&dir, &set(&[&commands, "evaluate.problems=0"]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    let expected = "reward.commands.never: no completion of the first step has a score";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn commands_are_given_the_columns_that_the_config_names() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let data = temp.path().join("data.jsonl");
    let row = |i: usize| {
        format!(
            "{{\"question\": \"{i}+1=\", \"answer\": \"{}\", \"difficulty\": 0.{i}0, \"extra_info\": {{\"index\": {i}}}}}\n",
            i + 1
        )
    };
    fs::write(&data, (0..8).map(row).collect::<String>()).unwrap();
    let log = temp.path().join("log");
    let body = format!(
        "printf '%s\\n' \"$line\" >> '{}'\nscore=${{line#*'\"difficulty\":'}}\nscore=${{score%%,*}}",
        log.display()
    );
    let command = format!(
        "reward.command={{{}, processes=1}}",
        script(temp.path(), "reward", &body)
    );
    let dir = temp.path().join("columns");
    let train = |more: &[&str]| {
        let sets = [
            &command,
            "rollout={prompts_per_step=4, samples_per_prompt=2, max_new_tokens=4}",
            "data.instruction=''",
            "train={steps=2, mini_batches=1}",
            "evaluate.problems=0",
            "checkpoint.samples_per_step=4",
        ];
        rpg()
            .args(["train", "--model", model.to_str().unwrap()])
            .args(["--data", data.to_str().unwrap()])
            .args(["--run-dir", dir.to_str().unwrap()])
            .args(set(&sets))
            .args(set(more))
            .output()
            .unwrap()
    };
    let output = train(&["data.columns.extra=['difficulty', 'level']"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected =
        "line 1: data.columns.extra: `level` is missing; the columns are `answer`, `difficulty`";
    assert!(said.contains(expected), "{said}");
    assert!(!dir.exists());
    let output = train(&["data.columns.extra=['difficulty', 'extra_info.index']"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let samples = lines(&dir.join("samples.jsonl"));
    assert_eq!(samples.len(), 8);
    for sample in &samples {
        // The line of the file, counted from 1.
        let number: f64 = sample["id"].as_str().unwrap()["data.jsonl:".len()..]
            .parse()
            .unwrap();
        let difficulty = (number - 1.0) / 10.0;
        assert!(
            (sample["reward"].as_f64().unwrap() - difficulty).abs() < 1e-12,
            "{sample}"
        );
    }
    let asked = fs::read_to_string(&log).unwrap();
    assert_eq!(asked.lines().count(), 16);
    for line in asked.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        let index = &request["columns"]["extra_info.index"];
        assert!(line.ends_with(&format!(
            "\"columns\":{{\"difficulty\":0.{index}0,\"extra_info.index\":{index}}}}}"
        )));
        assert!(
            request["prompt"]
                .as_str()
                .unwrap()
                .starts_with(&format!("{index}+1="))
        );
    }
    // Another value of a column is another problem.
    let rows = fs::read_to_string(&data).unwrap();
    fs::write(&data, rows.replace("0.30", "0.35")).unwrap();
    let output = run(&["train", "--resume", dir.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(
        said.contains("data.train: the problems are not those"),
        "{said}"
    );
    let sets = set(&["data.columns.extra=['x']"]);
    let output = run(&[&["train", "--print-config"], &sets[..]].concat());
    let said = text(&output.stderr);
    assert!(
        said.contains(
            "data.columns.extra: found [\"x\"]; expected none, as the problems of data.task"
        ),
        "{said}"
    );
}
