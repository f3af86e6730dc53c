//! When alarms are given, and what they say.

use super::*;
use crate::cli::report::run::{Line, phase};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// `n` steps of a healthy run, in which `change` alters the line of a step.
fn steps(n: u64, change: impl Fn(u64, &mut Value)) -> Vec<Line> {
    let line = |step: u64| {
        let mut line = json!({
            "step": step, "phase": "train", "critic/score/mean": 0.5,
            "critic/rewards/mean": 0.5, "critic/rewards/max": 1.0, "critic/rewards/min": 0.0,
            "frac_reward_zero_std": 0.25, "train/num_updates": 2.0, "reward/errors": 0.0,
            "response_length/clip_ratio": 0.02, "actor/entropy": 0.5, "actor/pg_clipfrac": 0.02,
            "actor/eff_sample_size": 0.98, "actor/skipped_updates": 0.0, "actor/log_ratio_clamped": 0.0,
            "actor/grad_norm": 1.0, "sampling/sampling_logp_difference/mean": 2e-6,
        });
        change(step, &mut line);
        line.as_object().unwrap().clone()
    };
    (1..=n).map(line).collect()
}

fn given(lines: &[Line]) -> Vec<Alarm> {
    let steps = lines.iter().filter(|line| phase(line) == "train").collect();
    of_history(&History::new(lines, steps))
}

/// Gives a metric a value from a step on.
fn set(name: &'static str, from: u64, value: f64) -> impl Fn(u64, &mut Value) {
    move |step, line| {
        if step >= from {
            line[name] = value.into();
        }
    }
}

#[test]
fn each_alarm_is_given_at_its_bound_and_not_before() {
    // The metric, its value from step 21 to 30, the alarm, and the beginning of what it says.
    for (metric, value, name, text) in [
        (
            "actor/skipped_updates",
            0.5,
            "updates skipped",
            "In 10 of steps 21 to 30 updates were skipped",
        ),
        (
            "train/num_updates",
            0.0,
            "no updates",
            "10 of steps 21 to 30 had no update.",
        ),
        (
            "frac_reward_zero_std",
            0.91,
            "groups equal",
            "In 91 % of the groups of steps 21 to 30",
        ),
        (
            "reward/errors",
            2.0,
            "reward fails",
            "20 completions of steps 21 to 30 have no score",
        ),
        (
            "actor/entropy",
            0.099,
            "entropy collapses",
            "The entropy has fallen from 0.5 in the first ten steps to 0.099",
        ),
        (
            "response_length/clip_ratio",
            0.11,
            "lengths at the limit",
            "11 % of the completions of steps 21 to 30",
        ),
        (
            "actor/pg_clipfrac",
            0.21,
            "clip share high",
            "21 % of the tokens of steps 21 to 30",
        ),
        (
            "actor/eff_sample_size",
            0.49,
            "effective sample size low",
            "The importance weights of steps 21 to 30 are worth 49 %",
        ),
        (
            "sampling/sampling_logp_difference/mean",
            0.021,
            "sampler mismatch",
            "The log-probs of sampler and trainer differ by 0.021",
        ),
        (
            "actor/log_ratio_clamped",
            1.0,
            "log-ratios clamped",
            "In 10 of steps 21 to 30 log-ratios",
        ),
        (
            "actor/grad_norm",
            10.1,
            "gradient grows",
            "The norm of the gradient has grown from 1 in the first ten steps to 10.1",
        ),
    ] {
        let found = given(&steps(30, set(metric, 21, value)));
        assert_eq!(found.len(), 1, "{metric}: {found:?}");
        assert_eq!((found[0].name, found[0].metric.as_str()), (name, metric));
        assert!(found[0].text.starts_with(text), "{}", found[0].text);
        // What is long past is not said.
        let past = |step: u64, line: &mut Value| {
            if (11..=20).contains(&step) {
                line[metric] = value.into();
            }
        };
        assert_eq!(given(&steps(30, past)), [], "{metric}");
    }
    let certain = |step: u64, line: &mut Value| {
        set("actor/entropy", 21, 0.05)(step, line);
        line["critic/score/mean"] = (0.01 * step as f64).into();
    };
    assert_eq!(given(&steps(30, certain)), [], "the score still rises");
    for (metric, value) in [
        ("frac_reward_zero_std", 0.89),
        ("actor/entropy", 0.101),
        ("response_length/clip_ratio", 0.099),
        ("actor/pg_clipfrac", 0.2),
        ("actor/eff_sample_size", 0.5),
        ("sampling/sampling_logp_difference/mean", 0.02),
        ("actor/grad_norm", 10.0),
    ] {
        assert_eq!(given(&steps(30, set(metric, 21, value))), [], "{metric}");
    }
}

