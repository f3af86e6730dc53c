//! Commands that read a model: `generate`, `score`, `export`.

use crate::common::{metrics, piped, run, small_model, text, train};
use crate::resume::{kill_after_a_step, resume_to_the_end};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Output;

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
        error.contains("long.txt, line 1: the prompt has 1000000 tokens")
            && error.contains("context of 128"),
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

#[test]
fn bad_requests_to_a_model_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let model = model.to_str().unwrap();
    let generate = ["generate", "--model", model, "--prompts", "-"];
    let score = ["score", "--model", model, "--input", "-"];
    let check = |args: &[&str], more: &[&str], input: &str, expected: &str, hint: &str| {
        let output = piped(&[args, more].concat(), input);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        for expected in [expected, hint] {
            assert!(
                error.contains(expected),
                "`{expected}` is missing in: {error}"
            );
        }
        assert!(!error.contains("a model folder contains"), "{error}");
    };
    let long = format!("1+1=\n\n{}\n1+2=\n", "1".repeat(200));
    check(
        &generate,
        &["--max-new-tokens", "9"],
        &long,
        "standard input, line 3: the prompt has 200 tokens",
        "a lower --max-new-tokens",
    );
    let empty = "\n{\"prompt\": \"\"}\n";
    check(
        &generate,
        &["--max-new-tokens", "9"],
        empty,
        "line 2: the prompt has no tokens",
        "begins each text",
    );
    let nobody = "{\"messages\": []}";
    check(
        &generate,
        &[],
        nobody,
        "`messages`: found an empty list",
        "",
    );
    let few = ["--min-new-tokens", "5", "--max-new-tokens", "4"];
    check(&generate, &few, "1+1=", "--min-new-tokens: found 5", "");
    check(
        &generate,
        &["--stop-token", "24"],
        "1+1=",
        "--stop-token: found 24",
        "vocabulary of 24",
    );
    check(
        &generate,
        &["--stop", "1<eos>"],
        "1+1=",
        "--stop: found",
        "<eos>",
    );
    check(
        &score,
        &[],
        "[]",
        "line 1: not a JSON object",
        "\"completion\"",
    );
    check(
        &score,
        &[],
        "{\"text\": \"1\", \"prompt_tokens\": [3]}",
        "do not belong together",
        "{\"text\"}",
    );
    let nobody = "{\"messages\": [], \"completion\": \"1\"}";
    check(&score, &[], nobody, "`messages`: found an empty list", "");
}

