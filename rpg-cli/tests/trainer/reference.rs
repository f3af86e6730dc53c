//! Reference policies that change by a rule, are averaged, or are another model; and the coefficient that follows them.

use super::{GOOD, Stop, TestRun, config};
use burn::backend::Flex;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use rpg_cli::train::Start;
use rpg_core::model::{CausalLm, ModelConfig};
use serde_json::{Map, Value};

type Line = Map<String, Value>;

/// The lines of the steps.
fn steps(run: &TestRun) -> Vec<Line> {
    let mut lines = run.metrics();
    lines.retain(|line| line["phase"] == "train");
    lines
}

fn number(line: &Line, name: &str) -> f64 {
    line[name].as_f64().expect(name)
}

fn finished(sets: &[&str]) -> TestRun {
    let run = TestRun::new(config(sets));
    run.start_or_resume(usize::MAX, None).unwrap();
    run
}

#[test]
fn the_reference_becomes_the_policy_when_the_average_divergence_passes_kappa() {
    const KAPPA: f64 = 0.01;
    let rule = "reference.rule={kl_above=0.01, window=2}";
    let run = finished(&["train.steps=12", rule]);
    let mut since = Vec::new();
    let mut n_updated = 0;
    for line in steps(&run) {
        since.push(number(&line, "actor/kl_loss"));
        let window = &since[since.len().saturating_sub(2)..];
        let mean = window.iter().sum::<f64>() / window.len() as f64;
        assert_eq!(number(&line, "reference/kl_average"), mean);
        let is_due = window.len() == 2 && mean > KAPPA;
        let updated = number(&line, "reference/updated");
        assert_eq!(updated, f64::from(u8::from(is_due)), "{since:?}");
        if is_due {
            since.clear();
            n_updated += 1;
        }
    }
    assert!((1..6).contains(&n_updated), "{n_updated} updates");
    // A fixed reference is left further and further behind.
    let fixed = finished(&["train.steps=12", "reference.rule=never"]);
    let last = |run: &TestRun| number(steps(run).last().unwrap(), "actor/kl_loss");
    assert!(last(&fixed) > 2.0 * last(&run));
}

#[test]
fn a_moving_average_of_share_one_is_the_policy() {
    let rows = |rule: &str| steps(&finished(&["train.steps=4", rule]));
    assert_eq!(
        rows("reference.rule={moving_average=1, every_steps=2}"),
        rows("reference.rule={every_steps=2}")
    );
}

#[test]
fn a_moving_average_mixes_the_weights_of_policy_and_reference() {
    let rule = "reference.rule={moving_average=0.25}";
    let run = finished(&["train.steps=2", "checkpoint.keep=9", rule]);
    let weights = |path: &str| {
        let model = CausalLm::<Flex>::load_hf(&run.folder.path(path), &Default::default());
        let mut values = Values(Vec::new());
        model.unwrap().visit(&mut values);
        values.0
    };
    let mut reference = weights("checkpoints/step-000000");
    for step in ["checkpoints/step-000001", "checkpoints/step-000002"] {
        let policy = weights(step);
        assert_ne!(policy, reference);
        for (reference, policy) in reference.iter_mut().zip(policy) {
            *reference = policy * 0.25 + *reference * 0.75;
        }
        assert!(weights(&format!("{step}/reference")) == reference, "{step}");
    }
}

struct Values(Vec<f32>);

impl ModuleVisitor<Flex> for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
        self.0.extend(param.val().into_data().iter::<f32>());
    }
}

#[test]
fn the_coefficient_follows_the_divergence() {
    let adaptive = "reference={rule='never', adaptive_beta={target_kl=0.01, horizon=40}}";
    let run = finished(&["train.steps=8", "objective.beta=0.5", adaptive]);
    let mut factor = 1.0;
    let mut errors = Vec::new();
    for line in steps(&run) {
        assert_eq!(number(&line, "actor/kl_coef"), 0.5 * factor);
        let error = (number(&line, "actor/kl_loss") / 0.01 - 1.0).clamp(-0.2, 0.2);
        // A step has four prompts, with two samples each.
        factor *= 1.0 + error * 8.0 / 40.0;
        errors.push(error);
    }
    assert!(
        errors.contains(&-0.2) && errors.contains(&0.2),
        "{errors:?}"
    );
    // The adapted coefficient is that of the loss: from the second step on, the runs differ.
    let fixed = steps(&finished(&[
        "train.steps=8",
        "objective.beta=0.5",
        "reference.rule=never",
    ]));
    let losses = |lines: &[Line]| -> Vec<f64> {
        lines
            .iter()
            .map(|line| number(line, "actor/pg_loss"))
            .collect()
    };
    let (adapted, fixed) = (losses(&steps(&run)), losses(&fixed));
    assert_eq!(adapted[0], fixed[0]);
    assert!(adapted[1..].iter().zip(&fixed[1..]).all(|(a, b)| a != b));
}

#[test]
fn the_coefficient_of_a_penalty_in_the_reward_is_adapted_too() {
    let sets = [
        "train.steps=3",
        "objective={kind='reinforce_pp', beta=0.5}",
        "reference.rule=never",
    ];
    let adaptive = "reference={rule='never', adaptive_beta={target_kl=1e-6, horizon=8}}";
    let adapted = steps(&finished(&[sets[0], sets[1], adaptive]));
    let fixed = steps(&finished(&sets));
    let advantage = |line: &Line| number(line, "actor/pg_loss");
    assert_eq!(advantage(&adapted[0]), advantage(&fixed[0]));
    assert_ne!(advantage(&adapted[2]), advantage(&fixed[2]));
}

