//! Completions that were cut at the limit on tokens.

use crate::{BAD, GOOD, TestRun, config};
use rpg_core::StopReason;

/// Texts of equal length, of which the first has the advantage 1/2 and the second -1/2; every update of a step is at the
/// policy that sampled, so that the loss is the mean of `-A`.
const SETS: [&str; 5] = [
    "objective={kind='grpo', beta=0.0, advantage='group_mean', aggregation='token_mean'}",
    "train.steps=1",
    "train.mini_batches=1",
    "evaluate.problems=0",
    "optimizer={lr=0.01, schedule='constant'}",
];

fn run(stops: [StopReason; 2], more: &[&str]) -> TestRun {
    let mut run = TestRun::new(config(&[&SETS[..], more].concat()));
    run.stops = stops;
    run.start_or_resume(usize::MAX, None).unwrap();
    run
}

#[test]
fn a_truncated_completion_counts_in_its_group_but_not_in_the_loss() {
    use StopReason::{Eos, Length};
    const MASK: &str = "train.mask_truncated_completions=true";
    let seq = "objective={kind='grpo', beta=0.0, advantage='group_mean', aggregation='seq_mean_token_mean'}";
    // What ends the texts, more config; the masked completions of eight, the mean advantage and the loss.
    for (stops, more, masked, advantage) in [
        ([Eos, Length], &[][..], None, 0.0),
        ([Eos, Eos], &[MASK], Some(0.0), 0.0),
        ([Eos, Length], &[MASK], Some(4.0), 0.5),
        ([Length, Eos], &[MASK], Some(4.0), -0.5),
        // The mean is over what is left, whatever it is a mean of.
        ([Eos, Length], &[MASK, seq], Some(4.0), 0.5),
    ] {
        let run = run(stops, more);
        let metrics = &run.metrics()[0];
        let value = |name: &str| metrics.get(name).and_then(serde_json::Value::as_f64);
        assert_eq!(value("train/masked_completions"), masked, "{more:?}");
        let found = value("critic/advantages/mean").unwrap();
        assert!((found - advantage).abs() < 1e-9, "{more:?}: {found}");
        let loss = value("actor/pg_loss").unwrap();
        assert!((loss + advantage).abs() < 1e-6, "{more:?}: {loss}");
        let cut = stops.iter().filter(|&&stop| stop == Length).count();
        assert_eq!(value("response_length/clip_ratio"), Some(cut as f64 / 2.0));
    }
}

#[test]
fn a_step_whose_completions_were_all_truncated_changes_nothing() {
    let all_cut = [StopReason::Length; 2];
    let sets = [
        "train.mask_truncated_completions=true",
        "train.mini_batches=2",
    ];
    let idle = run(all_cut, &sets);
    let metrics = &idle.metrics()[0];
    assert_eq!(metrics["train/masked_completions"], 8.0);
    assert_eq!(metrics["train/num_updates"], 0.0);
    assert!(!metrics.contains_key("actor/lr") && !metrics.contains_key("actor/pg_loss"));
    let untrained = run(all_cut, &[sets[0], sets[1], "train.steps=0"]);
    for text in [GOOD, BAD] {
        assert_eq!(idle.log_prob(text), untrained.log_prob(text));
    }
}
