//! `objective.rollout_correction`: the sampler is not the policy from which a step starts.

use crate::{BAD, GOOD, Mismatch, Stop, TestRun, config};
use rpg_cli::config::TrainConfig;
use rpg_cli::failure::FailureKind;
use rpg_cli::train::ThreadRanks;
use rpg_losses::rollout::rollout_weights;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// `v` of the tokens of the two texts, which have equally many; their rewards are 1 and 0.
const V: [f64; 2] = [1.5, 0.8];

fn offsets(v: [f64; 2]) -> [f32; 2] {
    v.map(|v| -v.ln() as f32)
}

/// PPO's loss, which is `-A` on policy, with more keys.
fn ppo(keys: &str, sets: &[&str]) -> TrainConfig {
    let objective = format!("objective={{kind='ppo', advantage='group_mean'{keys}}}");
    let fixed = [&objective, "train.mini_batches=1", "evaluate.problems=0"];
    config(&[&fixed[..], sets].concat())
}

fn run_with(config: TrainConfig, v: [f64; 2]) -> TestRun {
    let mut run = TestRun::new(config);
    run.mismatch = Mismatch {
        offsets: offsets(v),
        is_exact: false,
    };
    run
}

/// What the library reports for a batch of one good and one bad response each of these `v`.
fn expected_metrics(config: &TrainConfig, v: &[[f64; 2]]) -> BTreeMap<String, f64> {
    let logp_rollout: Vec<Vec<f64>> = v
        .iter()
        .flatten()
        .map(|v| vec![-v.ln(); GOOD.len()])
        .collect();
    let logp_old = vec![vec![0.0; GOOD.len()]; logp_rollout.len()];
    let mask = vec![vec![true; GOOD.len()]; logp_rollout.len()];
    let correction = config.objective.rollout_correction.unwrap();
    rollout_weights(&correction, &logp_old, &logp_rollout, &mask).metrics
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-5 * b.abs().max(1.0)
}

fn check(metrics: &Map<String, Value>, expected: &BTreeMap<String, f64>) {
    assert!(!expected.is_empty());
    for (name, expected) in expected {
        let found = metrics.get(name).and_then(Value::as_f64);
        assert!(
            found.is_some_and(|found| near(found, *expected)),
            "{name}: {found:?} {expected}"
        );
    }
}

#[test]
fn the_loss_is_multiplied_by_the_ratio_of_the_policy_and_the_sampler() {
    assert_eq!(GOOD.len(), BAD.len());
    let n = GOOD.len() as i32;
    let [good, bad] = V;
    // More keys; the weights of tokens of good and bad responses.
    for (keys, weights) in [
        (", rollout_correction={max=10.0}", [good, bad]),
        (", rollout_correction={max=1.2}", [1.2, bad]),
        (", rollout_correction={mode='mask', max=1.2}", [0.0, bad]),
        (
            ", rollout_correction={level='sequence', max=3.0}",
            [3.0, bad.powi(n)],
        ),
        (
            ", rollout_correction={max=10.0, reject={kl='k1', max=0.1}}",
            [good, 0.0],
        ),
        (
            ", level='sequence', rollout_correction={level='geometric', max=10.0}",
            [good, bad],
        ),
    ] {
        let run = run_with(ppo(keys, &["train.steps=1"]), V);
        run.start_or_resume(usize::MAX, None).unwrap();
        let metrics = &run.metrics()[0];
        let value = |name: &str| metrics[name].as_f64().unwrap();
        // Advantages are 0.5 and -0.5.
        let expected = -0.25 * (weights[0] - weights[1]);
        let loss = value("actor/pg_loss");
        assert!(near(loss, expected), "{keys}: {loss} {expected}");
        // The policy is where it started, wherever the sampler is.
        assert!(near(value("actor/weight_mean"), 1.0), "{keys}");
        check(metrics, &expected_metrics(&run.config, &[V]));
        let largest = value("sampling/sampling_logp_difference/max");
        assert!(near(largest, good.ln()), "{keys}: {largest}");
    }
}

#[test]
fn without_a_correction_the_sampler_is_the_policy_by_definition() {
    let run = run_with(ppo("", &["train.steps=1"]), V);
    run.start_or_resume(usize::MAX, None).unwrap();
    let metrics = &run.metrics()[0];
    let value = |name: &str| metrics[name].as_f64().unwrap();
    assert!(near(value("actor/weight_mean"), 0.5 * (1.5 + 0.8)));
    // `-min(w*A, clip(w, 0.8, 1.2)*A)`.
    assert!(near(value("actor/pg_loss"), -0.25 * (1.2 - 0.8)));
    let largest = value("sampling/sampling_logp_difference/max");
    assert!(near(largest, 1.5f64.ln()), "{largest}");
    let config = ppo(", rollout_correction={}", &[]);
    for name in expected_metrics(&config, &[V]).keys() {
        assert!(!metrics.contains_key(name), "{name}");
    }
}