#[test]
fn a_constant_reward_is_said_once() {
    let constant = |_, line: &mut Value| {
        for name in ["mean", "max", "min"] {
            line[format!("critic/rewards/{name}")] = json!(0.0);
        }
        line["frac_reward_zero_std"] = json!(1.0);
    };
    let found = given(&steps(5, constant));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].text,
        "Every completion of steps 1 to 5 had the same reward, 0: there is nothing to learn from."
    );
    assert_eq!(given(&steps(4, constant)), []);
    // Constant in each step, but not over the steps.
    let varies = |step: u64, line: &mut Value| {
        for name in ["mean", "max", "min"] {
            line[format!("critic/rewards/{name}")] = json!(step % 2);
        }
    };
    assert_eq!(given(&steps(10, varies)), []);
}

#[test]
fn entropy_may_fall_where_the_answers_are_right() {
    let solved = |step: u64, line: &mut Value| {
        if step > 20 {
            line["actor/entropy"] = json!(0.01);
            line["critic/score/mean"] = json!(0.95);
        }
    };
    assert_eq!(given(&steps(30, solved)), []);
}

#[test]
fn a_correction_for_the_sampler_is_measured_by_its_weights() {
    let corrected = |share: f64| {
        move |_: u64, line: &mut Value| {
            line["sampling/sampling_logp_difference/mean"] = json!(0.5);
            line["rollout_corr/rollout_is_eff_sample_size"] = json!(share);
        }
    };
    assert_eq!(given(&steps(10, corrected(0.8))), []);
    let found = given(&steps(10, corrected(0.4)));
    assert_eq!(found[0].name, "sampler mismatch");
    assert!(found[0].text.contains("worth 40 %"), "{}", found[0].text);
}

/// Rewards rise by 0.01 per step; held-out accuracies at the given steps.
fn with_held_out(accuracies: &[(u64, f64)], rise: f64) -> Vec<Line> {
    let mut lines = steps(40, |step, line| {
        line["critic/rewards/mean"] = (0.2 + rise * step as f64).into();
        for (_, value) in accuracies.iter().filter(|(at, _)| *at == step) {
            line["val-core/a/acc/mean@4"] = json!(0.1);
            line["val-core/all/acc/mean@4"] = json!(value);
        }
    });
    let first = accuracies.iter().find(|(at, _)| *at == 0);
    if let Some((_, value)) = first {
        let line = json!({"step": 0, "phase": "initial", "val-core/all/acc/mean@4": value});
        lines.insert(0, line.as_object().unwrap().clone());
    }
    lines
}

#[test]
fn held_out_falls_only_while_the_reward_rises() {
    let falling = [(0, 0.2), (10, 0.4), (20, 0.5), (40, 0.42)];
    let found = given(&with_held_out(&falling, 0.01));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].text,
        "Held-out accuracy has fallen from 0.5 at step 20 to 0.42, while the reward has risen from 0.355 to 0.555."
    );
    assert_eq!(found[0].metric, "val-core/all/acc/mean@4");
    for (accuracies, rise) in [
        (&falling[..], -0.001),
        // Less than 0.05; less than a tenth; too few.
        (&[(0, 0.2), (20, 0.3), (40, 0.26)], 0.01),
        (&[(0, 0.2), (20, 0.9), (40, 0.83)], 0.01),
        (&[(20, 0.5), (40, 0.3)], 0.01),
        (&[(0, 0.2), (20, 0.3), (40, 0.5)], 0.01),
        (&[], 0.01),
    ] {
        assert_eq!(
            given(&with_held_out(accuracies, rise)),
            [],
            "{accuracies:?}"
        );
    }
}

#[test]
fn steps_without_a_metric_give_no_alarm() {
    assert_eq!(given(&[]), []);
    let bare = |step: u64| {
        json!({"step": step, "phase": "train"})
            .as_object()
            .unwrap()
            .clone()
    };
    assert_eq!(given(&(1..=30).map(bare).collect::<Vec<_>>()), []);
    assert_eq!(given(&steps(30, |_, _| {})), []);
}

const BEGIN: &str = "<!-- generated: alarms -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_page_in_docs_has_every_alarm() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reports.md");
    // A package has no docs/.
    let Ok(page) = fs::read_to_string(&path) else {
        return;
    };
    let mut table = "\n| alarm | given when | what to do |\n| --- | --- | --- |\n".to_owned();
    for rule in &RULES {
        table += &format!("| {} | {} | {} |\n", rule.name, rule.when, rule.advice);
    }
    let (before, rest) = page.split_once(BEGIN).expect(BEGIN);
    let (_, after) = rest.split_once(END).expect(END);
    let expected = format!("{before}{BEGIN}{table}\n{END}{after}");
    if std::env::var_os("RPG_BLESS").is_some_and(|bless| bless == "1") {
        fs::write(&path, expected).unwrap();
    } else {
        assert!(
            page == expected,
            "docs/reports.md is out of date: run the tests of rpg-cli with RPG_BLESS=1 to rewrite its table"
        );
    }
}
