//! Runs the command and reads what it leaves behind.

use burn::backend::Flex;
use rpg_core::model::{CausalLm, ModelConfig, SaveDtype};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) fn rpg() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rpg"))
}

pub(crate) fn run(args: &[&str]) -> Output {
    rpg().args(args).output().expect("the binary starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Flags that cut the built-in recipe down to seconds.
pub(crate) const SMALL: [&str; 16] = [
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

pub(crate) fn train(dir: &Path, more: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    run(&[&["train", "--run-dir", dir], &SMALL[..], more].concat())
}

pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The metrics without what is allowed to differ between two runs.
pub(crate) fn metrics(dir: &Path) -> Vec<Value> {
    let mut lines = lines(&dir.join("metrics.jsonl"));
    for line in &mut lines {
        let object = line.as_object_mut().unwrap();
        object.retain(|key, _| !key.starts_with("timing_s/") && key != "perf/throughput");
    }
    lines
}

pub(crate) fn checkpoint(dir: &Path) -> PathBuf {
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

/// A trained checkpoint to generate from.
pub(crate) fn small_model(temp: &Path) -> PathBuf {
    let dir = temp.join("run");
    assert!(train(&dir, &["--steps", "0"]).status.success());
    checkpoint(&dir)
}

/// The same with the weights of a hybrid: gated delta networks in three of four layers.
pub(crate) fn hybrid_model(temp: &Path) -> PathBuf {
    let dir = small_model(temp);
    let path = dir.join("config.json");
    let small: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let json = serde_json::json!({
        "model_type": "qwen3_5_text", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "max_position_embeddings": small["max_position_embeddings"], "vocab_size": small["vocab_size"],
        "eos_token_id": small["eos_token_id"], "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    let model = CausalLm::<Flex>::init(&config, 1, &Default::default());
    let folder = temp.join("hybrid");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("tokenizer") {
            fs::copy(&path, folder.join(name)).unwrap();
        }
    }
    model.save_hf(&folder, SaveDtype::F32).unwrap();
    folder
}

pub(crate) fn piped(args: &[&str], input: &str) -> Output {
    let mut child = rpg()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that rejects its flags exits without reading its input: a closed pipe is no failure.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
