//! Training: what a run leaves behind, and which input is refused before it begins.

use crate::common::{checkpoint, lines, metrics, run, small_model, text, train};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn a_run_writes_all_that_it_promises() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let output = train(&dir, &["--steps", "2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    for part in ["before", "after", "mean@2", "run folder", "learning curve"] {
        assert!(stdout.contains(part), "{part} is missing in {stdout}");
    }
    let stderr = text(&output.stderr);
    for part in [
        "step    2/2",
        "reward",
        "held-out",
        "kl",
        "entropy",
        "clip",
        "length",
        "tokens/s",
    ] {
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
    }
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("summary.json")).unwrap()).unwrap();
    assert!(summary["before"]["mean@2"].is_number() && summary["after"]["mean@2"].is_number());
    assert_eq!(summary["steps"], 2);
    assert!(
        fs::read_to_string(dir.join("curve.svg"))
            .unwrap()
            .contains("</svg>")
    );
    let metrics = lines(&dir.join("metrics.jsonl"));
    let steps: Vec<_> = metrics
        .iter()
        .filter(|line| line["phase"] == "train")
        .collect();
    assert_eq!(steps.len(), 2);
    for name in [
        "critic/rewards/mean",
        "actor/pg_loss",
        "actor/pg_clipfrac",
        "actor/kl_loss",
        "actor/ppo_kl_k3",
        "actor/ref_kl_k3",
        "actor/eff_sample_size",
        "actor/chi2",
        "actor/entropy",
        "actor/grad_norm",
        "response_length/mean",
        "sampling/sampling_logp_difference/max",
        "timing_s/gen",
        "perf/throughput",
    ] {
        assert!(steps[0][name].is_number(), "{name} is missing");
    }
    // The sampler and the scorer see the same policy.
    assert!(
        steps[0]["sampling/sampling_logp_difference/max"]
            .as_f64()
            .unwrap()
            < 1e-4
    );
    assert_eq!(lines(&dir.join("samples.jsonl")).len(), 8);
    let checkpoint = checkpoint(&dir);
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        assert!(
            checkpoint.join(name).exists(),
            "{name} is missing in the checkpoint"
        );
    }

    // The curve can be redrawn, and the folder is not used for a second run.
    let before = fs::read(dir.join("curve.svg")).unwrap();
    fs::remove_file(dir.join("curve.svg")).unwrap();
    assert!(run(&["report", dir.to_str().unwrap()]).status.success());
    assert_eq!(fs::read(dir.join("curve.svg")).unwrap(), before);
    let again = train(&dir, &[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("already holds a run"));
}

#[test]
fn samples_have_the_text_and_the_weight_of_every_token() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    // The penalty tells completions of a group apart, so that there is something to learn.
    let more = [
        "--steps",
        "2",
        "--set",
        "reward.repetition.ngram=1",
        "--set",
        "reward.repetition.penalty=1.0",
    ];
    assert!(train(&dir, &more).status.success());
    let samples = lines(&dir.join("samples.jsonl"));
    assert_eq!(samples.len(), 8);
    let mut largest_changes = Vec::new();
    for sample in samples {
        let column = |name: &str| -> Vec<f64> {
            let values = sample["tokens"][name].as_array().expect(name).iter();
            values.map(|value| value.as_f64().unwrap()).collect()
        };
        let texts = sample["tokens"]["text"].as_array().unwrap();
        let texts = || texts.iter().map(|text| text.as_str().unwrap());
        // Completions are without special tokens, which have their names here.
        let text: String = texts().filter(|text| !text.starts_with('<')).collect();
        assert_eq!(sample["completion"], text);
        let n = texts().count();
        assert_eq!(sample["n_tokens"], n);
        let (logp, weight) = (column("logp"), column("weight"));
        assert_eq!((logp.len(), weight.len()), (n, n));
        assert!(logp.iter().all(|logp| *logp <= 0.0), "{sample}");
        assert!(sample["advantage"].is_number() && sample["source"] == "column_addition");
        let changes = weight.iter().map(|weight| (weight - 1.0).abs());
        largest_changes.push(changes.fold(0.0, f64::max));
    }
    // In the first update of a step the policy is the one that sampled; in later ones it has moved.
    for is_as_expected in [|change: &f64| *change < 1e-4, |change: &f64| *change > 5e-4] {
        assert!(
            largest_changes.iter().any(is_as_expected),
            "{largest_changes:?}"
        );
    }
}

