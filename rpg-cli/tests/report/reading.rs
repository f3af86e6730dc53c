//! The page in a browser: curves, samples, keys.

use crate::browser::Browser;
use crate::runs::{Folder, report, skip, text};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// A browser and the page of two runs with texts that would break a careless page.
fn opened(temp: &Path) -> Option<(Browser, PathBuf)> {
    let Some(browser) = Browser::start() else {
        skip("there is no Chromium: apt-get install chromium");
        return None;
    };
    let a = Folder::new(
        &temp.join("a"),
        "[train]\nsteps = 60\n[optimizer]\nlr = 1e-5\n",
    );
    let name = "b<img src=x onerror=alert(1)>";
    let b = Folder::new(
        &temp.join(name),
        "[train]\nsteps = 60\n[optimizer]\nlr = 2e-5\n",
    );
    a.add_steps(1, 60, 0.01);
    a.finish(60);
    b.add_steps(1, 40, 0.005);
    let hostile = "</script><script>alert(1)</script><!--<b>{{data}}";
    for line in [
        json!({"step": 61, "id": hostile, "source": hostile, "prompt": hostile, "completion": hostile, "answer": hostile,
               "extracted": null, "correct": null, "reason": hostile, "reward": null, "parts": {}, "stop": "length",
               "n_tokens": 2, "error": hostile, "advantage": null,
               "tokens": {"text": [hostile, "<b>"], "logp": [-0.5, -9.0], "weight": null}}),
        // As older runs wrote them.
        json!({"step": 62, "id": "old", "prompt": "p", "completion": "no tokens", "answer": "1", "extracted": null,
               "correct": false, "reason": "wrong", "reward": 0.0, "parts": {}, "stop": "eos", "n_tokens": 2}),
    ] {
        a.add("samples.jsonl", &line);
    }
    // A step has a problem twice.
    for completion in ["one", "two"] {
        b.add("samples.jsonl", &json!({"step": 41, "id": "again", "prompt": "p", "completion": completion, "answer": "1",
              "extracted": null, "correct": false, "reason": "wrong", "reward": 0.0, "stop": "eos", "n_tokens": 1}));
    }
    for step in 50..=60 {
        let line = json!({"step": step, "phase": "train", "response_length/clip_ratio": 0.5, "critic/rewards/mean": 0.1});
        b.add("metrics.jsonl", &line);
    }
    let out = temp.join("report.html");
    let output = report(&[a.arg(), b.arg(), "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some((browser, out))
}

#[test]
fn a_page_is_read_with_pointer_and_keys_and_asks_for_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let Some((mut browser, page)) = opened(temp.path()) else {
        return;
    };
    browser.look(1280, false);
    browser.open(&page);
    let count = "document.querySelectorAll('.chart').length";
    assert_eq!(
        browser.eval("document.querySelectorAll('#runs .run').length"),
        2
    );
    assert_eq!(
        browser.eval("document.querySelectorAll('#runs h3')[1].textContent"),
        "b<img src=x onerror=alert(1)>"
    );
    assert_eq!(
        browser.eval("document.querySelector('.alarm h3').firstChild.textContent"),
        "lengths at the limit"
    );
    assert_eq!(
        browser.eval("document.querySelector('#config-list tbody').textContent"),
        "optimizer.lr1e-52e-5"
    );

    // Two curves and their values under the pointer: at the middle of steps 1 to 60, the tip says the step.
    let reward = "[data-metric=\"critic/rewards/mean\"]";
    browser.wait_for(&format!(
        "document.querySelectorAll('{reward} path.curve').length === 2"
    ));
    browser.hover(&format!("{reward} svg"), 0.99, 0.5);
    browser.wait_for("!document.getElementById('tip').hidden");
    let tip = browser.eval("document.getElementById('tip').textContent");
    let tip = tip.as_str().unwrap().to_owned();
    assert!(
        tip.starts_with("step 60") && tip.contains("a0.8") && tip.contains("b<img"),
        "{tip}"
    );
    // The same with keys, from a curve that has the focus.
    browser.eval(&format!("document.querySelector('{reward} svg').focus()"));
    for _ in 0..2 {
        browser.key("ArrowLeft");
    }
    browser.wait_for("document.getElementById('tip').textContent.startsWith('step 58')");
    browser.eval("document.activeElement.blur()");

    // Metrics by name: `/` goes to the field, Esc leaves it.
    let n_all = browser.eval(count);
    browser.key("/");
    assert_eq!(browser.eval("document.activeElement.id"), "metric-filter");
    for key in ["e", "n", "t", "r", "o"] {
        browser.key(key);
    }
    browser.wait_for(&format!("{count} === 1"));
    assert_eq!(
        browser.eval("document.querySelector('.chart h3').textContent"),
        "actor/entropy"
    );
    browser.key("Escape");
    browser.eval("setFilter('')");
    assert_eq!(browser.eval(count), n_all);

    // Smoothing and scale.
    let drawn = format!("document.querySelector('{reward} path.curve').getAttribute('d')");
    browser.wait_for(&format!(
        "document.querySelector('{reward} path.curve') !== null"
    ));
    let before = browser.eval(&drawn);
    browser.key("]");
    assert_ne!(browser.eval(&drawn), before);
    let before = browser.eval(&drawn);
    browser.key("l");
    assert_ne!(browser.eval(&drawn), before);
    assert_eq!(
        browser.eval("document.getElementById('scale').value"),
        "log"
    );
    browser.key("l");

    // The theme, from the system's to the other.
    let background = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.eval(background), "rgb(246, 247, 249)");
    browser.screenshot("wide-light");
    browser.key("t");
    assert_eq!(browser.eval(background), "rgb(15, 18, 22)");
    browser.screenshot("wide-dark");
    browser.key("?");
    assert_eq!(browser.eval("document.getElementById('help').open"), true);
    browser.screenshot("help");
    browser.eval("document.getElementById('help').close()");
    assert_eq!(browser.problems(), [""; 0]);
    assert_eq!(browser.n_files(), 1, "the page is one file");
}

