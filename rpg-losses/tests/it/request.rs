//! The JSON format of `rpg loss`: answers worked out by hand, and one clear error for each mistake.

use rpg_losses::{LossInputError, LossRequest, compute, compute_json};
use serde_json::{Value, json};

/// Two responses of three tokens, the second one cut.
fn base() -> Value {
    json!({
        "objective": {"kind": "rpg"},
        "logp": [[-0.5, -1.0, -0.2], [-0.3, -0.4, 0.0]],
        "logp_old": [[-0.6, -0.9, -0.2], [-0.3, -0.8, 0.0]],
        "mask": [[1, 1, 1], [1, 1, 0]],
        "advantages": [0.5, -1.0]
    })
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut request = base();
    for (key, value) in changes {
        match value {
            Value::Null => {
                request.as_object_mut().unwrap().remove(*key);
            }
            value => request[*key] = value.clone(),
        }
    }
    request
}

fn close(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() <= 1e-12 * expected.abs().max(1.0)
}

#[test]
fn answers_worked_out_by_hand() {
    let e = f64::exp;
    // beta*K for urkl with r = 1 is -beta*w*log w.
    let coefficient = |w: f64, a: f64, beta: f64| w * a - beta * w * w.ln();
    let check = |request: Value, loss: f64, grad: [[f64; 3]; 2]| {
        let response = compute_json(&request.to_string()).unwrap();
        assert!(
            close(response.loss, loss),
            "{request}: loss {} not {loss}",
            response.loss
        );
        for (actual, expected) in response.grad.iter().flatten().zip(grad.iter().flatten()) {
            assert!(
                close(*actual, *expected),
                "{request}: {:?} not {grad:?}",
                response.grad
            );
        }
    };
    // The defaults: w = e^0.1, e^-0.1, 1 | 1, e^0.4; only the last leaves [0.8, 1.28], with A < 0.
    let beta = 1e-4;
    let g = [
        coefficient(e(0.1), 0.5, beta),
        coefficient(e(-0.1), 0.5, beta),
        0.5,
        -1.0,
        coefficient(e(0.4), -1.0, beta),
    ];
    let loss = g[0] * 0.5 + g[1] * 1.0 + g[2] * 0.2 + g[3] * 0.3 + g[4] * 0.4;
    let grad = [[-g[0], -g[1], -g[2]], [-g[3], -g[4], 0.0]].map(|row| row.map(|g| g / 5.0));
    check(base(), loss / 5.0, grad);

    // PPO: with A > 0 the fifth token would be clipped at 1.2.
    let ppo = with(&[
        ("objective", json!({"kind": "ppo"})),
        ("advantages", json!([[0.5, 0.5, 0.5], [1.0, 1.0, 9.0]])),
    ]);
    let loss = -(0.5 * (e(0.1) + e(-0.1) + 1.0) + 1.0 + 1.2) / 5.0;
    let grad = [[-0.1 * e(0.1), -0.1 * e(-0.1), -0.1], [-0.2, 0.0, 0.0]];
    check(ppo, loss, grad);

    // With a dual bound no kind of that family loses more than -c*A where A < 0.
    let dual = with(&[
        (
            "objective",
            json!({"kind": "rloo", "aggregation": "token_mean", "c": 1.25}),
        ),
        ("advantages", json!([[0.0, 0.0, 0.0], [-1.0, -1.0, 9.0]])),
    ]);
    check(dual, (1.0 + 1.25) / 5.0, [[0.0; 3], [0.2, 0.0, 0.0]]);

    // CISPO bounds weights above, and below only where it is told to.
    let cispo = |eps_low: Value| {
        with(&[
            ("objective", json!({"kind": "cispo", "eps_low": eps_low})),
            ("logp", json!([[-3.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])),
            ("logp_old", json!([[-1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])),
            ("mask", json!([[1, 0, 0], [1, 0, 0]])),
            ("advantages", json!([1.0, 1.0])),
        ])
    };
    for (eps_low, w) in [(Value::Null, e(-2.0)), (json!(0.25), 0.75)] {
        let grad = [[-w / 2.0, 0.0, 0.0], [-0.6, 0.0, 0.0]];
        check(cispo(eps_low), (3.0 * w + 1.2) / 2.0, grad);
    }

    // GSPO: one geometric mean per response, w = 1 and e^0.2 (clipped for A > 0 only).
    let gspo = with(&[("objective", json!({"kind": "gspo"}))]);
    let s = e(0.2);
    let grad = [[-0.5 / 6.0; 3], [s / 4.0, s / 4.0, 0.0]];
    check(gspo, (-0.5 + s) / 2.0, grad);

    // Reverse KL of whole responses: w = 1 and e^0.4; u = log w - log r.
    let rkl = with(&[
        (
            "objective",
            json!({"kind": "rpg", "kl": "rkl", "estimator": "differentiable", "clip": "none",
                   "beta": 0.1, "level": "sequence"}),
        ),
        ("logp_ref", json!([[-0.6, -0.9, -0.3], [-0.3, -0.8, 7.0]])),
    ]);
    let w = e(0.4);
    let g0 = -0.5 + 0.1 * (0.1 + 1.0);
    let g1 = w + 0.1 * w * (0.4 + 1.0);
    let loss = (-0.5 + 0.1 * 0.1 + w + 0.1 * w * 0.4) / 2.0;
    check(rkl, loss, [[g0 / 2.0; 3], [g1 / 2.0, g1 / 2.0, 0.0]]);

    // Dr. GRPO from rewards: group mean, and the constant length 3.
    let dr_grpo = with(&[
        ("objective", json!({"kind": "dr_grpo"})),
        ("advantages", Value::Null),
        ("rewards", json!([1.0, 0.0])),
        ("groups", json!([-5, -5])),
    ]);
    let loss = -0.5 * (e(0.1) + e(-0.1) + 1.0) + 0.5 * (1.0 + e(0.4));
    let grad = [
        [-0.5 * e(0.1) / 6.0, -0.5 * e(-0.1) / 6.0, -0.5 / 6.0],
        [0.5 / 6.0, 0.5 * e(0.4) / 6.0, 0.0],
    ];
    check(dr_grpo, loss / 6.0, grad);
}

#[test]
fn advantages_come_back_as_they_were_used() {
    let check = |request: Value, expected: Value| {
        let response = compute_json(&request.to_string()).unwrap();
        let actual = serde_json::to_value(&response).unwrap();
        assert_eq!(actual["advantages"], expected, "{request}");
        let keys: Vec<&String> = actual.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["loss", "grad", "advantages", "metrics"]);
    };
    let rewards = |objective: Value, mask: Value| {
        with(&[
            ("objective", objective),
            ("advantages", Value::Null),
            ("mask", mask),
            ("rewards", json!([3.0, 1.0])),
            ("groups", json!([4, 4])),
        ])
    };
    let mask = || json!([[0, 1, 1], [0, 0, 0]]);
    check(base(), json!([0.5, -1.0]));
    // A response without tokens, or whose first token is masked, still has its advantage.
    check(rewards(json!({"kind": "rpg"}), mask()), json!([1.0, -1.0]));
    check(rewards(json!({"kind": "rloo"}), mask()), json!([2.0, -2.0]));
    // Rewards-to-go, normalized over the three tokens that count: all equal within a response.
    let mean_free = json!({"kind": "reinforce_pp", "advantage": "batch_mean"});
    let mean = 7.0 / 3.0;
    check(
        rewards(mean_free, json!([[1, 0, 1], [1, 0, 0]])),
        json!([[3.0 - mean, 0.0, 3.0 - mean], [1.0 - mean, 0.0, 0.0]]),
    );
}

#[test]
fn every_mistake_has_its_own_error() {
    let check = |changes: &[(&str, Value)], expected: &str| {
        let request = with(changes).to_string();
        let error = compute_json(&request).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{request}:\n{error}\nlacks\n{expected}"
        );
        assert!(!error.contains('\n'), "{error}");
    };
    let objective = |value: Value| [("objective", value)];
    check(
        &[("logits", json!([]))],
        "not a loss request: unknown field `logits`",
    );
    check(
        &[("logp_old", json!([[-0.6], []]))],
        "row 1 of `logp_old` has 0 columns, but row 0 has 1:",
    );
    check(
        &[("logp_old", json!([[], [-0.6]]))],
        "row 1 of `logp_old` has 1 column, but row 0 has 0:",
    );
    check(&[("logp", Value::Null)], "missing field `logp`");
    check(&[("mask", Value::Null)], "missing field `mask`");
    check(&[("objective", Value::Null)], "missing field `objective`");
    check(&objective(json!({})), "missing field `kind`");
    check(
        &objective(json!({"kind": "pop"})),
        "`objective.kind`: unknown variant `pop`, expected one of `rpg`",
    );
    check(
        &objective(json!({"kind": "rpg", "epsilon": 1})),
        "`objective.epsilon`: unknown field `epsilon`",
    );
    check(
        &objective(json!({"kind": "rpg", "kl": "kl"})),
        "`objective.kl`: unknown variant `kl`, expected one of",
    );
    check(
        &objective(json!({"kind": "rpg", "beta": -1})),
        "`beta` is -1, but must be a finite",
    );
    check(
        &objective(json!({"kind": "rpg", "eps_low": 1.5})),
        "`eps_low` is 1.5",
    );
    check(
        &objective(json!({"kind": "rpg", "eps_high": -0.1})),
        "`eps_high` is -0.1",
    );
    check(
        &objective(json!({"kind": "rpg", "c": 1.0})),
        "`c` is 1, but must be",
    );
    check(
        &objective(json!({"kind": "rpg", "z": 0})),
        "`z` is 0, but must be",
    );
    check(
        &objective(json!({"kind": "dr_grpo", "max_length": 0})),
        "`max_length` is 0",
    );
    check(
        &objective(json!({"kind": "dr_grpo", "max_length": -3})),
        "`objective.max_length`: invalid value: integer `-3`, expected a whole number, at least 1",
    );
    check(
        &objective(json!({"kind": "rpg", "estimator": "differentiable"})),
        "`clip` is \"rpg\", which does not go with `estimator` \"differentiable\": use \"dual\"",
    );
    check(
        &objective(json!({"kind": "rpg", "clip": "dual"})),
        "which does not go with `estimator` \"reinforce\": use \"rpg\"",
    );
    check(
        &objective(json!({"kind": "gmpo", "level": "sequence_norm"})),
        "`level` is \"sequence_norm\", which does not go with `kind` \"gmpo\": use \"token\"",
    );
    check(
        &objective(json!({"kind": "sapo", "tau_pos": 0})),
        "`tau_pos` is 0, but must be a finite number greater than 0",
    );
    check(
        &objective(json!({"kind": "grpo", "sequence_mask": -1})),
        "`sequence_mask` is -1, but must be a finite number, at least 0",
    );
    check(
        &objective(json!({"kind": "gspo", "aggregation": "token_mean"})),
        "`aggregation` is \"token_mean\", which does not go with `level` \"sequence_norm\"",
    );
    check(
        &objective(json!({"kind": "rpg", "aggregation": "seq_mean"})),
        "`aggregation` is \"seq_mean\", which does not go with `level` \"token\"",
    );
    check(
        &[("logp_old", json!([[-0.6, -0.9, -0.2]]))],
        "`logp_old` has 1 row of 3, but `logp` has 2 rows of 3",
    );
    check(
        &[("logp_ref", json!([[-0.6], [-0.9]]))],
        "`logp_ref` has 2 rows of 1, but `logp` has 2 rows of 3",
    );
    check(
        &[("mask", json!([[1, 1, 1], [1, 1]]))],
        "row 1 of `mask` has 2 columns, but row 0 has 3",
    );
    check(
        &[("mask", json!([[1, 1, 1], [1, 0.5, 0]]))],
        "`mask`[1][1] is 0.5, but must be 0 or 1",
    );
    check(
        &[("mask", json!([[1, 1, 1], [1, 2, 0]]))],
        "`mask`[1][1] is 2, but must be 0 or 1",
    );
    check(
        &[("mask", json!([[1, 1, 1], [1, 1e-300, 0]]))],
        "`mask`[1][1] is 1e-300, but must be 0 or 1",
    );
    check(
        &[("advantages", json!([1.0]))],
        "`advantages` has 1 entry, but `logp` has 2 rows",
    );
    check(
        &[("advantages", json!([[1.0], [2.0]]))],
        "`advantages` has 2 rows of 1",
    );
    check(
        &[("advantages", json!("high"))],
        "expected a list of numbers",
    );
    check(
        &[("advantages", Value::Null)],
        "neither `advantages` nor `rewards` is given",
    );
    check(
        &[("rewards", json!([1.0, 0.0]))],
        "both `advantages` and `rewards` are given",
    );
    let rewards = |more: &[(&'static str, Value)]| {
        let mut changes = vec![("advantages", Value::Null), ("rewards", json!([1.0, 0.0]))];
        changes.extend(more.iter().cloned());
        changes
    };
    check(
        &rewards(&[]),
        "`groups` is missing: advantage \"group_mean\" compares",
    );
    check(
        &rewards(&[("groups", json!([0]))]),
        "`groups` has 1 entry, but `logp` has 2 rows",
    );
    check(
        &rewards(&[("groups", json!([0, 0])), ("rewards", json!([1.0]))]),
        "`rewards` has 1 entry, but `logp` has 2 rows",
    );
    check(
        &rewards(&[("groups", json!(["a", "b"]))]),
        "`groups[0]`: invalid type: string \"a\", expected a whole number of 64 bits",
    );
    check(
        &[
            ("objective", json!({"kind": "gspo"})),
            ("advantages", json!([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])),
        ],
        "row 0 of `advantages` holds different values, but at level \"sequence_norm\"",
    );
    check(
        &[("logp", json!([[1e308, 0, 0], [0, 0, 0]]))],
        "the loss is not a finite number",
    );

    let text = base().to_string();
    for (bad, expected) in [
        (
            text.replace("-0.6", "NaN"),
            "JSON has no NaN and no Infinity",
        ),
        (
            text.replace("-0.6", "-Infinity"),
            "JSON has no NaN and no Infinity",
        ),
        (
            text.replace("-0.6", "1e999"),
            "`logp_old[0][0]`: a number must be finite",
        ),
        (
            text.replace("-0.6", "null"),
            "`logp_old[0][0]`: invalid type: null, expected a number",
        ),
        (text[..40].to_string(), "EOF while parsing"),
        (text.clone() + "7", "trailing characters"),
        ("7".into(), "invalid type: integer `7`, expected an object"),
        (
            text.replace("{\"kind\":\"rpg\"}", "[\"rpg\"]"),
            "`objective`: invalid type: list, expected an object",
        ),
        (
            text.replace("[[1,1,1],[1,1,0]]", "[[true,1,1],[1,1,0]]"),
            "`mask[0][0]`: invalid type: boolean `true`, expected a number",
        ),
        (
            text.replace("[[1,1,1],[1,1,0]]", "[1,1,1]"),
            "`mask[0]`: invalid type: integer `1`, expected a list",
        ),
    ] {
        let error = compute_json(&bad).unwrap_err().to_string();
        assert!(error.contains(expected), "{bad}: {error}");
    }
}

/// The one or the other is finite, both are not.
#[test]
fn neither_loss_nor_gradient_may_overflow() {
    let check = |objective: Value, logp: f64, logp_ref: f64, advantage: f64| {
        let request = json!({
            "objective": objective,
            "logp": [[logp]],
            "logp_old": [[logp]],
            "logp_ref": [[logp_ref]],
            "mask": [[1]],
            "advantages": [advantage],
        });
        let error = compute_json(&request.to_string()).unwrap_err();
        assert_eq!(error, LossInputError::Overflow, "{request}");
    };
    // The coefficient 1e10 times a log-probability.
    let reinforce = json!({"kind": "rpg", "kl": "none", "clip": "none"});
    check(reinforce, -1e300, -1e300, 1e10);
    // -beta*r*lp at lp = 0, with slope -beta*r.
    let forward = json!({"kind": "rpg", "kl": "fkl", "estimator": "differentiable", "clip": "none",
                         "beta": 1e305});
    check(forward, 0.0, 15.0, 0.0);
}

/// JSON has no NaN, other formats have.
#[test]
fn numbers_that_are_not_finite_are_named_whatever_the_format() {
    let check = |change: (&str, &str), expected: &str| {
        let text = "logp = [[-1.0, -2.0]]\nlogp_old = [[-1.5, -2.5]]\nlogp_ref = [[-1.25, -2.25]]\n\
                    mask = [[1, 1]]\nrewards = [0.5]\ngroups = [0]\n[objective]\nkind = \"ppo\"\n";
        let request: LossRequest = toml::from_str(text).unwrap();
        compute(&request).unwrap();
        let changed = text.replace(change.0, change.1);
        assert_ne!(changed, text);
        let request: LossRequest = toml::from_str(&changed).unwrap();
        let error = compute(&request).unwrap_err().to_string();
        assert_eq!(error, format!("{expected} is not a finite number"));
    };
    check(("-2.0", "nan"), "`logp`[0][1]");
    check(("-1.5", "inf"), "`logp_old`[0][0]");
    check(("-2.25", "-inf"), "`logp_ref`[0][1]");
    check(("[0.5]", "[inf]"), "`rewards`[0]");
    check(
        ("rewards = [0.5]\ngroups = [0]", "advantages = [nan]"),
        "`advantages`[0]",
    );
    check(
        ("rewards = [0.5]\ngroups = [0]", "advantages = [[0.5, inf]]"),
        "`advantages`[0][1]",
    );
}

/// `A'*l = 0` at probability 1: `w = e` is beyond the upper bound, so that nothing is left of the gradient.
#[test]
fn a_token_of_probability_one_is_clipped_as_the_table_says() {
    for advantage in [1.0, -1.0] {
        let request = json!({
            "objective": {"kind": "rpg", "kl": "none"},
            "logp": [[0.0]],
            "logp_old": [[-1.0]],
            "mask": [[1]],
            "advantages": [advantage],
        });
        let response = compute_json(&request.to_string()).unwrap();
        assert_eq!((response.loss, response.grad), (0.0, vec![vec![0.0]]));
        assert_eq!(response.metrics["clip_ratio/high_mean"], 1.0);
    }
}

#[test]
fn a_response_has_one_advantage_at_the_sequence_levels() {
    let level = |level: &str, advantages: Value| {
        let objective = json!({"kind": "rpg", "level": level});
        compute_json(&with(&[("objective", objective), ("advantages", advantages)]).to_string())
    };
    for same in [json!([[1, 1, 1], [-1, -1, 5]]), json!([1, -1])] {
        level("sequence", same.clone()).unwrap();
        level("token", same).unwrap();
    }
    let different = json!([[1, 2, 3], [-1, -1, 5]]);
    let error = level("sequence", different.clone()).unwrap_err();
    assert!(matches!(
        error,
        LossInputError::AdvantagesVary { row: 0, .. }
    ));
    level("token", different).unwrap();
}

#[test]
fn forms_that_compare_with_the_batch_need_no_groups() {
    let rewards = |objective: Value, groups: Value| {
        let changes = [
            ("objective", objective),
            ("advantages", Value::Null),
            ("rewards", json!([1.0, 0.0])),
            ("groups", groups),
        ];
        compute_json(&with(&changes).to_string())
    };
    for objective in [
        json!({"kind": "reinforce_pp"}),
        json!({"kind": "rpg", "advantage": "batch_mean"}),
    ] {
        let without = rewards(objective.clone(), Value::Null).unwrap();
        assert_eq!(without, rewards(objective, json!([0, 1])).unwrap());
    }
}

#[test]
fn only_an_object_is_a_request() {
    let in_order = [
        "objective",
        "logp",
        "logp_old",
        "logp_ref",
        "mask",
        "advantages",
        "rewards",
        "groups",
    ];
    let request = base();
    let list: Vec<Value> = in_order.iter().map(|key| request[*key].clone()).collect();
    let error = compute_json(&json!(list).to_string()).unwrap_err();
    let expected = "not a loss request: invalid type: list, expected an object";
    assert!(error.to_string().contains(expected), "{error}");
    // A byte order mark.
    let marked = compute_json(&format!("\u{feff}{request}")).unwrap();
    assert_eq!(marked, compute_json(&request.to_string()).unwrap());
}

#[test]
fn metrics_too_large_for_a_float_leave_the_loss_alone() {
    let request = json!({
        "objective": {"kind": "ppo"},
        "logp": [[1e308]],
        "logp_old": [[-1e308]],
        "mask": [[1]],
        "advantages": [1.0],
    });
    let response = compute_json(&request.to_string()).unwrap();
    assert_eq!((response.loss, response.grad), (-1.2, vec![vec![0.0]]));
    assert_eq!(response.metrics["actor/ppo_kl"], f64::MIN);
}

#[test]
fn keys_without_effect_are_remarked_on() {
    let check = |objective: Value, expected: &[&str]| {
        let request = with(&[("objective", objective)]);
        let warnings = compute_json(&request.to_string()).unwrap().warnings;
        let keys: Vec<&str> = (warnings.iter())
            .map(|warning| warning.split('`').nth(1).unwrap())
            .collect();
        assert_eq!(keys, expected, "{request}: {warnings:?}");
    };
    check(
        json!({"kind": "rpg", "c": 5, "eps_low": 0.1, "z": 2, "beta": 0.1}),
        &[],
    );
    check(json!({"kind": "rpg", "kl_in_clip": false}), &["kl_in_clip"]);
    check(json!({"kind": "rpg", "kl": "rkl", "z": 1.0}), &["z"]);
    check(
        json!({"kind": "rpg", "kl": "none", "beta": 1.0, "z": 2}),
        &["beta", "z"],
    );
    check(json!({"kind": "rpg", "clip": "hard", "c": 2}), &["c"]);
    check(
        json!({"kind": "rpg", "clip": "none", "eps_low": 0, "eps_high": 0, "c": 2}),
        &["eps_low", "eps_high", "c"],
    );
    check(
        json!({"kind": "rpg", "estimator": "differentiable", "clip": "dual", "kl": "none",
               "kl_in_clip": true}),
        &["kl_in_clip"],
    );
    check(
        json!({"kind": "ppo", "kl": "urkl", "estimator": "reinforce", "clip": "dual", "z": 1,
               "kl_in_clip": true, "beta": 1, "c": 2, "max_length": 9}),
        &[
            "kl",
            "estimator",
            "clip",
            "kl_in_clip",
            "beta",
            "z",
            "max_length",
        ],
    );
    check(json!({"kind": "dapo", "c": 2, "beta": 0.1}), &["beta"]);
    check(
        json!({"kind": "dr_grpo", "beta": 0.1, "max_length": 9}),
        &[],
    );
    // The penalty of REINFORCE++ is part of its rewards.
    check(json!({"kind": "reinforce_pp", "beta": 0.1}), &["beta"]);
    check(json!({"kind": "reinforce_pp_baseline", "beta": 0.1}), &[]);
    check(json!({"kind": "gspo", "beta": 0.1}), &["beta"]);
    check(json!({"kind": "cispo", "beta": 0.1}), &["beta"]);
    check(json!({"kind": "rloo", "beta": 0.1}), &["beta"]);
    // Where the KL term goes decides what is read of it.
    let rloo = |placement: &str| {
        json!({"kind": "rloo", "beta": 0.1, "kl_placement": placement, "kl_estimator": "k2",
               "kl_weight": "none"})
    };
    check(rloo("loss"), &[]);
    check(rloo("none"), &["beta", "kl_estimator", "kl_weight"]);
    check(rloo("reward"), &["kl_weight", "beta"]);
    for kind in ["rpg", "cispo"] {
        let keys = json!({"kind": kind, "kl_placement": "loss", "kl_estimator": "k2", "kl_weight": "full"});
        check(keys, &["kl_placement", "kl_estimator", "kl_weight"]);
    }
    // Its penalty needs a reference.
    let request = |logp_ref: Value| {
        let changes = [
            ("objective", json!({"kind": "reinforce_pp", "beta": 0.1})),
            ("advantages", Value::Null),
            ("rewards", json!([1.0, 0.0])),
            ("logp_ref", logp_ref),
        ];
        let response = compute_json(&with(&changes).to_string()).unwrap();
        response.warnings.join("\n")
    };
    assert!(request(Value::Null).starts_with("`beta` has no effect: \"reinforce_pp\" takes"));
    assert_eq!(request(json!([[0, 0, 0], [0, 0, 0]])), "");
    // The base request gives advantages.
    check(
        json!({"kind": "rpg", "advantage": "batch_mean"}),
        &["advantage"],
    );
}

#[test]
fn empty_requests_have_loss_zero() {
    let check = |rows: Value, advantages: Value| {
        let request = with(&[
            ("logp", rows.clone()),
            ("logp_old", rows.clone()),
            ("mask", rows.clone()),
            ("advantages", advantages),
        ]);
        let response = compute_json(&request.to_string()).unwrap();
        assert_eq!(response.loss, 0.0);
        assert_eq!(json!(response.grad), rows);
        assert!(response.metrics.values().all(|value| *value == 0.0));
    };
    check(json!([]), json!([]));
    check(json!([[], []]), json!([1.0, 2.0]));
    check(json!([[], []]), json!([[], []]));
    check(json!([[0.0]]), json!([1.0]));
}
