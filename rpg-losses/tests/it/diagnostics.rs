//! The metrics of a loss, worked out by hand.

use crate::common::{B, bool_matrix, matrix};
use burn::tensor::DType;
use rpg_losses::{
    Diagnostics, LossInputs, ObjectiveConfig, StepTotals, compute_json, policy_loss,
    policy_loss_from_operations,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Checks all metrics: both lists are complete.
fn check(request: &Value, expected: &[(&str, f64)]) {
    let metrics = compute_json(&request.to_string()).unwrap().metrics;
    assert_eq!(metrics.len(), expected.len());
    for (name, expected) in expected {
        let close = (metrics[*name] - expected).abs() <= 1e-12 * expected.abs().max(1.0);
        assert!(close, "{name} is {}, not {expected}", metrics[*name]);
    }
}

fn mean<const N: usize>(values: [f64; N]) -> f64 {
    values.iter().sum::<f64>() / N as f64
}

fn k1(y: f64) -> f64 {
    -y.ln()
}

fn k2(y: f64) -> f64 {
    y.ln().powi(2) / 2.0
}

fn k3(y: f64) -> f64 {
    y - 1.0 - y.ln()
}

#[test]
fn of_tokens() {
    let ln = f64::ln;
    // w = 1/4 and 1/8 (low), 2 (high), 4 (dual), 1, e^25 (clamped; dual), and one masked.
    let logp = [ln(0.25), ln(0.125), ln(2.0), ln(4.0), 0.0, 25.0, 9.0];
    let request = json!({
        "objective": {"kind": "dapo", "eps_low": 0.5, "eps_high": 0.5, "c": 3.0},
        "logp": [logp],
        "logp_old": [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]],
        "logp_ref": [[0.0, ln(0.25), ln(2.0), ln(4.0), -1.0, 25.0, 0.0]],
        "mask": [[1, 1, 1, 1, 1, 1, 0]],
        "advantages": [[-1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]],
    });
    let w = [0.25, 0.125, 2.0, 4.0, 1.0, f64::exp(20.0)];
    let squares = mean(w.map(|w| w * w));
    // exp(-u)
    let y = [4.0, 2.0, 1.0, 1.0, f64::exp(-1.0), 1.0];
    // Only the weight is clamped, not its logarithm.
    let beyond = (25.0 * 25.0 - 20.0 * 20.0) / 2.0 / 6.0;
    check(
        &request,
        &[
            ("actor/pg_loss", (0.5 + 0.5 - 1.5 + 3.0 - 1.0 + 3.0) / 6.0),
            ("actor/pg_clipfrac", 3.0 / 6.0),
            ("actor/pg_clipfrac_lower", 2.0 / 6.0),
            ("clip_ratio/low_mean", 2.0 / 6.0),
            ("clip_ratio/high_mean", 1.0 / 6.0),
            ("actor/weight_mean", mean(w)),
            ("actor/eff_sample_size", mean(w) * mean(w) / squares),
            ("actor/chi2", squares - 1.0),
            (
                "actor/kl_loss",
                mean([0, 1, 2, 3, 4, 5].map(|idx| w[idx] * k3(y[idx]))),
            ),
            ("actor/sequence_masked", 0.0),
            ("actor/log_ratio_clamped", 1.0),
            ("actor/ppo_kl", mean(w.map(k1)) - 5.0 / 6.0),
            ("actor/ppo_kl_k2", mean(w.map(k2)) + beyond),
            ("actor/ppo_kl_k3", mean(w.map(k3)) - 5.0 / 6.0),
            ("actor/ref_kl_k1", mean(y.map(k1))),
            ("actor/ref_kl_k2", mean(y.map(k2))),
            ("actor/ref_kl_k3", mean(y.map(k3))),
        ],
    );
}

