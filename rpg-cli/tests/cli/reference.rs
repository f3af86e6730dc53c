//! Runs whose reference is another model.

use crate::common::{SMALL, checkpoint, metrics, run, text, train};
use std::fs;
use std::path::Path;

/// The flags of a run that only a teacher teaches: a policy with random weights, and no reward.
fn distill(teacher: &Path) -> Vec<String> {
    [
        "--seed=5",
        "--steps=60",
        "--set=warm_start.steps=0",
        "--set=reward.weights.correct=0",
        "--set=objective={kind='rpg', kl='urkl', clip='none', beta=1.0, advantage='batch_mean'}",
        "--set=optimizer={lr=1e-3}",
        "--set=train.mini_batches=1",
        "--set=rollout={prompts_per_step=32, samples_per_prompt=1, max_new_tokens=24}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("--set=reference.path='{}'", teacher.display())])
    .collect()
}

#[test]
fn a_policy_learns_from_a_teacher_alone_and_keeps_to_it_when_resumed() {
    let temp = tempfile::tempdir().unwrap();
    let started = temp.path().join("teacher");
    // Later flags count: more worked examples than the small runs have, so that there is something to learn.
    let more = [
        "--steps=0",
        "--set=warm_start.steps=60",
        "--set=warm_start.batch_size=32",
    ];
    assert!(train(&started, &more).status.success());
    let teacher = checkpoint(&started);
    let dir = temp.path().join("student");
    let flags = distill(&teacher);
    let more: Vec<&str> = flags.iter().map(String::as_str).collect();
    let output = train(&dir, &more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let kls: Vec<f64> = metrics(&dir)
        .iter()
        .filter_map(|line| line["actor/kl_loss"].as_f64())
        .collect();
    assert_eq!(kls.len(), 60);
    let mean = |kls: &[f64]| kls.iter().sum::<f64>() / kls.len() as f64;
    let (first, last) = (mean(&kls[..5]), mean(&kls[55..]));
    assert!(last < 0.4 * first, "{kls:?}");
    assert!(!checkpoint(&dir).join("reference").exists());

    // The teacher may move; it may not become another.
    let config = fs::read_to_string(dir.join("config.toml")).unwrap();
    let resume_with = |reference: &Path| {
        let (before, after) = (teacher.to_str().unwrap(), reference.to_str().unwrap());
        assert!(config.contains(before), "{config}");
        fs::write(dir.join("config.toml"), config.replace(before, after)).unwrap();
        run(&["train", "--resume", dir.to_str().unwrap()])
    };
    let refused = resume_with(&checkpoint(&dir));
    assert_eq!(refused.status.code(), Some(2));
    let expected = "reference.path: the model is not the one that the run was started with";
    let message = text(&refused.stderr);
    assert!(message.contains(expected), "{message}");
    let moved = temp.path().join("moved");
    fs::rename(&teacher, &moved).unwrap();
    let resumed = resume_with(&moved);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
}

#[test]
fn what_is_wrong_with_a_reference_is_said_before_the_run_folder_appears() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama.gguf");
    for (reference, expected) in [
        (
            Path::new("nowhere"),
            "reference.path: nowhere: no such folder or file",
        ),
        (
            &fixture,
            "reference.path: its token 1 is \"<s>\"; expected \"<eos>\", the policy's",
        ),
    ] {
        let flags = distill(reference);
        let mut args = vec!["train", "--run-dir", dir.to_str().unwrap()];
        args.extend(SMALL);
        args.extend(flags.iter().map(String::as_str));
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2));
        let message = text(&output.stderr);
        assert!(message.contains(expected), "{message}");
        assert!(!dir.exists());
    }
}
