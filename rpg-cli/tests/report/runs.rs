//! Run folders to report on, without a run.

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn rpg() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rpg"))
}

pub(crate) fn report(args: &[&str]) -> Output {
    rpg()
        .arg("report")
        .args(args)
        .output()
        .expect("the binary starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether what a test needs may be missing. The project's own checks install everything.
pub(crate) fn skip(what: &str) {
    let is_ci = std::env::var_os("RPG_CI_REPORT").is_some_and(|value| value == "1");
    assert!(!is_ci, "{what}");
    eprintln!("skipped: {what}");
}

/// A run folder that is made by hand.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(path: &Path, config: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("config.toml"), config).unwrap();
        fs::write(path.join("metrics.jsonl"), "").unwrap();
        fs::write(path.join("samples.jsonl"), "").unwrap();
        Self(path.to_owned())
    }

    pub(crate) fn arg(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.0.join(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn add(&self, name: &str, line: &Value) {
        self.append(name, &format!("{line}\n"));
    }

    /// Steps `first..=last`, whose reward rises and whose entropy falls, with a sample of each.
    pub(crate) fn add_steps(&self, first: u64, last: u64, rise: f64) {
        let (mut metrics, mut samples) = (String::new(), String::new());
        for step in first..=last {
            metrics += &format!("{}\n", metrics_line(step, rise));
            samples += &format!("{}\n", sample_line(step));
        }
        self.append("metrics.jsonl", &metrics);
        self.append("samples.jsonl", &samples);
    }

    pub(crate) fn finish(&self, step: u64) {
        let line = json!({"step": step, "phase": "final", "val-core/sums/acc/mean@4": 0.75});
        self.add("metrics.jsonl", &line);
    }
}

fn metrics_line(step: u64, rise: f64) -> Value {
    let x = step as f64;
    json!({
        "step": step, "phase": "train", "critic/score/mean": 0.2 + rise * x, "critic/rewards/mean": 0.2 + rise * x,
        "critic/rewards/max": 1.0, "critic/rewards/min": 0.0, "frac_reward_zero_std": 0.2,
        "response_length/mean": 20.0 + 5.0 * (x / 9.0).sin(), "response_length/clip_ratio": 0.02,
        "actor/entropy": 0.6 / (1.0 + 0.02 * x), "actor/grad_norm": 1.0 + 0.3 * (x * 1.7).sin(),
        "actor/kl_loss": 1e-4 * x, "actor/pg_clipfrac": 0.01, "actor/eff_sample_size": 0.99,
        "actor/skipped_updates": 0.0, "train/num_updates": 2.0, "timing_s/step": 36.0,
    })
}

/// Right in every third step; of two sources.
fn sample_line(step: u64) -> Value {
    let is_right = step.is_multiple_of(3);
    let source = ["sums", "products"][step as usize % 2];
    json!({
        "step": step, "id": format!("sums:{step}"), "source": source,
        "prompt": format!("How much is {step} + 1?"), "completion": format!("It is {}.", step + 1),
        "answer": (step + 1).to_string(), "extracted": (step + 1).to_string(), "correct": is_right,
        "reason": "right", "reward": f64::from(u8::from(is_right)), "parts": {"correct": 1.0},
        "stop": "eos", "n_tokens": 4, "advantage": 0.5,
        "tokens": {"text": ["It", " is", format!(" {}.", step + 1), "<eos>"],
                   "logp": [-0.1, -2.0, -0.0001, -5.0], "weight": [1.0, 1.25, 0.8, 1.6]},
    })
}