/// Weights, clipping and `kl_loss` are those of the responses, the estimates side by side those of the tokens.
#[test]
fn of_responses() {
    let ln = f64::ln;
    let request = |level: &str| {
        json!({
            "objective": {"kind": "rpg", "kl": "none", "level": level, "eps_low": 0.5, "eps_high": 0.5},
            // w = 2 and 8; 1/4; none.
            "logp": [[ln(0.5), ln(0.8), 9.0], [ln(0.1), 0.0, 0.0], [0.0, 0.0, 0.0]],
            "logp_old": [[ln(0.25), ln(0.1), -9.0], [ln(0.4), 0.0, 9.0], [1.0, 0.0, 0.0]],
            // exp(-u) = 1/2 and 1/2; 4.
            "logp_ref": [[ln(0.25), ln(0.4), 0.0], [ln(0.4), 9.0, 0.0], [0.0, 0.0, 0.0]],
            "mask": [[1, 1, 0], [1, 0, 0], [0, 0, 0]],
            "advantages": [1.0, -1.0, 1.0],
        })
    };
    let tokens = |k: fn(f64) -> f64| {
        let to_old = mean([2.0, 8.0, 0.25].map(k));
        (to_old, mean([0.5, 0.5, 4.0].map(k)))
    };
    for (level, w, y) in [
        ("sequence", [16.0, 0.25], [0.25, 4.0]),
        ("sequence_norm", [4.0, 0.25], [0.5, 4.0]),
    ] {
        // The log-probability of the first response per unit, that of the second is ln(0.1).
        let first = if level == "sequence" {
            ln(0.4)
        } else {
            ln(0.4) / 2.0
        };
        let squares = mean(w.map(|w| w * w));
        check(
            &request(level),
            &[
                // RPG-Style Clip: both are outside on the side without gradient.
                ("actor/pg_loss", (-1.5 * first + 0.5 * ln(0.1)) / 3.0),
                ("actor/pg_clipfrac", 1.0),
                ("actor/pg_clipfrac_lower", 0.0),
                ("clip_ratio/low_mean", 0.5),
                ("clip_ratio/high_mean", 0.5),
                ("actor/weight_mean", mean(w)),
                ("actor/eff_sample_size", mean(w) * mean(w) / squares),
                ("actor/chi2", squares - 1.0),
                ("actor/kl_loss", mean([w[0] * k3(y[0]), w[1] * k3(y[1])])),
                ("actor/sequence_masked", 0.0),
                ("actor/log_ratio_clamped", 0.0),
                ("actor/ppo_kl", tokens(k1).0),
                ("actor/ppo_kl_k2", tokens(k2).0),
                ("actor/ppo_kl_k3", tokens(k3).0),
                ("actor/ref_kl_k1", tokens(k1).1),
                ("actor/ref_kl_k2", tokens(k2).1),
                ("actor/ref_kl_k3", tokens(k3).1),
            ],
        );
    }
}

/// Weights that are all equal are as good as samples, however large; one that dwarfs the others is one sample.
#[test]
fn the_effective_sample_size_is_a_share() {
    let size = |log_w: [f64; 4]| {
        let request = json!({
            "objective": {"kind": "rpg"},
            "logp": [log_w],
            "logp_old": [[0.0, 0.0, 0.0, 0.0]],
            "mask": [[1, 1, 1, 1]],
            "advantages": [1.0],
        });
        compute_json(&request.to_string()).unwrap().metrics["actor/eff_sample_size"]
    };
    for log_w in [0.0, -19.5, 19.5, -100.0, 100.0] {
        assert!((size([log_w; 4]) - 1.0).abs() < 1e-12, "{log_w}");
    }
    let one = size([20.0, -20.0, -20.0, -20.0]);
    assert!((one - 0.25).abs() < 1e-12, "{one}");
}

/// Sums travel between processes: added up, they give the metrics of the whole step, which are not means of those of
/// its parts.
#[test]
fn sums_of_the_parts_are_those_of_the_step() {
    let logp = [[0.5, -2.0], [-1.0, 0.25]].map(Vec::from);
    let logp_old = [[-0.5, -1.0], [-1.5, 0.5]].map(Vec::from);
    let advantages = [[1.0, 1.0], [-1.0, -1.0]].map(Vec::from);
    let mask = [[true, true], [true, false]].map(Vec::from);
    let totals = StepTotals::from_mask(&mask);
    for loss in [policy_loss::<B>, policy_loss_from_operations::<B>] {
        let sums = |rows: std::ops::Range<usize>| {
            let read = |of: &[Vec<f64>]| matrix(&of[rows.clone()], DType::F64);
            let inputs = LossInputs {
                logp: read(&logp),
                logp_old: read(&logp_old),
                logp_ref: None,
                advantages: read(&advantages),
                weights: None,
                mask: bool_matrix(&mask[rows.clone()]),
            };
            let output = loss(&ObjectiveConfig::default(), inputs, &totals);
            output.diagnostics.read_sums()
        };
        let metrics = |sums: &[f64]| -> BTreeMap<String, f64> { Diagnostics::<B>::metrics(sums) };
        let (first, second) = (sums(0..1), sums(1..2));
        let added: Vec<f64> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
        let whole = metrics(&sums(0..2));
        for (name, value) in metrics(&added) {
            assert!((value - whole[&name]).abs() < 1e-12, "{name}: {value}");
        }
        for name in ["actor/eff_sample_size", "actor/chi2", "actor/ppo_kl_k3"] {
            let mean = (metrics(&first)[name] + metrics(&second)[name]) / 2.0;
            assert!((mean - whole[name]).abs() > 1e-3, "{name}");
        }
    }
}
