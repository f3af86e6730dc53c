//! Corrections for a sampler that is not the policy of `logp_old`, worked out by hand.

use rpg_losses::{RolloutCorrection, compute_json, rollout_weights};
use serde_json::{Value, json};

/// `v` of the tokens: 2, 1/8 and one masked; 1/2; a response without tokens.
fn weights(correction: Value) -> (Vec<Vec<f64>>, [f64; 10]) {
    let correction: RolloutCorrection = serde_json::from_value(correction).unwrap();
    let ln = f64::ln;
    let old = [
        vec![ln(0.5), ln(0.1), 9.0],
        vec![ln(0.2), f64::NAN, 9.0],
        vec![9.0; 3],
    ];
    let rollout = [
        vec![ln(0.25), ln(0.8), -9.0],
        vec![ln(0.4), 1.0, 9.0],
        vec![0.0; 3],
    ];
    let mask = [
        vec![true, true, false],
        vec![true, false, false],
        vec![false; 3],
    ];
    let result = rollout_weights(&correction, &old, &rollout, &mask);
    let names = [
        "rollout_is_mean",
        "rollout_is_max",
        "rollout_is_eff_sample_size",
        "rollout_is_oob_ratio",
        "rollout_rs_masked_fraction",
        "chi2_token",
        "chi2_seq",
        "kl",
        "k2_kl",
        "k3_kl",
    ];
    assert_eq!(result.metrics.len(), names.len());
    let metrics = names.map(|name| result.metrics[&format!("rollout_corr/{name}")]);
    (result.weights, metrics)
}

fn check(correction: Value, expected: [f64; 3], metrics: [f64; 5]) {
    let (weights, actual) = weights(correction.clone());
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-12;
    let [a, b, c] = expected;
    let expected = [a, b, 0.0, c, 0.0, 0.0, 0.0, 0.0, 0.0];
    let pairs = weights.concat().into_iter().zip(expected);
    assert!(
        pairs.into_iter().all(|(a, b)| close(a, b)),
        "{correction}: {weights:?}"
    );
    let logs = [2.0_f64.ln(), 0.125_f64.ln(), 0.5_f64.ln()];
    let mean = |k: fn(f64) -> f64| logs.iter().map(|x| k(*x)).sum::<f64>() / 3.0;
    let [mean_v, max_v, size, beyond, masked] = metrics;
    let expected = [
        mean_v,
        max_v,
        size,
        beyond,
        masked,
        (4.0 + 1.0 / 64.0 + 0.25) / 3.0 - 1.0,
        (0.0625 + 0.25) / 2.0 - 1.0,
        mean(|x| -x),
        mean(|x| x * x / 2.0),
        mean(|x| x.exp() - 1.0 - x),
    ];
    let pairs = actual.into_iter().zip(expected);
    assert!(
        pairs.into_iter().all(|(a, b)| close(a, b)),
        "{correction}: {actual:?}"
    );
}