#[test]
fn resuming_keeps_what_the_reference_has_come_to() {
    for reference in [
        "reference.rule={kl_above=0.003, window=3}",
        "reference.rule={moving_average=0.3}",
        "reference.rule={moving_average=0.3, every_steps=2}",
        "reference={rule='never', adaptive_beta={target_kl=0.01, horizon=40}}",
        "reference={path='3'}",
        "reference={path='3', rule={every_steps=4}}",
        "reference={path='3', rule={moving_average=0.5, every_steps=3}}",
    ] {
        let sets = ["train.steps=6", "objective.beta=0.1", reference];
        let straight = finished(&sets);
        let stopped = TestRun::new(config(&sets));
        for step in [2, 4] {
            let stop = Some(Stop::AfterStep(step));
            let outcome = stopped.start_or_resume(usize::MAX, stop).unwrap();
            assert_eq!((outcome.steps, outcome.interrupted), (step, true));
        }
        stopped.start_or_resume(usize::MAX, None).unwrap();
        assert_eq!(stopped.metrics(), straight.metrics(), "{reference}");
        assert_eq!(stopped.log_prob(GOOD), straight.log_prob(GOOD));
        let state = |run: &TestRun| {
            let dir = run.folder.newest_checkpoint().unwrap();
            rpg_cli::checkpoint::read_state(&dir).unwrap().reference
        };
        assert_eq!(state(&stopped), state(&straight), "{reference}");
    }
}

#[test]
fn a_reference_that_nothing_changes_is_not_copied_into_checkpoints() {
    let has_copy = |set: &str| {
        let run = finished(&["train.steps=2", set]);
        run.folder
            .newest_checkpoint()
            .unwrap()
            .join("reference")
            .exists()
    };
    assert!(!has_copy("reference={path='3'}"));
    assert!(!has_copy("reference={path='3', rule={every_steps=4}}"));
    assert!(has_copy("reference={path='3', rule={every_steps=2}}"));
    assert!(has_copy("reference.rule=never"));
}

#[test]
fn a_reference_that_cannot_serve_is_refused() {
    let device = Default::default();
    let refusal = |sets: &[&str], change: &dyn Fn(&mut ModelConfig)| {
        let config = config(sets);
        let shape = config.model.scratch.as_ref().unwrap();
        let (policy, tokenizer) = shape.init::<Flex>(7, &device).unwrap();
        let mut other = policy.config().clone();
        change(&mut other);
        let reference = CausalLm::init(&other, 3, &device);
        let start = Start::new(&config, policy, tokenizer.clone()).unwrap();
        let start = start.reference(&config, reference, &tokenizer);
        start.err().map(|failure| failure.message)
    };
    let (given, average) = ("reference.path='3'", "reference.rule={moving_average=0.5}");
    let wide = |other: &mut ModelConfig| other.hidden_size = 24;
    assert_eq!(refusal(&[given], &|_| {}), None);
    assert_eq!(refusal(&[given], &wide), None);
    let message = refusal(&[given, average], &wide).unwrap();
    let expected = "reference.path: its hidden_size is 24, the policy's 16";
    assert!(message.starts_with(expected), "{message}");
    let message = refusal(&[given], &|other| other.max_position_embeddings = 50).unwrap();
    let expected = "rollout.max_new_tokens = 48 exceeds reference.path's context of 50";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_resumed_run_takes_the_rule_that_its_config_has_by_then() {
    let mut run = finished(&["train.steps=2", "reference.rule=never"]);
    run.config = config(&["train.steps=4", "reference.rule=every_rollout"]);
    run.start_or_resume(usize::MAX, None).unwrap();
    assert!(
        !run.folder
            .newest_checkpoint()
            .unwrap()
            .join("reference")
            .exists()
    );
    // The first of a step's two updates begins at the reference.
    let kls: Vec<f64> = steps(&run)
        .iter()
        .map(|line| number(line, "actor/kl_loss"))
        .collect();
    assert!(kls[2] < 0.5 * kls[1] && kls[3] < 0.5 * kls[1], "{kls:?}");
}

#[test]
fn an_entropy_bonus_keeps_the_policy_random() {
    let last = |set: &str| {
        let run = finished(&["train.steps=20", set]);
        let last = steps(&run).pop().unwrap();
        (number(&last, "actor/entropy"), run.log_prob(GOOD))
    };
    let without = last("train.entropy_coeff=0");
    let with = last("train.entropy_coeff=0.5");
    assert!(with.0 > without.0 + 0.1, "{with:?} {without:?}");

    // The gradient does not depend on the micro-batches.
    let sets = ["train.steps=1", "train.entropy_coeff=0.5"];
    let whole = finished(&sets).log_prob(GOOD);
    let split = finished(&[sets[0], sets[1], "train.micro_batch_tokens=16"]);
    let difference = (split.log_prob(GOOD) - whole).abs();
    assert!(difference < 1e-4, "{difference:e}");
}
