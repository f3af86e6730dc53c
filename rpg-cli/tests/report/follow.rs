//! Reports over runs that go on.

use crate::browser::Browser;
use crate::page::data;
use crate::runs::{Folder, rpg, skip};
use rpg_cli::run_folder::RunFolder;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// A run in which this process trains.
fn in_training(temp: &Path) -> (RunFolder, Folder) {
    let path = temp.join("run");
    let lock = RunFolder::create(&path, "[train]\nsteps = 9\n").unwrap();
    (lock, Folder(path))
}

fn follow(run: &Folder) -> Child {
    rpg()
        .args(["report", "--follow", run.arg()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The steps of the page, once there is one.
fn n_steps(run: &Folder) -> Option<usize> {
    let page = run.0.join("report.html");
    let data = page.exists().then(|| data(&page))?;
    data["runs"][0]["tables"]["train"]["steps"]
        .as_array()
        .map(Vec::len)
}

#[test]
fn a_followed_page_grows_with_the_run_and_ends_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let (lock, run) = in_training(temp.path());
    run.add_steps(1, 2, 0.1);
    run.append("metrics.jsonl", "{\"step\":3,\"phase\":\"tr");
    let child = follow(&run);
    wait_until("the first page", || n_steps(&run) == Some(2));
    let page = run.0.join("report.html");
    assert_eq!(data(&page)["reload"], 5);
    assert_eq!(data(&page)["runs"][0]["status"], "running");
    // The rest of the line, and one more.
    run.append("metrics.jsonl", "ain\"}\n");
    run.add_steps(4, 4, 0.1);
    wait_until("the page grows", || n_steps(&run) == Some(4));
    run.finish(4);
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        page.display().to_string()
    );
    assert_eq!(data(&page)["reload"], serde_json::Value::Null);
    assert_eq!(data(&page)["runs"][0]["status"], "finished");
    let names: Vec<String> = fs::read_dir(&run.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        !names.iter().any(|name| name.starts_with(".new")),
        "{names:?}"
    );
}

#[cfg(unix)]
#[test]
fn control_c_ends_following() {
    let temp = tempfile::tempdir().unwrap();
    let (_lock, run) = in_training(temp.path());
    run.add_steps(1, 2, 0.1);
    let mut child = follow(&run);
    wait_until("the first page", || n_steps(&run) == Some(2));
    run.add_steps(3, 3, 0.1);
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    assert!(child.wait().unwrap().success());
    // The last page has what was written meanwhile, and does not load itself again.
    let page = data(&run.0.join("report.html"));
    assert_eq!(
        (n_steps(&run), &page["reload"]),
        (Some(3), &serde_json::Value::Null)
    );
}

#[test]
fn a_browser_follows_and_keeps_what_the_reader_has_chosen() {
    let temp = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start() else {
        return skip("there is no Chromium: apt-get install chromium");
    };
    let (lock, run) = in_training(temp.path());
    run.add_steps(1, 30, 0.01);
    let mut child = follow(&run);
    wait_until("the first page", || n_steps(&run) == Some(30));
    browser.look(1280, false);
    browser.open(&run.0.join("report.html"));
    assert_eq!(
        browser.eval("document.getElementById('live').textContent"),
        "following"
    );
    browser.eval("setFilter('grad'); setSmoothing(0.25); setColour('weight'); select('7 sums:7'); toggleTheme()");
    browser.eval("window.scrollTo(0, 321)");
    run.add_steps(31, 33, 0.01);
    browser.wait_for("typeof runs !== 'undefined' && runs[0].tables.train.steps.length === 33");
    browser.wait_for("document.readyState === 'complete'");
    let kept = "[state.filter, document.getElementById('metric-filter').value, state.smoothing, state.colour, state.selected, \
                window.scrollY, document.documentElement.dataset.theme, document.querySelector('#sample h3').textContent]";
    assert_eq!(
        browser.eval(kept),
        serde_json::json!([
            "grad",
            "grad",
            0.25,
            "weight",
            "7 sums:7",
            321,
            "dark",
            "Step 7, wrong · sums:7"
        ])
    );
    // The run ends: the page does so once more, and then stays.
    drop(lock);
    browser.wait_for(
        "typeof data !== 'undefined' && data.reload === null && runs[0].status === 'stopped'",
    );
    assert!(child.wait().unwrap().success());
    assert_eq!(browser.problems(), [""; 0]);
}
