//! Commands that read input and write output, `verify` and `loss`; and how every command fails.

use crate::common::{piped, rpg, run, small_model, text};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Stdio;

#[test]
fn every_command_says_what_is_wrong_with_its_input() {
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
        "line 2: these keys do not belong together",
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
        "not a run folder",
    );
}

#[test]
fn verify_grades_line_by_line_and_summarizes() {
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
    let lines: Vec<Value> = text(&bad.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "every line has its place: {lines:?}");
    assert!(lines[0]["error"].is_string(), "{}", lines[0]);
    assert_eq!((&lines[0]["line"], &lines[1]["id"]), (&1.into(), &1.into()));
    let golds = "{\"id\": 1, \"gold\": \"1/2\"}\n{\"id\": 2, \"gold\": [\"1\", \"1/0\"]}\n";
    let unread = text(&piped(&["verify", "-", "--check-golds"], golds).stdout);
    assert!(
        unread.lines().count() == 1 && unread.contains("\"gold\":\"1/0\""),
        "{unread}"
    );
    let cut_off = "{\"gold\": [4, 5], \"pred\": \"<think>\\\\boxed{5}\"}\n";
    for (args, correct) in [
        (&["verify", "-"][..], false),
        (&["verify", "-", "--unclosed-thinking"][..], true),
    ] {
        let verdict: Value = serde_json::from_str(&text(&piped(args, cut_off).stdout)).unwrap();
        assert_eq!(verdict["correct"], correct, "{args:?}");
    }
    // The same holds around bytes that are not text, and a verdict arrives before the input ends.
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
        line.clear();
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        assert!(line.contains("\"error\":"), "{line}");
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

#[test]
fn the_example_in_the_help_of_loss_works() {
    let help = text(&run(&["loss", "--help"]).stdout);
    let example = &help[help.find("{\"objective\"").unwrap()..=help.find("[0, 0]}").unwrap() + 6];
    let output = piped(&["loss", "-"], example);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

/// A full disk is an error; a reader that has closed the pipe is not.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_unless_its_reader_has_left() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = temp.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let model = small_model(temp.path());
    let model = model.to_str().unwrap();
    let request = r#"{"objective": {"kind": "ppo"}, "logp": [], "logp_old": [], "mask": [], "advantages": []}"#;
    let request = file("request.json", request);
    let text_line = file("text.jsonl", "{\"text\": \"1+2=\"}\n");
    let prompt = file("prompt.txt", "1+2=\n");
    let commands: [&[&str]; 3] = [
        &["loss", &request],
        &["score", "--model", model, "--input", &text_line],
        &[
            "generate",
            "--model",
            model,
            "--prompts",
            &prompt,
            "--max-new-tokens",
            "2",
        ],
    ];
    for args in commands {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = rpg().args(args).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.contains("error: standard output: "), "{said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = rpg().args(args).stdout(writer).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("error"), "{said}");
    }
}
