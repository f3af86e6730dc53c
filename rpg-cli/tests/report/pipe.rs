//! The scripts of docs/reports.md, which send metrics to trackers.

use crate::runs::{Folder, skip, text};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A tracker that writes what it is given to the file that the environment names.
const TRACKER: &str = r#"
import json, os

class Run:
    def define_metric(self, name, step_metric):
        pass
    def log(self, metrics, step=None):
        with open(os.environ["LOGGED"], "a") as file:
            file.write(json.dumps([step, metrics]) + "\n")
    def finish(self):
        pass

def init(project, name, resume, id=None):
    assert (project, name, resume) == ("rpg", "run", "allow") and id in ("run", None)
    return Run()
"#;

/// The scripts of the page, by the trackers that they import.
fn scripts() -> Option<Vec<(String, String)>> {
    // A package has no docs/.
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reports.md");
    let page = fs::read_to_string(page).ok()?;
    let blocks = page.split("```python\n").skip(1);
    let script = |block: &str| {
        let (code, _) = block.split_once("```").unwrap();
        let tracker = ["wandb", "trackio"]
            .into_iter()
            .find(|name| code.contains(&format!("import {name}\n")));
        (tracker.unwrap().to_owned(), code.to_owned())
    };
    Some(blocks.map(script).collect())
}

fn logged(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn wait_for(path: &Path, n: usize) {
    let started = Instant::now();
    while logged(path).len() < n {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{:?}",
            logged(path)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_line_is_sent_once_whatever_is_stopped_and_resumed() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("there is no python3");
    }
    let Some(scripts) = scripts() else {
        return;
    };
    assert_eq!(scripts.len(), 2);
    for (tracker, code) in scripts {
        let temp = tempfile::tempdir().unwrap();
        let run = Folder::new(&temp.path().join("run"), "");
        let (script, out) = (temp.path().join("pipe.py"), temp.path().join("logged"));
        fs::write(temp.path().join(format!("{tracker}.py")), TRACKER).unwrap();
        fs::write(&script, code.replace("time.sleep(5)", "time.sleep(0.05)")).unwrap();
        let start = || -> Child {
            let mut command = Command::new("python3");
            command
                .arg(&script)
                .arg(&run.0)
                .env("LOGGED", &out)
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let line = |step: u64| json!({"step": step, "phase": "train", "a": step as f64 / 10.0});
        run.add(
            "metrics.jsonl",
            &json!({"step": 1, "phase": "warm_start", "warm_start/nll": 2.0, "b": 1.0}),
        );
        run.add("metrics.jsonl", &line(1));
        run.append("metrics.jsonl", "{\"step\":2,\"pha");
        let mut first = start();
        wait_for(&out, 2);
        run.append("metrics.jsonl", "se\":\"train\",\"a\":0.2}\n");
        wait_for(&out, 3);
        // The script is stopped, once it knows what it has sent; the run is killed, and resumed from its first step.
        let mark = run.0.join(format!(".sent-{tracker}"));
        while fs::metadata(&mark).map_or(0, |file| file.len()) < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        first.kill().unwrap();
        first.wait().unwrap();
        let whole = fs::read_to_string(run.0.join("metrics.jsonl")).unwrap();
        let kept: String = whole.split_inclusive('\n').take(2).collect();
        fs::write(run.0.join("metrics.jsonl"), kept).unwrap();
        let second = start();
        for step in 2..=3 {
            run.add("metrics.jsonl", &line(step));
        }
        run.finish(3);
        let output = second.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            logged(&out),
            [
                json!([0, {"warm_start/nll": 2.0, "warm_start/b": 1.0, "warm_start/step": 1}]),
                json!([1, {"a": 0.1, "training/step": 1}]),
                json!([2, {"a": 0.2, "training/step": 2}]),
                json!([3, {"a": 0.3, "training/step": 3}]),
                json!([4, {"val-core/sums/acc/mean@4": 0.75, "training/step": 3}]),
            ],
            "{tracker}"
        );
    }
}
