//! Runs that train an adapter.

use crate::common::{checkpoint, hybrid_model, metrics, piped, run, small_model, text, train};
use crate::resume::{kill_after_a_step, resume_to_the_end};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Flags of a run that trains an adapter of `base`.
fn flags(base: &Path, lora: &str) -> Vec<String> {
    [
        "--steps=4".to_owned(),
        "--set=warm_start.steps=0".to_owned(),
        "--set=checkpoint.every=1".to_owned(),
        // A learning rate at which four steps change something.
        "--set=optimizer.lr=0.01".to_owned(),
        "--set=reference.rule=never".to_owned(),
        format!("--set=model={{path='{}'}}", base.display()),
        format!("--set=lora={{{lora}}}"),
    ]
    .into()
}

fn borrowed(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[test]
fn a_killed_run_ends_with_the_same_adapter() {
    for base in [small_model, hybrid_model] {
        let temp = tempfile::tempdir().unwrap();
        kill_and_resume(temp.path(), &base(temp.path()));
    }
}

fn kill_and_resume(temp: &Path, base: &Path) {
    let flags = flags(base, "rank=4, base='nf4'");
    let straight = temp.join("straight");
    let output = train(&straight, &borrowed(&flags));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("of which"),
        "{}",
        text(&output.stderr)
    );
    let dir = temp.join("killed");
    kill_after_a_step(&dir, &borrowed(&flags));
    resume_to_the_end(&dir);
    assert_eq!(metrics(&dir), metrics(&straight));
    // The adapter alone: no weights of the base, in the reference neither.
    for folder in ["", "reference"] {
        let [found, expected] = [&dir, &straight].map(|dir| {
            let folder = checkpoint(dir).join(folder);
            assert!(!folder.join("model.safetensors").exists());
            fs::read(folder.join("adapter_model.safetensors")).unwrap()
        });
        assert!(found == expected, "{folder}: the adapters differ");
    }
    let [found, expected] = [&dir, &straight]
        .map(|dir| fs::read(checkpoint(dir).join("optimizer.safetensors")).unwrap());
    assert!(found == expected, "the moments differ");
}