#[test]
fn weights_and_metrics() {
    // Mean, largest and effective sample size of 2, 1/8 and 1/2.
    let of_tokens = |beyond: f64, masked: f64| {
        let squares = 4.0 + 1.0 / 64.0 + 0.25;
        let size = 2.625 * 2.625 / (3.0 * squares);
        [2.625 / 3.0, 2.0, size, beyond, masked]
    };
    let third = 1.0 / 3.0;
    check(json!({}), [2.0, 0.125, 0.5], of_tokens(0.0, 0.0));
    check(
        json!({"max": 1.5}),
        [1.5, 0.125, 0.5],
        of_tokens(third, 0.0),
    );
    // The bounds are inside.
    check(
        json!({"mode": "mask"}),
        [2.0, 0.0, 0.5],
        of_tokens(third, third),
    );
    check(
        json!({"mode": "mask", "min": 0.0, "max": 1.9}),
        [0.0, 0.125, 0.5],
        of_tokens(third, third),
    );
    // 2/8 and 1/2 for whole responses, 1/2 and 1/2 for geometric means.
    let whole = |beyond: f64, masked: f64| {
        let size = 0.75 * 0.75 / (2.0 * (0.0625 + 0.25));
        [0.375, 0.5, size, beyond, masked]
    };
    check(
        json!({"level": "sequence"}),
        [0.25, 0.25, 0.5],
        whole(0.0, 0.0),
    );
    check(
        json!({"level": "sequence", "mode": "mask"}),
        [0.0, 0.0, 0.5],
        whole(0.5, 2.0 * third),
    );
    check(
        json!({"level": "geometric", "mode": "mask"}),
        [0.5; 3],
        [0.5, 0.5, 1.0, 0.0, 0.0],
    );
    // k1 of the first response is ln(4)/2 = 0.69..., as of the second one; k3 is 0.76... and 0.19...
    for (kl, max, masked) in [("k1", 0.6, 1.0), ("k1", 0.7, 0.0), ("k3", 0.5, 2.0 / 3.0)] {
        let kept = |is_kept: bool| if is_kept { 1.0 } else { 0.0 };
        let [first, second] = [kept(masked == 0.0), kept(masked < 1.0)];
        let expected = [2.0 * first, 0.125 * first, 0.5 * second];
        check(
            json!({"reject": {"kl": kl, "max": max}}),
            expected,
            of_tokens(0.0, masked),
        );
    }
}

fn request(correction: Value, logp_rollout: Value) -> Value {
    json!({
        "objective": {"kind": "ppo", "rollout_correction": correction},
        "logp": [[-1.0, -2.0]], "logp_old": [[-1.0, -2.0]], "logp_rollout": logp_rollout,
        "mask": [[1, 1]], "advantages": [1.0],
    })
}

#[test]
fn rpg_loss_multiplies_what_a_token_loses() {
    let rollout = json!([[-1.0 - 2.0_f64.ln(), -2.0 + 4.0_f64.ln()]]);
    let answer = |correction: Value| {
        let request = request(correction, rollout.clone()).to_string();
        compute_json(&request).unwrap()
    };
    let response = answer(json!({"max": 1.5}));
    assert!((response.loss - -(1.5 + 0.25) / 2.0).abs() < 1e-12);
    let grad = response.grad.concat();
    assert!((grad[0] - -0.75).abs() < 1e-12 && (grad[1] - -0.125).abs() < 1e-12);
    assert!((response.metrics["rollout_corr/rollout_is_max"] - 2.0).abs() < 1e-12);
    // Masked tokens count in the denominator.
    let masked = answer(json!({"mode": "mask", "max": 2.5}));
    assert!((masked.loss - -1.0).abs() < 1e-12);
    // Without correction the mismatch is reported, and the loss is what it was.
    let plain = answer(Value::Null);
    assert_eq!(plain.loss, -1.0);
    assert!((plain.metrics["rollout_corr/rollout_is_max"] - 2.0).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let check = |correction: Value, logp_rollout: Value, level: &str, expected: &str| {
        let mut request = request(correction, logp_rollout);
        request["objective"]["level"] = json!(level);
        let error = compute_json(&request.to_string()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let rows = || json!([[-1.0, -2.0]]);
    check(json!({}), Value::Null, "token", "`logp_rollout` is missing");
    check(
        json!({}),
        json!([[-1.0]]),
        "token",
        "`logp_rollout` has 1 row of 1",
    );
    check(
        json!({"max": 0.0}),
        rows(),
        "token",
        "`rollout_correction.max` is 0, but must be a finite number greater than 0",
    );
    check(
        json!({"mode": "mask", "min": 3.0}),
        rows(),
        "token",
        "`rollout_correction.min` is 3, but must be a number from 0 to `max`",
    );
    check(
        json!({"reject": {"kl": "k1", "max": -0.5}}),
        rows(),
        "token",
        "`rollout_correction.reject.max` is -0.5, but must be",
    );
    check(
        json!({"mode": "clip"}),
        rows(),
        "token",
        "unknown variant `clip`",
    );
    check(json!({"top": 1}), rows(), "token", "unknown field `top`");
    check(
        json!({}),
        rows(),
        "sequence",
        "`rollout_correction.level` is \"token\", which does not go with `level` \"sequence\"",
    );
}