/// Whether a name matches a pattern of the documentation, in which a word in capitals stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.split('/'), name.split('/'));
    let part_matches = |(part, found): (&str, &str)| {
        let wild = |part: &str| part.chars().all(|c| c.is_ascii_uppercase());
        match part.split_once('@') {
            Some((fixed, k)) if wild(k) => found.starts_with(&format!("{fixed}@")),
            _ => wild(part) || part == found,
        }
    };
    pattern.clone().count() == name.clone().count() && pattern.zip(name).all(part_matches)
}

/// `a/{b,c}` as `a/b` and `a/c`.
fn alternatives(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return vec![pattern.to_owned()];
    };
    let (names, after) = rest.split_once('}').expect(pattern);
    names
        .split(',')
        .map(|name| format!("{before}{name}{after}"))
        .collect()
}

#[test]
fn every_metric_is_explained() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    // A package has no docs/.
    let Ok(page) = fs::read_to_string(page) else {
        return;
    };
    let first_cells = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let patterns: Vec<String> = first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .flat_map(alternatives)
        .collect();
    assert!(patterns.len() > 40, "{patterns:?}");
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let more = [
        "--steps=2",
        "--set=evaluate.every=1",
        "--set=reference.rule={kl_above=1e-9, window=1}",
        "--set=reference.adaptive_beta={target_kl=0.1, horizon=1000}",
        "--set=reward.weights.format=0.1",
        "--set=reward.overlong={max_length=48, buffer=12, penalty=1}",
        "--set=reward.repetition={ngram=2, penalty=1}",
    ];
    let output = train(&dir, &more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = lines(&dir.join("metrics.jsonl"));
    let logged = lines
        .iter()
        .flat_map(|line| line.as_object().unwrap().keys());
    for name in logged.filter(|name| !["step", "phase"].contains(&name.as_str())) {
        assert!(
            patterns.iter().any(|pattern| matches(pattern, name)),
            "docs/metrics.md does not explain {name}"
        );
    }
    assert!(
        !patterns
            .iter()
            .any(|pattern| matches(pattern, "actor/no_such_metric"))
    );
}