#[test]
fn samples_are_filtered_and_coloured() {
    let temp = tempfile::tempdir().unwrap();
    let Some((mut browser, page)) = opened(temp.path()) else {
        return;
    };
    browser.look(1280, true);
    browser.open(&page);
    assert_eq!(
        browser.eval("getComputedStyle(document.body).backgroundColor"),
        "rgb(15, 18, 22)"
    );
    let set = |browser: &mut Browser, id: &str, value: &str| {
        browser.eval(&format!(
            "(() => {{ const field = document.getElementById('{id}'); field.value = {value:?}; \
             field.dispatchEvent(new Event('input')); }})()"
        ));
    };
    let count = "document.getElementById('sample-count').textContent";
    let chosen = "document.querySelector('#sample h3').textContent";
    assert_eq!(browser.eval(count), "62 samples");
    for (id, value, expected) in [
        ("sample-grade", "right", "20 of 62 samples"),
        ("sample-source", "sums", "10 of 62 samples"),
        ("step-from", "13", "8 of 62 samples"),
        ("step-to", "30", "3 of 62 samples"),
        ("sample-text", "How much is 24 +", "1 of 62 samples"),
    ] {
        set(&mut browser, id, value);
        assert_eq!(browser.eval(count), expected, "{id}");
    }
    assert_eq!(browser.eval(chosen), "Step 24, right · sums:24");
    // Tokens in colour: the stronger, the less probable; then by weight.
    let alpha = |i: usize| {
        format!(
            "(() => {{ const colour = document.querySelectorAll('.token')[{i}].style.backgroundColor; \
             return colour ? Number(colour.match(/[\\d.]+\\)$/)[0].slice(0, -1)) : 0; }})()"
        )
    };
    let alphas = |browser: &mut Browser| -> Vec<f64> {
        (0..4)
            .map(|i| browser.eval(&alpha(i)).as_f64().unwrap())
            .collect()
    };
    assert_eq!(alphas(&mut browser), [0.014, 0.275, 0.0, 0.55]);
    browser.key("c");
    assert_eq!(alphas(&mut browser), [0.0, 0.303, 0.303, 0.55]);
    let title = browser.eval("document.querySelectorAll('.token')[1].title");
    assert_eq!(title, "log-prob -2 (p 0.1353), weight 1.25");
    assert_eq!(
        browser.eval("document.getElementById('completion').textContent"),
        "It is 25.<eos>"
    );
    // Keys: j and k go through the list, arrows from step to step.
    for (id, value) in [
        ("sample-text", ""),
        ("step-from", ""),
        ("step-to", ""),
        ("sample-grade", ""),
        ("sample-source", ""),
    ] {
        set(&mut browser, id, value);
    }
    for (key, expected) in [
        ("j", "Step 23, wrong · sums:23"),
        ("k", "Step 24, right · sums:24"),
        ("ArrowRight", "Step 25, wrong · sums:25"),
        ("ArrowLeft", "Step 24, right · sums:24"),
    ] {
        browser.key(key);
        assert_eq!(browser.eval(chosen), expected, "{key}");
    }
    browser.eval("document.getElementById('samples').scrollIntoView()");
    browser.screenshot("samples-dark");
    set(&mut browser, "sample-grade", "none");
    let hostile = "</script><script>alert(1)</script><!--<b>{{data}}";
    assert_eq!(
        browser.eval("document.querySelector('#sample pre').textContent"),
        hostile
    );
    assert_eq!(
        browser.eval("document.querySelector('#completion').textContent"),
        format!("{hostile}<b>")
    );
    set(&mut browser, "sample-grade", "");
    set(&mut browser, "step-from", "62");
    assert_eq!(
        browser.eval("document.querySelector('.legend').textContent"),
        "this run wrote no tokens"
    );
    // Another run.
    set(&mut browser, "step-from", "");
    set(&mut browser, "sample-run", "1");
    assert_eq!(browser.eval(count), "42 samples");
    let completion = "document.getElementById('completion').textContent";
    assert_eq!(browser.eval(completion), "two");
    browser.key("j");
    assert_eq!(browser.eval(completion), "one");
    browser.key("j");
    assert_eq!(browser.eval(chosen), "Step 40, wrong · sums:40");
    assert_eq!(browser.problems(), [""; 0]);

    // Narrow windows: nothing is wider than the window.
    browser.look(500, false);
    browser.open(&page);
    let width = browser.eval("document.documentElement.scrollWidth");
    assert_eq!(width, 500, "the page is wider than the window");
    browser.screenshot("narrow-light");
    browser.eval("document.getElementById('samples').scrollIntoView()");
    browser.screenshot("narrow-samples");
}

