//! `rollout.max_staleness`: steps that are sampled before those before them have been trained on.

use crate::filter::{GRADED, differs};
use crate::{GOOD, Stop, TestRun, config, log_prob};
use burn::backend::Flex;
use rpg_cli::failure::FailureKind;
use rpg_cli::models::load_model;
use rpg_cli::run_folder::{METRICS, SAMPLES};
use serde_json::Value;
use std::path::PathBuf;

const FOUR: [&str; 3] = ["train.steps=4", "checkpoint.keep=9", "evaluate.problems=0"];

fn run(sets: &[&str]) -> TestRun {
    let run = TestRun::new(config(&[&FOUR[..], sets].concat()));
    run.start_or_resume(usize::MAX, None).unwrap();
    run
}

/// What the sampler would note of the policy of each checkpoint.
fn policies(run: &TestRun) -> Vec<f64> {
    let checkpoints = run.folder.checkpoints().unwrap();
    let of = |dir: &PathBuf| {
        let (policy, tokenizer) = load_model::<Flex>(dir, &Default::default()).unwrap();
        log_prob(&policy, &tokenizer, GOOD)
    };
    checkpoints.iter().map(of).collect()
}

/// A metric of every step.
fn metric(run: &TestRun, name: &str) -> Vec<Option<f64>> {
    let lines = run.metrics().into_iter();
    let steps = lines.filter(|line| line["phase"] == "train");
    steps
        .map(|line| line.get(name).and_then(Value::as_f64))
        .collect()
}

#[test]
fn every_step_is_sampled_with_the_policy_of_so_many_steps_before() {
    for (n, versions) in [(0, [0, 1, 2, 3]), (1, [0, 0, 1, 2]), (2, [0, 0, 0, 1])] {
        let run = run(&[&format!("rollout.max_staleness={n}")]);
        let policies = policies(&run);
        let expected = versions.map(|version: usize| policies[version]);
        assert_eq!(*run.synced.lock().unwrap(), expected, "{n}");
        let lines = run.folder.lines(SAMPLES).unwrap();
        for line in &lines {
            let step = line["step"].as_u64().unwrap() as usize;
            assert_eq!(line["version"], versions[step - 1], "{n}");
        }
        assert!(!lines.is_empty());
    }
}

#[test]
fn the_age_of_samples_is_logged_where_they_can_be_old() {
    let none = [None; 4];
    let ages = |ages: [f64; 4]| ages.map(Some);
    for (n, age, share) in [
        (0, none, none),
        (1, ages([0.0, 1.0, 1.0, 1.0]), ages([0.0, 1.0, 1.0, 1.0])),
        (2, ages([0.0, 1.0, 2.0, 2.0]), ages([0.0, 1.0, 1.0, 1.0])),
    ] {
        let run = run(&[&format!("rollout.max_staleness={n}")]);
        for name in ["mean", "max"] {
            assert_eq!(metric(&run, &format!("rollout/staleness/{name}")), age);
        }
        assert_eq!(metric(&run, "rollout/staleness/stale_tokens"), share);
        for name in ["weight_mean", "weight_max"] {
            let weights = metric(&run, &format!("rollout/staleness/{name}"));
            for (weight, share) in weights.iter().zip(share) {
                assert_eq!(weight.is_some(), share == Some(1.0), "{n} {name}");
                // The policy has moved on since.
                assert!(weight.is_none_or(|weight| (weight - 1.0).abs() > 1e-4));
            }
        }
        let difference = metric(&run, "sampling/sampling_logp_difference/max");
        assert_eq!(difference.iter().all(Option::is_some), n == 0);
        let lines = run.folder.lines(METRICS).unwrap();
        for name in ["wait_for_samples", "sampler_idle"] {
            let name = format!("timing_s/{name}");
            assert!(
                lines[..4]
                    .iter()
                    .all(|line| line.contains_key(&name) == (n > 0))
            );
        }
    }
}