/// All weights of a hybrid: with more completions than slots, by integers too, and predicted before it starts.
#[test]
fn a_hybrid_trains_and_resumes() {
    let temp = tempfile::tempdir().unwrap();
    let base = hybrid_model(temp.path());
    let model = format!("--set=model={{path='{}'}}", base.display());
    let common = [
        model.as_str(),
        "--set=warm_start.steps=0",
        "--set=checkpoint.every=1",
        "--set=rollout.max_slots=3",
    ];
    let run_to = |name: &str, steps: &str, more: &[&str]| {
        let dir = temp.path().join(name);
        let output = train(&dir, &[&common[..], &["--steps", steps], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        dir
    };
    let straight = run_to("straight", "3", &[]);
    let saved = fs::read_to_string(checkpoint(&straight).join("config.json")).unwrap();
    assert!(saved.contains("linear_attention"), "{saved}");
    let dir = temp.path().join("killed");
    let flags = [&common[..], &["--steps", "3"]].concat();
    kill_after_a_step(&dir, &flags);
    resume_to_the_end(&dir);
    assert_eq!(metrics(&dir), metrics(&straight));
    let int8 = [
        "--set=rollout.weights=int8",
        "--set=objective.rollout_correction={}",
    ];
    run_to("int8", "1", &int8);
    let output = run(&[&["train", "--dry-run"], &common[..]].concat());
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && printed.contains("KV cache"),
        "{printed}"
    );
}

/// The log-probs of a few responses.
fn scores(model: &Path) -> Vec<f64> {
    let input = r#"{"prompt": "12+34=", "completion": "46"}
{"prompt": "9+8=", "completion": "17 or so"}
"#;
    let output = piped(
        &["score", "--model", model.to_str().unwrap(), "--input", "-"],
        input,
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let text = text(&output.stdout);
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .flat_map(|line| {
            let logprobs = line["logprobs"].as_array().expect("log-probs").clone();
            logprobs
                .into_iter()
                .map(|logprob| logprob.as_f64().unwrap())
        })
        .collect()
}

#[test]
fn an_adapter_is_a_model_like_any_other() {
    let temp = tempfile::tempdir().unwrap();
    // In bf16, as models are published and bases kept.
    let base = temp.path().join("base");
    let from = small_model(temp.path());
    let [from, to] = [&from, &base].map(|dir| dir.to_str().unwrap());
    let output = run(&["export", "--model", from, "--out", to]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let dir = temp.path().join("adapter");
    let output = train(&dir, &borrowed(&flags(&base, "alpha=64")));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let adapter = checkpoint(&dir);
    let merged = temp.path().join("merged");
    let output = run(&[
        "export",
        "--model",
        dir.to_str().unwrap(),
        "--out",
        merged.to_str().unwrap(),
        "--dtype",
        "f32",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!merged.join("adapter_config.json").exists());
    let [of_base, of_adapter, of_merged] = [&base, &adapter, &merged].map(|model| scores(model));
    let worst = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).fold(0f64, |m, (a, b)| m.max((a - b).abs()))
    };
    assert!(
        worst(&of_adapter, &of_merged) < 1e-5,
        "{of_adapter:?} {of_merged:?}"
    );
    assert!(
        worst(&of_adapter, &of_base) > 1e-3,
        "{of_adapter:?} {of_base:?}"
    );

    // Its training goes on without [lora], and not with another one.
    let more = |lora: bool| {
        let mut flags = flags(&adapter, "rank=2");
        if !lora {
            flags.pop();
        }
        train(&temp.path().join("more"), &borrowed(&flags))
    };
    let refused = more(true);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("a model.path that is an adapter"));
    assert!(!temp.path().join("more").exists());
    let output = more(false);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let straight = metrics(&temp.path().join("more"));
    // It belongs to the model, not to the adapter that it was, of which its run has no more need.
    let killed = temp.path().join("killed");
    let mut goes_on = flags(&adapter, "");
    goes_on.pop();
    kill_after_a_step(&killed, &borrowed(&goes_on));
    fs::rename(&dir, temp.path().join("moved")).unwrap();
    resume_to_the_end(&killed);
    assert_eq!(metrics(&killed), straight);
    let again = checkpoint(&killed);
    let json = fs::read_to_string(again.join("adapter_config.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let named = json["base_model_name_or_path"].as_str().unwrap();
    assert_eq!(Path::new(named), base.canonicalize().unwrap());
    scores(&again);
}

/// What the folder of an adapter may name as its base.
#[test]
fn an_adapter_belongs_to_a_model() {
    let temp = tempfile::tempdir().unwrap();
    let base = small_model(temp.path());
    let dir = temp.path().join("adapter");
    let output = train(&dir, &borrowed(&flags(&base, "")));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let adapter = checkpoint(&dir);
    let file = adapter.join("adapter_config.json");
    let json = fs::read_to_string(&file).unwrap();
    let itself = adapter.display().to_string();
    for (named, expected) in [
        ("/no/such/folder", "/no/such/folder: no such folder or file"),
        (&*itself, "which is an adapter too; expected a model"),
    ] {
        let other = json.replace(base.to_str().unwrap(), named);
        assert!(other != json);
        fs::write(&file, other).unwrap();
        let model = adapter.display();
        for args in [
            format!("score --input=- --model={model}"),
            format!("train --recipe=arithmetic --dry-run --set=model={{path='{model}'}}"),
        ] {
            let args: Vec<&str> = args.split(' ').collect();
            let output = piped(&args, "");
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
    // A run holds models and is none, except where its newest one can only be read.
    let model = format!("--set=model={{path='{}'}}", dir.display());
    let output = run(&["train", "--recipe=arithmetic", "--dry-run", &model]);
    let error = text(&output.stderr);
    assert!(error.contains(": a run, not a model"), "{error}");
    fs::write(&file, &json).unwrap();
    let dir = dir.to_str().unwrap();
    let output = piped(
        &["score", "--input=-", "--model", dir],
        "{\"text\": \"1+1\"}",
    );
    let error = text(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(error.contains("model: "), "{error}");
}

/// The memory of an adapter whose training goes on is that of an adapter.
#[test]
fn the_dry_run_knows_what_is_trained() {
    let temp = tempfile::tempdir().unwrap();
    let base = small_model(temp.path());
    let dir = temp.path().join("adapter");
    let output = train(&dir, &borrowed(&flags(&base, "rank=4")));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let adapter = checkpoint(&dir);
    let dry_run = |model: &Path, lora: &str| {
        let mut flags = flags(model, lora);
        if lora.is_empty() {
            flags.pop();
        }
        let args = [&["train", "--dry-run", "--json"][..], &borrowed(&flags)].concat();
        run(&args)
    };
    let plan = |model: &Path, lora: &str| -> Value {
        let output = dry_run(model, lora);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (new, goes_on) = (plan(&base, "rank=4"), plan(&adapter, ""));
    for key in ["trained_parameters", "parameters", "memory"] {
        assert_eq!(new[key], goes_on[key], "{key}");
    }
    for (model, lora, expected) in [
        (&adapter, "rank=4", "a model.path that is an adapter"),
        (
            &base,
            "target_modules=['query']",
            "found \"query\"; expected some of",
        ),
    ] {
        let output = dry_run(model, lora);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_no_adapter_can_be_is_refused_before_the_run_folder_appears() {
    let temp = tempfile::tempdir().unwrap();
    let base = small_model(temp.path());
    for (lora, message) in [
        ("rank=0", "lora.rank: found 0; expected"),
        ("alpha=-1.0", "lora.alpha: found -1"),
        (
            "target_modules=[]",
            "lora.target_modules: found []; expected at least one module",
        ),
        (
            "target_modules=['query']",
            "lora: `target_modules`: found \"query\"; expected some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, \
             down_proj",
        ),
        ("base='nf8'", "lora.base: "),
    ] {
        let dir = temp.path().join("refused");
        let output = train(&dir, &borrowed(&flags(&base, lora)));
        assert_eq!(output.status.code(), Some(2), "{lora}");
        let error = text(&output.stderr);
        assert!(error.contains(message), "{lora}: {error}");
        assert!(!dir.exists());
    }
}