#[test]
fn a_kl_term_in_the_reward_is_that_of_the_policy() {
    let mean_advantage = |more: &str| {
        let keys = format!(", beta=1.0, kl_placement='reward', kl_estimator='k1'{more}");
        let sets = ["train.steps=1", "reference.rule=never"];
        let run = run_with(ppo(&keys, &sets), V);
        run.start_or_resume(usize::MAX, None).unwrap();
        run.metrics()[0]["critic/advantages/mean"].as_f64().unwrap()
    };
    // The policy is still the reference; the sampler is not.
    let found = mean_advantage(", rollout_correction={}");
    assert!(near(found, 0.0), "{found}");
    // A token's advantage has the penalties `log v` of itself and all later ones.
    let [good, bad] = V.map(f64::ln);
    let expected = 0.5 * (good + bad) * 0.5 * (GOOD.len() as f64 + 1.0);
    let found = mean_advantage("");
    assert!(near(found, expected), "{found} {expected}");
}

#[test]
fn a_mass_is_no_mismatch() {
    let sets = [
        "objective.rollout_correction={max=10.0}",
        "objective.z=1.7",
        "objective.clip=none",
        "train.steps=1",
        "train.mini_batches=1",
        "evaluate.problems=0",
    ];
    let run = run_with(config(&sets), V);
    run.start_or_resume(usize::MAX, None).unwrap();
    let metrics = &run.metrics()[0];
    check(metrics, &expected_metrics(&run.config, &[V]));
    assert!(near(
        metrics["actor/weight_mean"].as_f64().unwrap(),
        1.0 / 1.7
    ));
}

#[test]
fn micro_batches_change_nothing() {
    let run = |tokens: &str| {
        let sets = ["train.steps=2", "train.mini_batches=2", tokens];
        let config = ppo(", rollout_correction={level='sequence'}", &sets);
        let run = run_with(config, [1.02, 0.97]);
        run.start_or_resume(usize::MAX, None).unwrap();
        run
    };
    let (whole, parts) = (
        run("train.micro_batch_tokens=4096"),
        run("train.micro_batch_tokens=1"),
    );
    for (a, b) in whole.metrics().iter().zip(parts.metrics()) {
        for (name, a) in a.iter().filter(|(_, a)| a.is_f64()) {
            let (a, b) = (a.as_f64().unwrap(), b[name].as_f64().unwrap());
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{name}: {a} {b}");
        }
    }
    let (a, b) = (whole.log_prob(GOOD), parts.log_prob(GOOD));
    assert!((a - b).abs() < 1e-4, "{a} {b}");
}

#[test]
fn ranks_agree_on_the_mismatch_of_all() {
    // Each rank samples half of the prompts.
    let v = [V, [0.5, 1.1]];
    let keys = ", rollout_correction={max=10.0}";
    let config = || ppo(keys, &["train.steps=2"]);
    let runs = ThreadRanks::run(2, |team| {
        let mut run = run_with(config(), v[team.rank()]);
        run.team = team;
        run.start_or_resume(usize::MAX, None).unwrap();
        run.metrics()
    });
    let expected = expected_metrics(&config(), &v);
    let loss = runs[0][0]["actor/pg_loss"].as_f64().unwrap();
    assert!(near(loss, -0.125 * (1.5 - 0.8 + 0.5 - 1.1)), "{loss}");
    assert_eq!(runs[0].len(), 2);
    runs[0].iter().for_each(|line| check(line, &expected));
    // The first rank writes.
    assert!(runs[1].is_empty());
}

#[test]
fn a_corrected_run_resumes_with_the_same_numbers() {
    let run = || {
        let sets = ["train.steps=3", "train.mini_batches=2"];
        run_with(ppo(", rollout_correction={mode='mask'}", &sets), V)
    };
    let (straight, stopped) = (run(), run());
    straight.start_or_resume(usize::MAX, None).unwrap();
    let stop = Some(Stop::AfterStep(1));
    assert!(
        stopped
            .start_or_resume(usize::MAX, stop)
            .unwrap()
            .interrupted
    );
    stopped.start_or_resume(usize::MAX, None).unwrap();
    assert_eq!(stopped.metrics(), straight.metrics());
    assert_eq!(stopped.log_prob(GOOD), straight.log_prob(GOOD));
}

#[test]
fn an_exact_sampler_needs_no_correction() {
    let mut run = run_with(ppo(", rollout_correction={}", &[]), V);
    run.mismatch.is_exact = true;
    let failure = run.start_or_resume(usize::MAX, None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Input);
    let expected = "objective.rollout_correction: found one; expected none";
    assert!(failure.message.starts_with(expected), "{failure}");
    assert!(run.log.lock().unwrap().is_empty());
}
