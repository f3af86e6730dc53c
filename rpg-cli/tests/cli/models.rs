//! Commands that read a model: `generate`, `score`, `export`.

use crate::common::{metrics, piped, run, small_model, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn generated_text_scores_the_log_probs_that_it_was_sampled_with() {
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
        assert!(text(&again.stderr).contains("already exists"));
    }
    assert!(
        fs::read_dir(temp.path()).unwrap().count() == 3,
        "nothing half-written is left"
    );
}

#[test]
fn large_inputs_give_a_result_or_an_error() {
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
    // Many more prompts than slots: the completions come back in order.
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
fn the_chat_template_gets_the_thinking_switch_and_the_date() {
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
