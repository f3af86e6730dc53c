//! What the page has in it, and what is refused.

use crate::runs::{Folder, report, text};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The data of a page.
pub(crate) fn data(path: &Path) -> Value {
    let page = fs::read_to_string(path).unwrap();
    let begin = "<script type=\"application/json\" id=\"data\">";
    let (_, rest) = page.split_once(begin).expect(begin);
    let (json, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_page_holds_the_runs_their_alarms_and_what_differs() {
    let temp = tempfile::tempdir().unwrap();
    let a = Folder::new(
        &temp.path().join("x/run"),
        "seed = 1\n[train]\nsteps = 40\n[optimizer]\nlr = 1e-5\n",
    );
    let b = Folder::new(
        &temp.path().join("y/run"),
        "seed = 1\n[train]\nsteps = 40\n[optimizer]\nlr = 2e-5\n",
    );
    a.add_steps(1, 40, 0.01);
    a.finish(40);
    b.add_steps(1, 20, 0.0);
    // Half-written lines, as a run that is being written has them.
    b.append("metrics.jsonl", "{\"step\":21,\"phase\":\"tra");
    b.append("samples.jsonl", "{\"step\":21,\"completion\":\"It \u{4f60}");
    for step in 21..=30 {
        a.add(
            "samples.jsonl",
            &json!({"step": step, "id": "old", "prompt": "", "completion": "", "correct": null}),
        );
    }
    let out = temp.path().join("both.html");
    let output = report(&[a.arg(), b.arg(), "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{}\n", out.display()));
    // With --out, nothing is written into the folders.
    assert!(!a.0.join("curve.svg").exists() && !a.0.join("report.html").exists());
    let data = data(&out);
    let runs = data["runs"].as_array().unwrap();
    let of = |key: &str| -> Vec<Value> { runs.iter().map(|run| run[key].clone()).collect() };
    assert_eq!(of("label"), ["x/run", "y/run"]);
    assert_eq!(of("status"), ["finished", "stopped"]);
    assert_eq!(of("n_steps"), [40, 40]);
    assert_eq!(of("n_samples"), [50, 20]);
    assert_eq!(
        runs[0]["tables"]["train"]["steps"]
            .as_array()
            .unwrap()
            .len(),
        41
    );
    assert_eq!(
        runs[1]["tables"]["train"]["values"]["critic/rewards/mean"][19],
        0.2
    );
    assert_eq!(
        data["differences"],
        json!([{"key": "optimizer.lr", "values": ["1e-5", "2e-5"]}])
    );
    assert_eq!(data["reload"], Value::Null);
    assert_eq!(of("alarms"), [json!([]), json!([])]);
}

#[test]
fn without_out_the_page_and_the_curve_are_in_the_run_folder() {
    let temp = tempfile::tempdir().unwrap();
    let run = Folder::new(&temp.path().join("run"), "[train]\nsteps = 9\n");
    let output = report(&[run.arg()]);
    assert!(output.status.success());
    assert!(
        text(&output.stderr).contains("no step is done yet"),
        "{}",
        text(&output.stderr)
    );
    let paths: Vec<String> = ["report.html", "curve.svg"]
        .map(|name| run.0.join(name).display().to_string())
        .into();
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), paths);
    assert_eq!(
        data(&run.0.join("report.html"))["runs"][0]["alarms"],
        json!([])
    );
    run.add_steps(1, 9, 0.0);
    for step in 10..=19 {
        let line = json!({"step": step, "phase": "train", "critic/rewards/max": 0.0, "critic/rewards/min": 0.0});
        run.add("metrics.jsonl", &line);
    }
    assert!(report(&[run.arg()]).status.success());
    let alarms = &data(&run.0.join("report.html"))["runs"][0]["alarms"];
    assert_eq!(alarms[0]["name"], "reward constant", "{alarms}");
}

#[test]
fn what_is_no_run_is_refused_in_one_sentence_and_nothing_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let run = Folder::new(&temp.path().join("run"), "seed = 1\n");
    let broken = Folder::new(&temp.path().join("broken"), "seed =\n");
    let (empty, missing) = (temp.path().join("empty"), temp.path().join("missing"));
    fs::create_dir(&empty).unwrap();
    let out = temp.path().join("no/such/folder/report.html");
    for (args, expected) in [
        (&[empty.to_str().unwrap()][..], "empty: not a run folder"),
        (&[missing.to_str().unwrap()], "missing: not a run folder"),
        (
            &[run.arg(), missing.to_str().unwrap()],
            "missing: not a run folder",
        ),
        (&[run.arg(), run.arg()], "run: given twice"),
        (&[broken.arg()], "broken/config.toml: "),
        (
            &[run.arg(), "--out", empty.to_str().unwrap()],
            "empty: found a folder; expected a file",
        ),
        (
            &[run.arg(), "--out", out.to_str().unwrap()],
            "no/such/folder: there is no such folder",
        ),
        (
            &[run.arg(), "--tensorboard", "--follow"],
            "cannot be used with",
        ),
        (&[], "RUN_DIR"),
    ] {
        let output = report(args);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(expected), "{args:?}: {message}");
        assert_eq!(output.stdout, b"");
    }
    for folder in [temp.path(), &run.0, &broken.0, &empty] {
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(
                !name.contains("html") && !name.starts_with(".new"),
                "{name}"
            );
        }
    }
}

#[test]
fn ten_megabytes_of_samples_are_in_a_page() {
    let temp = tempfile::tempdir().unwrap();
    let run = Folder::new(&temp.path().join("run"), "");
    let long = "a ".repeat(50_000);
    for step in 1..=200 {
        run.add(
            "samples.jsonl",
            &json!({"step": step, "id": "a", "completion": long}),
        );
    }
    assert!(report(&[run.arg()]).status.success());
    let page = run.0.join("report.html");
    let shown = &data(&page)["runs"][0];
    let steps: Vec<u64> = (shown["samples"].as_array().unwrap().iter())
        .map(|sample| sample["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (2..=200).step_by(2).collect::<Vec<u64>>());
    let note = shown["samples_note"].as_str().unwrap();
    assert!(
        note.starts_with("100 of 200 samples are in this page, those of 100 of 200 steps"),
        "{note}"
    );
    assert!(fs::metadata(&page).unwrap().len() < 12 << 20);
}