#[test]
fn long_runs_are_read_as_quickly() {
    let temp = tempfile::tempdir().unwrap();
    let Some(mut browser) = Browser::start() else {
        return skip("there is no Chromium: apt-get install chromium");
    };
    let run = Folder::new(&temp.path().join("run"), "");
    run.add_steps(1, 20_000, 1e-5);
    assert!(report(&[run.arg()]).status.success());
    let page = run.0.join("report.html");
    assert!(fs::metadata(&page).unwrap().len() > 8 << 20);
    browser.look(1280, false);
    browser.open(&page);
    let reward = "document.querySelector('[data-metric=\"actor/grad_norm\"] path.raw')";
    browser.wait_for(&format!("{reward} !== null"));
    // Some points for each column of pixels, not one for each step; the data is whole.
    let n = browser.eval(&format!("{reward}.getAttribute('d').split('L').length"));
    assert!((500..2000).contains(&n.as_u64().unwrap()), "{n}");
    assert_eq!(browser.eval("charts[0].series[0].x.length"), 20_000);
    assert_eq!(
        browser.eval("document.querySelectorAll('#sample-list li').length"),
        100
    );
    let milliseconds = browser.eval("(() => { const t = performance.now(); setSmoothing(0.9); return performance.now() - t; })()");
    // It takes about 50 on an idle machine.
    assert!(milliseconds.as_f64().unwrap() < 2000.0, "{milliseconds}");
    assert_eq!(browser.problems(), [""; 0]);
}
