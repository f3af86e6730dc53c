//! `rpg train --dry-run`.

use crate::common::{run, small_model, text};
use serde_json::Value;
use std::fs;

/// Flags of a run of one step, in which samples are as long as they may be.
fn flags(more: &[&str]) -> Vec<String> {
    let sets = [
        "warm_start.steps=0",
        "train.steps=2",
        "train.mini_batches=1",
        "train.max_generation_batches=0",
        "evaluate.problems=0",
        "rollout.prompts_per_step=8",
        "rollout.samples_per_prompt=16",
        "rollout.max_new_tokens=16",
        "rollout.ignore_eos=true",
    ];
    let sets = sets.iter().chain(more);
    sets.map(|set| format!("--set={set}")).collect()
}

fn dry_run(flags: &[String]) -> Value {
    let flags = flags.iter().map(String::as_str);
    let args: Vec<&str> = ["train", "--dry-run", "--json"]
        .into_iter()
        .chain(flags)
        .collect();
    let output = run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The most memory that the process of a run has had.
#[cfg(target_os = "linux")]
fn measured(flags: &[String]) -> f64 {
    use std::os::unix::process::CommandExt;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let mut command = crate::common::rpg();
    command
        .args(["train", "--run-dir", dir.to_str().unwrap()])
        .args(flags)
        .process_group(0)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        peak = kib.map_or(peak, |kib| kib * 1024.0);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// Three shapes: mostly weights, mostly activations, and an adapter.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_is_within_a_fifth_of_what_is_measured() {
    let shape = |hidden: usize, layers: usize| {
        format!(
            "model={{scratch={{hidden_size={hidden}, intermediate_size={}, num_hidden_layers={layers}, \
             num_attention_heads=8, num_key_value_heads=4}}}}",
            4 * hidden
        )
    };
    for (shape, more) in [
        (shape(512, 8), &["train.micro_batch_tokens=512"][..]),
        (
            shape(128, 16),
            &[
                "train.micro_batch_tokens=16384",
                "train.gradient_checkpointing=off",
            ],
        ),
        (
            shape(512, 8),
            &["lora={base='nf4'}", "train.micro_batch_tokens=2048"],
        ),
    ] {
        let flags = flags(&[&[&*shape], more].concat());
        let predicted = dry_run(&flags)["memory"]["peak_bytes"].as_f64().unwrap();
        let measured = measured(&flags);
        let ratio = predicted / measured;
        assert!(
            (0.8..1.2).contains(&ratio),
            "{shape} {more:?}: {predicted:e} for {measured:e}"
        );
    }
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_loaded() {
    let temp = tempfile::tempdir().unwrap();
    let huge = temp.path().join("huge");
    fs::create_dir(&huge).unwrap();
    let small = small_model(temp.path());
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(small.join(file), huge.join(file)).unwrap();
    }
    let config = fs::read(small.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    // Some 60 TB, and no weights.
    config["hidden_size"] = 65536.into();
    config["intermediate_size"] = 262_144.into();
    config["num_hidden_layers"] = 96.into();
    fs::write(huge.join("config.json"), config.to_string()).unwrap();
    let model = format!("model={{path='{}'}}", huge.display());
    let flags = flags(&[&model]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let dir = temp.path().join("new");
    for first in [
        vec!["train", "--dry-run"],
        vec!["train", "--run-dir", dir.to_str().unwrap()],
    ] {
        let output = run(&[first, flags.clone()].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        let error = text(&output.stderr);
        assert!(error.contains("the run would take about"), "{error}");
        assert!(error.contains("--set lora={}"), "{error}");
        assert!(!dir.exists());
    }
    // The base of an adapter takes the memory of weights of the config's type, whether they are here or not.
    let report = [
        &["train", "--dry-run", "--json", "--set=lora={}"],
        &flags[..],
    ]
    .concat();
    let report: Value = serde_json::from_slice(&run(&report).stdout).unwrap();
    let parameters = report["parameters"].as_f64().unwrap();
    let parts = report["memory"]["parts"].as_array().unwrap();
    let weights = parts.iter().find(|part| part["name"] == "weights");
    assert!(weights.unwrap()["bytes"].as_f64().unwrap() > 2.0 * parameters);
}

#[test]
fn the_report_has_the_config_and_every_part() {
    let report = dry_run(&flags(&["lora={rank=4}"]));
    assert_eq!(report["config"]["lora"]["rank"], 4);
    assert!(report["trained_parameters"].as_u64() < report["parameters"].as_u64());
    let parts = report["memory"]["parts"].as_array().unwrap();
    let sum = |phase: &str| -> u64 {
        let parts = parts.iter().filter(|part| part[phase] == true);
        parts.map(|part| part["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(report["memory"]["sampling_bytes"], sum("sampling"));
    assert_eq!(report["memory"]["updating_bytes"], sum("updating"));
    assert_eq!(report["fits"], true);
    let output = run(&["train", "--dry-run"]);
    let table = text(&output.stdout);
    for line in ["[optimizer]", "parameters, of which", "KV cache", "peak "] {
        assert!(table.contains(line), "{line}: {table}");
    }
}

#[test]
fn a_prompt_is_shown_and_one_that_does_not_fit_is_refused() {
    let report = dry_run(&flags(&[]));
    let prompt = report["first_prompt"].as_str().unwrap();
    assert!(prompt.contains('+'), "{prompt}");
    let output = run(&["train", "--dry-run"]);
    let said = text(&output.stdout);
    assert!(
        said.contains("the first prompt, without special tokens:\n"),
        "{said}"
    );

    let output = run(&["train", "--dry-run", "--set=rollout.max_new_tokens=9000"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("exceeds the model's context of 128"),
        "{said}"
    );
}