#[test]
fn scores_keep_the_id_of_their_line_and_render_conversations() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let settings = model.join("tokenizer_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&settings).unwrap()).unwrap();
    json["chat_template"] =
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}=\
        {% endfor %}"
            .into();
    fs::write(&settings, json.to_string()).unwrap();
    let score = |input: &str| {
        let args = ["score", "--model", model.to_str().unwrap(), "--input", "-"];
        let output = piped(&args, input);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    let lines = score(
        "{\"id\": \"a\", \"prompt\": \"1+2=\", \"completion\": \"3\"}\n\
         {\"id\": 7, \"messages\": [{\"role\": \"user\", \"content\": \"1+2\"}], \"completion\": \"3\"}\n\
         {\"prompt\": \"1+2=\", \"completion\": \"3\"}\n\
         {\"prompt\": \"1+2=3\", \"completion\": \"4\"}\n\
         {\"messages\": [{\"role\": \"user\", \"content\": \"1+2\"}, {\"role\": \"assistant\", \"content\": \"3\"}],\
          \"completion\": \"4\"}\n",
    );
    // The assistant's last message is continued.
    assert_eq!(lines[3], lines[4]);
    assert_eq!((&lines[0]["id"], &lines[1]["id"]), (&"a".into(), &7.into()));
    assert!(lines[2].get("id").is_none());
    assert_eq!(lines[0]["logprobs"], lines[1]["logprobs"]);
    assert_eq!(lines[0]["tokens"], serde_json::json!([6]));

    // Without a template that compiles, what needs none still works.
    json["chat_template"] = "{% if %}".into();
    fs::write(&settings, json.to_string()).unwrap();
    score("{\"prompt\": \"1+2=\", \"completion\": \"3\"}\n");
    let out = temp.path().join("out");
    let args = ["export", "--model", model.to_str().unwrap(), "--out"];
    let output = run(&[&args[..], &[out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn edit(file: &Path, key: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    json[key] = value;
    fs::write(file, json.to_string()).unwrap();
}

/// Says of a model that LongRoPE stretched its context of 8 tokens, by this factor for longer texts.
fn stretch(model: &Path, factor: f64) {
    let file = model.join("config.json");
    let config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let n = config["head_dim"].as_u64().unwrap() as usize / 2;
    let long_rope = json!({"rope_type": "longrope", "short_factor": vec![1.0; n],
        "long_factor": vec![factor; n], "original_max_position_embeddings": 8});
    edit(&file, "rope_scaling", long_rope);
}

#[test]
fn a_stretched_context_is_used_where_that_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let score = |text: &str, more: &[&str]| {
        let args = ["score", "--input=-", "--model", model.to_str().unwrap()];
        piped(&[&args[..], more].concat(), text)
    };
    let (short, long) = (r#"{"text": "1+2=3"}"#, r#"{"text": "1+2=3 1+2=3"}"#);
    let refused = score(short, &["--long-context"]);
    let error = text(&refused.stderr);
    let expected = "--long-context: this model's `rope_scaling` is no LongRoPE";
    assert!(error.contains(expected), "{error}");
    stretch(&model, 4.0);
    // The factors for long texts hold for all.
    let stdout = |output: Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let [by_short, by_long] = [&[][..], &["--long-context"]].map(|more| stdout(score(short, more)));
    assert_ne!(by_short, by_long);
    assert!(!score(long, &[]).status.success());
    stdout(score(long, &["--long-context"]));
    // Training, in whose checkpoints the policy and the reference come without that wish.
    let path = model.display();
    let flags = |source: &str| {
        [
            "--steps=3".to_owned(),
            "--set=warm_start.steps=0".to_owned(),
            "--set=checkpoint.every=1".to_owned(),
            "--set=optimizer.lr=0.01".to_owned(),
            "--set=reference.rule=never".to_owned(),
            format!("--set=model={{path='{path}'{source}}}"),
        ]
    };
    let dir = temp.path().join("refused");
    let output = train(&dir, &flags("").each_ref().map(String::as_str));
    let error = text(&output.stderr);
    assert!(error.contains("or set model.long_context"), "{error}");
    let flags = flags(", long_context=true");
    let flags = flags.each_ref().map(String::as_str);
    let straight = temp.path().join("straight");
    let output = train(&straight, &flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let dir = temp.path().join("killed");
    kill_after_a_step(&dir, &flags);
    resume_to_the_end(&dir);
    assert_eq!(metrics(&dir), metrics(&straight));
}

#[test]
fn a_prompt_beyond_the_context_says_so_and_a_date_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    stretch(&model, 1.0);
    edit(
        &model.join("tokenizer_config.json"),
        "chat_template",
        "{{ strftime_now('%Y') }}".into(),
    );
    for (command, input, expected) in [
        (
            ["score", "--input"],
            "{\"text\": \"1+2=3 1+2=3\"}",
            "more than 8, the context before LongRoPE stretched the model's to 128 (--long-context)",
        ),
        (["generate", "--prompts"], "1+2=", "--date, or data.date"),
    ] {
        let args = [
            command[0],
            "--model",
            model.to_str().unwrap(),
            command[1],
            "-",
        ];
        let output = piped(&args, input);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_model_without_any_end_is_noted() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let generate = |more: &[&str]| {
        let args = [
            "generate",
            "--model",
            model.to_str().unwrap(),
            "--prompts",
            "-",
        ];
        let output = piped(&[&args[..], &["--max-new-tokens=2"], more].concat(), "1+2=");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let note = "names no end-of-sequence token";
    assert!(!generate(&[]).contains(note));
    fs::remove_file(model.join("generation_config.json")).unwrap();
    for (file, key) in [
        ("config.json", "eos_token_id"),
        ("tokenizer_config.json", "eos_token"),
    ] {
        let path = model.join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[key] = Value::Null;
        fs::write(path, json.to_string()).unwrap();
    }
    assert!(generate(&[]).contains(note));
    assert!(!generate(&["--stop=1"]).contains(note));
}