#[test]
fn the_log_probs_of_whoever_sampled_are_those_of_the_old_policy() {
    let weights = |sets: &[&str]| {
        let sets = [sets, &["rollout.max_staleness=1", "train.mini_batches=1"]].concat();
        let run = run(&sets);
        [
            "actor/weight_mean",
            "rollout/staleness/weight_mean",
            "actor/kl_loss",
        ]
        .map(|name| metric(&run, name)[1])
        .map(Option::unwrap)
    };
    let is_near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    // The objective's own weights are those from the policy that sampled, which is the reference too.
    let [weight, stale, kl] = weights(&[]);
    assert!(
        is_near(weight, stale) && !is_near(weight, 1.0),
        "{weight} {stale}"
    );
    assert!(kl > 1e-5, "{kl}");
    // With a correction the step starts from its own policy.
    let [weight, stale, kl] = weights(&["objective.rollout_correction={}"]);
    assert!(
        is_near(weight, 1.0) && !is_near(stale, 1.0),
        "{weight} {stale}"
    );
    assert!(is_near(kl, 0.0), "{kl}");
}

#[test]
fn two_runs_that_sample_ahead_have_the_same_numbers() {
    for n in [1, 2] {
        let ahead = format!("rollout.max_staleness={n}");
        let dynamic = [&ahead, "train.max_generation_batches=3", GRADED[0]];
        let run = || {
            let mut run = TestRun::new(config(&[&FOUR[..], &dynamic].concat()));
            run.score = differs;
            run.start_or_resume(usize::MAX, None).unwrap();
            run
        };
        run().assert_same(&run());
    }
}

#[test]
fn an_evaluation_measures_the_current_policy_and_leaves_the_samples_valid() {
    let sets = [
        "rollout.max_staleness=1",
        "evaluate={problems=2, samples=2, every=1}",
    ];
    let measured = TestRun::new(config(&[
        "train.steps=4",
        "checkpoint.keep=9",
        sets[0],
        sets[1],
    ]));
    measured.start_or_resume(usize::MAX, None).unwrap();
    let other = run(&sets[..1]);
    let loss = "actor/pg_loss";
    assert_eq!(metric(&measured, loss), metric(&other, loss));
    let policies = policies(&measured);
    // Before the first step, steps 1 and 2, after step 1, step 3, after step 2, step 4, after step 3, after the last.
    let expected = [0, 0, 0, 1, 1, 2, 2, 3, 4].map(|version: usize| policies[version]);
    assert_eq!(*measured.synced.lock().unwrap(), expected);
}

#[test]
fn a_failure_of_sampling_ahead_ends_the_run_after_the_last_whole_step() {
    let sets = ["train.steps=4", "rollout.max_staleness=1"];
    let straight = TestRun::new(config(&sets));
    straight.start_or_resume(usize::MAX, None).unwrap();
    let failed = TestRun::new(config(&sets));
    // The batches of the evaluation and of two steps.
    let failure = failed.start_or_resume(3, None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Reward);
    let checkpoint = failed.folder.newest_checkpoint().unwrap();
    assert!(checkpoint.ends_with("step-000002"), "{checkpoint:?}");
    failed.start_or_resume(usize::MAX, None).unwrap();
    failed.assert_same(&straight);
}

#[test]
fn another_limit_holds_from_the_step_at_which_a_run_is_resumed() {
    // With 0, none is logged.
    for (before, now, ages) in [
        (1, 0, &[0.0, 1.0][..]),
        (0, 1, &[0.0, 1.0]),
        (1, 2, &[0.0, 1.0, 1.0, 2.0]),
        (2, 1, &[0.0, 1.0, 1.0, 1.0]),
    ] {
        let set = |n| format!("rollout.max_staleness={n}");
        let mut run = TestRun::new(config(&[&FOUR[..], &[&set(before)]].concat()));
        let stop = Some(Stop::AfterStep(2));
        run.start_or_resume(usize::MAX, stop).unwrap();
        run.config = config(&[&FOUR[..], &[&set(now)]].concat());
        run.start_or_resume(usize::MAX, None).unwrap();
        let found = metric(&run, "rollout/staleness/max");
        let found: Vec<f64> = found.into_iter().flatten().collect();
        assert_eq!(found, ages, "{before} {now}");
    }
}
