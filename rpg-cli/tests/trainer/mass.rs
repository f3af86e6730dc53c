//! `objective.z`: `pi_old` as a measure whose normalized form sampled.

use crate::{TestRun, config};

/// The mean weight and the mean KL term of a first update.
fn first_update(sets: &[&str]) -> [f64; 2] {
    let fixed = [
        "objective.clip=none",
        "train.steps=1",
        "train.mini_batches=1",
        "evaluate.problems=0",
    ];
    let run = TestRun::new(config(&[sets, &fixed].concat()));
    run.start_or_resume(usize::MAX, None).unwrap();
    let metrics = &run.metrics()[0];
    ["actor/weight_mean", "actor/kl_loss"].map(|name| metrics[name].as_f64().unwrap())
}

#[test]
fn the_first_update_starts_at_a_measure_of_mass_z() {
    let z: f64 = 1.7;
    // `w*k3(exp(-u))` with `w = 1/z` and `u = -log z`: where the reference is `pi_old`, its log-probs have `log z` too.
    let of_measure = (z - 1.0 - z.ln()) / z;
    for (sets, expected) in [
        (&["objective.z=1.7"][..], [1.0 / z, of_measure]),
        (
            &["objective.z=1.7", "objective.kl=ufkl"],
            [1.0 / z, of_measure],
        ),
        // Each unit has the mass: a response is one, whether its log-probs are summed or averaged.
        (
            &[
                "objective.z=1.7",
                "objective.level=sequence",
                "objective.aggregation=seq_mean",
            ],
            [1.0 / z, of_measure],
        ),
        (
            &[
                "objective.z=1.7",
                "objective.level=sequence_norm",
                "objective.aggregation=seq_mean",
            ],
            [1.0 / z, of_measure],
        ),
        // The model with which the run began is no measure.
        (&["objective.z=1.7", "reference.rule=never"], [1.0 / z, 0.0]),
        // The normalized divergences have no mass, and 1 changes nothing.
        (&["objective.z=1.7", "objective.kl=rkl"], [1.0, 0.0]),
        (&["objective.z=1.0"], [1.0, 0.0]),
    ] {
        let found = first_update(sets);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{sets:?}: {found} {expected}"
            );
        }
    }
}
