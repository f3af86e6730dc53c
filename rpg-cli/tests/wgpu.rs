//! The command on WGPU: the losses' gradients, and a training run. A Vulkan driver is needed; a software one is
//! enough.

use std::process::Command;

fn rpg(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_rpg"))
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
}

#[test]
fn the_losses_have_the_right_gradients() {
    rpg(&["verify-gradients", "--backend", "wgpu", "--cases", "1"]);
}

#[test]
fn a_policy_trains() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let sets = [
        "warm_start.steps=2",
        "warm_start.batch_size=4",
        "rollout.prompts_per_step=2",
        "rollout.samples_per_prompt=2",
        "rollout.max_new_tokens=6",
        "train.mini_batches=1",
        "train.max_generation_batches=0",
        "evaluate.problems=2",
        "evaluate.samples=2",
        "model.scratch.num_hidden_layers=1",
    ];
    let mut args = vec!["train", "--backend", "wgpu", "--steps", "1", "--run-dir"];
    args.push(dir.to_str().unwrap());
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    rpg(&args);
    let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let step = metrics
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let step = step
        .into_iter()
        .find(|line| line["phase"] == "train")
        .unwrap();
    let difference = step["sampling/sampling_logp_difference/max"]
        .as_f64()
        .unwrap();
    assert!(
        difference < 1e-4,
        "sampler and scorer differ by {difference}"
    );
}