#[test]
fn the_users_own_instruction_follows_the_question() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let data = temp.path().join("data.jsonl");
    let mut problems: String = (10..18)
        .map(|a| format!("{{\"question\": \"{a}+3\", \"answer\": \"{}\"}}\n", a + 3))
        .collect();
    problems += "{\"question\": \"1+3\", \"answer\": \"\\\\frac{4}{\"}\n";
    fs::write(&data, problems).unwrap();
    let dir = temp.path().join("own");
    let args = [
        "train",
        "--model",
        model.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let more = [
        "--run-dir",
        dir.to_str().unwrap(),
        "--steps",
        "1",
        "--set",
        "data.instruction=4+5=",
        "--set",
        "rollout.prompts_per_step=2",
        "--set",
        "rollout.samples_per_prompt=2",
        "--set",
        "rollout.max_new_tokens=8",
        "--set",
        "evaluate.problems=1",
    ];
    let output = run(&[&args[..], &more].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let note = "note: the grader cannot parse 1 of 9 expected answers";
    assert!(said.contains(note), "{said}");
    assert!(said.contains("data.jsonl:9, `\\frac{4}{`"), "{said}");
    let samples = lines(&dir.join("samples.jsonl"));
    assert!(!samples.is_empty());
    for sample in samples {
        let prompt = sample["prompt"].as_str().unwrap();
        assert!(prompt.ends_with("+3\n4+5="), "{prompt}");
    }
}

#[test]
fn bad_input_is_one_clear_error_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = temp.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let model = small_model(temp.path());
    let model = model.to_str().unwrap();
    let good = (0..80)
        .map(|i| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}\n", i + 1))
        .collect::<String>();
    let good_data = file("good.jsonl", &good);
    let bad_data = file("bad.jsonl", &format!("{good}{{\"question\": 3\n"));
    let long = format!(
        "{{\"question\": \"{}\", \"answer\": \"1\"}}\n",
        "1".repeat(120)
    );
    let long_data = file("long.jsonl", &format!("{good}{long}"));
    let config = file("config.toml", "seed = 0\nsteps = 3\n");
    let not_toml = file("not.toml", "seed = = 0\n");
    let bare = temp.path().join("bare");
    fs::create_dir(&bare).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(model).join(name), bare.join(name)).unwrap();
    }
    let truncated = temp.path().join("truncated");
    fs::create_dir(&truncated).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(Path::new(model).join(name), truncated.join(name)).unwrap();
    }
    let weights = fs::read(Path::new(model).join("model.safetensors")).unwrap();
    fs::write(
        truncated.join("model.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    let (bare, truncated) = (bare.to_str().unwrap(), truncated.to_str().unwrap());

    let run_dir = temp.path().join("never");
    let run_dir_text = run_dir.to_str().unwrap();
    let check = |args: &[&str], message: &str| {
        let output = run(&[&["train", "--run-dir", run_dir_text], args].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(
            stderr.contains(message),
            "{args:?}: no `{message}` in: {stderr}"
        );
        assert_eq!(stderr.matches("error:").count(), 1, "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(!run_dir.exists(), "{args:?} left a run folder behind");
    };
    check(&["--config", &config], "unknown field `steps`");
    check(&["--config", &not_toml], "not.toml");
    check(&["--config", "missing.toml"], "missing.toml");
    check(&["--set", "train.stepz=1"], "stepz");
    check(&["--recipe", "cooking"], "no recipe is called `cooking`");
    check(&["--model", model], "neither `train` nor `task`");
    check(&["--data", &good_data], "neither `path` nor `scratch`");
    check(
        &["--model", "missing", "--data", &good_data],
        "missing: no such folder",
    );
    check(&["--model", bare, "--data", &good_data], "tokenizer.json");
    check(
        &["--model", truncated, "--data", &good_data],
        "model.safetensors",
    );
    check(
        &["--model", model, "--data", "missing.jsonl"],
        "missing.jsonl",
    );
    check(
        &["--model", model, "--data", &bad_data],
        "bad.jsonl, line 81",
    );
    let fits = ["--set", "rollout.max_new_tokens=8"];
    check(
        &[&["--model", model, "--data", &long_data], &fits[..]].concat(),
        "context of 128",
    );
    check(&["--backend", "abacus"], "abacus");
    check(&["--set", "objective.beta=-1"], "beta");
    let ahead = ["--set", "rollout.max_staleness=1"];
    let expected = "rollout.max_staleness: found 1; expected 0, as sampling in this process";
    check(&ahead, expected);
    check(&[&ahead[..], &["--dry-run"]].concat(), expected);
    check(
        &["--set", "objective.rollout_correction={max=3.0}"],
        "objective.rollout_correction: found one; expected none",
    );
}

#[test]
fn rollouts_with_8_bit_weights_are_corrected_and_evaluations_exact() {
    let temp = tempfile::tempdir().unwrap();
    let run_of = |name: &str, sets: &[&str]| {
        let dir = temp.path().join(name);
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let output = train(&dir, &[&["--steps", "2"], &sets[..]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (lines(&dir.join("metrics.jsonl")), text(&output.stderr))
    };
    let int8 = "rollout.weights=int8";
    let (exact, _) = run_of("exact", &[]);
    let (corrected, warnings) = run_of("int8", &[int8, "objective.rollout_correction={}"]);
    assert!(!warnings.contains("rollout.weights"), "{warnings}");
    let of_phase = |lines: &[Value], phase: &str| -> Value {
        let found = lines.iter().find(|line| line["phase"] == phase);
        found.unwrap().clone()
    };
    // Before the first step both have the same policy, and the evaluation is of the policy itself.
    assert_eq!(of_phase(&corrected, "initial"), of_phase(&exact, "initial"));
    let step = of_phase(&corrected, "train");
    let difference = step["sampling/sampling_logp_difference/mean"]
        .as_f64()
        .unwrap();
    assert!((1e-5..0.1).contains(&difference), "{difference}");
    let is_mismatch = |name: &&String| name.starts_with("rollout");
    assert!(
        step.as_object()
            .unwrap()
            .keys()
            .any(|name| is_mismatch(&name))
    );
    // Without a correction the user hears of it.
    let (_, warnings) = run_of("uncorrected", &[int8]);
    let expected = "rollout.weights: found int8 without objective.rollout_correction";
    assert!(warnings.contains(expected), "{warnings}");
}

#[test]
fn completions_end_at_their_limit_where_end_of_sequence_is_ignored() {
    let temp = tempfile::tempdir().unwrap();
    let lengths = |name: &str, more: &[&str]| {
        let dir = temp.path().join(name);
        let fixed = ["--steps", "1", "--set", "rollout.max_new_tokens=16"];
        let output = train(&dir, &[&fixed, more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let metrics = metrics(&dir);
        let step = metrics
            .iter()
            .find(|line| line["phase"] == "train")
            .unwrap();
        ["min", "max"].map(|end| step[format!("response_length/{end}")].as_f64().unwrap())
    };
    assert!(lengths("ends", &[])[0] < 16.0);
    let ignored = lengths("ignored", &["--set", "rollout.ignore_eos=true"]);
    assert_eq!(ignored, [16.0, 16.0]);
}
